package billing_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// month draws periods of every shape that the rules know: several plans with several
// versions each, all models, aggregations, bases, prorations and roundings, changes at
// any instant, gaps, a contract that begins or ends within a day, and a cut.
type month struct {
	// prorations are those that terms have.
	prorations []plans.Proration
	// versions is how many versions a plan has at most.
	versions int
	// exact makes every amount one that a day's share leaves without a rest.
	exact bool
	// unused leaves out usage.
	unused bool
	// noMinimum leaves out the plans' minimums.
	noMinimum bool
}

var anyMonth = month{prorations: []plans.Proration{"", plans.ProrateNone, plans.ProrateDay, plans.ProrateSecond}, versions: 3}

func (m month) amount(t *rapid.T, name string) decimal.Decimal {
	if rapid.IntRange(0, 3).Draw(t, name+" given") == 0 {
		return decimal.Zero
	}
	if m.exact {
		return decimal.NewFromInt(31 * rapid.Int64Range(1, 9).Draw(t, name))
	}
	return decimal.New(rapid.Int64Range(1, 9999).Draw(t, name), -3)
}

func (m month) percent(t *rapid.T) decimal.Decimal {
	return decimal.NewFromInt(rapid.SampledFrom([]int64{0, 0, 10, 33, 100}).Draw(t, "discount"))
}

func (m month) proration(t *rapid.T) plans.Proration {
	return rapid.SampledFrom(m.prorations).Draw(t, "prorate")
}

func (m month) price(t *rapid.T, meter plans.Meter) plans.Price {
	models := []plans.PriceModel{plans.Flat, plans.PerUnit, plans.Graduated, plans.Volume, plans.Package}
	p := plans.Price{
		Meter: meter.Key, Model: rapid.SampledFrom(models).Draw(t, "model"), Included: rapid.SampledFrom([]int64{0, 0, 5, 40}).Draw(t, "included"),
		Minimum: m.amount(t, "minimum"), DiscountPercent: m.percent(t), Prorate: m.proration(t),
	}
	if meter.Aggregation == plans.Last {
		p.Basis = rapid.SampledFrom([]plans.Basis{"", plans.Average, plans.Level}).Draw(t, "basis")
	}
	switch p.Model {
	case plans.Flat:
		p.FlatFee = m.amount(t, "flat fee")
	case plans.PerUnit:
		p.UnitPrice, p.Per = m.amount(t, "unit price"), rapid.SampledFrom([]int64{0, 1, 7}).Draw(t, "per")
	case plans.Package:
		p.PackageSize, p.PackagePrice = rapid.Int64Range(1, 9).Draw(t, "size"), m.amount(t, "package price")
	default:
		p.Tiers = []plans.Tier{
			{UpTo: rapid.Int64Range(1, 60).Draw(t, "up to"), UnitPrice: m.amount(t, "unit price"), FlatFee: m.amount(t, "fee")},
			{UnitPrice: m.amount(t, "unit price"), FlatFee: m.amount(t, "fee")},
		}
	}
	return p
}

// plan draws the versions of a plan. A later one keeps each term of the one before, or changes it.
func (m month) plan(t *rapid.T, key string) []plans.Plan {
	var versions []plans.Plan
	for i := range rapid.IntRange(1, m.versions).Draw(t, "versions") {
		keeps := func(term string) bool { return i > 0 && rapid.IntRange(0, 2).Draw(t, "change "+term) > 0 }
		book := plans.PriceBook{Currency: "USD"}
		if i > 0 {
			book = versions[i-1].PriceBooks[0]
		}
		if !keeps("base fee") {
			book.BaseFee = plans.BaseFee{Amount: m.amount(t, "base fee"), Prorate: m.proration(t)}
		}
		if !keeps("minimum") && !m.noMinimum {
			book.Minimum = m.amount(t, "minimum").Mul(decimal.NewFromInt(2))
		}
		if !keeps("discount") {
			book.DiscountPercent = m.percent(t)
		}
		if !keeps("rounding") {
			book.Rounding = rapid.SampledFrom([]money.Rounding{"", money.HalfUp, money.HalfEven}).Draw(t, "rounding")
		}
		before := book
		book.Prices = nil
		for _, meter := range statementMeters {
			price, had := before.Price(meter.Key)
			switch {
			case !keeps("price of " + meter.Key):
				if rapid.IntRange(0, 4).Draw(t, "priced") > 0 {
					book.Prices = append(book.Prices, m.price(t, meter))
				}
			case had:
				book.Prices = append(book.Prices, price)
			}
		}
		versions = append(versions, plans.Plan{Key: key, Version: i + 1, Name: "Plan " + key, PriceBooks: []plans.PriceBook{book}})
	}
	return versions
}

