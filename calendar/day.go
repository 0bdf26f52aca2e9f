package calendar

import (
	"fmt"
	"time"
)

// Day is a calendar day in UTC, counted in days since 1970-01-01. The zero value
// is that day. Days order and subtract as integers.
type Day int32

const secondsPerDay = 24 * 60 * 60

// DayOf returns the UTC day that contains t.
func DayOf(t time.Time) Day {
	seconds := t.Unix()
	day := seconds / secondsPerDay
	if seconds%secondsPerDay < 0 {
		day--
	}
	return Day(day)
}

// ParseDay reads a day in the form YYYY-MM-DD (RFC 3339 full-date).
func ParseDay(s string) (Day, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return 0, fmt.Errorf("day %q is not of the form YYYY-MM-DD", s)
	}
	return DayOf(t), nil
}

// Start returns the first instant of the day.
func (d Day) Start() time.Time { return time.Unix(int64(d)*secondsPerDay, 0).UTC() }

// End returns the first instant after the day: a day is [Start, End).
func (d Day) End() time.Time { return (d + 1).Start() }

// Month returns the first day of the day's month.
func (d Day) Month() Day {
	t := d.Start()
	return DayOf(time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC))
}

// String returns the day as YYYY-MM-DD.
func (d Day) String() string { return d.Start().Format(time.DateOnly) }

// MarshalText writes the day as YYYY-MM-DD.
func (d Day) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the form that [ParseDay] reads.
func (d *Day) UnmarshalText(text []byte) error {
	day, err := ParseDay(string(text))
	if err != nil {
		return err
	}
	*d = day
	return nil
}
