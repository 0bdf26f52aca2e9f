package demo_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/demo"
	"github.com/riverline/tollgate/plans"
)

func TestAnOrganizationOnEachPlan(t *testing.T) {
	t.Parallel()
	require.Equal(t, []demo.Organization{
		{Name: "Demo Free", Plan: "free"}, {Name: "Demo Pro", Plan: "pro", Currency: "USD"}, {Name: "Demo Enterprise", Plan: "enterprise", Currency: "USD"},
	}, demo.Organizations(plans.Default()))
	catalog := &plans.Catalog{Plans: []plans.Plan{
		{Key: "team", Version: 1, Name: "Team", PriceBooks: []plans.PriceBook{{Currency: "EUR"}}}, {Key: "finance2", Version: 1},
	}}
	made := demo.Organizations(catalog)
	require.Equal(t, []demo.Organization{{Name: "Demo Team", Plan: "team", Currency: "EUR"}, {Name: "Demo finance2", Plan: "finance2"}}, made)
	require.Equal(t, "TOLLGATE_TEAM_ORG", made[0].OrgVariable())
	require.Equal(t, "TOLLGATE_FINANCE2_PLAN_KEY", made[1].KeyVariable(), "finance has a key of that name")
}
