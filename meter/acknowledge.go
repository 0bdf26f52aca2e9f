package meter

import (
	"slices"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// acknowledge takes note that the store has a drained row, and of the day's value
// there. What others have added since moves into used. Repeated identified reports of the row
// were counted before: they are given back. What the store has set aside stays used. Again says that the
// store had the row before, so that others may have written since. It returns what the row has made of the
// window.
func (s *slot) acknowledge(row *drained, stored int64, repeated, quarantined []int, again bool) written {
	s.lock()
	defer s.mu.Unlock()
	were := marked(repeated, len(row.identified))
	for i := range row.identified {
		s.acknowledgeIdentified(row.day, row.identified[i], were[i])
	}
	for _, kind := range windowKinds {
		s.consume(kind, row.day, row.leased.of(kind))
	}
	s.forgetFinished()
	if s.meter.Aggregation == plans.Sum {
		added, apart := row.split(were, quarantined)
		return s.acknowledgeSum(row.day, stored, added, apart, again)
	}
	w, known := s.writtenOf(row.day)
	if known == nil {
		return w
	}
	w.before, w.after = *known, *known
	if s.meter.Aggregation == plans.Max {
		w.after = max(w.after, stored)
		if s.inWindow(row.day) {
			s.used = max(s.used, stored)
		}
	} else if row.day == s.current.day || !s.inWindow(row.day) {
		// The level of another instance is taken when the organization is loaded. That of an earlier day is
		// not the window's.
		w.after = stored
	}
	*known = w.after
	if !again && row.own(were) != stored {
		// It is another's. Where it is not, one more instance may take itself for the one that has crossed.
		w.before = w.after
	}
	s.settleLeft(row.day)
	return w
}

// acknowledgeSum is acknowledge for sums: added is what the store has written of the row, apart what it has
// set aside.
func (s *slot) acknowledgeSum(day calendar.Day, stored, added, apart int64, again bool) written {
	inWindow := s.inWindow(day)
	if s.current.day == day {
		// A record is never less than it was: of what is set aside it can be unknown.
		stored = max(stored, s.current.known)
	}
	w, known := s.writtenOf(day)
	if known != nil {
		w.before = *known
	}
	if inWindow {
		w.before += s.quarantined()
	}
	if inWindow && apart > 0 {
		s.extra().quarantined += apart
	}
	s.keepFull(day, stored+apart)
	others := int64(0)
	if s.current.day == day {
		others = stored - s.current.known - added
		s.current.known = stored
	}
	if inWindow {
		s.used += others
	}
	if known != nil {
		*known += added + others
		w.after = w.before + added + others + apart
		if !inWindow {
			*known += apart
		}
	}
	w.day.before, w.day.after = stored-added, stored+apart
	if again {
		w.day.before = 0
	} else {
		w.before = w.after - added - apart
	}
	s.settleLeft(day)
	return w
}

// writtenOf returns the window that a row of a day counts in, and where what the store is known to have of
// it is kept; nil: it is neither the slot's nor the one that it has left.
func (s *slot) writtenOf(day calendar.Day) (written, *int64) {
	if s.inWindow(day) {
		return written{start: s.windowStart, end: s.windowEnd}, &s.known
	}
	if s.rare == nil || s.rare.left == nil || day < s.rare.left.start || day >= s.rare.left.end {
		return written{}, nil
	}
	return written{start: s.rare.left.start, end: s.rare.left.end}, &s.rare.left.known
}

// settleLeft forgets the window that the slot has left, once a row of it is acknowledged and nothing more
// is to come.
func (s *slot) settleLeft(day calendar.Day) {
	if x := s.rare; x != nil && x.left != nil && day >= x.left.start && day < x.left.end && len(x.older) == 0 {
		x.left = nil
	}
}

// own folds what a row has of a day that isn't a sum, without what was counted before.
func (d *drained) own(again []bool) int64 {
	value, has := d.value, d.has
	at := d.at
	for i := range d.identified {
		one := d.identified[i]
		switch {
		case again[i]:
		case !has, d.slot.meter.Aggregation == plans.Max && one.Quantity > value, d.slot.meter.Aggregation == plans.Last && nanos(one.At) >= at:
			value, at, has = one.Quantity, nanos(one.At), true
		}
	}
	return value
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
		s.used, s.known = max(total, s.pendingPeak()), total
	case plans.Last:
		if s.lastLevel() < stored.DayAt.UnixNano() {
			s.used, s.known = stored.Day, stored.Day
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
