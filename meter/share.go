package meter

import (
	"slices"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// cut makes the current share that of another price: what has the price before is set
// aside, and what was set aside of this price goes on.
func (s *slot) cut(p price) {
	s.setAside(s.current.pending + s.current.held)
	if s.meter.Aggregation == plans.Last && s.current.at > 0 {
		x := s.extra()
		x.levelAt = max(x.levelAt, s.current.at)
	}
	known := s.current.known
	s.current = dayUsage{day: s.current.day, price: p}
	if x := s.rare; x != nil {
		is := func(d olderDay) bool { return d.day == s.current.day && d.price == p }
		if i := slices.IndexFunc(x.older, is); i >= 0 {
			share := x.older[i]
			x.older = slices.Delete(x.older, i, i+1)
			s.current = share.dayUsage
			x.carried.Day += share.leased.Day
			x.carried.Month += share.leased.Month
		}
	}
	s.current.known = known
}

// setAside puts the current share among the older ones, where anything is in it or may yet
// come; taken is what was admitted of it and isn't drained.
func (s *slot) setAside(taken int64) {
	if !s.current.has && s.current.reports == 0 && s.current.open == 0 {
		return
	}
	x := s.extra()
	x.older = append(x.older, olderDay{dayUsage: s.current, leased: s.takeLeasedPart(), taken: taken})
}

// openOn counts the reservations of a day's older shares that are not settled.
func (s *slot) openOn(day calendar.Day) int64 {
	open := int64(0)
	if s.rare != nil {
		for i := range s.rare.older {
			if s.rare.older[i].day == day {
				open += int64(s.rare.older[i].open)
			}
		}
	}
	return open
}

// pendingShares folds the pending usage of the current day's shares.
func (s *slot) pendingShares() int64 {
	pending := int64(0)
	if s.current.has {
		pending = s.current.pending
	}
	if s.rare == nil {
		return pending
	}
	for i := range s.rare.older {
		if d := &s.rare.older[i]; d.day == s.current.day && d.has && s.meter.Aggregation != plans.Last {
			pending = s.meter.Aggregation.Fold(pending, d.pending)
		}
	}
	return pending
}

// lastLevel is the time of the current day's last report, whatever its price.
func (s *slot) lastLevel() int64 {
	if s.rare == nil {
		return s.current.at
	}
	return max(s.current.at, s.rare.levelAt)
}

// overtaken reports whether a level of a later time of the day is there already.
func (s *slot) overtaken(r *Reservation) bool {
	return s.meter.Aggregation == plans.Last && r.day == s.current.day && r.at < s.lastLevel()
}

// noteLevel keeps the time of a level that isn't in the current share's pending usage, but
// of its day.
func (s *slot) noteLevel(r *Reservation, older *olderDay) {
	if (older != nil || r.identified != nil) && r.day == s.current.day && s.meter.Aggregation == plans.Last {
		x := s.extra()
		x.levelAt = max(x.levelAt, r.at)
	}
}
