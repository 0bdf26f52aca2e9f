package meter

import (
	"context"
	"fmt"
	"time"

	"github.com/riverline/tollgate/plans"
)

// await waits until a quantity can be decided on. Again decides.
func (o *Organization) await(
	ctx context.Context, i Index, quantity int64, again func() (plans.Decision, Reservation, *quota, verdict),
) (plans.Decision, Reservation, error) {
	o.meter.stats.waited.Add(1)
	timer := time.NewTimer(o.meter.config.QuotaWait)
	defer timer.Stop()
	var wanted want
	// What is wanted is wanted once, however often it is looked for.
	defer wanted.drop()
	patient := false
	for {
		d, r, found, v := again()
		if v != short {
			return d, r, v.err()
		}
		woken := wanted.waitFor(found, quantity)
		select {
		case <-woken:
		case <-timer.C:
			if !patient && (found.isChanging() || found.isBarred()) {
				// A change of the plan is being taken over, or the store is brought up to date.
				patient = true
				timer.Reset(o.meter.config.QuotaWait)
				continue
			}
			if found.isBarred() {
				return d, Reservation{}, ErrUnavailable
			}
			found.giveUp(quantity, o.meter.config.Now().UnixNano())
			o.meter.stats.count(i, o, d, true)
			if found.inForce() {
				o.noteExceeded(i)
			}
			return d, Reservation{}, nil
		case <-ctx.Done():
			return d, Reservation{}, fmt.Errorf("wait for quota: %w", ctx.Err())
		}
	}
}

// want is what a request is registered with: a quota, and how much of it.
type want struct {
	quota    *quota
	quantity int64
}

// drop takes the registration back.
func (w *want) drop() {
	if w.quota == nil {
		return
	}
	w.quota.slot.mu.Lock()
	w.quota.wanted -= w.quantity
	w.quota.slot.mu.Unlock()
	*w = want{}
}

// waitFor registers a request's want with a quota, in place of the one so far. More than
// the limit is not wanted: only an answer is.
func (w *want) waitFor(q *quota, quantity int64) <-chan struct{} {
	if w.quota != q {
		w.drop()
	}
	q.slot.mu.Lock()
	defer q.slot.mu.Unlock()
	// Beyond what any limit allows, more who wait make no difference.
	if w.quota == nil && q.wanted <= plans.MaxMonthSum {
		if quantity > q.slot.org.view.Load().entitlements[q.index].Max {
			quantity = 0
		}
		q.wanted += quantity
		*w = want{q, quantity}
	}
	if w.quantity > 0 && (q.least == 0 || w.quantity < q.least) {
		q.least = w.quantity
	}
	if q.woken == nil {
		q.woken = make(chan struct{})
	}
	q.slot.org.meter.keeper.enqueue(q)
	return q.woken
}

// isChanging reports whether the store grants nothing until a change is taken over.
func (q *quota) isChanging() bool {
	q.slot.mu.Lock()
	defer q.slot.mu.Unlock()
	return q.changing
}

// isBarred reports whether the store grants nothing before it has what it had acknowledged.
func (q *quota) isBarred() bool {
	q.slot.mu.Lock()
	defer q.slot.mu.Unlock()
	return q.barred
}

// inForce reports whether the quota is that of the slot's current window.
func (q *quota) inForce() bool {
	q.slot.mu.Lock()
	defer q.slot.mu.Unlock()
	return q.slot.quota == q
}

// giveUp notes that a request has waited in vain.
func (q *quota) giveUp(quantity, now int64) {
	q.slot.mu.Lock()
	defer q.slot.mu.Unlock()
	if now >= q.dryUntil || quantity < q.dryOf {
		q.dryOf = max(1, quantity)
	}
	q.dryUntil = max(q.dryUntil, now+int64(dryFor))
}
