// Package faultproxy is a TCP proxy on loopback that tests put between a program and a
// server, to cut, delay or stall what goes through it.
package faultproxy

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Proxy passes connections on to a server. Its methods may be called by any number of
// goroutines.
type Proxy struct {
	listener net.Listener
	target   string
	accepted sync.WaitGroup

	mu      sync.Mutex
	open    map[net.Conn]struct{}
	cut     bool
	latency time.Duration
	// going is closed while bytes pass; a stall puts an open channel in its place.
	going chan struct{}
	ended chan struct{}
}

// New starts a proxy to host:port on a free port of loopback.
func New(target string) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for a proxy to %s: %w", target, err)
	}
	p := &Proxy{listener: listener, target: target, open: map[net.Conn]struct{}{}, going: make(chan struct{}), ended: make(chan struct{})}
	close(p.going)
	p.accepted.Go(p.accept)
	return p, nil
}

// Address is where the proxy listens.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Close ends the proxy and all connections through it.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.mu.Lock()
	select {
	case <-p.ended:
	default:
		close(p.ended)
	}
	p.closeAll()
	p.mu.Unlock()
	p.accepted.Wait()
	return err
}

// Cut closes all connections, and every new one at once, until Heal.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	p.closeAll()
}

// Delay holds back whatever passes in either direction for a time, until Heal.
func (p *Proxy) Delay(by time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latency = by
}

// Stall lets nothing pass, and closes nothing, until Heal.
func (p *Proxy) Stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.going:
		p.going = make(chan struct{})
	default:
	}
}

// Heal ends every fault.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.latency = false, 0
	select {
	case <-p.going:
	default:
		close(p.going)
	}
}

func (p *Proxy) closeAll() {
	for conn := range p.open {
		_ = conn.Close()
	}
	clear(p.open)
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.accepted.Go(func() { p.serve(conn) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	if !p.keep(client) {
		return
	}
	defer p.drop(client)
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	if !p.keep(server) {
		return
	}
	defer p.drop(server)
	var both sync.WaitGroup
	both.Go(func() { p.pass(server, client) })
	both.Go(func() { p.pass(client, server) })
	both.Wait()
}

// keep notes a connection, or closes it where none may be.
func (p *Proxy) keep(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.ended:
		_ = conn.Close()
		return false
	default:
	}
	if p.cut {
		_ = conn.Close()
		return false
	}
	p.open[conn] = struct{}{}
	return true
}

func (p *Proxy) drop(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, conn)
	_ = conn.Close()
}

// pass copies until either side ends, and then ends both.
func (p *Proxy) pass(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			p.wait()
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// wait is the time that the proxy takes.
func (p *Proxy) wait() {
	p.mu.Lock()
	going, latency := p.going, p.latency
	p.mu.Unlock()
	select {
	case <-going:
	case <-p.ended:
		return
	}
	if latency > 0 {
		timer := time.NewTimer(latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.ended:
		}
	}
}

var _ io.Closer = (*Proxy)(nil)
