package calendar

import "time"

// WindowKind says how long a limit counts before it starts again from zero.
type WindowKind string

// The window kinds. Both begin and end at UTC midnight.
const (
	WindowDay   WindowKind = "day"
	WindowMonth WindowKind = "month"
)

// Window is the time in which a limit applies: [Start, End), UTC.
type Window struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// Valid reports whether k is one of the window kinds.
func (k WindowKind) Valid() bool { return k == WindowDay || k == WindowMonth }

// On returns the window of kind k that contains the day.
func (k WindowKind) On(day Day) Window {
	if k == WindowMonth {
		start := day.Month().Start()
		return Window{Start: start, End: start.AddDate(0, 1, 0)}
	}
	return Window{Start: day.Start(), End: day.End()}
}

// At returns the window of kind k that contains t.
func (k WindowKind) At(t time.Time) Window { return k.On(DayOf(t)) }

// Contains reports whether t lies in [Start, End).
func (w Window) Contains(t time.Time) bool { return !t.Before(w.Start) && t.Before(w.End) }
