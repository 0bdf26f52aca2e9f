package meter

import (
	"fmt"
	"slices"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// ErrQuantityOverflow says that a quantity would take a day's sum beyond
// [plans.MaxDaySum]. Nothing was counted.
var ErrQuantityOverflow = fmt.Errorf("must not take the sum of its day beyond %d", int64(plans.MaxDaySum))

// daySum is what is known of a day that has passed and is all but full.
type daySum struct {
	day calendar.Day
	sum int64
}

// overflows reports whether a quantity would take a day's sum beyond [plans.MaxDaySum], as
// far as this instance knows. What others have flushed since is the store's to find. So
// whatever is folded here stays far within an int64.
func (s *slot) overflows(day calendar.Day, quantity int64) bool {
	return s.meter.Aggregation == plans.Sum && quantity > plans.MaxDaySum-s.sumOf(day)
}

// sumOf is a day's sum: what the store has of it, and on top all that isn't there yet,
// of the whole window where the day is in it.
func (s *slot) sumOf(day calendar.Day) int64 {
	var sum, unflushed int64
	if s.inWindow(day) {
		unflushed = s.used - s.known
	}
	if day == s.current.day {
		return s.current.known + max(unflushed, s.current.pending)
	}
	if x := s.rare; x != nil {
		if i := slices.IndexFunc(x.full, func(f daySum) bool { return f.day == day }); i >= 0 {
			sum = x.full[i].sum
		}
		taken := int64(0)
		for i := range x.older {
			if x.older[i].day == day {
				taken += x.older[i].taken
			}
		}
		unflushed = max(unflushed, taken)
	}
	return sum + unflushed
}

// takenAt is what is admitted of the current day and not drained, as its share is
// moved among the older days.
func (s *slot) takenAt() int64 {
	return s.current.pending + s.pendingOf() + s.current.held
}

// acknowledgeTaken notes that a quantity of an older day has been drained or given back.
func (x *rare) acknowledgeTaken(day calendar.Day, quantity int64) {
	if x == nil {
		return
	}
	for i := range x.older {
		if d := &x.older[i]; d.day == day {
			given := min(d.taken, quantity)
			d.taken -= given
			quantity -= given
		}
	}
}

// keepFull remembers what the store has of an older day, where little more fits.
func (s *slot) keepFull(day calendar.Day, sum int64) {
	if sum <= plans.MaxDaySum-plans.MaxQuantity || day == s.current.day {
		return
	}
	x := s.extra()
	sum = min(sum, plans.MaxDaySum)
	x.full = slices.DeleteFunc(x.full, func(f daySum) bool { return f.day == day || f.day < s.current.day-maxFullDays })
	x.full = append(x.full, daySum{day, sum})
}

// takeQuarantined takes over how much of the window's usage the store has set aside: no
// more than a month can have counts.
func (s *slot) takeQuarantined(quantity int64) {
	quantity = min(max(0, quantity), plans.MaxMonthSum)
	if s.rare == nil && quantity == 0 {
		return
	}
	x := s.extra()
	if quantity < x.quarantined && s.quota != nil {
		s.quota.forgetDry()
	}
	s.used += quantity - x.quarantined
	x.quarantined = quantity
}

// maxFullDays is for how many days a full one is remembered: longer than reports may be late.
const maxFullDays = 40
