package billing_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/billingtest"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

func rated(t require.TestingT, o billing.OrganizationPeriod) billing.Statement {
	s, err := billing.NewStatement(o)
	require.NoError(t, err)
	return s
}

// Cutting a part anywhere changes no line: not what it costs, nor how it is explained.
func TestCuttingAPartChangesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := billingtest.AnyMonth.Period(t)
		want := readable(rated(t, a))
		for range rapid.IntRange(1, 3).Draw(t, "cuts") {
			i := rapid.IntRange(0, len(a.Segments)-1).Draw(t, "segment")
			length := int64(a.Segments[i].End.Sub(a.Segments[i].Start) / time.Microsecond)
			if length > 1 {
				at := a.Segments[i].Start.Add(time.Duration(rapid.Int64Range(1, length-1).Draw(t, "microsecond")) * time.Microsecond)
				a = cutAt(t, a, i, at)
			}
		}
		require.Equal(t, want, readable(rated(t, a)))
	})
}

// amounts are the lines without the versions that they name.
func amounts(s billing.Statement) []string {
	var out []string
	for _, l := range s.Lines {
		out = append(out, fmt.Sprintf("%s %s %s–%s %s %s", l.Kind, l.Meter, l.Start, l.End, l.Exact, l.Amount))
	}
	return out
}

// Publishing a version with equal terms, however they are spelled, changes no amount.
func TestPublishingEqualTermsChangesNoAmount(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := billingtest.AnyMonth.Period(t)
		plan := rapid.SampledFrom(a.Segments).Draw(t, "plan").Plan
		again := published(t, a, plan.Key, billingtest.AnyMonth.Instant(t, "published"))
		require.Equal(t, amounts(rated(t, a)), amounts(rated(t, again)))
	})
}

// Prices that ask the same in other words, as 7 for 7 units and 1 for one, split a line,
// and not by a cent what the lines of the plan come to.
func TestSplittingALineChangesNoSum(t *testing.T) {
	t.Parallel()
	model := billingtest.AnyMonth
	model.Versions = 1
	rapid.Check(t, func(t *rapid.T) {
		a := model.Period(t)
		at := model.Instant(t, "published")
		key := rapid.SampledFrom(a.Segments).Draw(t, "plan").Plan.Key
		other := published(t, a, key, at)
		for i, s := range other.Segments {
			if s.Plan.Version < 100 {
				continue
			}
			book := &other.Segments[i].Plan.PriceBooks[0]
			for j, p := range book.Prices {
				switch p.Model {
				case plans.PerUnit:
					book.Prices[j].UnitPrice, book.Prices[j].Per = p.UnitPrice.Mul(decimal.NewFromInt(6)), p.Per*6
				case plans.Graduated, plans.Volume:
					book.Prices[j].Tiers = append([]plans.Tier{}, p.Tiers[0], p.Tiers[1], p.Tiers[1])
					book.Prices[j].Tiers[1].UpTo = plans.MaxQuantity
				}
			}
		}
		sums := func(s billing.Statement) map[string]string {
			out := map[string]string{}
			totals := map[string]decimal.Decimal{}
			for _, l := range s.Lines {
				k := fmt.Sprint(l.Plan, " ", l.Kind, " ", l.Meter)
				totals[k] = totals[k].Add(l.Amount.Decimal)
			}
			for k, v := range totals {
				if !v.IsZero() {
					out[k] = v.String()
				}
			}
			return out
		}
		require.Equal(t, sums(rated(t, a)), sums(rated(t, other)))
	})
}

// Shares add up to the days that were touched, or the time, under contract, whoever has
// them.
func TestSharesAddUp(t *testing.T) {
	t.Parallel()
	model := billingtest.AnyMonth
	rapid.Check(t, func(t *rapid.T) {
		how := rapid.SampledFrom([]plans.Proration{plans.ProrateDay, plans.ProrateSecond}).Draw(t, "how")
		model.Prorations = []plans.Proration{how}
		a := model.Period(t)
		days, under := map[calendar.Day]bool{}, time.Duration(0)
		for i, s := range a.Segments {
			if s.Plan.Key == "" {
				continue
			}
			// A fee that is never zero shows every share.
			book := s.Plan.PriceBooks[0]
			book.BaseFee.Amount = book.BaseFee.Amount.Add(decimal.NewFromInt(1))
			a.Segments[i].Plan.PriceBooks = []plans.PriceBook{book}
			under += s.End.Sub(s.Start)
			for day := calendar.DayOf(s.Start); day.Start().Before(s.End); day++ {
				days[day] = true
			}
		}
		var sum plans.Share
		for _, l := range rated(t, a).Lines {
			if l.Kind == billing.LineBaseFee {
				share := l.Share
				if share.Of == 0 {
					share = plans.Share{Days: 31}
				}
				sum = sum.Add(share)
			}
		}
		if how == plans.ProrateDay {
			require.Len(t, days, sum.Days)
		} else {
			require.True(t, sum.Seconds.Equal(decimal.New(int64(under), -9)), "%s of %s", sum.Seconds, under)
		}
	})
}

