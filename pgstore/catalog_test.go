package pgstore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/plans"
)

// unpublished is a fixture as the migrations leave it.
func unpublished(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	for _, table := range []string{"plan_limits", "plans", "meters", "catalog_settings"} {
		f.exec(`DELETE FROM ` + table)
	}
	return f
}

// C2: what processes without a catalog file publish is what plans/default.yaml says,
// however many start at once.
func TestPublishDefaultCatalog(t *testing.T) {
	t.Parallel()
	f := unpublished(t)
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			published, err := f.PublishDefaultCatalog(t.Context())
			if err == nil && !published {
				err = errors.New("it did not publish")
			}
			return err
		})
	}
	require.NoError(t, group.Wait())
	require.NotZero(t, f.count(`SELECT count(*) FROM plan_limits`))
	got, err := f.Catalog(t.Context())
	require.NoError(t, err)
	require.Equal(t, plans.Default().Meters, got.Meters)
	require.Len(t, got.Plans, len(plans.Default().Plans))
	for _, want := range plans.Default().Plans {
		p, ok := got.Plan(want.Key)
		require.True(t, ok, want.Key)
		require.Empty(t, cmp.Diff(named(want, got.Meters), p))
	}
	require.Equal(t, "free", got.DefaultPlan)
	require.EqualValues(t, 3, f.count(`SELECT count(*) FROM plans`))
}

// named is the plan with an entitlement for each meter.
func named(p plans.Plan, meters []plans.Meter) plans.Plan {
	all := make([]plans.Entitlement, len(meters))
	for i, m := range meters {
		all[i] = p.Entitlement(m.Key)
	}
	p.Entitlements = all
	return p
}

// C2: hard-coded defaults where the table has no row.
func TestPlanLimitsFallBackToTheDefaults(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := map[string][]plans.Entitlement{}
	for _, p := range plans.Default().Plans {
		want[p.Key] = named(p, plans.Default().Meters).Entitlements
	}
	require.EqualValues(t, 1000, want["free"][0].Max)
	check := func(about string) {
		for plan, limits := range want {
			got, err := f.PlanLimits(t.Context(), plan)
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(limits, got), "%s: %s", about, plan)
		}
	}
	check("published")
	f.exec(`DELETE FROM plan_limits WHERE plan_key = 'free' AND meter = 'simulations'`)
	check("without one row")
	f.exec(`DELETE FROM plan_limits`)
	check("without limits")
	f.exec(`DELETE FROM plans`)
	check("without plans")
	f.exec(`DELETE FROM meters`)
	check("without anything")

	f.exec(`INSERT INTO meters VALUES ('evaluations', 1, 'Evaluations', 'sum', 'evaluation')`)
	f.exec(`INSERT INTO plans VALUES ('free', 1, 'Free', 0, 0)`)
	f.exec(`INSERT INTO plan_limits VALUES ('free', 1, 'evaluations', 'hard', 'month', 77)`)
	want["free"][0] = plans.Entitlement{Meter: evaluations, Mode: plans.Hard, Window: calendar.WindowMonth, Max: 77}
	check("a row counts before a default")

	none, err := f.PlanLimits(t.Context(), "gold")
	require.NoError(t, err)
	require.Empty(t, none)
}

// team is a plan that leaves out all meters but one.
func team(version int) plans.Plan {
	return plans.Plan{Key: "team", Version: version, Name: "Team", Entitlements: []plans.Entitlement{
		{Meter: evaluations, Mode: plans.Hard, Window: calendar.WindowMonth, Max: 500},
	}}
}

