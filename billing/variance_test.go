package billing_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/billingtest"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// variance compares two months of an organization, the later of which has a correction.
func variance(before, now billing.BilledPeriod, correction int64) billing.StatementVariance {
	of := func(b billing.BilledPeriod) decimal.Decimal {
		if b.Billed == nil {
			return decimal.Zero
		}
		return b.Billed.Decimal
	}
	return billing.StatementVariance{
		Currency: "USD", Previous: money.NewAmount(of(before), "USD"), Current: money.NewAmount(of(now).Add(decimal.NewFromInt(correction)), "USD"),
	}
}

func TestVarianceReasons(t *testing.T) {
	t.Parallel()
	month := func(calls int64, segments ...plans.Plan) billing.BilledPeriod {
		return billingtest.Billed(t, billingtest.Using(1, "USD", calls, segments...), billingtest.Published)
	}
	for name, tc := range map[string]struct {
		before, now billing.BilledPeriod
		correction  int64
		want        string
	}{
		"nothing":                     {month(0, billingtest.Pro1), month(0, billingtest.Pro1), 0, ""},
		"more used":                   {month(0, billingtest.Pro1), month(2000, billingtest.Pro1), 0, "usage 10.00"},
		"less used":                   {month(2000, billingtest.Pro1), month(0, billingtest.Pro1), 0, "usage -10.00"},
		"a price":                     {month(0, billingtest.Pro1), month(0, billingtest.Pro2), 0, "price 31.00"},
		"more used, at a price":       {month(0, billingtest.Pro1), month(2000, billingtest.Pro2), 0, "usage 10.00, price 31.00"},
		"a price in the month":        {month(0, billingtest.Pro1), month(0, billingtest.Pro1, billingtest.Pro2), 0, "price 16.00"},
		"a price in the month before": {month(0, billingtest.Pro1, billingtest.Pro2), month(0, billingtest.Pro2), 0, "price 15.00"},
		"another plan":                {month(2000, billingtest.Free), month(3000, billingtest.Pro1), 0, "plan 51.00"},
		"another plan in the month":   {month(0, billingtest.Free), month(0, billingtest.Free, billingtest.Pro1), 0, "plan 16.00"},
		"a correction":                {month(0, billingtest.Pro1), month(2000, billingtest.Pro1), -3, "usage 10.00, correction -3.00"},
		"a first month":               {billing.BilledPeriod{}, month(2000, billingtest.Pro1), 0, "plan 41.00"},
		"a last month":                {month(2000, billingtest.Pro1), billing.BilledPeriod{}, 0, "plan -41.00"},
		"two months of changes":       {month(0, billingtest.Pro1, billingtest.Free), month(0, billingtest.Free, billingtest.Pro1, billingtest.Free), 0, "plan -5.00"},
	} {
		reasons, err := variance(tc.before, tc.now, tc.correction).Explain(tc.before, tc.now, billingtest.Published)
		require.NoError(t, err, name)
		var got []string
		for _, r := range reasons {
			got = append(got, fmt.Sprintf("%s %s", r.Cause, r.Amount))
		}
		require.Equal(t, tc.want, strings.Join(got, ", "), name)
	}
}

// Whatever the months were, the reasons add up to the difference.
func TestVarianceReasonsAddUp(t *testing.T) {
	t.Parallel()
	published := []plans.Plan{billingtest.Free, billingtest.Pro1, billingtest.Pro2}
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) billing.BilledPeriod {
			if rapid.IntRange(0, 9).Draw(t, name+" is missing") == 0 {
				return billing.BilledPeriod{}
			}
			segments := rapid.SliceOfN(rapid.SampledFrom(published), 0, 3).Draw(t, name)
			o := billingtest.Using(1, "USD", rapid.Int64Range(0, 5000).Draw(t, name+" calls"), segments...)
			if len(segments) > 1 && rapid.Bool().Draw(t, name+" has a gap") {
				o.Segments = o.Segments[1:]
			}
			return billingtest.Billed(t, o, billingtest.Published)
		}
		before, now := draw("before"), draw("now")
		v := variance(before, now, rapid.Int64Range(-5, 5).Draw(t, "correction"))
		reasons, err := v.Explain(before, now, billingtest.Published)
		require.NoError(t, err)
		sum := decimal.Zero
		for _, r := range reasons {
			require.False(t, r.Amount.IsZero())
			sum = sum.Add(r.Amount.Decimal)
		}
		require.True(t, sum.Equal(v.Current.Sub(v.Previous.Decimal)), "%s of %s − %s", sum, v.Current, v.Previous)
	})
}
