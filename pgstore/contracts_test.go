package pgstore_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
)

func (f *fixture) refuses(code string, id uuid.UUID, r accounts.Request) {
	f.t.Helper()
	_, err := f.ChangeContract(f.t.Context(), id, r)
	var refusal *accounts.Refusal
	require.ErrorAs(f.t, err, &refusal)
	require.Equal(f.t, code, refusal.Code, refusal.Message)
}

func (f *fixture) change(id uuid.UUID, r accounts.Request) accounts.Organization {
	f.t.Helper()
	changed, err := f.ChangeContract(f.t.Context(), id, r)
	require.NoError(f.t, err)
	return changed.Organization
}

func byTenant(plan string) accounts.Request {
	return accounts.Request{Action: accounts.ChangePlan, ByTenant: true, Plan: plan}
}

// An upgrade is in force at once, a downgrade can be seen until the month's end and taken
// back, and what changes nothing leaves nothing behind.
func TestTenantsChangeTheirPlan(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	require.Equal(t, "pro", f.change(o, byTenant("pro")).Plan)
	before := f.count(`SELECT count(*) FROM events`) + f.count(`SELECT count(*) FROM organization_plan_changes`)
	require.Equal(t, "pro", f.change(o, byTenant("pro")).Plan)
	require.Equal(t, before, f.count(`SELECT count(*) FROM events`)+f.count(`SELECT count(*) FROM organization_plan_changes`))

	pending := f.change(o, byTenant("free"))
	require.Equal(t, "pro", pending.Plan)
	require.Equal(t, "free", pending.PendingPlan)
	now := time.Now().UTC()
	require.Equal(t, time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC), *pending.PendingFrom)
	require.Empty(t, f.change(o, accounts.Request{Action: accounts.KeepPlan, ByTenant: true}).PendingPlan)
	f.refuses(accounts.CodePlanNotSelfService, o, byTenant("enterprise"))

	for n := f.count(`SELECT count(*) FROM organization_plan_changes`); n < accounts.MaxTenantChanges; n++ {
		f.change(o, []accounts.Request{byTenant("free"), {Action: accounts.KeepPlan, ByTenant: true}}[n%2^1])
	}
	f.exec(`UPDATE organization_plans SET plan = 'free' WHERE organization_id = $1`, o)
	f.refuses(accounts.CodeTooManyPlanChanges, o, byTenant("pro"))
	require.Equal(t, "pro", f.change(o, accounts.Request{Action: accounts.ChangePlan, Plan: "pro"}).Plan, "administrators are not bound")
}

// A pending change that has come into force is told of once, whoever looks.
func TestPendingChangesAreAnnouncedOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	soon := time.Now().Add(300 * time.Millisecond)
	require.Equal(t, "pro", f.change(o, accounts.Request{Action: accounts.ChangePlan, Plan: "pro", At: soon}).PendingPlan)
	f.change(o, accounts.Request{Action: accounts.EndContract, At: soon.Add(time.Millisecond)})
	n, err := f.AnnounceDueTerms(t.Context(), 10)
	require.NoError(t, err)
	require.Zero(t, n, "not before it is due")
	time.Sleep(time.Until(soon) + 20*time.Millisecond)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { _, _ = f.AnnounceDueTerms(t.Context(), 10) })
	}
	wg.Wait()
	n, err = f.AnnounceDueTerms(t.Context(), 10)
	require.NoError(t, err)
	require.Zero(t, n)
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM events WHERE kind = 'organization.upgraded' AND data ->> 'previous_plan' = 'free' AND data ->> 'plan' = 'pro'`))
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM events WHERE kind = 'organization.ended' AND data ->> 'previous_plan' = 'pro'`))
}

