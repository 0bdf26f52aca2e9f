package meter

import "github.com/riverline/tollgate/calendar"

// monthNow is the month of the last decision, so that not each one has to find it.
type monthNow struct {
	start, end calendar.Day
	window     calendar.Window
}

// windowOn is [calendar.WindowKind.On].
func (m *Meter) windowOn(kind calendar.WindowKind, day calendar.Day) calendar.Window {
	if kind != calendar.WindowMonth {
		return kind.On(day)
	}
	known := m.month.Load()
	if known == nil || day < known.start || day >= known.end {
		window := kind.On(day)
		known = &monthNow{calendar.DayOf(window.Start), calendar.DayOf(window.End), window}
		m.month.Store(known)
	}
	return known.window
}
