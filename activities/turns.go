package activities

import (
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/temporal"
)

// DefaultAttempts is how many attempts to deliver events are made at once where nothing else is said.
const DefaultAttempts = 64

const (
	// turnPart is which part of the free places an organization may have: 1/turnPart.
	turnPart = 4
	// firstTook is how long an attempt is taken to take before one has ended.
	firstTook = time.Second
	// soonestTurn and latestTurn bound when an attempt that finds no place comes again.
	soonestTurn = time.Second
	latestTurn  = 10 * time.Minute
)

// turns shares the places of a worker among organizations. One has at most a part of the places
// that are free, so that any number of them whose receivers hang leave some for others; one that
// has none under way gets any that is free.
type turns struct {
	mu     sync.Mutex
	places int
	taken  int
	of     map[uuid.UUID]*turn
}

// turn is what is known of an organization that has attempts under way, or had until lately.
type turn struct {
	taken int
	// took is how long its attempts take, smoothed.
	took time.Duration
	// next is when the last of those that found no place comes again.
	next time.Time
}

func newTurns(places int) *turns { return &turns{places: places, of: map[uuid.UUID]*turn{}} }

// take takes a place, or says when to come again: those that wait come about as fast as places become
// free for them, so that a long queue costs little.
func (t *turns) take(organization uuid.UUID, now time.Time) (ok bool, after time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := t.of[organization]
	if mine == nil {
		mine = &turn{took: firstTook}
		t.of[organization] = mine
	}
	free := t.places - t.taken
	if free > 0 && (mine.taken == 0 || mine.taken < free/turnPart) {
		mine.taken++
		t.taken++
		return true, 0
	}
	if mine.next.Before(now) {
		mine.next = now
	}
	mine.next = mine.next.Add(mine.took / time.Duration(max(1, mine.taken)))
	if latest := now.Add(latestTurn); mine.next.After(latest) {
		mine.next = latest
	}
	return false, max(soonestTurn, mine.next.Sub(now))
}

// give gives a place back after an attempt.
func (t *turns) give(organization uuid.UUID, now time.Time, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := t.of[organization]
	mine.taken--
	t.taken--
	mine.took = (3*mine.took + took) / 4
	for id, other := range t.of {
		if other.taken == 0 && other.next.Before(now) {
			delete(t.of, id)
		}
	}
}

// comeAgain ends an activity that has to wait for its turn. The server keeps it until then: it takes
// no place, and adds nothing to the workflow's history.
func comeAgain(after time.Duration) error {
	return temporal.NewApplicationErrorWithOptions(
		fmt.Sprintf("other deliveries of the organization are under way: this one is tried again in %s", after.Round(time.Second)), TypeTurn,
		temporal.ApplicationErrorOptions{NextRetryDelay: after, Category: temporal.ApplicationErrorCategoryBenign},
	)
}
