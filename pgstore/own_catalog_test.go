package pgstore_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/plans"
)

// ownCatalog has a plan of a built-in one's key and version and other content, a meter of a
// built-in one's key, and others.
func ownCatalog(t *testing.T) *plans.Catalog {
	t.Helper()
	catalog, err := plans.Parse([]byte(`
default_plan: starter
meters:
  - { key: seats, name: Seats, aggregation: max, unit: seat }
  - { key: evaluations, name: Checks, aggregation: last, unit: check }
  - { key: tokens, name: Tokens, aggregation: sum, unit: token }
plans:
  - key: starter
    version: 1
    name: Starter
    entitlements: [{ meter: tokens, mode: hard, window: month, max: 50 }]
  - key: pro
    version: 1
    name: Professional
    entitlements: [{ meter: tokens, mode: soft, window: day, max: 500 }]
    price_books: [{ currency: EUR, base_fee: { amount: "19" } }]
`))
	require.NoError(t, err)
	return catalog
}

// Where versions of plans take two people, what a program starts with publishes none that is new, but
// in an installation without plans, which has to begin with some.
func TestACatalogTakesTwo(t *testing.T) {
	t.Parallel()
	f := unpublished(t)
	s := f.open(pgstore.Config{URL: f.db.APIURL, PlansTakeTwo: true})
	own := ownCatalog(t)
	require.NoError(t, s.PublishCatalog(t.Context(), own))
	require.NoError(t, s.PublishCatalog(t.Context(), own), "nothing is new")

	next := ownCatalog(t)
	cheaper := next.Plans[1]
	cheaper.Version, cheaper.Name = 2, "Professional for less"
	next.Plans = append(next.Plans, cheaper)
	err := s.PublishCatalog(t.Context(), next)
	require.ErrorIs(t, err, plans.ErrTakesTwo)
	require.ErrorContains(t, err, "plan pro version 2 is not published")
	next.Plans[2].Key, next.Plans[2].Version = "secret", 1
	require.ErrorIs(t, s.PublishCatalog(t.Context(), next), plans.ErrTakesTwo, "another plan altogether")
	got, err := s.Catalog(t.Context())
	require.NoError(t, err)
	require.Len(t, got.Plans, 2)

	built := unpublished(t)
	s = built.open(pgstore.Config{URL: built.db.APIURL, PlansTakeTwo: true})
	published, err := s.PublishDefaultCatalog(t.Context())
	require.NoError(t, err)
	require.True(t, published)
	require.ErrorIs(t, s.PublishCatalog(t.Context(), own), plans.ErrTakesTwo, "the built-in plans are plans")
	built.exec(`DELETE FROM plan_limits WHERE plan_key = 'pro'`)
	built.exec(`DELETE FROM plans WHERE key = 'pro'`)
	_, err = s.PublishDefaultCatalog(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, built.count(`SELECT count(*) FROM plans`), "what a newer program brings is not published")
}

// A new installation takes a catalog of its own, whatever the built-in one says of the same
// keys and versions, and nothing of the built-in one exists: no plan, no meter and no limit.
func TestACatalogOfOnesOwn(t *testing.T) {
	t.Parallel()
	f := unpublished(t)
	own := ownCatalog(t)
	var group errgroup.Group
	for range 4 {
		group.Go(func() error { return f.PublishCatalog(t.Context(), own) })
	}
	require.NoError(t, group.Wait(), "every process publishes it at its start")

	got, err := f.Catalog(t.Context())
	require.NoError(t, err)
	require.Equal(t, own.Meters, got.Meters, "the order is that of the file")
	require.Equal(t, "starter", got.DefaultPlan)
	require.Len(t, got.Plans, 2)
	for _, want := range own.Plans {
		p, ok := got.Plan(want.Key)
		require.True(t, ok)
		require.Empty(t, cmp.Diff(named(want, own.Meters), p))
	}
	limits, err := f.PlanLimits(t.Context(), "free")
	require.NoError(t, err)
	require.Empty(t, limits)

	// Nothing is filled in from under it, also where rows are missing.
	f.exec(`DELETE FROM plan_limits WHERE plan_key = 'pro'`)
	pro, err := f.PlanLimits(t.Context(), "pro")
	require.NoError(t, err)
	for _, e := range pro {
		require.Equal(t, plans.Unlimited, e.Mode)
	}
	f.exec(`DELETE FROM plans WHERE key = 'pro'`)
	got, err = f.Catalog(t.Context())
	require.NoError(t, err)
	_, there := got.Plan("pro")
	require.False(t, there)

	// A process that lacks the file changes nothing.
	published, err := f.PublishDefaultCatalog(t.Context())
	require.NoError(t, err)
	require.False(t, published)
	again, err := f.Catalog(t.Context())
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(got, again))
}

