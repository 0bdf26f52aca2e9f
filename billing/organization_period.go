package billing

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// Segment is a part of a period in which one plan version was in force, and what was
// used in it.
type Segment struct {
	// Start and End are [start, end).
	Start time.Time
	End   time.Time
	// Plan is the zero value where the organization had no contract: what it used then
	// costs nothing.
	Plan plans.Plan
	// Usage holds at most one value a meter.
	Usage []SegmentUsage
}

// SegmentUsage is the usage of one meter in a segment.
type SegmentUsage struct {
	Meter string
	// Value is the segment's sum, highest peak or last level.
	Value int64
	// UnitSeconds is the integral of a snapshot's level over the segment; zero for others.
	UnitSeconds decimal.Decimal
}

// used returns the usage of a meter; zero where there is none.
func (s Segment) used(meter string) SegmentUsage {
	for _, u := range s.Usage {
		if u.Meter == meter {
			return u
		}
	}
	return SegmentUsage{Meter: meter}
}

// days returns the first and the last day that the segment touches.
func (s Segment) days() (first, last calendar.Day) {
	// A time at midnight belongs to the day before it: [start, end).
	return calendar.DayOf(s.Start), calendar.DayOf(s.End.Add(-time.Nanosecond))
}

// OrganizationPeriod is a period of one organization: all that its statement is made from.
type OrganizationPeriod struct {
	Organization     uuid.UUID
	OrganizationName string
	Currency         money.Currency
	Period           calendar.Period
	// Cut is the period's end, or for a period that is open the time up to which usage counts.
	Cut    time.Time
	Meters []plans.Meter
	// Segments are in the order of time and don't overlap. There are gaps where the
	// organization had no contract, or segments without a plan. A day that two plans share
	// begins and ends a segment, so that its peaks and levels can be told from others.
	Segments []Segment
}

// check reports what of a period can't be rated.
func (o OrganizationPeriod) check() error {
	// One that was withdrawn is rated on: what it was billed in may have to be corrected.
	if !o.Currency.Known() {
		return fmt.Errorf("%w: currency %q of organization %s is not an ISO 4217 code", ErrCannotRate, o.Currency, o.Organization)
	}
	for i, s := range o.Segments {
		if !s.Start.Before(s.End) || s.Start.Before(o.Period.Start()) || s.End.After(o.Period.End()) || (i > 0 && s.Start.Before(o.Segments[i-1].End)) {
			return fmt.Errorf("%w: segment %d of organization %s, %s to %s, must follow the one before within %s",
				ErrCannotRate, i+1, o.Organization, s.Start.Format(time.RFC3339Nano), s.End.Format(time.RFC3339Nano), o.Period)
		}
	}
	return nil
}

// plan returns the key of the last plan of the period; empty where there was none.
func (o OrganizationPeriod) plan() string {
	for _, s := range slices.Backward(o.Segments) {
		if s.Plan.Key != "" {
			return s.Plan.Key
		}
	}
	return ""
}
