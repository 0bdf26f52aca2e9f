package meter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
)

// PlanChange is a change of what organizations may use.
type PlanChange struct {
	// Number counts changes up, in the order in which they were committed.
	Number int64
	// Organization is whose plan changed; the zero UUID: a version of a plan was published.
	Organization uuid.UUID
	// Transaction is the store's that made it; zero: it isn't known.
	Transaction uint64
	// EffectiveFrom is when it comes into force, UTC.
	EffectiveFrom time.Time
}

// ChangeStore has the changes of plans, and knows which instance has taken which over.
type ChangeStore interface {
	// PlanChanges returns, in their order, the changes that an instance has not said to have
	// taken over, and those that are not in force by the time that it has named.
	PlanChanges(ctx context.Context, instance uuid.UUID) ([]PlanChange, error)
	// TakenOver says that an instance has taken over the changes up to a number, as far as
	// they come into force up to a time: what it admits from then on it admits by them, and
	// the store has, or has been told of, all that it had admitted before.
	TakenOver(ctx context.Context, instance uuid.UUID, through int64, until time.Time) error
}

// TakeoverConfig is what a [Takeover] is made from. All members are required.
type TakeoverConfig struct {
	// Refresher puts changes in force at the meter, Flusher writes what the meter has counted.
	Refresher *Refresher
	Flusher   *Flusher
	Store     ChangeStore
	// Instance is the identity of the meter's leases.
	Instance uuid.UUID
	// Now tells the time, UTC.
	Now func() time.Time
}

// Takeover takes changes of plans over: it puts them in force at this instance, sees
// that the store knows all that was admitted before, and says so. Until all live
// instances have, the store grants nothing of a limit that changed.
type Takeover struct {
	config TakeoverConfig
	// mu is held for the whole of a call.
	mu sync.Mutex
	// through is the last change that was taken over.
	through int64
}

// ErrNotTakenOver says that the store has yet to be told of what is held.
var ErrNotTakenOver = errors.New("the store has not been told of what is held")

// NewTakeover makes one. It panics where a member of the config is missing.
func NewTakeover(config TakeoverConfig) *Takeover {
	if config.Refresher == nil || config.Flusher == nil || config.Store == nil || config.Instance == uuid.Nil || config.Now == nil {
		panic("meter: all members of TakeoverConfig are required")
	}
	return &Takeover{config: config}
}

// Follow takes over what has changed, and returns when the next change is due; zero: none
// is known. It may be called at any time, and after an error again.
func (t *Takeover) Follow(ctx context.Context) (due time.Time, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	changes, err := t.config.Store.PlanChanges(ctx, t.config.Instance)
	if err != nil || len(changes) == 0 {
		return time.Time{}, err
	}
	now := t.config.Now()
	through, inForce := t.through, false
	for _, c := range changes {
		pending := c.EffectiveFrom.After(now)
		if pending && (due.IsZero() || c.EffectiveFrom.Before(due)) {
			due = c.EffectiveFrom
		}
		if pending && c.Number <= t.through {
			continue
		}
		inForce = true
		through = max(through, c.Number)
		if err := t.config.Refresher.takeOver(ctx, c, now); err != nil {
			return due, err
		}
	}
	if !inForce {
		return due, nil
	}
	if err := t.tell(ctx); err != nil {
		return due, err
	}
	if err := t.config.Store.TakenOver(ctx, t.config.Instance, through, now); err != nil {
		return due, fmt.Errorf("say that changes are taken over: %w", err)
	}
	t.through = through
	return due, nil
}

// tell sees that the store knows all that was admitted while no limit was in force: it is
// flushed, or, as far as it is held by open reservations, taken out of the limit.
func (t *Takeover) tell(ctx context.Context) error {
	m := t.config.Refresher.config.Meter
	for {
		behind := m.switched.Swap(false) && t.config.Flusher.Behind()
		if m.unflushed.Swap(false) || behind {
			if _, err := t.config.Flusher.Flush(ctx); err != nil {
				m.unflushed.Store(true)
				return err
			}
		}
		// What is settled meanwhile is to be flushed, and no longer to be booked: in this order.
		if m.unbooked.Load() == 0 && !m.unflushed.Load() {
			return nil
		}
		if m.config.manualLeases {
			return ErrNotTakenOver
		}
		select {
		case <-time.After(bookingPause):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrNotTakenOver, ctx.Err())
		}
	}
}

// bookingPause is the time between two looks whether the store was told.
const bookingPause = 2 * time.Millisecond
