package meter

import (
	"context"
	"errors"
	"fmt"
)

// ErrQuotaRefused says that the store answers, and grants no quota of a window: it refuses the ask,
// or can't decide on it for now. No limit opens for that. Nothing was counted. It is an
// [ErrUnavailable].
var ErrQuotaRefused = fmt.Errorf("%w: the store answers, and refuses", ErrUnavailable)

// answers reports whether a store that failed has answered: it refuses, or can't decide now.
func answers(err error) bool { return errors.Is(err, ErrAskRefused) || errors.Is(err, ErrAskContested) }

// refused finds by halves the asks that the store refuses, and makes the others. What waits for a
// refused one is refused by name.
func (k *keeper) refused(ctx context.Context, batch []*quota, err error) {
	if len(batch) > 1 {
		k.halve(ctx, batch)
		return
	}
	m := k.meter
	q := batch[0]
	q.slot.lock()
	defer q.slot.mu.Unlock()
	if q.refusedUntil == 0 {
		m.config.Logger.Warn("Quota of a window is refused by the store: requests under its limit are answered with 503", q.logged(err)...)
	}
	q.asking, q.contested = false, false
	q.refusedUntil = m.config.Now().Add(refusedFor).UnixNano()
	q.excuse()
	q.wake()
	k.later(ctx, q, refusedRetry)
}

// contend finds by halves the asks that the store can't decide on, and makes the others. What waits
// for such a one goes on waiting, and is refused by name in the end.
func (k *keeper) contend(ctx context.Context, batch []*quota, err error) {
	if ctx.Err() != nil {
		return
	}
	for _, q := range batch {
		q.slot.lock()
		// Halving may take long: nobody is told meanwhile that nothing is left.
		q.barred = refused
		q.slot.mu.Unlock()
	}
	if len(batch) > 1 {
		k.halve(ctx, batch)
		return
	}
	q := batch[0]
	q.slot.lock()
	defer q.slot.mu.Unlock()
	if !q.contested {
		k.meter.config.Logger.Warn("The store can't decide on quota of a window for now", q.logged(err)...)
	}
	q.asking, q.contested = false, true
	k.later(ctx, q, keeperRetry)
}

func (k *keeper) halve(ctx context.Context, batch []*quota) {
	k.ask(ctx, batch[:len(batch)/2])
	k.ask(ctx, batch[len(batch)/2:])
}

// logged is what a log says of a quota.
func (q *quota) logged(err error) []any {
	return []any{"organization", q.key.Organization, "meter", q.key.Meter, "window", q.key.Kind, "start", q.key.Start, "error", err}
}
