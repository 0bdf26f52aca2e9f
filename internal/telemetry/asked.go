package telemetry

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// askPatience is how long a scrape waits for one answer, and askTimeout how long what is asked may take
	// altogether: what comes too late for one scrape is there for the next.
	askPatience = 500 * time.Millisecond
	askTimeout  = 10 * time.Second
	// askedFor is how long an answer is shown while there is no newer one.
	askedFor = 2 * time.Minute
)

// errNoAnswer says that what is asked for a scrape has not answered yet.
var errNoAnswer = errors.New("there is no answer yet")

// asked is what another system says, as scrapes show it. A scrape holds the lock that whoever makes an
// instrument needs, and clients make instruments while they are asked: Temporal's does, of a kind of
// failure that is new to it. So a scrape must not wait until it has an answer: both would wait for ever.
type asked[T any] struct {
	ask func(context.Context) (T, error)

	mu sync.Mutex
	// done is closed when the answer that is under way is there; nil: none is.
	done  chan struct{}
	value T
	err   error
	at    time.Time
}

func newAsked[T any](ask func(context.Context) (T, error)) *asked[T] { return &asked[T]{ask: ask} }

// read asks, and returns the answer, or the last one where it takes long.
func (a *asked[T]) read() (T, error) {
	done := a.begin()
	patience := time.NewTimer(askPatience)
	defer patience.Stop()
	late := false
	select {
	case <-done:
	case <-patience.C:
		late = true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if late && time.Since(a.at) > askedFor {
		var none T
		return none, errNoAnswer
	}
	return a.value, a.err
}

// begin asks, unless it was asked before and there is no answer.
func (a *asked[T]) begin() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done != nil {
		return a.done
	}
	done := make(chan struct{})
	a.done = done
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
		defer cancel()
		value, err := a.ask(ctx)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.value, a.err, a.at, a.done = value, err, time.Now(), nil
		close(done)
	}()
	return done
}
