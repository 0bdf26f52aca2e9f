package meter

import (
	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// Level is how much of a limit an organization has used, as far as this instance knows
// after a flush.
type Level struct {
	Organization uuid.UUID
	// Plan is the key of the plan in force, Entitlement its limit of the meter.
	Plan        string
	Entitlement plans.Entitlement
	Window      calendar.Window
	// Current is the usage of the window, Held what reservations in the store hold beside it.
	Current, Held int64
	// Exceeded says that a request was refused in the window, or passed a soft limit.
	// Without it, usage is at or beyond [FlusherConfig.WatchFrom].
	Exceeded bool
}

// Reached reports whether usage is at or beyond a percentage of the limit, 1 to 100. No
// percentage of a limit of 0 is ever reached.
func (l Level) Reached(percent int) bool {
	return l.Entitlement.Mode != plans.Unlimited && l.Entitlement.Max > 0 && l.Current >= thresholdOf(l.Entitlement.Max, percent)
}

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

// levels appends, for each row that the store has, the level of its window where it is at
// or beyond a percentage.
func (m *Meter) levels(rows []drained, from int, levels []Level) []Level {
	for i := range rows {
		s := rows[i].slot
		index, known := m.Index(s.meter.Key)
		view := s.org.view.Load()
		if !known || int(index) >= len(view.entitlements) {
			continue
		}
		e := view.entitlements[index]
		if e.Mode == plans.Unlimited || e.Max <= 0 {
			continue
		}
		s.lock()
		level := Level{Organization: s.org.id, Plan: view.plan.Key, Entitlement: e, Window: s.window()}
		level.Current, level.Held = s.standing(view.leased[index])
		current := s.inWindow(rows[i].day)
		s.mu.Unlock()
		if current && level.Reached(from) {
			levels = append(levels, level)
		}
	}
	return levels
}