func TestPublishCatalog(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	tokens := plans.Meter{Key: "tokens", Name: "Tokens", Aggregation: plans.Sum, Unit: "token"}
	catalog := plans.Default()
	catalog.Meters = append(catalog.Meters, tokens)
	catalog.Plans = append(catalog.Plans, team(1))
	require.NoError(t, f.PublishCatalog(t.Context(), catalog))
	require.NoError(t, f.PublishCatalog(t.Context(), catalog), "every process publishes it at its start")

	got, err := f.Catalog(t.Context())
	require.NoError(t, err)
	require.Equal(t, catalog.Meters, got.Meters, "new meters come last")
	p, ok := got.Plan("team")
	require.True(t, ok)
	require.Empty(t, cmp.Diff(named(team(1), catalog.Meters), p))

	changed := team(1)
	changed.Entitlements[0].Max = 501
	changed2 := plans.Default()
	changed2.Meters = append(changed2.Meters, plans.Meter{Key: "seats", Name: "Seats", Aggregation: plans.Max, Unit: "seat"})
	changed2.Plans = append(changed2.Plans, changed)
	err = f.PublishCatalog(t.Context(), changed2)
	require.ErrorIs(t, err, plans.ErrVersionPublished)
	require.ErrorContains(t, err, "team version 1")
	require.False(t, pgstore.Retryable(err))
	require.Zero(t, f.count(`SELECT count(*) FROM meters WHERE key = 'seats'`), "all or nothing")

	changed2.Plans[len(changed2.Plans)-1].Version = 2
	require.NoError(t, f.PublishCatalog(t.Context(), changed2))
	got, err = f.Catalog(t.Context())
	require.NoError(t, err)
	p, _ = got.Plan("team")
	require.Equal(t, 2, p.Version)
	require.EqualValues(t, 501, p.Entitlement(evaluations).Max)

	wrong := plans.Default()
	wrong.Meters[0].Aggregation = plans.Max
	require.ErrorIs(t, f.PublishCatalog(t.Context(), wrong), plans.ErrMeterPublished)
	renamed := plans.Default()
	renamed.Meters[0].Name = "Rule evaluations"
	require.NoError(t, f.PublishCatalog(t.Context(), renamed))
	got, err = f.Catalog(t.Context())
	require.NoError(t, err)
	require.Equal(t, "Rule evaluations", got.Meters[0].Name)
	require.ErrorIs(t, f.PublishCatalog(t.Context(), &plans.Catalog{}), plans.ErrInvalidCatalog)
}

// A published plan is not changed by a meter that comes later.
func TestPublishCatalogAfterANewMeter(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	catalog := plans.Default()
	catalog.Plans = append(catalog.Plans, team(1))
	require.NoError(t, f.PublishCatalog(t.Context(), catalog))
	catalog.Meters = append(catalog.Meters, plans.Meter{Key: "tokens", Name: "Tokens", Aggregation: plans.Sum, Unit: "token"})
	require.NoError(t, f.PublishCatalog(t.Context(), catalog))
	limits, err := f.PlanLimits(t.Context(), "team")
	require.NoError(t, err)
	require.Len(t, limits, 6)
	require.Equal(t, plans.Unlimited, limits[5].Mode)
}

func TestPublishPlan(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first, err := f.PublishPlan(t.Context(), team(0))
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(named(team(1), plans.Default().Meters), first.Plan))
	second, err := f.PublishPlan(t.Context(), team(1))
	require.NoError(t, err)
	require.Equal(t, 2, second.Version, "the next version, whatever the plan says")

	free := plans.Plan{Key: "free", Name: "Free"}
	published, err := f.PublishPlan(t.Context(), free)
	require.NoError(t, err)
	require.Equal(t, 2, published.Version)
	limits, err := f.PlanLimits(t.Context(), "free")
	require.NoError(t, err)
	for _, e := range limits {
		require.Equal(t, plans.Unlimited, e.Mode, "a limit left out on purpose is not taken for a missing row")
	}

	_, err = f.PublishPlan(t.Context(), plans.Plan{Key: "Gold!", Name: "Gold"})
	require.ErrorIs(t, err, plans.ErrInvalidCatalog)
	_, err = f.PublishPlan(t.Context(), plans.Plan{Key: "gold", Name: "Gold", Entitlements: []plans.Entitlement{{Meter: "clicks", Mode: plans.Unlimited}}})
	require.ErrorContains(t, err, "clicks")

	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			_, err := f.PublishPlan(t.Context(), team(0))
			return err
		})
	}
	require.NoError(t, group.Wait())
	require.EqualValues(t, 10, f.count(`SELECT max(version) FROM plans WHERE key = 'team'`))
}

