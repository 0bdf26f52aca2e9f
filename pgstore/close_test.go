package pgstore_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
)

// Usage that comes after a close is billed in the next one, once, and what was parked is
// billed there whole.
func TestLateUsageIsCorrectedOnce(t *testing.T) {
	f := newClosingFixture(t)
	late, parked := f.customer("Late"), f.customer("Parked")
	w := f.instance()
	w.flush(row(late, evaluations, today, 5), row(parked, evaluations, today, 7))
	first := f.closePeriod(period, parked)
	require.Equal(t, "5.00", f.statement(first.ID, late).Due.String())
	_, err := f.Statement(t.Context(), first.ID, parked)
	require.ErrorIs(t, err, billing.ErrStatementNotFound)

	w.flush(row(late, evaluations, today, 3))
	second := f.closePeriod(secondPeriod)
	require.Equal(t, []string{"2026-10 usage evaluations 3.00"}, corrections(f.statement(second.ID, late)))
	require.Equal(t, []string{"2026-10 usage evaluations 7.00"}, corrections(f.statement(second.ID, parked)))
	listed, err := f.Corrections(t.Context(), second.ID, 10)
	require.NoError(t, err)
	require.Len(t, listed, 2)

	w.flush(row(late, evaluations, today, 1))
	third := f.closePeriod(thirdPeriod)
	require.Equal(t, []string{"2026-10 usage evaluations 1.00"}, corrections(f.statement(third.ID, late)))
	require.Empty(t, corrections(f.statement(third.ID, parked)))
}

// Two exports that were frozen before either was issued can't both correct a period.
func TestCorrectionsThatWereMadeMeanwhileAreStale(t *testing.T) {
	f := newClosingFixture(t)
	late := f.customer("Late")
	w := f.instance()
	w.flush(row(late, evaluations, today, 5))
	f.closePeriod(period)
	w.flush(row(late, evaluations, today, 3))
	second, third := f.frozen(secondPeriod, "second"), f.frozen(thirdPeriod, "third")
	f.draft(second)
	f.draft(third)
	f.finish(second)
	require.ErrorIs(t, f.IssueExport(t.Context(), third.ID), billing.ErrCorrectionsStale)
}

// Numbers are dense in the order of organizations; what is issued stays as it is, and a
// revision takes its place only once it is issued itself.
func TestNumbersIssueAndReopen(t *testing.T) {
	f := newClosingFixture(t)
	a, b, c := f.customer("A"), f.customer("B"), f.customer("C")
	f.instance().flush(row(a, evaluations, today, 1), row(c, evaluations, today, 2))
	_, err := f.ReopenExport(t.Context(), finalExport(period, "too-early"))
	require.ErrorIs(t, err, billing.ErrNotClosed)

	e := f.frozen(period, "first")
	f.draft(e, b)
	require.Equal(t, "TG-2026-10-000001", f.statement(e.ID, a).Number)
	require.Equal(t, "TG-2026-10-000002", f.statement(e.ID, c).Number)
	f.draft(e)
	require.Equal(t, "TG-2026-10-000003", f.statement(e.ID, c).Number, "what was parked has its number now")
	counts, err := f.RatingCounts(t.Context(), e.ID)
	require.NoError(t, err)
	require.Equal(t, billing.RatingCounts{Organizations: 3, Statements: 3}, counts)
	f.finish(e)
	f.finish(e)
	require.ErrorIs(t, f.PutStatements(t.Context(), e.ID, billing.RatedPage{Organizations: []uuid.UUID{a}}), billing.ErrExportEnded)
	require.ErrorIs(t, f.PutManifest(t.Context(), e.ID, manifest(e)), billing.ErrExportEnded)
	require.ErrorIs(t, f.FailExport(t.Context(), e.ID, billing.StageCanceled, "x"), billing.ErrExportEnded)

	again := f.reopen(period, "again")
	require.Equal(t, 2, again.Revision)
	f.draft(again)
	in, err := f.ExportRevision(t.Context(), period, 1)
	require.NoError(t, err)
	require.Equal(t, billing.StageClosed, in.Stage)
	f.finish(again)
	in, err = f.ExportRevision(t.Context(), period, 1)
	require.NoError(t, err)
	require.Equal(t, billing.StageSuperseded, in.Stage)
	s := f.statement(again.ID, c)
	require.Equal(t, []string{"TG-2026-10-R2-000003", "TG-2026-10-000003"}, []string{s.Number, s.Replaces})

	f.closePeriod(secondPeriod)
	_, err = f.ReopenExport(t.Context(), finalExport(period, "too-late"))
	require.ErrorIs(t, err, billing.ErrLaterPeriodClosed)
}

// Differences count from the threshold on, and so does what appears or disappears.
func TestVariances(t *testing.T) {
	f := newClosingFixture(t)
	same, more, gone := f.customer("Same"), f.customer("More"), f.customer("Gone")
	w := f.instance()
	w.flush(row(same, evaluations, today, 100), row(more, evaluations, today, 100), row(gone, evaluations, today, 100))
	f.closePeriod(period)
	next := secondPeriod.FirstDay()
	w.flush(row(same, evaluations, next, 149), row(more, evaluations, next, 150))
	e := f.frozen(secondPeriod, "second")
	f.draft(e)
	found, err := f.ReviewVariances(t.Context(), e.ID, billing.VarianceThreshold{Percent: 50, Least: "1"})
	require.NoError(t, err)
	require.Equal(t, int64(2), found)
	list, err := f.Variances(t.Context(), e.ID, 10)
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, gone, list[0].Organization)
	require.Equal(t, "-100.0", list[0].Percent)
	require.Equal(t, more, list[1].Organization)
	require.Equal(t, "50.00", list[1].Current.Sub(list[1].Previous.Decimal).StringFixed(2))
	found, err = f.ReviewVariances(t.Context(), e.ID, billing.VarianceThreshold{Percent: 50, Least: "100.01"})
	require.NoError(t, err)
	require.Zero(t, found)
}
