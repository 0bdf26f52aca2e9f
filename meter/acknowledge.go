package meter

import (
	"slices"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// acknowledge takes note that the store has a drained row, and of the day's value
// there. What others have added since moves into used. Repeated identified reports of the row
// were counted before: they are given back. What the store has set aside stays used.
func (s *slot) acknowledge(row *drained, stored int64, repeated, quarantined []int) {
	s.lock()
	defer s.mu.Unlock()
	inWindow := s.inWindow(row.day)
	again := marked(repeated, len(row.identified))
	for i := range row.identified {
		s.acknowledgeIdentified(row.day, &row.identified[i], again[i])
	}
	for _, kind := range windowKinds {
		s.consume(kind, row.day, row.leased.of(kind))
	}
	s.forgetFinished()
	switch s.meter.Aggregation {
	case plans.Max:
		if inWindow {
			s.used = max(s.used, stored)
		}
	case plans.Sum:
		written, apart := row.split(again, quarantined)
		if s.current.day == row.day {
			// A record is never less than it was: of what is set aside it can be unknown.
			stored = max(stored, s.current.known)
		}
		if inWindow && apart > 0 {
			s.extra().quarantined += apart
		}
		s.keepFull(row.day, stored+apart)
		others := int64(0)
		if s.current.day == row.day {
			others = stored - s.current.known - written
			s.current.known = stored
		}
		if inWindow {
			s.used += others
			s.known += written + others
		}
	case plans.Last:
		// The value of another instance is taken when the organization is loaded.
	}
}

// split adds up what the store has written of a row of sums, and what it has set aside.
func (d *drained) split(again []bool, quarantined []int) (written, apart int64) {
	written = d.value
	asides := marked(quarantined, len(d.identified))
	for i := range d.identified {
		switch {
		case again[i]:
		case asides[i]:
			apart += d.identified[i].Quantity
		default:
			written += d.identified[i].Quantity
		}
	}
	if slices.Contains(quarantined, WholeRow) {
		return 0, apart + written
	}
	return written, apart
}

// marked says of each of n reports whether it is among those at the places. There may be as many of these, and
// everybody waits for the slot meanwhile.
func marked(places []int, n int) []bool {
	out := make([]bool, n)
	for _, i := range places {
		if i >= 0 && i < n {
			out[i] = true
		}
	}
	return out
}

// acknowledgeIdentified undoes an identified report that somebody else had counted before, and takes note of
// one that counts.
func (s *slot) acknowledgeIdentified(day calendar.Day, e *IdentifiedReport, repeated bool) {
	if s.meter.Aggregation != plans.Sum {
		return
	}
	if repeated && s.inWindow(day) {
		s.used -= e.Quantity
	}
	for _, kind := range windowKinds {
		if !repeated {
			s.consume(kind, day, e.Leased.of(kind))
		} else if q := s.findQuota(kind, day); q != nil && e.Leased.of(kind) > 0 {
			// When it was admitted is not known: before any change.
			q.refund(e.Leased.of(kind), 0)
		}
	}
}

// windowKinds are those that leases may be of.
var windowKinds = [...]calendar.WindowKind{calendar.WindowDay, calendar.WindowMonth}

// consume notes that the store has so much of what the lease of a window covered.
func (s *slot) consume(kind calendar.WindowKind, day calendar.Day, leased int64) {
	if leased == 0 {
		return
	}
	if q := s.findQuota(kind, day); q != nil {
		q.consumed += leased
	}
}

// merge takes over what the store has, and the kind of window that the plan now
// has. What isn't stored yet stays on top.
func (s *slot) merge(kind calendar.WindowKind, stored Stored, now int64) {
	s.lock()
	defer s.mu.Unlock()
	s.roll(kind, now)
	s.rewindow(kind)
	total, apart, held := stored.Day, stored.QuarantinedDay, stored.HeldDay
	if kind == calendar.WindowMonth {
		total, apart, held = stored.Month, stored.QuarantinedMonth, stored.HeldMonth
	}
	switch s.meter.Aggregation {
	case plans.Sum:
		s.used += total - s.known
		s.known = total
		s.current.known = stored.Day
		s.takeQuarantined(apart)
		s.learnHeld(held)
	case plans.Max:
		s.used = max(total, s.pendingPeak())
	case plans.Last:
		if s.lastLevel() < stored.DayAt.UnixNano() {
			s.used = stored.Day
		}
	}
}

func (s *slot) pendingPeak() int64 {
	return max(s.pendingShares(), s.pendingIdentified())
}

// pendingIdentified folds the undrained identified reports of the current day.
func (s *slot) pendingIdentified() int64 {
	folded := int64(0)
	if s.rare == nil {
		return folded
	}
	for i := range s.rare.identified {
		if e := &s.rare.identified[i]; e.day == s.current.day {
			folded = s.meter.Aggregation.Fold(folded, e.identified.Quantity)
		}
	}
	return folded
}
