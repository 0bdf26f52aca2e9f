package billingtest

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

// Month draws periods of every shape that the rules know: several plans with several
// versions each, all models, aggregations, bases, prorations and roundings, changes at
// any instant, gaps, a contract that begins or ends within a day, and a cut.
type Month struct {
	// Prorations are those that terms have.
	Prorations []plans.Proration
	// Versions is how many versions a plan has at most.
	Versions int
	// Exact makes every amount one that a day's share leaves without a rest.
	Exact bool
	// Unused leaves out usage.
	Unused bool
	// NoMinimum leaves out the plans' minimums.
	NoMinimum bool
}

// AnyMonth draws from all that the rules know.
var AnyMonth = Month{Prorations: []plans.Proration{"", plans.ProrateNone, plans.ProrateDay, plans.ProrateSecond}, Versions: 3}

func (m Month) amount(t *rapid.T, name string) decimal.Decimal {
	if rapid.IntRange(0, 3).Draw(t, name+" given") == 0 {
		return decimal.Zero
	}
	if m.Exact {
		return decimal.NewFromInt(31 * rapid.Int64Range(1, 9).Draw(t, name))
	}
	return decimal.New(rapid.Int64Range(1, 9999).Draw(t, name), -3)
}

func (m Month) percent(t *rapid.T) decimal.Decimal {
	return decimal.NewFromInt(rapid.SampledFrom([]int64{0, 0, 10, 33, 100}).Draw(t, "discount"))
}

func (m Month) proration(t *rapid.T) plans.Proration {
	return rapid.SampledFrom(m.Prorations).Draw(t, "prorate")
}

func (m Month) price(t *rapid.T, meter plans.Meter) plans.Price {
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

// Plan draws the versions of a plan. A later one keeps each term of the one before, or changes it.
func (m Month) Plan(t *rapid.T, key string) []plans.Plan {
	var versions []plans.Plan
	for i := range rapid.IntRange(1, m.Versions).Draw(t, "versions") {
		keeps := func(term string) bool { return i > 0 && rapid.IntRange(0, 2).Draw(t, "change "+term) > 0 }
		book := plans.PriceBook{Currency: "USD"}
		if i > 0 {
			book = versions[i-1].PriceBooks[0]
		}
		if !keeps("base fee") {
			book.BaseFee = plans.BaseFee{Amount: m.amount(t, "base fee"), Prorate: m.proration(t)}
		}
		if !keeps("minimum") && !m.NoMinimum {
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
		for _, meter := range Meters {
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

// Instant draws an instant of the month: often a midnight, often within few seconds of another.
func (m Month) Instant(t *rapid.T, name string) time.Time {
	day := time.Duration(rapid.IntRange(0, 30).Draw(t, name+" day")) * 24 * time.Hour
	within := time.Duration(rapid.SampledFrom([]int64{0, 0, 1, 12 * 3600e6, 12*3600e6 + 10e6, 86_400e6 - 1}).Draw(t, name+" microsecond")) * time.Microsecond
	return October.Start().Add(day + within)
}

// Period draws an period. Segments are cut where a day that two plans share begins and ends.
func (m Month) Period(t *rapid.T) billing.OrganizationPeriod {
	var known [][]plans.Plan
	for i := range rapid.IntRange(1, 3).Draw(t, "plans") {
		known = append(known, m.Plan(t, fmt.Sprintf("plan%d", i)))
	}
	cut := October.End()
	if rapid.IntRange(0, 3).Draw(t, "provisional") == 0 {
		cut = October.Start().Add(time.Second).Add(time.Duration(rapid.Int64Range(0, 30*86_400).Draw(t, "cut")) * time.Second)
	}
	at := []time.Time{October.Start(), cut}
	for range rapid.IntRange(0, 6).Draw(t, "changes") {
		if change := m.Instant(t, "change"); change.Before(cut) {
			at = append(at, change)
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	at = slices.CompactFunc(at, time.Time.Equal)
	o := billing.OrganizationPeriod{
		Organization: Acme, OrganizationName: "Acme", Currency: "USD", Period: October, Cut: cut, Meters: Meters,
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
	o.Segments = AtSharedDays(o.Segments)
	if !m.Unused {
		m.use(t, &o)
	}
	return o
}

// use draws what is used in each segment. Levels hold until the next report.
func (m Month) use(t *rapid.T, o *billing.OrganizationPeriod) {
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

// AtSharedDays cuts segments at both ends of each day that two plans share, as the freeze does.
func AtSharedDays(segments []billing.Segment) []billing.Segment {
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
