package meter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// ErrPaced says that the plan has room for the quantity, and the caller's pace has not. Nothing was
// counted.
var ErrPaced = errors.New("usage comes too fast")

// Pace says whether what the plan has room for may be used now, at the time of the decision, and takes
// what that costs. It is called once, and must not block: the meter of the organization waits for it.
type Pace func(limit plans.RateLimit, at time.Time) bool

// Use is [Organization.Admit] and [Reservation.TryCommit] in one step: what is allowed is counted, and
// no drain and no other decision comes between. It answers what they answer, and [ErrPaced] where
// pace, unless it is nil, says no. A soft limit that only usage would have passed that isn't counted in
// the end isn't noted as passed.
func (o *Organization) Use(ctx context.Context, i Index, quantity int64, now time.Time, pace Pace) (out Outcome, err error) {
	if done, err := o.useAtOnce(i, quantity, nanos(now), pace, &out); done {
		return out, err
	}
	return o.useInSteps(ctx, i, quantity, now, pace)
}

// useInSteps is Use where something is out of the ordinary.
func (o *Organization) useInSteps(ctx context.Context, i Index, quantity int64, now time.Time, pace Pace) (Outcome, error) {
	d, r, err := o.Admit(ctx, i, quantity, now)
	if err != nil {
		return Outcome{}, err
	}
	plan := o.Plan()
	out := Outcome{Decision: d, Plan: plan.Key, Window: r.Window()}
	if !r.Held() {
		out.Window = o.view.Load().entitlements[i].Window.At(now)
		return out, nil
	}
	if pace != nil && !pace(plan.RateLimit, r.At()) {
		r.Release()
		return Outcome{}, ErrPaced
	}
	if err := r.TryCommit(); err != nil {
		return Outcome{}, err
	}
	return out, nil
}

// useAtOnce decides and counts under one lock, within one epoch, where all that is needed is there:
// a sum, the day and the price of the decision before, a lease that covers the quantity or no need of one.
// Otherwise it has done nothing.
func (o *Organization) useAtOnce(i Index, quantity, now int64, pace Pace, out *Outcome) (done bool, err error) {
	m, s := o.meter, o.slot(i)
	// Seen without the lock, this is a guess, which has the processor fetch the lane early.
	led := s.epoch.Load() == m.epoch.Load()
	if led && m.config.Journal == nil {
		// Which batch it is in is decided by the slot's lock.
		if done, err = o.useLane(s, i, quantity, now, pace, out); done {
			m.stats.count(i, true, false, true)
			return true, err
		}
	}
	if !m.atOnce || s.meter.Aggregation != plans.Sum {
		return false, nil
	}
	lock := m.drainLocks.here()
	lock.RLock()
	if led && m.config.Journal != nil {
		done, err = o.useLane(s, i, quantity, now, pace, out)
	}
	over := false
	if !done {
		done, over, err = o.useSlot(s, i, quantity, now, pace, out)
	}
	lock.RUnlock()
	if !done {
		return false, nil
	}
	m.stats.count(i, true, over, true)
	if err != nil {
		*out = Outcome{}
		return true, err
	}
	if over {
		o.noteExceeded(i)
	}
	return true, nil
}

// useLane decides and counts by the slot's lane. The drain may come before or after: where there is a journal,
// the caller holds the drain lock.
func (o *Organization) useLane(s *slot, i Index, quantity, now int64, pace Pace, out *Outcome) (done bool, err error) {
	m := o.meter
	s.mu.Lock()
	now = m.latest(now)
	v := o.view.Load()
	if now >= s.dayEnd || now >= o.switchAt.Load() || !s.leads(v, m.epoch.Load(), quantity) || v.leased[i] && now >= m.leasesUntil.Load() {
		s.mu.Unlock()
		return false, nil
	}
	e := &v.entitlements[i]
	s.tell(e, quantity, &out.Decision)
	err = o.keep(v, i, v.leased[i], s.day, quantity, now, pace)
	if err == nil {
		s.pass(quantity, now)
		out.Plan = v.plan.Key
		m.windowOn(e.Window, s.day, &out.Window)
	}
	s.mu.Unlock()
	if err != nil {
		*out = Outcome{}
	}
	return true, err
}

