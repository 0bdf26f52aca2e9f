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
	reminder := billing.Reminder{Stage: billing.StageApproving, Since: now, Number: 1}
	_, err = run[any](t, e, a.Remind, activities.RemindInput{Export: uuid.Max, Reminder: reminder})
	require.NoError(t, err)
	require.Equal(t, []billing.Reminder{reminder}, s.reminders)
	_, err = run[any](t, e, a.IssueStatements, activities.IssueStatementsInput{ID: uuid.Max})
	require.NoError(t, err)
	_, err = run[any](t, e, a.CompleteExport, activities.CompleteExportInput{ID: uuid.Max})
	require.NoError(t, err)
	require.Equal(t, []int{1, 1}, []int{s.issued, s.completed})
}

// TestOnePersonNeedsTheWorker holds that one person decides alone only where the worker lets one, too:
// who starts a run by Temporal's API asks for whatever he likes.
func TestOnePersonNeedsTheWorker(t *testing.T) {
	t.Parallel()
	for _, allowed := range []bool{false, true} {
		s := newClosing(0)
		a := activities.NewExport(activities.ExportConfig{Store: s, Blobs: memory(t), Program: "1.0.0", AllowSelfApproval: allowed})
		for _, asked := range []bool{false, true} {
			_, err := run[any](t, newEnvironment(t, a), a.RecordDecision, activities.RecordDecisionInput{Export: uuid.Max, ID: organization(9), OnePerson: asked})
			require.NoError(t, err)
			require.Equal(t, allowed && asked, s.decisions[len(s.decisions)-1].OnePerson)
		}
	}
}

// TestNumbersAreNotIssuedTwice holds that a database that went back in time, and knows nothing of
// what was issued, gives the same numbers to the same files alone.
func TestNumbersAreNotIssuedTwice(t *testing.T) {
	t.Parallel()
	blobs := memory(t)
	files := func(digest string) *billing.Manifest {
		return &billing.Manifest{Files: []billing.File{{Name: "statements.csv", SHA256: digest, Bytes: 1, Rows: 1}}}
	}
	first := billing.Export{ID: organization(1), Period: october, Revision: 1, Manifest: files("a")}
	for _, tc := range []struct {
		name   string
		change func(*billing.Export)
		issued bool
	}{
		{"the first", func(*billing.Export) {}, true},
		{"the same again", func(*billing.Export) {}, true},
		{"another run, the same files", func(e *billing.Export) { e.ID = organization(2) }, true},
		{"another run, other files", func(e *billing.Export) { e.ID, e.Manifest = organization(3), files("b") }, false},
		{"the next revision, other files", func(e *billing.Export) { e.ID, e.Manifest, e.Revision = organization(3), files("b"), 2 }, true},
		{"another month, other files", func(e *billing.Export) { e.ID, e.Manifest, e.Period = organization(3), files("b"), october.Next() }, true},
	} {
		s := newClosing(1)
		s.toIssue = first
		tc.change(&s.toIssue)
		_, err := run[any](t, newEnvironment(t, newRatedExport(s, blobs, 0)), newRatedExport(s, blobs, 0).IssueStatements, activities.IssueStatementsInput{ID: s.toIssue.ID})
		if !tc.issued {
			requirePermanent(t, err, activities.TypeIssuedOtherwise, "2026-10 in revision 1")
			require.Zero(t, s.issued, tc.name)
			continue
		}
		require.NoError(t, err, tc.name)
		require.Equal(t, 1, s.issued, tc.name)
	}
	damaged := newClosing(1)
	damaged.toIssue = first
	w, err := blobs.NewWriter(t.Context(), "exports/2026-10/issued-1.json")
	require.NoError(t, err)
	_, err = w.Write([]byte("{"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	_, err = run[any](t, newEnvironment(t, newRatedExport(damaged, blobs, 0)), newRatedExport(damaged, blobs, 0).IssueStatements, activities.IssueStatementsInput{ID: uuid.Max})
	requirePermanent(t, err, activities.TypeIssuedOtherwise, "issued-1.json")
	require.Zero(t, damaged.issued)
}