// With terms that are prorated by the day alone, without usage and without rounding, a
// visit to another plan within a day never lowers the sum. With several versions that
// holds where plans have no minimum of their own: such a minimum is compared once, for
// days of all versions.
func TestAVisitNeverLowersTheSum(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		model := billingtest.Month{Prorations: []plans.Proration{plans.ProrateDay}, Versions: 1, Exact: true, Unused: true}
		if rapid.Bool().Draw(t, "several versions") {
			model.Versions, model.NoMinimum = 3, true
		}
		a := model.Period(t)
		other := rapid.SampledFrom(model.Plan(t, "other")).Draw(t, "version")
		if s := rapid.SampledFrom(a.Segments).Draw(t, "known plan"); model.Versions == 1 && s.Plan.Key != "" && rapid.Bool().Draw(t, "known") {
			other = s.Plan
		}
		before, after := rated(t, a), rated(t, visit(t, a, other))
		require.False(t, after.Subtotal.LessThan(before.Subtotal.Decimal), "%s, then %s\n%s\n%s", before.Subtotal, after.Subtotal, readable(before), readable(after))
	})
}

// What isn't prorated is due once for each plan, whatever was in force in between.
func TestAnUnproratedFeeIsDueOnce(t *testing.T) {
	t.Parallel()
	model := billingtest.AnyMonth
	model.Prorations = []plans.Proration{"", plans.ProrateNone}
	rapid.Check(t, func(t *rapid.T) {
		a := model.Period(t)
		last := map[string]plans.Plan{}
		for _, s := range a.Segments {
			last[s.Plan.Key] = s.Plan
		}
		delete(last, "")
		got := map[string]decimal.Decimal{}
		for _, l := range rated(t, a).Lines {
			if l.Kind == billing.LineBaseFee {
				_, twice := got[l.Plan]
				require.False(t, twice)
				got[l.Plan] = l.Amount.Decimal
			}
		}
		for key, p := range last {
			want, _ := money.Whole(p.PriceBooks[0].BaseFee.Amount).Round("USD", p.PriceBooks[0].Rounding)
			require.True(t, want.Equal(got[key]), "%s costs %s, not %s", key, got[key], want)
		}
	})
}

// A meter's units cost P(b) − P(a) by each version, and what was used without a contract
// costs nothing and is shown: checked against the prices of whole quantities.
func TestUsageCostsTheDifferenceOfTwoPrices(t *testing.T) {
	t.Parallel()
	model := billingtest.AnyMonth
	model.Prorations = []plans.Proration{plans.ProrateNone}
	rapid.Check(t, func(t *rapid.T) {
		a := model.Period(t)
		want, reached, outside := map[string]money.Fraction{}, map[string]int64{}, int64(0)
		lastOf := map[string]plans.PriceBook{}
		for _, s := range a.Segments {
			used := int64(0)
			for _, u := range s.Usage {
				if u.Meter == "calls" {
					used = u.Value
				}
			}
			if s.Plan.Key == "" {
				outside += used
				continue
			}
			from := reached[s.Plan.Key]
			reached[s.Plan.Key] += used
			lastOf[s.Plan.Key] = s.Plan.PriceBooks[0]
			p, ok := s.Plan.PriceBooks[0].Price("calls")
			if !ok {
				continue
			}
			if p.Model == plans.Volume {
				return
			}
			whole := func(q int64) money.Fraction {
				return p.Rate(decimal.NewFromInt(q), plans.Share{}, plans.Sum).Amount
			}
			want[s.Plan.Key] = want[s.Plan.Key].Add(whole(from + used)).Sub(whole(from))
		}
		got, shown := map[string]decimal.Decimal{}, int64(0)
		for _, l := range rated(t, a).Lines {
			switch {
			case l.Kind != billing.LineUsage || l.Meter != "calls":
			case l.Plan == "":
				shown += l.Charge.Quantity.IntPart()
				require.True(t, l.Amount.IsZero())
			default:
				got[l.Plan] = got[l.Plan].Add(l.Amount.Decimal)
			}
		}
		require.Equal(t, outside, shown)
		for key, exact := range want {
			// The last line's version rounds; any other rounding is at most a cent away.
			difference := exact.Sub(money.Whole(got[key])).Rat()
			require.LessOrEqual(t, difference.Abs(difference).Cmp(decimal.New(5, -3).Rat()), 0, "%s costs %s, not %s", key, got[key], exact)
		}
	})
}
