package meter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// ErrUnavailable says that usage can't be taken now: nobody could say in time whether the limit
// has room, or, by the strict settings, leases can't be had ([Config.DenyUnleased]) or the
// journal can't keep it ([Config.RefuseUnjournalled]). Nothing was counted.
var ErrUnavailable = errors.New("usage can't be taken now")

// Reservation is a quantity that was admitted and is not settled. It belongs to the
// window and the day in which it was made. It is a value for one goroutine.
type Reservation struct {
	slot *slot
	// quota is the lease that the quantity was taken from; nil without one.
	quota    *quota
	quantity int64
	at       int64
	// stamp is when it was made, in the count of [Meter.generations].
	stamp int64
	// day is the day, and [windowStart, windowEnd) the window, of the reservation.
	day, windowStart, windowEnd calendar.Day
	// price is what the quantity is priced by.
	price price
	// coming is the quota of the day that it is about to move to, which has taken it over already;
	// announced is the last ask before that.
	coming    *quota
	announced int64
	// identified is the report as it is counted, where it bears an identity; nil: it bears none.
	identified *IdentifiedReport
	// unleased says that it was admitted although quota could not be had.
	unleased bool
}

// Admit decides whether quantity may be used now, and holds it where it may. An allowed
// reservation must be settled once, with [Reservation.TryCommit], [Reservation.Commit] or
// [Reservation.Release]; a refused one is the zero value, on which they do nothing.
//
// It touches memory only, unless quota is short that other instances may hold: for that it
// waits, [Config.QuotaWait] at most, or until a slow store has answered or failed. It answers
// [ErrUnavailable] where nobody could say so in time, or the settings forbid to decide without
// the store, [ErrQuantityOverflow] where the day can't hold the quantity, and
// [ErrContractEnded] where there is no plan.
//
// Index comes from [Meter.Index]. Quantity is 0 to [plans.MaxQuantity]. Now is the caller's
// time, which may be from before a wait of its own: what is decided goes by [Config.Now] as it
// is at that moment, where that is later; zero: by that alone.
func (o *Organization) Admit(ctx context.Context, i Index, quantity int64, now time.Time) (d plans.Decision, r Reservation, err error) {
	var v verdict
	if d, r, _, v = o.reserve(i, wishNow(quantity, now)); v == decided {
		return d, r, nil
	}
	return o.admit(ctx, i, quantity, now, d, v)
}

// admit goes on with what couldn't be decided at once.
func (o *Organization) admit(ctx context.Context, i Index, quantity int64, now time.Time, d plans.Decision, v verdict) (plans.Decision, Reservation, error) {
	err, r := v.err(), Reservation{}
	for {
		if v == short {
			d, r, err = o.await(ctx, i, quantity, func() (plans.Decision, Reservation, *quota, verdict) {
				return o.reserve(i, wishNow(quantity, now))
			})
		}
		if err == nil || !errors.Is(err, errForgotten) {
			return d, r, err
		}
		if o, err = o.meter.Organization(ctx, o.id, now); err != nil {
			return d, r, err
		}
		d, r, _, v = o.reserve(i, wishNow(quantity, now))
		err = v.err()
	}
}

// wish is what is to be admitted: a quantity of a time at, which is now or before.
type wish struct {
	// now is the caller's time, and then that of the decision.
	quantity, now, at int64
	// reported is the time that the report bears; noTime: none.
	reported int64
	// own says that the report bears the time: the plan of that time prices it, whichever
	// plan decides.
	own bool
}

// noTime is later than every time.
const noTime = math.MaxInt64

func wishNow(quantity int64, now time.Time) *wish {
	return &wish{quantity: quantity, now: nanos(now), reported: noTime}
}

// nanos is a time in Unix nanoseconds; zero is before every decision.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// date gives a wish the time of its decision. A time of its own that is ahead counts as now.
func (w *wish) date(now int64) {
	w.now, w.at = now, min(now, w.reported)
	w.own = w.reported < now
}

// lockAt takes a slot's lock, and returns the time: the clock is read under the lock, so that
// no wait is between the reading and what is decided by it. The plan of that time is in force
// then. Now counts where it is later, or the meter has no clock. Where the organization has left
// memory, the lock isn't taken.
func (o *Organization) lockAt(s *slot, now int64) (at int64, taken bool) {
	for {
		s.lock()
		if now = o.meter.latest(now); now < o.switchAt.Load() {
			return now, true
		}
		s.mu.Unlock()
		if o.Forgotten() {
			return now, false
		}
		o.switchPlan(now)
	}
}

// latest is the later of a time and what the clock says, in Unix nanoseconds.
func (m *Meter) latest(now int64) int64 {
	if m.config.Now == nil {
		return now
	}
	return max(now, m.config.Now().UnixNano())
}

// latestTime is latest, for what is read from the store.
func (m *Meter) latestTime(now time.Time) time.Time {
	return time.Unix(0, m.latest(now.UnixNano())).UTC()
}

