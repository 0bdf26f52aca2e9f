package billing_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// callsPlan costs a fee, and a price a call, of which some are included.
func callsPlan(key string, version int, fee, price string, included int64, currencies ...money.Currency) plans.Plan {
	p := plans.Plan{Key: key, Version: version, Name: key}
	for _, c := range currencies {
		p.PriceBooks = append(p.PriceBooks, plans.PriceBook{
			Currency: c, BaseFee: plans.BaseFee{Amount: decimal.RequireFromString(fee), Prorate: plans.ProrateDay},
			Prices: []plans.Price{{Meter: "calls", Model: plans.PerUnit, UnitPrice: decimal.RequireFromString(price), Included: included, Prorate: plans.ProrateDay}},
		})
	}
	return p
}

// using is a period whose plans follow each other in parts of October of the same length.
func using(id byte, currency money.Currency, calls int64, segments ...plans.Plan) billing.OrganizationPeriod {
	o := billing.OrganizationPeriod{
		Organization: uuid.UUID{id}, OrganizationName: fmt.Sprintf("Org %d", id), Currency: currency,
		Period: october2026, Cut: october2026.End(), Meters: statementMeters,
	}
	length := october2026.End().Sub(october2026.Start()) / time.Duration(max(len(segments), 1))
	for i, p := range segments {
		start := october2026.Start().Add(time.Duration(i) * length)
		o.Segments = append(o.Segments, billing.Segment{
			Start: start, End: start.Add(length), Plan: plans.Plan{Key: p.Key, Version: p.Version},
			Usage: []billing.SegmentUsage{{Meter: "calls", Value: calls}},
		})
	}
	return o
}

// billedFor rates a period under a catalog, as its export did.
func billedFor(t require.TestingT, o billing.OrganizationPeriod, catalog *plans.Catalog) billing.BilledPeriod {
	s, err := billing.Rate(billing.Ratable{OrganizationPeriod: o}, catalog)
	require.NoError(t, err)
	own := s.Own()
	require.True(t, own.Equal(s.Subtotal.Decimal))
	return billing.BilledPeriod{OrganizationPeriod: o, Billed: &own}
}

func dryRun(t require.TestingT, published *plans.Catalog, proposed ...plans.Plan) *billing.DryRun {
	run, err := billing.NewDryRun(billing.DryRunConfig{Published: published, Proposed: &plans.Catalog{Plans: proposed}})
	require.NoError(t, err)
	return run
}

var (
	free     = callsPlan("free", 1, "0", "0", 0, "USD", "EUR", "JPY")
	pro1     = callsPlan("pro", 1, "31", "0.01", 1000, "USD", "EUR", "JPY")
	pro2     = callsPlan("pro", 2, "62", "0.01", 1000, "USD", "EUR", "JPY")
	dollars3 = callsPlan("pro", 3, "31", "0.02", 500, "USD", "JPY")
	tried    = &plans.Catalog{Meters: statementMeters, Plans: []plans.Plan{free, pro1, pro2}}
)

