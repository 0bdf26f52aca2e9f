package pgstore_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/plans"
)

// dryRun rates an export under plans, in pages of a size, and returns what came of each
// organization by its name.
func (f *fixture) dryRun(id uuid.UUID, size int, proposed ...plans.Plan) (map[string]billing.DryRunOrganization, billing.DryRunTotals) {
	f.t.Helper()
	published, err := f.Catalog(f.t.Context())
	require.NoError(f.t, err)
	run, err := billing.NewDryRun(billing.DryRunConfig{Published: published, Proposed: &plans.Catalog{Plans: proposed}})
	require.NoError(f.t, err)
	out, totals, after := map[string]billing.DryRunOrganization{}, billing.DryRunTotals{}, uuid.Nil
	for {
		page, err := f.BilledPeriods(f.t.Context(), id, after, size)
		require.NoError(f.t, err)
		if len(page) == 0 {
			return out, totals
		}
		require.LessOrEqual(f.t, len(page), size)
		for _, b := range page {
			require.Less(f.t, after.String(), b.OrganizationPeriod.Organization.String())
			after = b.OrganizationPeriod.Organization
			a, err := run.Rate(b)
			require.NoError(f.t, err)
			out[a.OrganizationName] = a
			totals.Add(a)
		}
	}
}

// The usage that was frozen is rated under other prices beside what was billed: of the
// period itself, without what it corrects of others.
func TestDryRunOfAClosedPeriod(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	late, parked, euros := f.customer("Late"), f.customer("Parked"), f.customer("Euros")
	f.exec(`UPDATE organizations SET currency = 'EUR' WHERE id = $1`, euros)
	moved := f.customer("Moved")
	f.changePlan(moved, secondPeriod.Start().AddDate(0, 0, 10), "free")
	w := f.instance()
	w.flush(row(late, evaluations, today, 5))
	f.closePeriod(period)
	next := secondPeriod.FirstDay()
	w.flush(row(late, evaluations, today, 3), row(late, evaluations, next, 10), row(parked, evaluations, next, 7), row(euros, evaluations, next, 4),
		row(moved, evaluations, next, 6), row(moved, evaluations, next+20, 1000))
	e := f.closePeriod(secondPeriod, parked)
	require.Equal(t, "13.00", f.statement(e.ID, late).Subtotal.String(), "3 of it are a correction")
	before := f.everything()

	published, ok := f.catalog().Plan("metered")
	require.True(t, ok)
	_, same := f.dryRun(e.ID, 2, f.catalog().InForce()...)
	require.Equal(t, int64(3), same.Compared)
	for _, m := range same.Money {
		require.Equal(t, m.Organizations, m.Same, "under its own prices nothing differs")
	}

	double := published
	double.Version = 7
	double.PriceBooks = nil
	for _, b := range published.PriceBooks {
		if b.Currency == "USD" {
			b.Prices = append([]plans.Price{}, b.Prices...)
			b.Prices[0].UnitPrice = b.Prices[0].UnitPrice.Mul(decimal.NewFromInt(2))
			double.PriceBooks = append(double.PriceBooks, b)
		}
	}
	for _, size := range []int{1, 3, 100} {
		got, totals := f.dryRun(e.ID, size, double)
		require.Equal(t, "10.00 20.00", got["Late"].Billed.String()+" "+got["Late"].Proposed.String())
		require.Nil(t, got["Parked"].Billed)
		require.Equal(t, "14.00", got["Parked"].Proposed.String())
		require.Contains(t, got["Euros"].Reason, "plan metered version 7 has no prices in EUR")
		require.Equal(t, "6.00 12.00", got["Moved"].Billed.String()+" "+got["Moved"].Proposed.String())
		require.Equal(t, []string{"free"}, got["Moved"].KeptPlans)
		require.Len(t, totals.Money, 1)
		require.Equal(t, "16.00 32.00 16.00 100.0", totals.Money[0].Billed.String()+" "+totals.Money[0].Proposed.String()+" "+
			totals.Money[0].Difference.String()+" "+totals.Money[0].Percent)
		require.Equal(t, []int64{4, 2, 1, 1, 1}, []int64{totals.Organizations, totals.Compared, totals.Unrated, totals.Unbilled, totals.Kept})
	}
	one, err := f.BilledPeriod(t.Context(), e.ID, late)
	require.NoError(t, err)
	require.Len(t, one, 1)
	require.Equal(t, "10.00", one[0].Billed.String())
	none, err := f.BilledPeriod(t.Context(), e.ID, uuid.New())
	require.NoError(t, err)
	require.Empty(t, none)
	require.Equal(t, before, f.everything(), "a dry run writes nothing")
}

func (f *fixture) catalog() *plans.Catalog {
	f.t.Helper()
	c, err := f.Catalog(f.t.Context())
	require.NoError(f.t, err)
	return c
}

// everything returns what a close has written, as one text.
func (f *fixture) everything() (text string) {
	f.t.Helper()
	require.NoError(f.t, f.owner.QueryRow(f.t.Context(), `
		SELECT concat((SELECT string_agg(s::text, ' ' ORDER BY s::text) FROM statements s), (SELECT string_agg(p::text, ' ' ORDER BY p::text) FROM export_parked p),
			(SELECT string_agg(p::text, ' ' ORDER BY p::text) FROM plans p), (SELECT string_agg(e::text, ' ' ORDER BY e::text) FROM exports e))`).Scan(&text))
	return text
}

// A month that a new version of a plan split is rated as one under the version after it.
func TestDryRunOfAVersionThatWasSplit(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	acme := f.customer("Acme")
	next, _ := f.catalog().Plan("metered")
	next.PriceBooks = append([]plans.PriceBook{}, next.PriceBooks...)
	for i := range next.PriceBooks {
		next.PriceBooks[i].DiscountPercent = decimal.NewFromInt(50)
	}
	_, err := f.PublishPlan(t.Context(), next)
	require.NoError(t, err)
	f.exec(`UPDATE plans SET published_at = $1 WHERE key = 'metered' AND version = 2`, period.Start().AddDate(0, 0, 15))
	f.instance().flush(row(acme, evaluations, firstDay, 100), row(acme, entities, firstDay, 9), row(acme, storage, firstDay, 5),
		row(acme, evaluations, lastDay, 10), row(acme, entities, lastDay, 4), row(acme, storage, lastDay, 3))
	e := f.frozen(period, "run")
	f.draft(e)
	third := metered()
	third.Version = 3
	got, _ := f.dryRun(e.ID, 10, third)
	// 100 in the first half; half of 10, of 18 for the month's peak and of 9 for its last level in the second.
	require.Equal(t, "118.50", got["Acme"].Billed.String())
	// 110, 18 for the highest peak and 9 for the last level.
	require.Equal(t, "137.00", got["Acme"].Proposed.String())
}
