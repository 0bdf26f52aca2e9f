package meter

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// Level is how much of a limit an organization has used, as far as this instance knows
// after a flush.
type Level struct {
	Organization uuid.UUID
	// Plan is the key of the plan that the limit is of, Entitlement its limit of the meter.
	Plan        string
	Entitlement plans.Entitlement
	Window      calendar.Window
	// Stored is the usage of the window that the store has with a row of the batch, Before that without the
	// row: what others have written is in both. Of a window of a day they are exact, so that of all batches
	// just one has taken the level across a threshold. Of a month, what others have written on earlier days
	// may be missing.
	Before, Stored int64
	// Current is the usage of the window, what isn't flushed included, Held what reservations in the store
	// hold beside it.
	Current, Held int64
	// Exceeded says that a request was refused in the window, or passed a soft limit; Stored and Before are 0
	// then. Without it, usage is at or beyond [FlusherConfig.WatchFrom], or beyond a soft limit.
	Exceeded bool
}

// Reached reports whether usage is at or beyond a percentage of the limit, 1 to 100. No
// percentage of a limit of 0 is ever reached.
func (l *Level) Reached(percent int) bool {
	if l.Entitlement.Mode == plans.Unlimited || l.Entitlement.Max <= 0 {
		return false
	}
	least := thresholdOf(l.Entitlement.Max, percent)
	return l.Stored >= least || ((l.Exceeded || l.Entitlement.Window == calendar.WindowMonth) && l.Current >= least)
}

// Crossed reports whether the row has taken the usage across a percentage of the limit: it was below, and
// is at or beyond.
func (l *Level) Crossed(percent int) bool {
	least := thresholdOf(l.Entitlement.Max, percent)
	return l.Reached(percent) && l.Before < least && l.Stored >= least
}

// Passed reports whether usage is beyond a soft limit.
func (l *Level) Passed() bool {
	return l.Entitlement.Mode == plans.Soft && l.Stored > l.Entitlement.Max
}

// CrossedLimit reports whether the row has taken the usage beyond a soft limit.
func (l *Level) CrossedLimit() bool { return l.Passed() && l.Before <= l.Entitlement.Max }

// thresholdOf is the least usage that is percent of a limit, at most [plans.MaxQuantity].
func thresholdOf(limit int64, percent int) int64 { return (limit*int64(percent) + 99) / 100 }

// noteExceeded remembers that a limit refused a request of the current window, or was
// passed: once a slot between two flushes, so that refusing again costs one load.
func (o *Organization) noteExceeded(i Index) {
	s := o.slot(i)
	if !s.noted.CompareAndSwap(false, true) {
		return
	}
	view := o.view.Load()
	s.lock()
	level := Level{Organization: o.id, Plan: view.plan.Key, Entitlement: view.entitlements[i], Window: s.window(), Exceeded: true}
	level.Current, level.Held = s.standing(view.leased[i])
	s.mu.Unlock()
	m := o.meter
	m.exceededMu.Lock()
	defer m.exceededMu.Unlock()
	m.exceeded = append(m.exceeded, exceeded{slot: s, level: level})
}

// exceeded is what noteExceeded remembers.
type exceeded struct {
	slot  *slot
	level Level
}

// takeExceeded appends what was noted since the last call. The list keeps its room.
func (m *Meter) takeExceeded(levels []Level) []Level {
	m.exceededMu.Lock()
	defer m.exceededMu.Unlock()
	for i := range m.exceeded {
		levels = append(levels, m.exceeded[i].level)
		m.exceeded[i].slot.noted.Store(false)
	}
	m.exceeded = m.exceeded[:0]
	return levels
}

// LevelsOf returns the levels of an organization's windows that are at or beyond a percentage, or beyond a soft
// limit, as the store has them, and says of none that it was crossed. It loads the organization where it isn't in
// memory; the errors are those of [Meter.Organization].
func (m *Meter) LevelsOf(ctx context.Context, id uuid.UUID, from int, now time.Time) (levels []Level, _ error) {
	o, err := m.Organization(ctx, id, now)
	if err != nil {
		return nil, err
	}
	view := o.view.Load()
	for i, s := range o.slots() {
		level := Level{Organization: id, Plan: view.plan.Key, Entitlement: view.entitlements[i]}
		s.lock()
		level.Window, level.Stored = s.window(), s.known+s.quarantined()
		level.Current, level.Held = s.standing(view.leased[i])
		s.mu.Unlock()
		level.Before = level.Stored
		if level.Reached(from) || level.Passed() {
			levels = append(levels, level)
		}
	}
	return levels, nil
}

// written is what a row of a batch has made of the usage that the store has.
type written struct {
	// window are the days [start, end) that before and after are of: the slot's window, or the one before
	// it. Both are 0 where it is neither.
	start, end calendar.Day
	// before and after are the window's, without the row and with it.
	before, after int64
	// day are those of the row's day (Sum only).
	day struct{ before, after int64 }
}

// left is the window that a slot has left with usage that the store was not known to have.
type left struct {
	start, end calendar.Day
	// known is what the store was known to have of it, with what it has set aside.
	known int64
}

// leave remembers the window that ends, where something of it is yet to be acknowledged.
func (s *slot) leave() {
	if s.used != s.known {
		s.extra().left = &left{s.windowStart, s.windowEnd, s.known + s.quarantined()}
	} else if s.rare != nil {
		s.rare.left = nil
	}
}

// quarantined is the part of used that the store has set aside.
func (s *slot) quarantined() int64 {
	if s.rare == nil {
		return 0
	}
	return s.rare.quarantined
}

// level appends the level of a row's window, where it is at or beyond a percentage, or beyond a soft limit.
// What was used before the end of a window, and is flushed after it, is of that window and of the limit
// that it had.
func (m *Meter) level(row *drained, w *written, from int, levels []Level) []Level {
	s := row.slot
	index, known := m.Index(s.meter.Key)
	view := s.org.view.Load()
	if !known || int(index) >= len(view.entitlements) {
		return levels
	}
	level := Level{Organization: s.org.id, Plan: view.plan.Key, Entitlement: view.entitlements[index], Before: w.before, Stored: w.after}
	s.lock()
	// Another plan, or the end of the window, may have come since.
	current := s.inWindow(row.day) && w.start == s.windowStart && w.end == s.windowEnd && level.Entitlement.Window.On(row.day) == s.window()
	if current {
		level.Window = s.window()
		level.Current, level.Held = s.standing(view.leased[index])
	}
	s.mu.Unlock()
	if !current && !m.past(row, w, &level) {
		return levels
	}
	if level.Reached(from) || level.Passed() {
		levels = append(levels, level)
	}
	return levels
}

// past makes a level that of a row of a window that is over, and reports whether it is known.
func (m *Meter) past(row *drained, w *written, level *Level) bool {
	if priced := m.prices.name(row.price); priced != (planVersion{}) {
		plan, ok := m.Catalog().PlanVersion(priced.plan, priced.version)
		if !ok {
			return false
		}
		level.Plan, level.Entitlement = plan.Key, plan.Entitlement(row.slot.meter.Key)
	}
	level.Window = level.Entitlement.Window.On(row.day)
	switch {
	case level.Entitlement.Mode == plans.Unlimited:
		return false
	case level.Entitlement.Window == calendar.WindowDay && row.slot.meter.Aggregation == plans.Sum:
		level.Before, level.Stored = w.day.before, w.day.after
	default:
		level.Window = calendar.Window{Start: w.start.Start(), End: w.end.Start()}
		if level.Window != level.Entitlement.Window.On(row.day) {
			return false
		}
	}
	level.Current = level.Stored
	return true
}
