package billing_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/billingtest"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

func dryRun(t require.TestingT, published *plans.Catalog, proposed ...plans.Plan) *billing.DryRun {
	run, err := billing.NewDryRun(billing.DryRunConfig{Published: published, Proposed: &plans.Catalog{Plans: proposed}})
	require.NoError(t, err)
	return run
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	run := dryRun(t, billingtest.Published, billingtest.Pro3)
	notBilled := billing.BilledPeriod{OrganizationPeriod: billingtest.Using(1, "USD", 2000, billingtest.Pro1)}
	unpriced := billing.BilledPeriod{OrganizationPeriod: billingtest.Using(1, "CHF", 2000, billingtest.Pro1)}
	for name, tc := range map[string]struct {
		given billing.BilledPeriod
		// want is billed, proposed, difference, percent, plans, kept plans, reason.
		want string
	}{
		"dearer":                   {billingtest.Billed(t, billingtest.Using(1, "USD", 2000, billingtest.Pro1), billingtest.Published), "41.00 61.00 20.00 48.8 [pro] [] "},
		"cheaper":                  {billingtest.Billed(t, billingtest.Using(1, "USD", 0, billingtest.Pro2), billingtest.Published), "62.00 31.00 -31.00 -50.0 [pro] [] "},
		"the same":                 {billingtest.Billed(t, billingtest.Using(1, "USD", 0, billingtest.Pro1), billingtest.Published), "31.00 31.00 0.00 0.0 [pro] [] "},
		"without minor units":      {billingtest.Billed(t, billingtest.Using(1, "JPY", 2000, billingtest.Pro1), billingtest.Published), "41 61 20 48.8 [pro] [] "},
		"a version that was split": {billingtest.Billed(t, billingtest.Using(1, "USD", 1000, billingtest.Pro1, billingtest.Pro2), billingtest.Published), "57.00 61.00 4.00 7.0 [pro] [] "},
		"a change of plan":         {billingtest.Billed(t, billingtest.Using(1, "USD", 1000, billingtest.Free, billingtest.Pro1), billingtest.Published), "20.84 30.84 10.00 48.0 [free pro] [free] "},
		"a plan that isn't named":  {billingtest.Billed(t, billingtest.Using(1, "USD", 1000, billingtest.Free), billingtest.Published), "0.00 0.00 0.00  [free] [free] "},
		"a currency without a book": {
			billingtest.Billed(t, billingtest.Using(1, "EUR", 2000, billingtest.Pro1), billingtest.Published), "41.00 - -  [pro] [] can't be rated: plan pro version 3 has no prices in EUR",
		},
		"parked":         {notBilled, "- 61.00 -  [pro] [] was not billed: it was parked"},
		"parked again":   {unpriced, "- - -  [pro] [] can't be rated: plan pro version 3 has no prices in CHF"},
		"without a plan": {billing.BilledPeriod{OrganizationPeriod: billingtest.Using(1, "USD", 1)}, "- 0.00 -  [] [] was not billed: it was parked"},
	} {
		got, err := run.Rate(tc.given)
		require.NoError(t, err, name)
		text := func(a *money.Amount) string {
			if a == nil {
				return "-"
			}
			return a.String()
		}
		require.Equal(t, tc.want, fmt.Sprintf("%s %s %s %s %v %v %s", text(got.Billed), text(got.Proposed), text(got.Difference),
			got.Percent, got.Plans, got.KeptPlans, got.Reason), name)
	}
}

// Where versions of one plan split the period, what was used in its parts is one usage
// under the new version: one line for the calls of pro, also around another plan.
func TestUnderJoinsVersions(t *testing.T) {
	t.Parallel()
	a := billingtest.Using(1, "USD", 300, billingtest.Pro1, billingtest.Pro2, billingtest.Free, billingtest.Pro2)
	under := a.Under(&plans.Catalog{Plans: []plans.Plan{billingtest.Pro3}})
	require.Equal(t, 1, a.Segments[0].Plan.Version, "the period is as it was")
	require.Equal(t, []string{"pro 3", "pro 3", "free 1", "pro 3"}, []string{
		planOf(under.Segments[0]), planOf(under.Segments[1]), planOf(under.Segments[2]), planOf(under.Segments[3]),
	})
	s, err := billing.Rate(billing.Ratable{OrganizationPeriod: under}, &plans.Catalog{Plans: []plans.Plan{billingtest.Free, billingtest.Pro3}})
	require.NoError(t, err)
	calls := slices.DeleteFunc(s.Lines, func(l billing.Line) bool { return l.Kind != billing.LineUsage || l.Plan != "pro" })
	require.Len(t, calls, 1)
	require.Equal(t, "900", calls[0].Charge.Quantity.String())
}

func planOf(s billing.Segment) string { return fmt.Sprintf("%s %d", s.Plan.Key, s.Plan.Version) }