// instant draws an instant of the month: often a midnight, often within few seconds of another.
func (m month) instant(t *rapid.T, name string) time.Time {
	day := time.Duration(rapid.IntRange(0, 30).Draw(t, name+" day")) * 24 * time.Hour
	within := time.Duration(rapid.SampledFrom([]int64{0, 0, 1, 12 * 3600e6, 12*3600e6 + 10e6, 86_400e6 - 1}).Draw(t, name+" microsecond")) * time.Microsecond
	return october2026.Start().Add(day + within)
}

// period draws an period. Segments are cut where a day that two plans share begins and ends.
func (m month) period(t *rapid.T) billing.OrganizationPeriod {
	var known [][]plans.Plan
	for i := range rapid.IntRange(1, 3).Draw(t, "plans") {
		known = append(known, m.plan(t, fmt.Sprintf("plan%d", i)))
	}
	cut := october2026.End()
	if rapid.IntRange(0, 3).Draw(t, "provisional") == 0 {
		cut = october2026.Start().Add(time.Second).Add(time.Duration(rapid.Int64Range(0, 30*86_400).Draw(t, "cut")) * time.Second)
	}
	at := []time.Time{october2026.Start(), cut}
	for range rapid.IntRange(0, 6).Draw(t, "changes") {
		if change := m.instant(t, "change"); change.Before(cut) {
			at = append(at, change)
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	at = slices.CompactFunc(at, time.Time.Equal)
	o := billing.OrganizationPeriod{
		Organization: acme, OrganizationName: "Acme", Currency: "USD", Period: october2026, Cut: cut, Meters: statementMeters,
	}
	version := map[string]int{}
	for i := range len(at) - 1 {
		s := billing.Segment{Start: at[i], End: at[i+1]}
		if rapid.IntRange(0, 6).Draw(t, "contract") > 0 {
			versions := known[rapid.IntRange(0, len(known)-1).Draw(t, "plan")]
			key := versions[0].Key
			version[key] = min(version[key]+rapid.IntRange(0, 1).Draw(t, "publish"), len(versions)-1)
			s.Plan = versions[version[key]]
		}
		o.Segments = append(o.Segments, s)
	}
	o.Segments = atSharedDays(o.Segments)
	if !m.unused {
		m.use(t, &o)
	}
	return o
}

// use draws what is used in each segment. Levels hold until the next report.
func (m month) use(t *rapid.T, o *billing.OrganizationPeriod) {
	level := int64(0)
	for i := range o.Segments {
		s := &o.Segments[i]
		if rapid.Bool().Draw(t, "reports") {
			level = rapid.Int64Range(0, 60).Draw(t, "level")
		}
		if level > 0 {
			s.Usage = append(s.Usage, billing.SegmentUsage{Meter: "storage", Value: level, UnitSeconds: decimal.New(int64(s.End.Sub(s.Start)), -9).Mul(decimal.NewFromInt(level))})
		}
		if calls := rapid.Int64Range(0, 90).Draw(t, "calls"); calls > 30 {
			s.Usage = append(s.Usage, billing.SegmentUsage{Meter: "calls", Value: calls - 30})
		}
		if seats := rapid.Int64Range(0, 60).Draw(t, "seats"); seats > 20 {
			s.Usage = append(s.Usage, billing.SegmentUsage{Meter: "seats", Value: seats - 20})
		}
	}
}

// atSharedDays cuts segments at both ends of each day that two plans share, as the freeze does.
func atSharedDays(segments []billing.Segment) []billing.Segment {
	keys := map[calendar.Day]map[string]bool{}
	for _, s := range segments {
		for day := calendar.DayOf(s.Start); day.Start().Before(s.End) && s.Plan.Key != ""; day++ {
			if keys[day] == nil {
				keys[day] = map[string]bool{}
			}
			keys[day][s.Plan.Key] = true
		}
	}
	var out []billing.Segment
	for _, s := range segments {
		for day := calendar.DayOf(s.Start); day.Start().Before(s.End); day++ {
			for _, at := range []time.Time{day.Start(), day.End()} {
				if len(keys[day]) > 1 && s.Start.Before(at) && at.Before(s.End) {
					before := s
					before.End, s.Start = at, at
					out = append(out, before)
				}
			}
		}
		out = append(out, s)
	}
	return out
}

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
	o.Segments = atSharedDays(slices.Concat(o.Segments[:i], out, o.Segments[i+1:]))
	return o
}
