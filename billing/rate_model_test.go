package billing_test

import (
	"slices"
	"time"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/billingtest"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// cutAt cuts a segment at an instant within it. What was used is in either part: a sum is
// divided, a peak was reached in one of them, and a level holds on.
func cutAt(t *rapid.T, o billing.OrganizationPeriod, i int, at time.Time) billing.OrganizationPeriod {
	before := o.Segments[i]
	after := before
	before.End, after.Start = at, at
	before.Usage, after.Usage = nil, nil
	for _, u := range o.Segments[i].Usage {
		first, second := u, u
		some := rapid.Int64Range(0, u.Value).Draw(t, "before the cut")
		switch u.Meter {
		case "calls":
			first.Value, second.Value = some, u.Value-some
		case "seats":
			first.Value = some
			if rapid.Bool().Draw(t, "peak before the cut") {
				first.Value, second.Value = u.Value, some
			}
		case "storage":
			first.Value = some
			first.UnitSeconds = u.UnitSeconds.Div(decimal.NewFromInt(4))
			second.UnitSeconds = u.UnitSeconds.Sub(first.UnitSeconds)
		}
		before.Usage, after.Usage = append(before.Usage, first), append(after.Usage, second)
	}
	o.Segments = slices.Concat(o.Segments[:i], []billing.Segment{before, after}, o.Segments[i+1:])
	return o
}

// published returns the period with a new version of a plan, published at an instant,
// whose terms are equal: only its name and the spelling of its numbers are others.
func published(t *rapid.T, o billing.OrganizationPeriod, key string, at time.Time) billing.OrganizationPeriod {
	for i := 0; i < len(o.Segments); i++ {
		if s := o.Segments[i]; s.Plan.Key == key && s.Start.Before(at) && at.Before(s.End) {
			o = cutAt(t, o, i, at)
		}
	}
	o.Segments = slices.Clone(o.Segments)
	longer := func(d decimal.Decimal) decimal.Decimal { return d.Add(decimal.New(0, -12)) }
	for i, s := range o.Segments {
		if key == "" || s.Plan.Key != key || s.Start.Before(at) {
			continue
		}
		p := s.Plan
		p.Version += 100
		p.Entitlements = []plans.Entitlement{{Meter: "calls", Mode: plans.Hard, Window: calendar.WindowDay, Max: 5}}
		book := p.PriceBooks[0]
		book.Rounding = book.Rounding.OrDefault()
		book.BaseFee.Amount, book.Minimum, book.DiscountPercent = longer(book.BaseFee.Amount), longer(book.Minimum), longer(book.DiscountPercent)
		book.Prices = slices.Clone(book.Prices)
		slices.Reverse(book.Prices)
		for j, price := range book.Prices {
			price.UnitPrice, price.FlatFee, price.PackagePrice, price.Minimum = longer(price.UnitPrice), longer(price.FlatFee), longer(price.PackagePrice), longer(price.Minimum)
			if price.Model == plans.PerUnit {
				price.Per = max(price.Per, 1)
			}
			book.Prices[j] = price
		}
		p.PriceBooks = []plans.PriceBook{book}
		o.Segments[i].Plan = p
	}
	return o
}

// visit returns the period where another plan is in force for a while, within one day and
// one segment, which stays in force for the rest of that day's part of it.
func visit(t *rapid.T, o billing.OrganizationPeriod, other plans.Plan) billing.OrganizationPeriod {
	i := rapid.IntRange(0, len(o.Segments)-1).Draw(t, "visited")
	s := o.Segments[i]
	first, last := calendar.DayOf(s.Start), calendar.DayOf(s.End.Add(-time.Microsecond))
	day := calendar.Day(rapid.Int32Range(int32(first), int32(last)).Draw(t, "day of the visit"))
	from, until := s.Start, s.End
	if day.Start().After(from) {
		from = day.Start()
	}
	if day.End().Before(until) {
		until = day.End()
	}
	length := int64(until.Sub(from) / time.Microsecond)
	if s.Plan.Key == "" || length < 2 {
		return o
	}
	at := rapid.Int64Range(1, length-1).Draw(t, "instant of the visit")
	if rapid.Bool().Draw(t, "from the day's start") {
		until = from.Add(time.Duration(at) * time.Microsecond)
	} else {
		from = from.Add(time.Duration(at) * time.Microsecond)
	}
	before, during, after := s, s, s
	before.End, after.Start = from, until
	during.Start, during.End, during.Plan = from, until, other
	var out []billing.Segment
	for _, part := range []billing.Segment{before, during, after} {
		if part.Start.Before(part.End) {
			out = append(out, part)
		}
	}
	o.Segments = billingtest.AtSharedDays(slices.Concat(o.Segments[:i], out, o.Segments[i+1:]))
	return o
}