// reserve decides at once. Usage belongs to the day, and counts in the window, of its time.
// Where quota is short, it is returned.
func (o *Organization) reserve(i Index, w *wish) (d plans.Decision, r Reservation, q *quota, v verdict) {
	s := o.slot(i)
	at, taken := o.lockAt(s, w.now)
	if !taken {
		return d, r, nil, moved
	}
	w.date(at)
	// Under the lock: a change of the plan finds in the slot all that was decided on before.
	view := o.view.Load()
	p := view.price
	if w.own {
		p = o.priceAt(w.at)
	}
	e := &view.entitlements[i]
	s.roll(e.Window, w.now)
	day := s.current.day
	if w.at < w.now {
		day = min(dayOf(w.at), day)
	}
	d, q, v = s.decide(view, i, day, p, w)
	if d.Allowed {
		r = s.reservation(e, day, p, w)
		switch v {
		case leased:
			r.quota, v = q, decided
		case unleased:
			r.unleased, v = true, decided
		}
		s.holdFor(&r, w.own)
	}
	past, inWindow := day != s.current.day, s.inWindow(day)
	s.mu.Unlock()

	if past && d.Allowed {
		o.meter.holdDay(day, 1)
	}
	if v == decided {
		o.meter.stats.count(i, d.Allowed, d.OverLimit, view.loaded)
	}
	if d.OverLimit && v == decided && inWindow {
		o.noteExceeded(i)
	}
	return d, r, q, v
}

// decide decides on a quantity of a day, and takes what is allowed.
func (s *slot) decide(view *view, i Index, day calendar.Day, p price, w *wish) (d plans.Decision, q *quota, v verdict) {
	e := &view.entitlements[i]
	switch {
	case view.ended && p == 0:
		return plans.Decision{OverLimit: true, Mode: plans.Hard}, nil, ended
	case s.overflows(day, w.quantity):
		return plans.Decision{Mode: e.Mode}, nil, overflowing
	case view.ended:
		// What was used under a contract is taken, whatever its limits were.
		e = &plans.Entitlement{Mode: plans.Unlimited}
	case view.leased[i]:
		q = s.quotaFor(e.Window, i, day)
		d, v = s.takeLeased(q, e, w.quantity, w.now)
		return d, q, v
	case !view.loaded && s.org.meter.config.DenyUnleased:
		// Nobody knows whether there is a limit.
		return d, nil, unavailable
	}
	if s.inWindow(day) {
		return s.take(e, w.quantity), nil, decided
	}
	// The usage of a window that is over isn't in memory: what isn't hard needs no more.
	return s.decideAlone(e, w.quantity), nil, decided
}

// reservation makes one for a day.
func (s *slot) reservation(e *plans.Entitlement, day calendar.Day, p price, w *wish) Reservation {
	r := Reservation{
		slot: s, quantity: w.quantity, day: day, windowStart: s.windowStart, windowEnd: s.windowEnd, at: w.at,
		stamp: s.org.meter.generations.Load(), price: p,
	}
	if day != s.current.day {
		window := e.Window.On(day)
		r.windowStart, r.windowEnd = calendar.DayOf(window.Start), calendar.DayOf(window.End)
	}
	return r
}

// holdFor notes that a reservation was made. Own says that its price may be another one than
// that of what comes next.
func (s *slot) holdFor(r *Reservation, own bool) {
	if !own && s.current.price != r.price {
		s.cut(r.price)
	}
	share, older := s.dayFor(r.day, r.price)
	if older != nil && s.meter.Aggregation == plans.Sum {
		older.taken += r.quantity
	}
	s.hold(share, r.quantity, r.quota)
}

// At is when it was decided on; the zero reservation has none.
func (r *Reservation) At() time.Time { return time.Unix(0, r.at) }

// Held reports whether the reservation still waits to be settled.
func (r *Reservation) Held() bool { return r.slot != nil }

// Window returns the window that the quantity counts in. The zero reservation has none.
func (r *Reservation) Window() calendar.Window {
	if r.windowEnd == 0 {
		return calendar.Window{}
	}
	return calendar.Window{Start: r.windowStart.Start(), End: r.windowEnd.Start()}
}

// Commit counts the quantity, whether the journal can keep it or not: the work is done.
// A second settlement does nothing.
func (r *Reservation) Commit() { _ = r.commit(false) }

// TryCommit is [Reservation.Commit] that gives the quantity back, and answers
// [ErrUnavailable], where the journal can't keep it and the settings want that
// ([Config.RefuseUnjournalled]).
func (r *Reservation) TryCommit() error {
	return r.commit(r.slot != nil && r.slot.org.meter.config.RefuseUnjournalled)
}

// Release gives the quantity back. A second settlement does nothing.
func (r *Reservation) Release() {
	s := r.slot
	if s == nil {
		return
	}
	r.slot = nil
	s.lock()
	d, _ := s.dayFor(r.day, r.price)
	s.unhold(d, r, func(q *quota) { q.refund(q.disown(r), r.stamp) })
	s.rare.acknowledgeTaken(r.day, r.quantity)
	if s.inWindow(r.day) && s.meter.Aggregation == plans.Sum {
		s.used -= r.quantity
	}
	passed := r.day != s.current.day
	s.mu.Unlock()
	if passed {
		s.org.meter.holdDay(r.day, -1)
	}
}

func (r *Reservation) commit(strict bool) error {
	s := r.slot
	if s == nil {
		return nil
	}
	m := s.org.meter
	lock := m.drainLocks.here()
	lock.RLock()
	if m.config.Journal != nil {
		if err := m.journal(r); err != nil {
			if strict {
				lock.RUnlock()
				r.Release()
				return fmt.Errorf("%w: %w", ErrUnavailable, err)
			}
			m.stats.unjournalled.Add(1)
		}
	}
	r.slot = nil
	if r.unleased {
		addUpTo(&m.stats.unleased, r.quantity)
	}
	s.lock()
	s.enter(m)
	s.record(r)
	passed := r.day != s.current.day
	s.mu.Unlock()
	lock.RUnlock()
	if passed {
		// After the usage is in the slot: a drain that sees no hold finds the usage.
		m.holdDay(r.day, -1)
	}
	return nil
}

func dayOf(nanos int64) calendar.Day { return calendar.DayOf(time.Unix(0, nanos)) }