// Several plans are published together, or none: what is said of the audit log is said of both.
func TestPlansArePublishedTogether(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	club := plans.Plan{Key: "club", Name: "Club"}
	gone := team(1)
	gone.PriceBooks = []plans.PriceBook{{Currency: "BGN"}}
	before := f.count(`SELECT count(*) FROM audit_entries`)
	for name, refused := range map[string]plans.Plan{
		"a currency that is withdrawn": gone,
		"a key that is none":           {Key: "Team!", Name: "Team"},
		"a meter that is none":         {Key: "team", Name: "Team", Entitlements: []plans.Entitlement{{Meter: "clicks", Mode: plans.Unlimited}}},
	} {
		_, err := f.PublishPlans(t.Context(), club, refused)
		require.ErrorIs(t, err, plans.ErrInvalidCatalog, name)
		require.ErrorContains(t, err, "plan "+refused.Key, "it names the one that is refused")
		require.Zero(t, f.count(`SELECT count(*) FROM plans WHERE key IN ('club', 'team')`), name)
	}
	require.Equal(t, before, f.count(`SELECT count(*) FROM audit_entries`))

	published, err := f.PublishPlans(t.Context(), club, team(1))
	require.NoError(t, err)
	require.Equal(t, []string{"club", "team"}, []string{published[0].Key, published[1].Key})
	require.Equal(t, published[0].Transaction, published[1].Transaction)
	published, err = f.PublishPlans(t.Context(), team(1), club, club)
	require.NoError(t, err)
	require.Equal(t, []int{2, 2, 3}, []int{published[0].Version, published[1].Version, published[2].Version})
	require.EqualValues(t, 5, f.count(`SELECT count(*) FROM audit_entries WHERE kind = 'plan' AND subject ~ '^(club|team)'`), "each version is an entry")
}

func TestPublishPlanWithoutTables(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(`DELETE FROM plan_limits`)
	f.exec(`DELETE FROM plans`)
	f.exec(`DELETE FROM meters`)
	published, err := f.PublishPlan(t.Context(), plans.Plan{Key: "free", Name: "Free", Entitlements: []plans.Entitlement{
		{Meter: storage, Mode: plans.Soft, Window: calendar.WindowDay, Max: 5},
	}})
	require.NoError(t, err)
	require.Equal(t, 2, published.Version, "the built-in one is version 1")
	require.EqualValues(t, 5, published.Entitlement(storage).Max)
}

// A catalog that is read while a version is published is that of one moment: here the
// version comes between the reading of the plans and that of their limits.
func TestCatalogIsOfOneMoment(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	before, err := f.Catalog(t.Context())
	require.NoError(t, err)
	conn := connect(t, f.db.URL)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE plan_limits IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)

	var read *plans.Catalog
	var group errgroup.Group
	group.Go(func() (err error) {
		read, err = f.Catalog(t.Context())
		return err
	})
	require.Eventually(t, func() bool {
		return f.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%FROM plan_limits%'`) > 0
	}, 30*time.Second, time.Millisecond)
	_, err = tx.Exec(t.Context(), `
		INSERT INTO plans (key, version, name, requests_per_second, burst) VALUES ('team', 1, 'Team', 0, 0);
		INSERT INTO plan_limits (plan_key, plan_version, meter, mode, limit_window, max) VALUES ('team', 1, 'evaluations', 'hard', 'day', 7)`)
	require.NoError(t, err)
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, group.Wait())
	require.Empty(t, cmp.Diff(before, read))

	after, err := f.Catalog(t.Context())
	require.NoError(t, err)
	team, _ := after.Plan("team")
	require.EqualValues(t, 7, team.Entitlement(evaluations).Max)
}
