package calendar

import (
	"fmt"
	"time"
)

// Period is a billing month in UTC, [Start, End). The zero value is no period.
type Period struct {
	year  int
	month time.Month
}

// PeriodOf returns the period that contains t.
func PeriodOf(t time.Time) Period {
	t = t.UTC()
	return Period{year: t.Year(), month: t.Month()}
}

// ParsePeriod reads a period in the form YYYY-MM, years 2000 to 9999.
func ParsePeriod(s string) (Period, error) {
	t, err := time.Parse("2006-01", s)
	if err != nil || t.Year() < 2000 {
		return Period{}, fmt.Errorf("period %q is not a month of the form YYYY-MM, 2000-01 or later", s)
	}
	return PeriodOf(t), nil
}

// IsZero reports whether p is no period.
func (p Period) IsZero() bool { return p == Period{} }

// Start returns the first instant of the period.
func (p Period) Start() time.Time { return time.Date(p.year, p.month, 1, 0, 0, 0, 0, time.UTC) }

// End returns the first instant after the period.
func (p Period) End() time.Time { return p.Start().AddDate(0, 1, 0) }

// Previous returns the period before.
func (p Period) Previous() Period { return PeriodOf(p.Start().AddDate(0, -1, 0)) }

// Next returns the period after.
func (p Period) Next() Period { return PeriodOf(p.End()) }

// FirstDay returns the first day of the period.
func (p Period) FirstDay() Day { return DayOf(p.Start()) }

// LastDay returns the last day of the period.
func (p Period) LastDay() Day { return DayOf(p.End()) - 1 }

// Seconds returns how long the period is.
func (p Period) Seconds() int64 { return int64(p.End().Sub(p.Start()) / time.Second) }

// String returns the period as YYYY-MM.
func (p Period) String() string { return p.Start().Format("2006-01") }

// MarshalText writes the period as YYYY-MM.
func (p Period) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the form that [ParsePeriod] reads.
func (p *Period) UnmarshalText(text []byte) error {
	period, err := ParsePeriod(string(text))
	if err != nil {
		return err
	}
	*p = period
	return nil
}
