package meter

import (
	"context"
	"fmt"
	"time"

	"github.com/riverline/tollgate/plans"
)

// await waits until a quantity can be decided on. Again decides.
//
// Who waits in vain is refused only where the store has said that there is no room. What
// others hold idle, what a change of the plan or a restore keeps back, and a store that is
// slow, say nothing about the limit: the answer is [ErrUnavailable].
func (o *Organization) await(
	ctx context.Context, i Index, quantity int64, again func() (plans.Decision, Reservation, *quota, verdict),
) (plans.Decision, Reservation, error) {
	o.meter.stats.waited.Add(1)
	timer := time.NewTimer(o.meter.config.QuotaWait)
	defer timer.Stop()
	var wanted want
	// What is wanted is wanted once, however often it is looked for.
	defer wanted.drop()
	for waits := 1; ; {
		d, r, found, v := again()
		if v != short {
			return d, r, v.err()
		}
		woken := wanted.waitFor(found, quantity)
		select {
		case <-woken:
		case <-timer.C:
			if waits < found.patience(&wanted, quantity) {
				waits++
				timer.Reset(o.meter.config.QuotaWait)
				continue
			}
			if d, v = found.giveUp(&wanted, quantity); v != decided {
				return d, Reservation{}, v.err()
			}
			o.meter.stats.count(i, d.Allowed, d.OverLimit, true)
			if found.inForce() {
				o.noteExceeded(i)
			}
			return d, Reservation{}, nil
		case <-ctx.Done():
			return d, Reservation{}, fmt.Errorf("wait for quota: %w", ctx.Err())
		}
	}
}

// want is what a request is registered with: a quota, and how much of it. Since is the last
// ask that was made before.
type want struct {
	quota           *quota
	quantity, since int64
}

// drop takes the registration back.
func (w *want) drop() {
	if w.quota == nil {
		return
	}
	w.quota.slot.lock()
	w.quota.wanted -= w.quantity
	w.quota.slot.mu.Unlock()
	*w = want{}
}

// waitFor registers a request's want with a quota, in place of the one so far. More than
// the limit is not wanted: only an answer is.
func (w *want) waitFor(q *quota, quantity int64) <-chan struct{} {
	changed := w.quota != q
	if changed {
		w.drop()
	}
	q.slot.lock()
	defer q.slot.mu.Unlock()
	if q.slot.org.Forgotten() {
		// The next decision finds out.
		woken := make(chan struct{})
		close(woken)
		return woken
	}
	if changed {
		w.since = q.version
	}
	// Beyond what any limit allows, more who wait make no difference.
	if w.quota == nil && q.wanted <= plans.MaxMonthSum {
		if quantity > q.slot.org.view.Load().entitlements[q.index].Max {
			quantity = 0
		}
		q.wanted += quantity
		w.quota, w.quantity = q, quantity
	}
	q.largest = max(q.largest, w.quantity)
	if w.quantity > 0 && (q.least == 0 || w.quantity < q.least) {
		q.least = w.quantity
	}
	if q.woken == nil {
		q.woken = make(chan struct{})
	}
	q.slot.org.meter.keeper.enqueue(q)
	return q.woken
}

// patience is how many times [Config.QuotaWait] a request waits for the store to say whether
// there is room.
func (q *quota) patience(w *want, quantity int64) int {
	q.slot.lock()
	defer q.slot.mu.Unlock()
	c := &q.slot.org.meter.config
	switch {
	case quantity > q.slot.org.view.Load().entitlements[q.index].Max:
		return 1
	case q.barred != decided || q.changing:
		return 2
	case q.denied <= w.since:
		// A call that is under way, and the next one, are answered by then or have failed.
		return 1 + int((2*c.AskTimeout+c.QuotaWait-1)/c.QuotaWait)
	default:
		return 1
	}
}

// inForce reports whether the quota is that of the slot's current window.
func (q *quota) inForce() bool {
	q.slot.lock()
	defer q.slot.mu.Unlock()
	return q.slot.quota == q
}

// giveUp decides on what has waited in vain: it is refused where there is no room for it, and
// unavailable where nobody can say so.
func (q *quota) giveUp(w *want, quantity int64) (plans.Decision, verdict) {
	q.slot.lock()
	defer q.slot.mu.Unlock()
	m := q.slot.org.meter
	e := &q.slot.org.view.Load().entitlements[q.index]
	if q.barred != decided && quantity <= e.Max {
		return q.refusal(e), q.barred
	}
	if (q.changing || q.denied <= w.since) && quantity <= e.Max {
		return q.refusal(e), unavailable
	}
	now := m.config.Now().UnixNano()
	if now >= q.dryUntil || quantity < q.dryOf {
		q.dryOf = max(1, quantity)
	}
	q.dryUntil = max(q.dryUntil, now+int64(dryFor))
	return q.refusal(e), q.refuses(e, quantity)
}

// refuses says whether a quantity that no lease covers is beyond the limit. What others hold
// idle is not used: it may come back.
func (q *quota) refuses(e *plans.Entitlement, quantity int64) verdict {
	if quantity <= e.Max-q.counted() {
		return unavailable
	}
	return decided
}
