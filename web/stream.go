package web

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/riverline/tollgate/gate"
)

const (
	// streamFor is how long a stream lasts. The browser then opens another one.
	streamFor = 5 * time.Minute
	// maxStreams is how many there are at once in this process, maxStreamsEach of one sign-in.
	maxStreams     = 500
	maxStreamsEach = 8
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

// stream sends a part of a page as server-sent events, each time that it has changed. It ends with the browser, with what
// look can't see any more, and at last after streamFor.
func (v *visit) stream(name, part string, look func() (any, error)) error {
	who := v.signIn.ID.String()
	if !v.pages.streams.enter(who) {
		return gate.NewProblem(http.StatusTooManyRequests, "too_many_under_way", "Too many pages are open that show what moves.")
	}
	defer v.pages.streams.leave(who)
	v.w.Header().Set("Content-Type", "text/event-stream")
	ticker := time.NewTicker(v.pages.config.LiveEvery)
	defer ticker.Stop()
	var sent []byte
	for began := time.Now(); time.Since(began) < streamFor; {
		v.now = v.pages.config.Now().UTC()
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
				return nil //nolint:nilerr // the browser is gone: there is nobody to tell
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

// endStream ends one that has begun without a word: the browser opens it again, and is told then.
func (v *visit) endStream(sent []byte, err error) error {
	var problem *gate.Problem
	if sent != nil && errors.As(err, &problem) {
		return nil
	}
	return err
}

func (v *visit) event(name string, body []byte) error {
	to := http.NewResponseController(v.w)
	if err := to.SetWriteDeadline(time.Now().Add(sendWithin)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	text := strings.ReplaceAll(strings.TrimSpace(string(body)), "\n", "\ndata: ")
	if _, err := fmt.Fprintf(v.w, "event: %s\ndata: %s\n\n", name, text); err != nil {
		return err
	}
	return to.Flush()
}
