package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// ErrBodyStalled says that a request's body brought nothing for too long.
var ErrBodyStalled = errors.New("the request's body brought nothing for too long")

const (
	// restTimeout bounds the time for what is left of a request's body, once it was handled, and
	// maxRest how much of it is read: on a connection that can be used again.
	restTimeout = 50 * time.Millisecond
	maxRest     = 256 << 10
)

// TimedBody is a request's body that must bring something within a time: its connection's read
// deadline moves with each read. One that goes on bringing something is never cut.
type TimedBody struct {
	io.ReadCloser
	writer     http.ResponseWriter
	controller *http.ResponseController
	idle       time.Duration
	// invited says that the caller sends the body only once somebody reads it.
	invited bool
	// began is when the body was first waited for; ended, where set, is called at its end with that.
	began time.Time
	ended func(began time.Time)

	// mu guards what follows: a body may be read by one goroutine and let go by another.
	mu sync.Mutex
	// over says that all of it is read, free that it has no deadline any more.
	over, free bool
	// deadline is by when the body must bring something.
	deadline time.Time
}

// TimeBody gives a request's body a time in which it must bring something, again and again:
// [ErrBodyStalled] is the error of a read that brings nothing. It returns nil, and does nothing,
// where there is no body. Ended, where it isn't nil, is called at the body's end, with when it began.
// Call [TimedBody.Abandon] when the request has been handled.
func TimeBody(w http.ResponseWriter, r *http.Request, idle time.Duration, ended func(began time.Time)) *TimedBody {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	b := &TimedBody{
		ReadCloser: r.Body, writer: w, controller: http.NewResponseController(w), idle: idle,
		invited: r.Header.Get("Expect") != "", began: time.Now(), ended: ended,
	}
	b.wait()
	r.Body = b
	return b
}

type timedBodyKey struct{}

// In returns the request with the body to be found by a [Proxy], which times no body twice.
func (b *TimedBody) In(r *http.Request) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), timedBodyKey{}, b))
}

// wait moves the deadline. A connection that has none needs none moved.
func (b *TimedBody) wait() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.over && !b.free {
		b.deadline = time.Now().Add(b.idle)
		_ = b.controller.SetReadDeadline(b.deadline)
	}
}

// stalled reports whether the time in which it must bring something is over.
func (b *TimedBody) stalled() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.over && !b.free && time.Now().After(b.deadline)
}

// Read reads; [ErrBodyStalled] says that nothing came in time.
func (b *TimedBody) Read(p []byte) (int, error) {
	b.wait()
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.end()
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("%w: %s", ErrBodyStalled, b.idle)
	}
	return n, err
}

// end lifts the deadline: from the body's end on net/http watches the connection, and would take
// the deadline for the caller's going away.
func (b *TimedBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return
	}
	b.over = true
	_ = b.controller.SetReadDeadline(time.Time{})
	if b.ended != nil {
		b.ended(b.began)
	}
}

// letGo lifts the deadline while an answer goes out: a stream in both directions may be silent.
// What is left of the body then must not be taken for another request.
func (b *TimedBody) letGo() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.over {
		b.free = true
		b.writer.Header().Set("Connection", "close")
		_ = b.controller.SetReadDeadline(time.Time{})
	}
}

// Abandon reads what is left of a body that nobody reads any more, as far as it is there. Where
// it isn't, the connection ends with the answer: it is not held for a caller who has stalled.
func (b *TimedBody) Abandon() {
	b.mu.Lock()
	over := b.over
	b.free = true
	if !over {
		_ = b.controller.SetReadDeadline(time.Now().Add(restTimeout))
	}
	b.mu.Unlock()
	if over {
		return
	}
	if !b.invited {
		if _, err := io.CopyN(io.Discard, b, maxRest); errors.Is(err, io.EOF) {
			return
		}
	}
	b.writer.Header().Set("Connection", "close")
}
