package meter

import (
	"math"
	"sync"

	"github.com/riverline/tollgate/plans"
)

// slot is the usage of one meter of one organization: the window that the limit
// counts in, and the day that the usage records are kept by.
//
// Invariant, for a sum: used = known + (drained, not acknowledged) + pending + held.
//
// A slot is two cache lines: at a million keys, cache misses are what a decision
// costs. The first line is all that a sum within its day writes.
type slot struct {
	mu sync.Mutex
	// dayEnd is the end of current's day in Unix nanoseconds; 0 before the first use.
	dayEnd int64
	// used is the usage of the window: what is stored, pending and held. For Max it
	// is the peak, for Last the last level.
	used    int64
	current dayUsage

	// The window is the days [windowStart, windowEnd).
	windowStart, windowEnd plans.Day
	// known is the part of used that the store is known to have (Sum only).
	known int64
	// older holds days that have passed with reservations open or usage undrained.
	older []dayUsage
	meter *plans.Meter
	org   *Organization
	dirty bool
}

// dayUsage is a day's share of a slot.
type dayUsage struct {
	// pending is what was committed since the last drain, if has.
	pending int64
	// at is the time of the last report, Unix nanoseconds.
	at int64
	// known is what the store is known to have of the day (Sum only).
	known int64
	// open counts the reservations that are neither committed nor released.
	open int32
	day  plans.Day
	has  bool
}

// roll moves the slot to the day of now where its own day has ended, and to a new
// window where its own has. A clock that steps back moves nothing.
func (s *slot) roll(kind plans.WindowKind, now int64) {
	if now < s.dayEnd {
		return
	}
	if s.dayEnd == 0 {
		// A request that began before midnight and comes here after the drain that
		// closed the day must not add to that day.
		now = max(now, s.org.meter.sweptStart.Load())
	}
	day := dayOf(now)
	if s.dayEnd != 0 && (s.current.has || s.current.open > 0) {
		s.older = append(s.older, s.current)
		s.org.meter.holdDay(s.current.day, int64(s.current.open))
	}
	s.current = dayUsage{day: day}
	s.dayEnd = day.End().UnixNano()
	if day >= s.windowEnd {
		s.openWindow(kind)
		s.used, s.known = 0, 0
	}
}

func (s *slot) openWindow(kind plans.WindowKind) {
	window := kind.On(s.current.day)
	s.windowStart, s.windowEnd = plans.DayOf(window.Start), plans.DayOf(window.End)
}

func (s *slot) window() plans.Window {
	return plans.Window{Start: s.windowStart.Start(), End: s.windowEnd.Start()}
}

// take decides, and takes what is allowed. Quantity is at least 0.
func (s *slot) take(e *plans.Entitlement, quantity int64) plans.Decision {
	limit := *e
	if s.meter.Aggregation == plans.Sum && s.used > math.MaxInt64-quantity {
		// The counter itself is full: no mode can count beyond it.
		limit = plans.Entitlement{Mode: plans.Hard, Max: math.MaxInt64 - 1}
	}
	d := plans.Decide(s.meter.Aggregation, limit, s.used, quantity)
	if d.Allowed && s.meter.Aggregation == plans.Sum {
		s.used += quantity
	}
	return d
}

// inWindow reports whether a day counts in the slot's window.
func (s *slot) inWindow(day plans.Day) bool {
	return day >= s.windowStart && day < s.windowEnd
}

// dayFor returns the share of a day, which a reservation keeps alive.
func (s *slot) dayFor(day plans.Day) *dayUsage {
	if s.current.day == day {
		return &s.current
	}
	for i := range s.older {
		if s.older[i].day == day {
			return &s.older[i]
		}
	}
	s.older = append(s.older, dayUsage{day: day})
	return &s.older[len(s.older)-1]
}

// record adds a committed quantity to its day.
func (s *slot) record(d *dayUsage, inWindow bool, quantity, at int64) {
	switch {
	case s.meter.Aggregation == plans.Last && at < d.at:
		return
	case !d.has:
		d.pending, d.has = quantity, true
	default:
		d.pending = s.meter.Aggregation.Fold(d.pending, quantity)
	}
	d.at = max(d.at, at)
	if s.meter.Aggregation != plans.Sum && inWindow {
		s.used = s.meter.Aggregation.Fold(s.used, quantity)
	}
}

// drain appends a row for each day with pending usage, and forgets the days that
// nothing can add to any more.
func (s *slot) drain(rows []drained) []drained {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty = false
	kept := s.older[:0]
	for i := range s.older {
		d := &s.older[i]
		rows = d.drain(s, rows)
		if d.open > 0 {
			kept = append(kept, *d)
		}
	}
	s.older = kept
	return s.current.drain(s, rows)
}

// drained is a row on its way to the store, with the slot to tell of its arrival.
type drained struct {
	slot  *slot
	day   plans.Day
	value int64
	at    int64
}

func (d *dayUsage) drain(s *slot, rows []drained) []drained {
	if !d.has {
		return rows
	}
	rows = append(rows, drained{slot: s, day: d.day, value: d.pending, at: d.at})
	d.pending, d.has = 0, false
	return rows
}

// acknowledge takes note that the store has a drained row, and of the day's value
// there. What others have added since moves into used.
func (s *slot) acknowledge(row drained, stored int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	inWindow := s.inWindow(row.day)
	switch s.meter.Aggregation {
	case plans.Max:
		if inWindow {
			s.used = max(s.used, stored)
		}
	case plans.Sum:
		others := int64(0)
		if s.current.day == row.day {
			others = stored - s.current.known - row.value
			s.current.known = stored
		}
		if inWindow {
			s.used += others
			s.known += row.value + others
		}
	case plans.Last:
		// The value of another instance is taken when the organization is loaded.
	}
}

// merge takes over what the store has, and the kind of window that the plan now
// has. What isn't stored yet stays on top.
func (s *slot) merge(kind plans.WindowKind, stored Stored, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roll(kind, now)
	s.openWindow(kind)
	total := stored.Day
	if kind == plans.WindowMonth {
		total = stored.Month
	}
	switch s.meter.Aggregation {
	case plans.Sum:
		s.used += total - s.known
		s.known = total
		s.current.known = stored.Day
	case plans.Max:
		s.used = max(total, s.pendingPeak())
	case plans.Last:
		if !s.current.has || s.current.at < stored.DayAt.UnixNano() {
			s.used = stored.Day
		}
	}
}

func (s *slot) pendingPeak() int64 {
	if s.current.has {
		return s.current.pending
	}
	return 0
}