// useSlot decides and counts by the slot, and opens its lane. The caller holds the drain lock.
func (o *Organization) useSlot(s *slot, i Index, quantity, now int64, pace Pace, out *Outcome) (done, over bool, err error) {
	m := o.meter
	s.lock()
	defer s.mu.Unlock()
	now = m.latest(now)
	v := o.view.Load()
	if !s.ordinary(v, now) || now >= o.switchAt.Load() || s.overflows(s.current.day, quantity) {
		return false, false, nil
	}
	d := &out.Decision
	q, possible := s.decideAtOnce(v, i, quantity, now, d)
	if !possible {
		return false, false, nil
	}
	if q != nil {
		q.wish(quantity)
	}
	if err := o.keep(v, i, q != nil, s.current.day, quantity, now, pace); err != nil {
		return true, d.OverLimit, err
	}
	s.enter(m)
	s.tally(q, quantity, 1, now)
	out.Plan, out.Window = v.plan.Key, s.window()
	s.openLane(v, &v.entitlements[i], q)
	return true, d.OverLimit, nil
}

// keep has the caller's pace and the journal say whether what was decided on may be counted.
func (o *Organization) keep(v *view, i Index, leased bool, day calendar.Day, quantity, now int64, pace Pace) error {
	if pace != nil && !pace(v.plan.RateLimit, time.Unix(0, now)) {
		return ErrPaced
	}
	if o.meter.config.Journal == nil {
		return nil
	}
	record := Record{
		Organization: o.id, Meter: v.meters[i].Key, Day: day, Quantity: quantity, At: now, Plan: v.priced.plan, PlanVersion: v.priced.version,
	}
	if leased {
		record.Lease = v.entitlements[i].Window
	}
	switch err := o.meter.keep(record); {
	case err == nil:
		return nil
	case o.meter.config.RefuseUnjournalled:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	default:
		o.meter.stats.unjournalled.Add(1)
		return nil
	}
}

// ordinary reports whether a decision goes by the slot's day and price.
func (s *slot) ordinary(v *view, now int64) bool {
	return now < s.dayEnd && s.current.price == v.price && v.loaded && !v.ended
}

// decideAtOnce decides as [slot.decide] does, and takes nothing. It answers false where the quantity
// isn't allowed, or more is needed to say so; q is the lease that it is to be taken out of, if any.
func (s *slot) decideAtOnce(v *view, i Index, quantity, now int64, d *plans.Decision) (q *quota, possible bool) {
	e := &v.entitlements[i]
	if quantity == 0 {
		return nil, false
	}
	if !v.leased[i] {
		current, held := s.standing(false)
		*d = plans.Decide(plans.Sum, *e, current, held, quantity)
		return nil, d.Allowed
	}
	q = s.quota
	if q == nil || q.free < quantity || !q.covers(e.Window, s.current.day) || now >= s.org.meter.leasesUntil.Load() {
		return nil, false
	}
	d.Allowed, d.Mode, d.Held, d.Max = true, plans.Hard, q.heldInStore, e.Max
	d.Current = max(0, max(q.elsewhere+q.spent, s.used+d.Held)+quantity-d.Held)
	d.Remaining = e.Remaining(d.Current, d.Held)
	return q, true
}

// wish notes what a request wants, whatever becomes of it: leases go by that. An ask is made ahead of need.
func (q *quota) wish(quantity int64) {
	q.largest = max(q.largest, quantity)
	if q.free-quantity < q.low {
		q.slot.org.meter.keeper.enqueue(q)
	}
}

// tally counts reports that add up to a quantity, the last of them at a time, of a lease if there is one. The slot is on
// the list of the drain to come.
func (s *slot) tally(q *quota, quantity int64, reports uint32, at int64) {
	s.used += quantity
	if q != nil {
		q.free -= quantity
		q.spent += quantity
		q.pending += quantity
	}
	d := &s.current
	d.pending += quantity
	d.has = true
	d.reports += reports
	d.at = max(d.at, at)
}
