package meter

import (
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/plans"
)

// Organization is the usage of one tenant at this instance. It is found once per
// request with [Meter.Organization]; its methods may be called by any number of
// goroutines.
type Organization struct {
	id    uuid.UUID
	meter *Meter
	view  atomic.Pointer[view]
	// slots has the meters that the catalog had when the organization was loaded, and
	// added those that came since.
	slots []slot
	added atomic.Pointer[[]*slot]
	// stale says that the store must be asked again: it could not be asked, or a window
	// changed its kind.
	stale atomic.Bool
	// refreshAt is when the next background load is due, in Unix nanoseconds;
	// refreshing is set while one is under way.
	refreshAt  atomic.Int64
	refreshing atomic.Bool
}

// view is what a plan allows, by the meter's index. All organizations on the plan
// share it, so that it is always in the processor's cache; it never changes.
type view struct {
	// loaded is false in the view of organizations whose plan could not be asked for:
	// everything is allowed (C5).
	loaded       bool
	plan         plans.Plan
	entitlements []plans.Entitlement
}

// slot returns the slot of a meter.
func (o *Organization) slot(i Index) *slot {
	if int(i) < len(o.slots) {
		return &o.slots[i]
	}
	return (*o.added.Load())[int(i)-len(o.slots)]
}

// ID returns the organization's ID.
func (o *Organization) ID() uuid.UUID { return o.id }

// Plan returns the plan in force. Its key is empty where [Organization.Loaded] is false.
func (o *Organization) Plan() plans.Plan { return o.view.Load().plan }

// Loaded reports whether the store has been asked what the organization may use.
// While it is false everything is allowed, and counted.
func (o *Organization) Loaded() bool { return o.view.Load().loaded }

// Reserve decides whether quantity may be used now, and holds it where it may. An
// allowed reservation must be settled once, with Commit or Release; a refused one
// is the zero value, on which both do nothing.
//
// Index comes from [Meter.Index]. Quantity is 0 to [plans.MaxQuantity].
func (o *Organization) Reserve(i Index, quantity int64, now time.Time) (plans.Decision, Reservation) {
	v := o.view.Load()
	e := &v.entitlements[i]
	s := o.slot(i)
	at := now.UnixNano()

	s.mu.Lock()
	s.roll(e.Window, at)
	d := s.take(e, quantity)
	var r Reservation
	if d.Allowed {
		s.current.open++
		r = Reservation{slot: s, quantity: quantity, day: s.current.day, windowStart: s.windowStart, windowEnd: s.windowEnd, at: at}
	}
	s.mu.Unlock()

	o.meter.stats.count(i, o, d, v.loaded)
	return d, r
}

// Consume reserves and commits in one step. The window is the one in which the
// quantity was decided upon.
func (o *Organization) Consume(i Index, quantity int64, now time.Time) (plans.Decision, plans.Window) {
	v := o.view.Load()
	e := &v.entitlements[i]
	s := o.slot(i)
	at := now.UnixNano()

	s.mu.Lock()
	s.roll(e.Window, at)
	d := s.take(e, quantity)
	if d.Allowed {
		s.record(&s.current, true, quantity, at)
		s.markDirty()
	}
	window := s.window()
	s.mu.Unlock()

	o.meter.stats.count(i, o, d, v.loaded)
	return d, window
}

// Usage is where one meter of an organization stands.
type Usage struct {
	Meter       plans.Meter
	Entitlement plans.Entitlement
	Window      plans.Window
	// Current is the usage of the window: stored, pending and held.
	Current int64
	// Pending is what of the current day the store does not have yet, as far as this
	// instance has not begun to write it.
	Pending int64
}

// Usage returns where a meter stands at a time.
func (o *Organization) Usage(i Index, now time.Time) Usage {
	v := o.view.Load()
	e := &v.entitlements[i]
	s := o.slot(i)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roll(e.Window, now.UnixNano())
	m := o.meter.Catalog().Meters[i]
	return Usage{
		Meter:       m,
		Entitlement: *e,
		Window:      s.window(),
		Current:     s.used,
		Pending:     s.current.pending,
	}
}

// Reservation is a quantity that was admitted and is not settled. It belongs to the
// window and the day in which it was made. It is a value for one goroutine.
type Reservation struct {
	slot     *slot
	quantity int64
	at       int64
	// day is the day, and [windowStart, windowEnd) the window, of the reservation.
	day, windowStart, windowEnd plans.Day
}

// Held reports whether the reservation still waits to be settled.
func (r *Reservation) Held() bool { return r.slot != nil }

// Window returns the window that the quantity counts in. The zero reservation has none.
func (r *Reservation) Window() plans.Window {
	if r.windowEnd == 0 {
		return plans.Window{}
	}
	return plans.Window{Start: r.windowStart.Start(), End: r.windowEnd.Start()}
}

// Commit counts the quantity. A second settlement does nothing.
func (r *Reservation) Commit() { r.settle(true) }

// Release gives the quantity back. A second settlement does nothing.
func (r *Reservation) Release() { r.settle(false) }

func (r *Reservation) settle(commit bool) {
	s := r.slot
	if s == nil {
		return
	}
	r.slot = nil
	s.mu.Lock()
	inWindow := s.inWindow(r.day)
	day := s.dayFor(r.day)
	day.open--
	if commit {
		s.record(day, inWindow, r.quantity, r.at)
		s.markDirty()
	} else if inWindow && s.meter.Aggregation == plans.Sum {
		s.used -= r.quantity
	}
	passed := r.day != s.current.day
	s.mu.Unlock()
	if passed {
		// After the usage is in the slot: a drain that sees no hold finds the usage.
		s.org.meter.holdDay(r.day, -1)
	}
}

// markDirty puts the slot on the list that the next drain takes.
func (s *slot) markDirty() {
	if s.dirty {
		return
	}
	s.dirty = true
	m := s.org.meter
	m.dirtyMu.Lock()
	m.dirty = append(m.dirty, s)
	m.dirtyMu.Unlock()
}

func dayOf(nanos int64) plans.Day { return plans.DayOf(time.Unix(0, nanos)) }
