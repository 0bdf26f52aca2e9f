package pgstore_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// The periods after period.
var (
	secondPeriod = calendar.PeriodOf(period.End())
	thirdPeriod  = calendar.PeriodOf(secondPeriod.End())
)

// metered is a plan of which an evaluation costs 1, an entity instance 2, and a byte 3 at
// the end of the period; nothing else costs anything.
func metered(currencies ...money.Currency) plans.Plan {
	p := plans.Plan{Key: "metered", Version: 1, Name: "Metered"}
	unit := func(m string, price int64) plans.Price {
		return plans.Price{Meter: m, Model: plans.PerUnit, UnitPrice: decimal.NewFromInt(price)}
	}
	level := unit(storage, 3)
	level.Basis = plans.Level
	for _, c := range append(currencies, "USD") {
		p.PriceBooks = append(p.PriceBooks, plans.PriceBook{Currency: c, Prices: []plans.Price{unit(evaluations, 1), unit(entities, 2), level}})
	}
	return p
}

// newClosingFixture is a store where the plan [metered] was always there.
func newClosingFixture(t testing.TB) *fixture {
	t.Helper()
	f := newFixture(t)
	_, err := f.PublishPlan(t.Context(), metered("EUR"))
	require.NoError(t, err)
	return f
}

// organizationSince is an organization that was made at a time, whatever the time is now.
func (f *fixture) organizationSince(name, plan string, at time.Time) accounts.Organization {
	f.t.Helper()
	o := f.organization(name, plan)
	f.exec(`UPDATE organizations SET created_at = $2 WHERE id = $1`, o.ID, at)
	f.exec(`UPDATE organization_plans SET effective_from = $2 WHERE organization_id = $1`, o.ID, at)
	return o
}

// customer is an organization on the plan [metered] that was there before all periods.
func (f *fixture) customer(name string) uuid.UUID {
	f.t.Helper()
	return f.organizationSince(name, "metered", period.Start().AddDate(-1, 0, 0)).ID
}

// changePlan is a change of plan at a time; without a plan, the end of the contract.
func (f *fixture) changePlan(organization uuid.UUID, at time.Time, plan string) {
	f.t.Helper()
	f.exec(`INSERT INTO organization_plans VALUES ($1, $2, nullif($3, ''))`, organization, at, plan)
}

// frozen begins a final export and freezes it.
func (f *fixture) frozen(period calendar.Period, run string) billing.Export {
	f.t.Helper()
	e := f.beginExport(period, run)
	f.freeze(e.ID)
	return e
}

// ratables returns what an export rates by organization, read in pages of a size.
func (f *fixture) ratables(id uuid.UUID, size int) map[uuid.UUID]billing.Ratable {
	f.t.Helper()
	out := map[uuid.UUID]billing.Ratable{}
	f.eachPage(id, size, func(page []billing.Ratable) {
		for _, r := range page {
			out[r.OrganizationPeriod.Organization] = r
		}
	})
	return out
}

// eachPage does something with each page of what an export rates.
func (f *fixture) eachPage(id uuid.UUID, size int, do func(page []billing.Ratable)) {
	f.t.Helper()
	pages, err := f.RatingPages(f.t.Context(), id, size)
	require.NoError(f.t, err)
	after := uuid.Nil
	for _, until := range pages {
		page, err := f.Ratables(f.t.Context(), id, after, until, size)
		require.NoError(f.t, err)
		do(page)
		after = until
	}
}

// rate makes the statements of an export, and parks what can't be rated and the
// organizations that are named.
func (f *fixture) rate(id uuid.UUID, parked ...uuid.UUID) {
	f.t.Helper()
	catalog, err := f.Catalog(f.t.Context())
	require.NoError(f.t, err)
	var page billing.RatedPage
	refused := map[uuid.UUID]bool{}
	for _, o := range parked {
		refused[o] = true
	}
	for o, r := range f.ratables(id, 100) {
		page.Organizations = append(page.Organizations, o)
		s, err := billing.Rate(r, catalog)
		if refused[o] || err != nil {
			page.Parked = append(page.Parked, billing.ParkedOrganization{Organization: o, Reason: "parked by the test"})
			continue
		}
		page.Statements = append(page.Statements, s)
	}
	require.NoError(f.t, f.PutStatements(f.t.Context(), id, page))
}

// draft brings a frozen export as far as its approval.
func (f *fixture) draft(e billing.Export, parked ...uuid.UUID) {
	f.t.Helper()
	f.rate(e.ID, parked...)
	require.NoError(f.t, f.NumberStatements(f.t.Context(), e.ID))
	require.NoError(f.t, f.PutManifest(f.t.Context(), e.ID, manifest(e)))
}

// finish issues an export and completes it.
func (f *fixture) finish(e billing.Export) {
	f.t.Helper()
	require.NoError(f.t, f.IssueExport(f.t.Context(), e.ID))
	require.NoError(f.t, f.CompleteExport(f.t.Context(), e.ID))
}

// closePeriod runs a final export to its end.
func (f *fixture) closePeriod(period calendar.Period, parked ...uuid.UUID) billing.Export {
	f.t.Helper()
	e := f.frozen(period, "close")
	f.draft(e, parked...)
	f.finish(e)
	return e
}

// reopen begins the next revision of a closed period, and freezes it.
func (f *fixture) reopen(period calendar.Period, run string) billing.Export {
	f.t.Helper()
	e := finalExport(period, run)
	e.Reason = "a price was wrong"
	begun, err := f.ReopenExport(f.t.Context(), e)
	require.NoError(f.t, err)
	f.freeze(begun.ID)
	return begun
}

// statement returns the statement of an organization.
func (f *fixture) statement(id, organization uuid.UUID) billing.Statement {
	f.t.Helper()
	s, err := f.Statement(f.t.Context(), id, organization)
	require.NoError(f.t, err)
	return s
}

// corrections returns what a statement corrects, in the form "2026-10 usage evaluations 5.00".
func corrections(s billing.Statement) []string {
	var out []string
	for _, l := range s.Lines {
		if l.Kind == billing.LineCorrection {
			out = append(out, l.Corrects.String()+" "+string(l.Corrected)+" "+l.Meter+" "+l.Amount.String())
		}
	}
	return out
}