func TestOrganizationsUnderACatalogOfOnesOwn(t *testing.T) {
	t.Parallel()
	f := unpublished(t)
	own := ownCatalog(t)
	require.NoError(t, f.PublishCatalog(t.Context(), own))
	_, err := f.CreateOrganization(t.Context(), accounts.NewOrganization{Name: "Acme", Plan: "free"})
	var field *fault.FieldError
	require.ErrorAs(t, err, &field)
	require.Equal(t, "plan", field.Field)
	require.Equal(t, `must be a plan of the catalog (pro, starter), "free" is not`, field.Rule)
	made, err := f.CreateOrganization(t.Context(), accounts.NewOrganization{Name: "Acme"})
	require.NoError(t, err)
	require.Equal(t, "starter", made.Plan)

	own.DefaultPlan = ""
	require.NoError(t, f.PublishCatalog(t.Context(), own), "the default plan follows the file")
	_, err = f.CreateOrganization(t.Context(), accounts.NewOrganization{Name: "Acme"})
	require.ErrorAs(t, err, &field)
	require.Equal(t, "must be given, as the catalog names no default_plan; its plans are: pro, starter", field.Rule)
	require.Error(t, f.IncrementUsage(t.Context(), made.ID, simulations, today, 1), "it has no such meter")
	require.NoError(t, f.IncrementUsage(t.Context(), made.ID, "tokens", today, 1))
}

func TestTheBuiltInDefaultPlan(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	made, err := f.CreateOrganization(t.Context(), accounts.NewOrganization{Name: "Acme"})
	require.NoError(t, err)
	require.Equal(t, "free", made.Plan)
	f.exec(`DELETE FROM catalog_settings`)
	made, err = f.CreateOrganization(t.Context(), accounts.NewOrganization{Name: "Acme"})
	require.NoError(t, err)
	require.Equal(t, "free", made.Plan, "it is a default of C2, too")
}

// What a file leaves out stays, in its place: usage and statements refer to it. What is new
// comes last; names and units follow the file.
func TestMetersOfAChangedCatalog(t *testing.T) {
	t.Parallel()
	f := unpublished(t)
	own := ownCatalog(t)
	require.NoError(t, f.PublishCatalog(t.Context(), own))
	changed := ownCatalog(t)
	changed.Meters = []plans.Meter{
		{Key: "builds", Name: "Builds", Aggregation: plans.Sum, Unit: "build"},
		{Key: "tokens", Name: "Output tokens", Aggregation: plans.Sum, Unit: "kilotoken"},
		{Key: "seats", Name: "Seats", Aggregation: plans.Max, Unit: "seat"},
	}
	require.NoError(t, f.PublishCatalog(t.Context(), changed))
	got, err := f.Catalog(t.Context())
	require.NoError(t, err)
	require.Equal(t, []plans.Meter{own.Meters[0], own.Meters[1], changed.Meters[1], changed.Meters[0]}, got.Meters)
	require.Equal(t, "starter", got.DefaultPlan)

	changed.Meters[2].Aggregation = plans.Sum
	require.ErrorIs(t, f.PublishCatalog(t.Context(), changed), plans.ErrMeterPublished)
}

// Where the built-in catalog was published before, a file with the same versions must say
// the same of them, and the error says why and what to do.
func TestACatalogOverThePublishedBuiltInOne(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	own := ownCatalog(t)
	own.Meters[1] = plans.Meter{Key: "evaluations", Name: "Checks", Aggregation: plans.Sum, Unit: "check"}
	err := f.PublishCatalog(t.Context(), own)
	require.ErrorIs(t, err, plans.ErrVersionPublished)
	require.ErrorContains(t, err, "plan pro version 1")
	require.ErrorContains(t, err, "the built-in catalog was published here before: raise the version, or begin with a new database")
	got, err := f.Catalog(t.Context())
	require.NoError(t, err)
	require.Equal(t, plans.Default().Meters, got.Meters, "all or nothing")
	require.Equal(t, "free", got.DefaultPlan)

	own.Plans[1].Version = 2
	require.NoError(t, f.PublishCatalog(t.Context(), own))
	got, err = f.Catalog(t.Context())
	require.NoError(t, err)
	pro, _ := got.Plan("pro")
	require.Equal(t, "Professional", pro.Name)
	require.Equal(t, "starter", got.DefaultPlan)
	err = f.PublishCatalog(t.Context(), ownCatalog(t))
	require.Error(t, err)
	require.NotContains(t, err.Error(), "built-in", "by now the catalog is its own")
}
