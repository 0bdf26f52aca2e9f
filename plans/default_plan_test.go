package plans_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/plans"
)

func TestDefaultPlan(t *testing.T) {
	t.Parallel()
	require.Equal(t, "free", plans.Default().DefaultPlan)
	const rest = `
meters: [{ key: calls, name: Calls, aggregation: sum, unit: call }]
plans: [{ key: basic, version: 1, name: Basic }, { key: plus, version: 3, name: Plus }]
`
	c, err := plans.Parse([]byte("default_plan: plus" + rest))
	require.NoError(t, err)
	require.Equal(t, "plus", c.DefaultPlan)
	c, err = plans.Parse([]byte(rest))
	require.NoError(t, err, "each organization has to be given its plan")
	require.Empty(t, c.DefaultPlan)
	for _, wrong := range []string{"free", "Plus", "calls"} {
		_, err = plans.Parse([]byte("default_plan: " + wrong + rest))
		require.ErrorIs(t, err, plans.ErrInvalidCatalog)
		require.ErrorContains(t, err, `default_plan: "`+wrong+`" must be one of the catalog's plans: basic, plus`)
	}
	require.Equal(t, "none", (&plans.Catalog{}).PlanKeys())

	over := (&plans.Catalog{DefaultPlan: "a"}).Overlay(&plans.Catalog{})
	require.Equal(t, "a", over.DefaultPlan)
	over = (&plans.Catalog{DefaultPlan: "a"}).Overlay(&plans.Catalog{DefaultPlan: "b"})
	require.Equal(t, "b", over.DefaultPlan)
}
