package web

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/money"
)

func rowOf(n int64, c money.Currency) billing.DryRunOrganization {
	billed, proposed := money.NewAmount(decimal.NewFromInt(n), c), money.NewAmount(decimal.NewFromInt(n*3), c)
	difference := money.NewAmount(decimal.NewFromInt(n*2), c)
	return billing.DryRunOrganization{
		Organization: uuid.New(), OrganizationName: fmt.Sprintf("Org %06d", n), Currency: c, Billed: &billed, Proposed: &proposed, Difference: &difference,
	}
}

func proposalOf(name string) proposal {
	return proposal{catalog: gen.ProposedCatalog{Plans: []gen.ProposedPlan{{Key: name}}}}
}

// Of 100,000 organizations a trial keeps those of the largest differences, in their order, and the sum over all.
func TestATrialIsBounded(t *testing.T) {
	t.Parallel()
	const organizations = 100_000
	all := &trials{kept: map[string]*trial{}}
	one, err := all.begin("ada", "2026-10", proposalOf("a"), time.Now(), func(_ context.Context, t *trial) error {
		for page := range organizations / trialPage {
			var found []billing.DryRunOrganization
			for i := range trialPage {
				// 7919 is prime to the number of organizations: each once, in no order.
				found = append(found, rowOf(int64(page*trialPage+i)*7919%organizations, "USD"))
			}
			t.add(found)
			t.add([]billing.DryRunOrganization{rowOf(int64(page), "JPY"), {Organization: uuid.New(), Currency: "USD", Reason: "has no prices"}})
		}
		return nil
	})
	require.NoError(t, err)
	<-one.done
	require.Len(t, one.differ["USD"], keptDifferences)
	require.LessOrEqual(t, cap(one.differ["USD"]), 2*keptDifferences)
	var out trialResult
	one.show(&out, "USD", 2, time.Now())
	require.Equal(t, []int{2, keptDifferences / resultRows, resultRows}, []int{out.Page, out.Last, len(out.Rows)})
	require.Equal(t, "Org 099949", out.Rows[0].OrganizationName)
	require.EqualValues(t, organizations-1-keptDifferences, out.Beyond())
	require.EqualValues(t, organizations/trialPage, out.Unpriced())
	require.Equal(t, fmt.Sprint(int64(organizations)*(organizations-1)), out.Totals.Money[1].Difference.StringFixed(0))
	one.show(&out, "", 999, time.Now())
	require.Equal(t, []any{money.Currency("USD"), keptDifferences / resultRows}, []any{out.Currency, out.Page}, "that of most organizations; the last page")
	one.show(&out, "JPY", -1, time.Now())
	require.Equal(t, []int{1, resultRows}, []int{out.Page, len(out.Rows)})
	require.Len(t, out.Unable, resultRows)
}

// A process runs few trials at once, one of each sign-in, and forgets those that nobody looks at.
func TestTrialsAreFew(t *testing.T) {
	t.Parallel()
	all, now := &trials{kept: map[string]*trial{}}, time.Now()
	defer all.stop()
	waits := func(ctx context.Context, _ *trial) error {
		<-ctx.Done()
		return ctx.Err()
	}
	ada, err := all.begin("ada", "2026-10", proposalOf("a"), now, waits)
	require.NoError(t, err)
	same, err := all.begin("ada", "2026-10", proposalOf("a"), now, waits)
	require.NoError(t, err)
	require.Same(t, ada, same, "the same is not tried twice")
	require.Nil(t, all.find(ada.id, "bob"), "it is nobody else's")
	_, err = all.begin("bob", "2026-10", proposalOf("a"), now, waits)
	require.NoError(t, err)
	_, err = all.begin("cy", "2026-10", proposalOf("a"), now, waits)
	require.ErrorIs(t, err, errTooManyTrials)
	other, err := all.begin("ada", "2026-10", proposalOf("b"), now, waits)
	require.NoError(t, err, "another one of the same sign-in takes its place")
	<-ada.done
	require.ErrorIs(t, ada.failure(), errTrialCut)
	require.Nil(t, all.find(ada.id, "ada"))
	require.Same(t, other, all.find(other.id, "ada"))
	_, err = all.begin("cy", "2026-10", proposalOf("a"), now.Add(keepTrial+time.Second), waits)
	require.NoError(t, err, "the others are forgotten")
}