// What a statement corrects of other periods, and what credits pay, isn't its own.
func TestOwnLeavesCorrectionsAndCreditsOut(t *testing.T) {
	t.Parallel()
	s, err := billing.Rate(billing.Ratable{OrganizationPeriod: billingtest.Using(1, "USD", 2000, billingtest.Pro1)}, billingtest.Published)
	require.NoError(t, err)
	again := s
	again.Period = billingtest.October.Previous()
	s.Correct(again, nil)
	five := decimal.NewFromInt(5)
	s.PayFrom([]billing.CreditGrant{{ID: uuid.New(), Currency: "USD", Amount: five, Remaining: five, EffectiveAt: billingtest.October.Start()}}, billingtest.October.End())
	require.Equal(t, []string{"82.00", "77.00", "41.00"}, []string{s.Subtotal.String(), s.Due.String(), s.Own().String()})
}

func TestProposedCatalogsThatBreakARule(t *testing.T) {
	t.Parallel()
	twice := []plans.Plan{billingtest.Pro1, billingtest.Pro1}
	other := billingtest.CallsPlan("pro", 2, "1", "1", 0, "USD")
	other.PriceBooks[0].Prices[0].Meter = "other"
	for want, proposed := range map[string]*plans.Catalog{
		"plans: must hold 1 or more":             {Meters: billingtest.Meters},
		`plans[1]: pro version 1 is there twice`: {Plans: twice},
		`meters[0].aggregation: "max" must be sum, as it is published`: {
			Meters: []plans.Meter{{Key: "calls", Aggregation: plans.Max}}, Plans: []plans.Plan{billingtest.Pro1},
		},
		`plans[0].price_books[0].prices[0].meter: "other" is not a meter of the catalog`: {Plans: []plans.Plan{other}},
		`plans[0].version: 0 must be 1 or more`:                                          {Plans: []plans.Plan{{Key: "pro", Name: "Pro"}}},
	} {
		_, err := billing.NewDryRun(billing.DryRunConfig{Published: billingtest.Published, Proposed: proposed})
		require.ErrorIs(t, err, plans.ErrInvalidCatalog)
		require.ErrorContains(t, err, want)
	}
	_, err := billingtest.Published.Propose(&plans.Catalog{Meters: []plans.Meter{{Key: "other", Aggregation: plans.Sum}}, Plans: []plans.Plan{other}})
	require.NoError(t, err, "a new meter has no past usage, and breaks no rule")
	require.Len(t, billingtest.Published.Meters, 3)
}

// Under the catalog that was frozen nothing differs, and of any catalog the sum of the
// differences is the difference of the totals.
func TestDryRunLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		catalog := &plans.Catalog{Meters: billingtest.Meters}
		var billed []billing.BilledPeriod
		for i := range rapid.IntRange(1, 4).Draw(t, "organizations") {
			a := drawOrganizationPeriod(t)
			a.Organization = uuid.UUID{byte(i + 1)}
			for j := range a.Segments {
				// Each period's plans are its own.
				a.Segments[j].Plan.Key = fmt.Sprintf("o%d_%s", i, a.Segments[j].Plan.Key)
				catalog.Plans = append(catalog.Plans, a.Segments[j].Plan)
			}
			billed = append(billed, billingtest.Billed(t, a, catalog))
		}
		again := dryRun(t, catalog, catalog.Plans...)
		factor := decimal.New(rapid.Int64Range(0, 300).Draw(t, "factor"), -2)
		var other []plans.Plan
		for _, p := range catalog.Plans {
			p.PriceBooks = append([]plans.PriceBook{}, p.PriceBooks...)
			p.PriceBooks[0].BaseFee.Amount = p.PriceBooks[0].BaseFee.Amount.Mul(factor)
			other = append(other, p)
		}
		changed := dryRun(t, catalog, rapid.Permutation(other).Draw(t, "plans")[rapid.IntRange(0, len(other)-1).Draw(t, "named"):]...)
		var totals billing.DryRunTotals
		sum := decimal.Zero
		for _, b := range billed {
			same, err := again.Rate(b)
			require.NoError(t, err)
			require.True(t, same.Difference.IsZero())
			require.Empty(t, same.KeptPlans)
			got, err := changed.Rate(b)
			require.NoError(t, err)
			sum = sum.Add(got.Difference.Decimal)
			totals.Add(got)
		}
		require.Len(t, totals.Money, 1)
		total := totals.Money[0]
		require.True(t, sum.Equal(total.Difference.Decimal))
		require.True(t, total.Proposed.Sub(total.Billed.Decimal).Equal(sum))
		require.Equal(t, int64(len(billed)), total.Higher+total.Lower+total.Same)
		require.Equal(t, totals.Organizations, totals.Compared+totals.Unrated+totals.Unbilled)
	})
}
