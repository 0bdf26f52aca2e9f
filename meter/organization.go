package meter

import (
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// Organization is the usage of one tenant at this instance. It is found once per
// request with [Meter.Organization]; its methods may be called by any number of
// goroutines.
//
// What a decision in one step touches is its first two cache lines, the second of which is that of first.
type Organization struct {
	id    uuid.UUID
	meter *Meter
	view  atomic.Pointer[view]
	// switchAt is when the next of terms begins, in Unix nanoseconds.
	switchAt atomic.Int64
	// others are the slots of the meters that were used, or are known to have been used, but for first.
	// They never change, and are made by slot.
	others atomic.Pointer[[]*slot]
	// has is the meter that first is of, counted from 1; 0: of none yet.
	has atomic.Int32
	// stale says that the store must be asked again: it could not be asked, or a window
	// changed its kind. refreshing is set while a background load is under way, and refreshAt
	// is when the next one is due, in Unix nanoseconds.
	stale, refreshing atomic.Bool
	_                 int32

	first slot

	// slotMu is held while a slot is made.
	slotMu    sync.Mutex
	refreshAt atomic.Int64
	// reading is held while the store is read and what it says is put in force.
	reading sync.Mutex
	// read is the last of those readings; zero: none, or none that says what it has seen.
	read reading
	// planMu is held while another plan is put in force. terms are the plans over time, nil
	// where they aren't known.
	planMu sync.Mutex
	terms  atomic.Pointer[terms]
	// looksFrom is when the next look would be due if all looks so far had kept their
	// distance ([lookEvery]), in Unix nanoseconds.
	looksFrom atomic.Int64
}

// reading says which changes a reading of the store has seen ([Seen]), and when it was made
// ([Snapshot.ReadAt]), in Unix nanoseconds. It is kept of each organization, so it is small.
type reading struct {
	before, from uint64
	open         *[]uint64
	at           int64
}

func readingOf(s *Snapshot) reading {
	r := reading{before: s.Seen.Before, from: s.Seen.From, at: nanos(s.ReadAt)}
	if len(s.Seen.Open) > 0 {
		open := s.Seen.Open
		r.open = &open
	}
	return r
}

// has reports whether the reading has seen a transaction for sure, and was made at a time or later.
func (r *reading) has(transaction uint64, at time.Time) bool {
	seen := Seen{Before: r.before, From: r.from}
	if r.open != nil {
		seen.Open = *r.open
	}
	return seen.Has(transaction) && r.at >= nanos(at)
}

// view is what a plan allows, by the meter's index. All organizations on the plan
// share it, so that it is always in the processor's cache; it never changes.
type view struct {
	// loaded is false in the view of organizations whose plan could not be asked for:
	// everything is allowed (C5).
	loaded bool
	// ended is true in the view of organizations without a contract: nothing is allowed.
	ended bool
	plan  plans.Plan
	// price is what usage that the plan admits is priced by, priced what that stands for.
	price        price
	priced       planVersion
	meters       []plans.Meter
	entitlements []plans.Entitlement
	// leased says which limits are hard limits that leases make exact.
	leased []bool
}

// slot returns the slot of a meter, which it makes at the first use.
func (o *Organization) slot(i Index) *slot {
	if s := o.made(i); s != nil {
		return s
	}
	o.slotMu.Lock()
	defer o.slotMu.Unlock()
	if s := o.made(i); s != nil {
		return s
	}
	one := &o.view.Load().meters[i]
	if o.has.Load() == 0 {
		o.first.org, o.first.meter = o, one
		o.has.Store(int32(i) + 1)
		return &o.first
	}
	s := &(&slotApart{slot: slot{org: o, meter: one}}).slot
	others := make([]*slot, int(i)+1)
	if there := o.others.Load(); there != nil {
		others = append(slices.Clone(*there), make([]*slot, max(0, len(others)-len(*there)))...)
	}
	others[i] = s
	o.others.Store(&others)
	return s
}

// made returns the slot of a meter; nil: nothing is known to have been used.
func (o *Organization) made(i Index) *slot {
	if o.has.Load() == int32(i)+1 {
		return &o.first
	}
	if others := o.others.Load(); others != nil && int(i) < len(*others) {
		return (*others)[i]
	}
	return nil
}

// slots are those that were made.
func (o *Organization) slots() iter.Seq2[Index, *slot] {
	return func(yield func(Index, *slot) bool) {
		for i := range o.view.Load().entitlements {
			if s := o.made(Index(i)); s != nil && !yield(Index(i), s) {
				return
			}
		}
	}
}

// ID returns the organization's ID.
func (o *Organization) ID() uuid.UUID { return o.id }

// Plan returns the plan in force. Its key is empty where [Organization.Loaded] is false.
func (o *Organization) Plan() plans.Plan { return o.view.Load().plan }

// Loaded reports whether the store has been asked what the organization may use.
// While it is false everything is allowed, and counted.
func (o *Organization) Loaded() bool { return o.view.Load().loaded }

// Usage is where one meter of an organization stands.
type Usage struct {
	Meter       plans.Meter
	Entitlement plans.Entitlement
	Window      calendar.Window
	// Current is the usage of the window: stored, pending and admitted, and under a hard limit
	// what other instances are known to have admitted. Held is what reservations in the store
	// hold of it: it is neither used nor free.
	Current, Held int64
	// Pending is what of the current day the store does not have yet, as far as this
	// instance has not begun to write it.
	Pending int64
}

// Usage returns where a meter stands at a time, or at [Config.Now] where that is later.
func (o *Organization) Usage(i Index, now time.Time) Usage {
	s := o.slot(i)
	at, taken := o.lockAt(s, now.UnixNano())
	if !taken {
		// It is what it was a moment ago.
		s.lock()
	}
	defer s.mu.Unlock()
	v := o.view.Load()
	e := &v.entitlements[i]
	s.roll(e.Window, at)
	m := o.meter.Catalog().Meters[i]
	current, held := s.standing(v.leased[i])
	return Usage{
		Meter:       m,
		Entitlement: *e,
		Window:      s.window(),
		Current:     current,
		Held:        held,
		Pending:     s.pendingShares() + s.pendingOf(),
	}
}

// Remaining is what the limit leaves, never below 0; 0 where there is none.
func (u *Usage) Remaining() int64 { return u.Entitlement.Remaining(u.Current, u.Held) }

// OverLimit reports whether what is used and held is beyond the limit.
func (u *Usage) OverLimit() bool {
	return u.Entitlement.Mode != plans.Unlimited && u.Current > u.Entitlement.Max-u.Held
}

// standing is what is used and what is held of the window, as decisions go by it.
func (s *slot) standing(leased bool) (current, held int64) {
	if q := s.quota; q != nil && leased {
		return max(0, q.counted()-q.heldInStore), q.heldInStore
	}
	return max(0, s.used), s.heldInStore()
}

// pendingOf is what the current day's undrained identified reports add to its pending usage.
func (s *slot) pendingOf() int64 {
	if s.meter.Aggregation != plans.Sum {
		return 0
	}
	return s.pendingIdentified()
}
