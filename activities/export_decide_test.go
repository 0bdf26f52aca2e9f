package activities_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
)

func TestReviewVariances(t *testing.T) {
	t.Parallel()
	s := newClosing(3)
	s.variances = 2
	a := newRatedExport(s, memory(t), 0)
	threshold := billing.VarianceThreshold{Percent: 20, Least: "5"}
	out, err := run[activities.ReviewVariancesResult](t, newEnvironment(t, a), a.ReviewVariances, activities.ReviewVariancesInput{ID: uuid.Max, Threshold: threshold})
	require.NoError(t, err)
	require.Equal(t, billing.RatingCounts{Organizations: 3, Variances: 2}, out.Counts)
	require.Equal(t, threshold, s.threshold)
}

func TestDecideIssueAndComplete(t *testing.T) {
	t.Parallel()
	s := newClosing(0)
	a := newRatedExport(s, memory(t), 0)
	e := newEnvironment(t, a)
	_, err := run[any](t, e, a.RecordDecision, activities.RecordDecisionInput{
		Export: uuid.Max, ID: organization(9), Decision: billing.ExportDecision{Action: billing.ActionApproved, Actor: billing.Actor{Name: "finance"}, At: now},
	})
	require.NoError(t, err)
	require.Equal(t, []billing.ExportDecision{{ID: organization(9), Action: billing.ActionApproved, Actor: billing.Actor{Name: "finance"}, At: now}}, s.decisions)
	_, err = run[any](t, e, a.IssueStatements, activities.IssueStatementsInput{ID: uuid.Max})
	require.NoError(t, err)
	_, err = run[any](t, e, a.CompleteExport, activities.CompleteExportInput{ID: uuid.Max})
	require.NoError(t, err)
	require.Equal(t, []int{1, 1}, []int{s.issued, s.completed})
}