func TestDryRun(t *testing.T) {
	t.Parallel()
	run := dryRun(t, tried, dollars3)
	notBilled := billing.BilledPeriod{OrganizationPeriod: using(1, "USD", 2000, pro1)}
	unpriced := billing.BilledPeriod{OrganizationPeriod: using(1, "CHF", 2000, pro1)}
	for name, tc := range map[string]struct {
		given billing.BilledPeriod
		// want is billed, proposed, difference, percent, plans, kept plans, reason.
		want string
	}{
		"dearer":                   {billedFor(t, using(1, "USD", 2000, pro1), tried), "41.00 61.00 20.00 48.8 [pro] [] "},
		"cheaper":                  {billedFor(t, using(1, "USD", 0, pro2), tried), "62.00 31.00 -31.00 -50.0 [pro] [] "},
		"the same":                 {billedFor(t, using(1, "USD", 0, pro1), tried), "31.00 31.00 0.00 0.0 [pro] [] "},
		"without minor units":      {billedFor(t, using(1, "JPY", 2000, pro1), tried), "41 61 20 48.8 [pro] [] "},
		"a version that was split": {billedFor(t, using(1, "USD", 1000, pro1, pro2), tried), "57.00 61.00 4.00 7.0 [pro] [] "},
		"a change of plan":         {billedFor(t, using(1, "USD", 1000, free, pro1), tried), "20.84 30.84 10.00 48.0 [free pro] [free] "},
		"a plan that isn't named":  {billedFor(t, using(1, "USD", 1000, free), tried), "0.00 0.00 0.00  [free] [free] "},
		"a currency without a book": {
			billedFor(t, using(1, "EUR", 2000, pro1), tried), "41.00 - -  [pro] [] can't be rated: plan pro version 3 has no prices in EUR",
		},
		"parked":         {notBilled, "- 61.00 -  [pro] [] was not billed: it was parked"},
		"parked again":   {unpriced, "- - -  [pro] [] can't be rated: plan pro version 3 has no prices in CHF"},
		"without a plan": {billing.BilledPeriod{OrganizationPeriod: using(1, "USD", 1)}, "- 0.00 -  [] [] was not billed: it was parked"},
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
	a := using(1, "USD", 300, pro1, pro2, free, pro2)
	under := a.Under(&plans.Catalog{Plans: []plans.Plan{dollars3}})
	require.Equal(t, 1, a.Segments[0].Plan.Version, "the period is as it was")
	require.Equal(t, []string{"pro 3", "pro 3", "free 1", "pro 3"}, []string{
		planOf(under.Segments[0]), planOf(under.Segments[1]), planOf(under.Segments[2]), planOf(under.Segments[3]),
	})
	s, err := billing.Rate(billing.Ratable{OrganizationPeriod: under}, &plans.Catalog{Plans: []plans.Plan{free, dollars3}})
	require.NoError(t, err)
	calls := slices.DeleteFunc(s.Lines, func(l billing.Line) bool { return l.Kind != billing.LineUsage || l.Plan != "pro" })
	require.Len(t, calls, 1)
	require.Equal(t, "900", calls[0].Charge.Quantity.String())
}

func planOf(s billing.Segment) string { return fmt.Sprintf("%s %d", s.Plan.Key, s.Plan.Version) }

// What a statement corrects of other periods, and what credits pay, isn't its own.
func TestOwnLeavesCorrectionsAndCreditsOut(t *testing.T) {
	t.Parallel()
	s, err := billing.Rate(billing.Ratable{OrganizationPeriod: using(1, "USD", 2000, pro1)}, tried)
	require.NoError(t, err)
	again := s
	again.Period = october2026.Previous()
	s.Correct(again, nil)
	five := decimal.NewFromInt(5)
	s.PayFrom([]billing.CreditGrant{{ID: uuid.New(), Currency: "USD", Amount: five, Remaining: five, EffectiveAt: october2026.Start()}}, october2026.End())
	require.Equal(t, []string{"82.00", "77.00", "41.00"}, []string{s.Subtotal.String(), s.Due.String(), s.Own().String()})
}

func TestProposedCatalogsThatBreakARule(t *testing.T) {
	t.Parallel()
	twice := []plans.Plan{pro1, pro1}
	other := callsPlan("pro", 2, "1", "1", 0, "USD")
	other.PriceBooks[0].Prices[0].Meter = "other"
	for want, proposed := range map[string]*plans.Catalog{
		"plans: must hold 1 or more":             {Meters: statementMeters},
		`plans[1]: pro version 1 is there twice`: {Plans: twice},
		`meters[0].aggregation: "max" must be sum, as it is published`: {
			Meters: []plans.Meter{{Key: "calls", Aggregation: plans.Max}}, Plans: []plans.Plan{pro1},
		},
		`plans[0].price_books[0].prices[0].meter: "other" is not a meter of the catalog`: {Plans: []plans.Plan{other}},
		`plans[0].version: 0 must be 1 or more`:                                          {Plans: []plans.Plan{{Key: "pro", Name: "Pro"}}},
	} {
		_, err := billing.NewDryRun(billing.DryRunConfig{Published: tried, Proposed: proposed})
		require.ErrorIs(t, err, plans.ErrInvalidCatalog)
		require.ErrorContains(t, err, want)
	}
	_, err := tried.Propose(&plans.Catalog{Meters: []plans.Meter{{Key: "other", Aggregation: plans.Sum}}, Plans: []plans.Plan{other}})
	require.NoError(t, err, "a new meter has no past usage, and breaks no rule")
	require.Len(t, tried.Meters, 3)
}

// Under the catalog that was frozen nothing differs, and of any catalog the sum of the
// differences is the difference of the totals.
func TestDryRunLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		catalog := &plans.Catalog{Meters: statementMeters}
		var billed []billing.BilledPeriod
		for i := range rapid.IntRange(1, 4).Draw(t, "organizations") {
			a := drawOrganizationPeriod(t)
			a.Organization = uuid.UUID{byte(i + 1)}
			for j := range a.Segments {
				// Each period's plans are its own.
				a.Segments[j].Plan.Key = fmt.Sprintf("o%d_%s", i, a.Segments[j].Plan.Key)
				catalog.Plans = append(catalog.Plans, a.Segments[j].Plan)
			}
			billed = append(billed, billedFor(t, a, catalog))
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

// TestDryRunGolden writes one dry run in each format; -update writes the files anew.
func TestDryRunGolden(t *testing.T) {
	t.Parallel()
	run := dryRun(t, tried, dollars3)
	formula := billedFor(t, using(5, "JPY", 2000, pro1), tried)
	formula.OrganizationPeriod.OrganizationName = `=HYPERLINK("x")`
	given := []billing.BilledPeriod{
		billedFor(t, using(1, "USD", 2000, pro1), tried), billedFor(t, using(2, "USD", 1000, free, pro2), tried),
		billedFor(t, using(3, "EUR", 1000, pro1), tried),
		{OrganizationPeriod: using(4, "USD", 1000, pro1)},
		formula,
		billedFor(t, using(6, "USD", 123_456_789_012, pro2), tried), billedFor(t, using(7, "USD", 0, pro2), tried),
		billedFor(t, using(8, "USD", 0, pro1), tried), billedFor(t, using(9, "EUR", 9, free), tried),
	}
	for _, format := range []billing.DryRunFormat{billing.DryRunTable, billing.DryRunCSV, billing.DryRunJSON} {
		got := dryRunText(t, run, format, given...)
		file := filepath.Join("testdata", "dryrun", "dryrun."+string(format))
		if *update {
			require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
			require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
		}
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(want), got)
	}
	nothing := dryRunText(t, run, billing.DryRunJSON)
	require.JSONEq(t, `{"period":"2026-10","revision":2,"organizations":[],"totals":{
		"organizations":0,"compared":0,"unrated":0,"unbilled":0,"kept":0,"kept_plans":[],"money":[]}}`, nothing)
	require.Equal(t, 2, strings.Count(dryRunText(t, run, billing.DryRunTable), "\n")-1)
}

func dryRunText(t *testing.T, run *billing.DryRun, format billing.DryRunFormat, given ...billing.BilledPeriod) string {
	t.Helper()
	var out bytes.Buffer
	w, err := billing.NewDryRunWriter(billing.DryRunWriterConfig{Out: &out, Format: format, Period: october2026, Revision: 2})
	require.NoError(t, err)
	for _, b := range given {
		a, err := run.Rate(b)
		require.NoError(t, err)
		require.NoError(t, w.Write(a))
	}
	require.NoError(t, w.Close())
	return out.String()
}