// Contracts end, what is held is due, and a new one begins.
func TestContractsEnd(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "pro").ID
	f.exec(`
		INSERT INTO reservations SELECT $1, tollgate_uuidv7(), 'evaluations', current_date, 3, NULL, 'held', now() - interval '1 minute', now() + interval '1 hour', NULL,
			'pro', 1, 'soft', 'day', current_date, 10, 7, 3, false`, o)
	f.change(o, byTenant("free"))
	ended := f.change(o, accounts.Request{Action: accounts.EndContract, Note: "Moved away"})
	require.Empty(t, ended.Plan)
	require.Empty(t, ended.PendingPlan)
	require.NotNil(t, ended.EndsAt)
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM reservations WHERE expires_at <= now()`))
	standing, err := f.Standing(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, accounts.Standing{}, standing)
	require.Equal(t, ended, f.change(o, accounts.Request{Action: accounts.EndContract}), "once more it answers the same")
	f.refuses(accounts.CodeContractEnded, o, byTenant("free"))
	f.refuses(accounts.CodeContractEnded, o, accounts.Request{Action: accounts.KeepContract})
	require.Equal(t, "pro", f.change(o, accounts.Request{Action: accounts.ChangePlan, Plan: "pro"}).Plan)

	later := f.change(o, accounts.Request{Action: accounts.EndContract, At: time.Now().Add(time.Hour)})
	require.Equal(t, "pro", later.Plan)
	require.NotNil(t, later.EndsAt)
	require.Nil(t, f.change(o, accounts.Request{Action: accounts.KeepContract}).EndsAt)
}

// A first plan is dated back where its month is open and nothing was used.
func TestFirstPlansAreDatedBack(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	f.customer("Old")
	open := secondPeriod.Start().Add(time.Hour)
	o, err := f.CreateOrganization(t.Context(), accounts.NewOrganization{Name: "New", Plan: "metered", EffectiveAt: open.Add(time.Hour)})
	require.NoError(t, err)
	back := func(at time.Time) accounts.Request {
		return accounts.Request{Action: accounts.ChangePlan, Plan: "metered", At: at}
	}
	f.change(o.ID, back(open))
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM organization_plans WHERE organization_id = $1 AND effective_from = $2`, o.ID, open))

	late, err := f.CreateOrganization(t.Context(), accounts.NewOrganization{Name: "Next year", Plan: "metered", EffectiveAt: open.AddDate(1, 0, 0)})
	require.NoError(t, err)
	changed := f.change(late.ID, back(open))
	require.Equal(t, "metered", changed.Plan)
	require.Nil(t, changed.PendingFrom)
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM organization_plans WHERE organization_id = $1`, late.ID))

	f.closePeriod(period)
	f.refuses(accounts.CodePeriodClosed, o.ID, back(period.End().Add(-time.Second)))
	_, err = f.CreateOrganization(t.Context(), accounts.NewOrganization{Name: "Newer", Plan: "metered", EffectiveAt: period.End().Add(-time.Second)})
	var refusal *accounts.Refusal
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, accounts.CodePeriodClosed, refusal.Code)
	require.Contains(t, refusal.Message, period.String())

	f.instance().flush(row(o.ID, evaluations, today, 1))
	f.refuses(accounts.CodeOrganizationHasUsage, o.ID, back(open.Add(-time.Minute)))
	f.refuses(accounts.CodeEffectiveAtPast, o.ID, accounts.Request{Action: accounts.ChangePlan, Plan: "free", At: open})
}

// A plan is only had where it has prices in the organization's currency.
func TestPlansNeedTheCurrency(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var refusal *accounts.Refusal
	_, err := f.CreateOrganization(t.Context(), accounts.NewOrganization{Name: "Acme", Plan: "pro", Currency: "EUR"})
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, accounts.CodePlanWithoutCurrency, refusal.Code)
	o, err := f.CreateOrganization(t.Context(), accounts.NewOrganization{Name: "Acme", Plan: "free", Currency: "EUR"})
	require.NoError(t, err)
	f.refuses(accounts.CodePlanWithoutCurrency, o.ID, byTenant("pro"))
	euros := "EUR"
	_, err = f.UpdateOrganization(t.Context(), f.organization("Bolt", "pro").ID, accounts.OrganizationChange{Currency: &euros})
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, accounts.CodePlanWithoutCurrency, refusal.Code)
}

// Raced changes come one after the other: each term has a time of its own, one change is
// pending at most, and each that was in force was told of.
func TestRacedChangesStayInOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			plan := []string{"free", "pro", "enterprise"}[i%3]
			r := accounts.Request{Action: accounts.ChangePlan, Plan: plan}
			if i%4 == 0 {
				r.At = time.Now().Add(time.Hour)
			}
			_, err := f.ChangeContract(t.Context(), o, r)
			require.NoError(t, err)
		})
	}
	wg.Wait()
	require.LessOrEqual(t, f.count(`SELECT count(*) FROM organization_plans WHERE organization_id = $1 AND effective_from > now()`, o), int64(1))
	require.Equal(t, f.count(`SELECT count(*) - 1 FROM organization_plans WHERE organization_id = $1 AND effective_from <= now()`, o),
		f.count(`SELECT count(*) FROM events WHERE organization_id = $1 AND kind = 'organization.upgraded'`, o))
	require.Zero(t, f.count(`
		SELECT count(*) FROM (SELECT plan, lag(plan) OVER (ORDER BY effective_from) AS before FROM organization_plans WHERE organization_id = $1) AS p
		WHERE plan = before`, o), "each is another plan than the one before")
}
