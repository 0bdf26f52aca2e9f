package connections

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/riverline/tollgate/gate"
)

const (
	// spareConnections are held beyond the most that are served: on them probes are answered, and
	// everybody else is told to come again.
	spareConnections = 32
	// evictAfter is how long a connection must have been idle to make room for another.
	evictAfter = time.Second
	// crowdedFor is how long one that is crowded out may be read from.
	crowdedFor = time.Second
)

// Listener accepts TCP connections, no more than it may hold. Where that many are held, a new
// one takes the place of one that waits for a request. Where none does, it is crowded out: only
// probes are answered on it. Make it with [Limit].
type Listener struct {
	net.Listener
	most int

	mu     sync.Mutex
	held   map[*conn]struct{}
	served int

	evicted, crowded, refused atomic.Int64
}

// Counts says what a listener holds, and did since the process began.
type Counts struct {
	// Held counts the connections, Most how many may be served.
	Held, Most int64
	// Evicted counts the idle ones that made room for others, Crowded those on which only probes
	// were answered, and Refused those that were closed at once.
	Evicted, Crowded, Refused int64
}

// conn is one connection that was accepted.
type conn struct {
	*net.TCPConn
	listener *Listener
	crowded  bool
	// idleSince is when it began to wait for a request, in Unix nanoseconds; 0: it has one.
	idleSince atomic.Int64
	accepted  time.Time
	closing   sync.Once
}

// Limit returns a listener on TCP that holds at most so many connections, and a few for probes.
func Limit(listener net.Listener, most int) *Listener {
	return &Listener{Listener: listener, most: most, held: map[*conn]struct{}{}}
}

// Counts returns the figures as they are.
func (l *Listener) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Counts{
		Held: int64(len(l.held)), Most: int64(l.most),
		Evicted: l.evicted.Load(), Crowded: l.crowded.Load(), Refused: l.refused.Load(),
	}
}

// Accept waits for the next connection that may be held.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := accepted.(*net.TCPConn)
		if !ok {
			return accepted, nil
		}
		if c := l.admit(tcp); c != nil {
			return c, nil
		}
		l.refused.Add(1)
		_ = tcp.Close()
	}
}

// admit takes a connection in; nil: there is no room for it.
func (l *Listener) admit(tcp *net.TCPConn) *conn {
	now := time.Now()
	l.mu.Lock()
	if l.served >= l.most {
		if idlest := l.idlest(now); idlest != nil {
			l.evicted.Add(1)
			l.mu.Unlock()
			_ = idlest.Close()
			l.mu.Lock()
		}
	}
	defer l.mu.Unlock()
	if len(l.held) >= l.most+spareConnections {
		return nil
	}
	c := &conn{TCPConn: tcp, listener: l, crowded: l.served >= l.most, accepted: now}
	c.idleSince.Store(now.UnixNano())
	l.held[c] = struct{}{}
	if c.crowded {
		l.crowded.Add(1)
	} else {
		l.served++
	}
	return c
}

// idlest returns the connection that has waited longest for a request; nil: none has for long.
func (l *Listener) idlest(now time.Time) *conn {
	var found *conn
	since := now.Add(-evictAfter).UnixNano()
	for c := range l.held {
		if at := c.idleSince.Load(); at > 0 && at < since && !c.crowded {
			found, since = c, at
		}
	}
	return found
}

// Close closes the connection, and makes room for another.
func (c *conn) Close() error {
	c.closing.Do(func() {
		l := c.listener
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.held, c)
		if !c.crowded {
			l.served--
		}
	})
	return c.TCPConn.Close()
}

// SetReadDeadline is that of the connection. One that is crowded out has no longer than a probe
// needs.
func (c *conn) SetReadDeadline(at time.Time) error {
	if last := c.accepted.Add(crowdedFor); c.crowded && (at.IsZero() || at.After(last)) {
		at = last
	}
	return c.TCPConn.SetReadDeadline(at)
}

// accepted is the connection that a server has, under its TLS if there is any.
func accepted(n net.Conn) (*conn, bool) {
	if secured, ok := n.(*tls.Conn); ok {
		n = secured.NetConn()
	}
	c, ok := n.(*conn)
	return c, ok
}

type crowdedKey struct{}

// Serve makes a server tell the listener which connections wait for a request, and answer 503 on
// those that are crowded out, but for probes. Call it before the server serves.
func (l *Listener) Serve(server *http.Server, isProbe func(*http.Request) bool) {
	server.ConnState = func(n net.Conn, state http.ConnState) {
		c, ok := accepted(n)
		switch {
		case !ok:
		case state == http.StateIdle:
			c.idleSince.Store(time.Now().UnixNano())
		case state == http.StateActive:
			c.idleSince.Store(0)
		}
	}
	server.ConnContext = func(ctx context.Context, n net.Conn) context.Context {
		if c, ok := accepted(n); ok && c.crowded {
			return context.WithValue(ctx, crowdedKey{}, true)
		}
		return ctx
	}
	next := server.Handler
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Context().Value(crowdedKey{}) == nil {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Connection", "close")
		if isProbe(r) {
			next.ServeHTTP(w, r)
			return
		}
		// The answer doesn't wait for what is left of the request.
		_ = http.NewResponseController(w).EnableFullDuplex()
		_ = http.NewResponseController(w).SetReadDeadline(time.Now())
		gate.Overloaded(w.Header()).Write(w)
	})
}
