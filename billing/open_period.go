package billing

import (
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// OpenPeriod is a period that runs, out of the daily records: what a close would make of it now, nearly. It differs from a close in two
// ways: a day on which the plan changed counts whole for the plan of the day's last report, and the level of a snapshot holds from
// the last report of one day to that of the next.
type OpenPeriod struct {
	Organization     uuid.UUID
	OrganizationName string
	Currency         money.Currency
	Period           calendar.Period
	// Cut is the time up to which there are records.
	Cut    time.Time
	Meters []plans.Meter
	// Terms are the plan versions that the organization has had in the period, in the order of time. Their plans have a key and a version only.
	Terms []Segment
	// Opening are the last records of snapshots before the period.
	Opening []UsageRecord
	// Records are those of the period, in the order of the day.
	Records []UsageRecord
}

// OrganizationPeriod folds the records, for [Rate].
func (p OpenPeriod) OrganizationPeriod() OrganizationPeriod {
	out := OrganizationPeriod{
		Organization: p.Organization, OrganizationName: p.OrganizationName, Currency: p.Currency, Period: p.Period, Cut: p.Cut, Meters: p.Meters,
		Segments: p.segments(),
	}
	if len(out.Segments) == 0 {
		return out
	}
	for _, m := range p.Meters {
		if m.Aggregation == plans.Last {
			p.addLevels(out.Segments, m.Key)
		} else {
			p.addReports(out.Segments, m)
		}
	}
	return out
}

// segments are the terms, and the times without a contract before, between and after them.
func (p OpenPeriod) segments() []Segment {
	var out []Segment
	at := p.Period.Start()
	for _, t := range p.Terms {
		if at.Before(t.Start) {
			out = append(out, Segment{Start: at, End: t.Start})
		}
		out = append(out, Segment{Start: t.Start, End: t.End, Plan: t.Plan})
		at = t.End
	}
	if at.Before(p.Cut) {
		out = append(out, Segment{Start: at, End: p.Cut})
	}
	return out
}

// segmentAt returns the place of the segment in which a time lies: the first for what was before, the last for what came after.
func segmentAt(segments []Segment, at time.Time) int {
	i, _ := slices.BinarySearchFunc(segments, at, func(s Segment, at time.Time) int {
		if s.End.After(at) {
			return 1
		}
		return -1
	})
	return min(i, len(segments)-1)
}

func (p OpenPeriod) addReports(segments []Segment, m plans.Meter) {
	for _, r := range p.Records {
		if r.Meter == m.Key {
			used := usageIn(&segments[segmentAt(segments, r.LastAt)], m.Key)
			used.Value = m.Aggregation.Fold(used.Value, r.Value)
		}
	}
}

// addLevels has each level hold until the next record, over changes of plan.
func (p OpenPeriod) addLevels(segments []Segment, meter string) {
	level, since, known := int64(0), p.Period.Start(), false
	hold := func(until time.Time) {
		for i := range segments {
			s := &segments[i]
			from, to := later(since, s.Start), earlier(until, s.End)
			if known && from.Before(to) {
				used := usageIn(s, meter)
				used.Value = level
				used.UnitSeconds = used.UnitSeconds.Add(decimal.NewFromInt(level).Mul(seconds(to.Sub(from))))
			}
		}
	}
	for _, r := range p.Opening {
		if r.Meter == meter && r.Value > 0 {
			level, known = r.Value, true
		}
	}
	for _, r := range p.Records {
		if r.Meter == meter {
			at := earlier(later(r.LastAt, p.Period.Start()), p.Cut)
			hold(at)
			level, since, known = r.Value, at, true
		}
	}
	hold(p.Cut)
}

// usageIn returns what a segment has of a meter, and makes it at the first need.
func usageIn(s *Segment, meter string) *SegmentUsage {
	i := slices.IndexFunc(s.Usage, func(u SegmentUsage) bool { return u.Meter == meter })
	if i < 0 {
		i = len(s.Usage)
		s.Usage = append(s.Usage, SegmentUsage{Meter: meter})
	}
	return &s.Usage[i]
}

// Expected is the period at its end, if it goes on as until its cut: the last plan stays, sums grow at their average pace since the
// contract's begin in the period, peaks stay what they are, and levels hold. Without a contract at the cut, nothing grows.
func (o OrganizationPeriod) Expected() OrganizationPeriod {
	out := o
	out.Cut, out.Segments = o.Period.End(), slices.Clone(o.Segments)
	if len(out.Segments) == 0 || out.Segments[len(out.Segments)-1].Plan.Key == "" || !o.Cut.Before(out.Cut) {
		return out
	}
	last := &out.Segments[len(out.Segments)-1]
	left := out.Cut.Sub(last.End)
	last.End, last.Usage = out.Cut, slices.Clone(last.Usage)
	passed, sums := time.Duration(0), map[string]int64{}
	for _, s := range o.Segments {
		if s.Plan.Key == "" {
			continue
		}
		passed += s.End.Sub(s.Start)
		for _, u := range s.Usage {
			sums[u.Meter] += u.Value
		}
	}
	for _, m := range o.Meters {
		sum, used := sums[m.Key], last.used(m.Key)
		switch {
		case sum == 0 && used.Value == 0:
		case m.Aggregation == plans.Sum:
			usageIn(last, m.Key).Value += money.Quotient(decimal.NewFromInt(sum).Mul(seconds(left)), seconds(passed)).Decimal(0).IntPart()
		case m.Aggregation == plans.Last:
			u := usageIn(last, m.Key)
			u.UnitSeconds = u.UnitSeconds.Add(decimal.NewFromInt(u.Value).Mul(seconds(left)))
		}
	}
	return out
}

// On is the period as if the organization had had one plan whenever it had one.
func (o OrganizationPeriod) On(p plans.Plan) OrganizationPeriod {
	o.Segments = slices.Clone(o.Segments)
	for i, s := range o.Segments {
		if s.Plan.Key != "" {
			o.Segments[i].Plan = plans.Plan{Key: p.Key, Version: p.Version}
		}
	}
	return o
}

// Used folds what the period has of a meter: its sum, its highest peak, or its last level.
func (o OrganizationPeriod) Used(m plans.Meter) int64 {
	var value int64
	for _, s := range o.Segments {
		if i := slices.IndexFunc(s.Usage, func(u SegmentUsage) bool { return u.Meter == m.Key }); i >= 0 {
			value = m.Aggregation.Fold(value, s.Usage[i].Value)
		}
	}
	return value
}

// seconds is a duration to the microsecond.
func seconds(d time.Duration) decimal.Decimal { return decimal.New(d.Microseconds(), -6) }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
