package web

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/gate"
)

const (
	// streamFor is how long a stream lasts. The browser then opens another one.
	streamFor = 5 * time.Minute
	// maxStreams is how many there are at once in this process, maxStreamsEach of one sign-in: by HTTP/1.1 a browser has six
	// connections to a host, and needs one for other pages.
	maxStreams     = 500
	maxStreamsEach = 5
	// quietLooks is after how many looks a word is said, and the sign-in looked at: 10 seconds.
	quietLooks = 5
	// sendWithin bounds the sending of one event.
	sendWithin = 10 * time.Second
)

// streams bounds what is streamed at once.
type streams struct {
	mu      sync.Mutex
	open    map[string]int
	total   int
	once    sync.Once
	stopped chan struct{}
}

func (s *streams) stop() { s.once.Do(func() { close(s.stopped) }) }

// enter lets a stream begin, which must leave.
func (s *streams) enter(who string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= maxStreams || s.open[who] >= maxStreamsEach {
		return false
	}
	s.total++
	s.open[who]++
	return true
}

func (s *streams) leave(who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.open[who]--; s.open[who] == 0 {
		delete(s.open, who)
	}
}

// stream sends a part of a page as server-sent events, each time that it has changed. It ends with the browser, with the sign-in,
// with what look can't see any more, and at last after streamFor.
func (v *visit) stream(name, part string, look func() (any, error)) error {
	who := v.signIn.ID.String()
	if !v.pages.streams.enter(who) {
		return gate.NewProblem(http.StatusTooManyRequests, "too_many_under_way", "Too many pages are open that show what moves.")
	}
	defer v.pages.streams.leave(who)
	v.beginStream()
	ticker := time.NewTicker(v.pages.config.LiveEvery)
	defer ticker.Stop()
	var sent []byte
	for began, quiet := time.Now(), 0; time.Since(began) < streamFor; quiet++ {
		v.now = v.pages.config.Now().UTC()
		if quiet == quietLooks {
			quiet = 0
			if err := v.still(); err != nil {
				return v.endStream(sent, err)
			}
		}
		data, err := look()
		if err != nil {
			return v.endStream(sent, err)
		}
		body, err := v.render(name, part, data)
		if err != nil {
			return v.endStream(sent, err)
		}
		if !bytes.Equal(body, sent) {
			if err := v.event(part, body); err != nil {
				// The browser is gone: there is nobody to tell.
				return nil
			}
			sent = body
		}
		select {
		case <-ticker.C:
		case <-v.r.Context().Done():
			return nil
		case <-v.pages.streams.stopped:
			return nil
		}
	}
	return nil
}

// beginStream says what comes.
func (v *visit) beginStream() {
	v.w.Header().Set("Content-Type", "text/event-stream")
	// nginx keeps back what is proxied until 8 KiB are there.
	v.w.Header().Set("X-Accel-Buffering", "no")
}

// endStream ends one that has begun without a word: the browser opens it again, and is told then.
func (v *visit) endStream(sent []byte, err error) error {
	var problem *gate.Problem
	if unauthorized(err) {
		return errSignedOut
	}
	if sent != nil && errors.As(err, &problem) {
		return nil
	}
	return err
}

// still says a word, so that no proxy takes the connection for a dead one, and looks whether the sign-in is open: a key alone
// is seen to by who answers.
func (v *visit) still() error {
	_, err := v.pages.config.SignIns.SignIn(v.r.Context(), accounts.SignInToken(v.token).Hash())
	if errors.Is(err, fault.ErrNotFound) {
		return errSignedOut
	}
	if err != nil {
		return away(err)
	}
	if _, err := io.WriteString(v.w, ": still here\n\n"); err != nil {
		return err
	}
	return http.NewResponseController(v.w).Flush()
}

func (v *visit) event(name string, body []byte) error {
	to := http.NewResponseController(v.w)
	if err := to.SetWriteDeadline(time.Now().Add(sendWithin)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	text := strings.NewReplacer("\r\n", "\ndata: ", "\r", "\ndata: ", "\n", "\ndata: ").Replace(strings.TrimSpace(string(body)))
	if _, err := fmt.Fprintf(v.w, "event: %s\ndata: %s\n\n", name, text); err != nil {
		return err
	}
	return to.Flush()
}
