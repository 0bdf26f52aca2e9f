package meter

import "github.com/riverline/tollgate/calendar"

// today is the windows of the day of the last decision, so that not each one has to find them.
type today struct {
	is         calendar.Day
	day, month calendar.Window
}

// windowOn makes a window that of a kind that has the day.
func (m *Meter) windowOn(kind calendar.WindowKind, day calendar.Day, w *calendar.Window) {
	known := m.today.Load()
	if known == nil || known.is != day {
		known = &today{day, calendar.WindowDay.On(day), calendar.WindowMonth.On(day)}
		m.today.Store(known)
	}
	if kind == calendar.WindowMonth {
		*w = known.month
	} else {
		*w = known.day
	}
}
