package pgstore_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
)

// Usage that comes after a close is billed in the next one, once, and what was parked is
// billed there whole.
func TestLateUsageIsCorrectedOnce(t *testing.T) {
	t.Parallel()
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
	listed, err := f.Corrections(t.Context(), second.ID, uuid.Nil, 10)
	require.NoError(t, err)
	require.Len(t, listed, 2)

	w.flush(row(late, evaluations, today, 1))
	third := f.closePeriod(thirdPeriod)
	require.Equal(t, []string{"2026-10 usage evaluations 1.00"}, corrections(f.statement(third.ID, late)))
	require.Empty(t, corrections(f.statement(third.ID, parked)))
}

// Two exports that were frozen before either was issued can't both correct a period.
func TestCorrectionsThatWereMadeMeanwhileAreStale(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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

	require.NoError(t, f.CheckReopen(t.Context(), period))
	f.closePeriod(secondPeriod)
	err = f.CheckReopen(t.Context(), period)
	require.ErrorIs(t, err, billing.ErrLaterPeriodClosed)
	require.ErrorContains(t, err, secondPeriod.String())
	_, err = f.ReopenExport(t.Context(), finalExport(period, "too-late"))
	require.ErrorIs(t, err, billing.ErrLaterPeriodClosed)
}

// Differences count from the threshold on, and so does what appears or disappears.
func TestVariances(t *testing.T) {
	t.Parallel()
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
	list, err := f.Variances(t.Context(), e.ID, uuid.Nil, 10)
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, gone, list[0].Organization)
	require.Equal(t, "-100.0", list[0].Percent)
	require.Equal(t, more, list[1].Organization)
	require.Equal(t, "50.00", list[1].Current.Sub(list[1].Previous.Decimal).StringFixed(2))
	for after, want := range map[uuid.UUID]uuid.UUID{uuid.Nil: gone, gone: more} {
		page, err := f.Variances(t.Context(), e.ID, after, 1)
		require.NoError(t, err)
		require.Equal(t, want, page[0].Organization)
	}
	page, err := f.Variances(t.Context(), e.ID, more, 1)
	require.NoError(t, err)
	require.Empty(t, page)
	for _, v := range list {
		require.Len(t, v.Reasons, 1)
		require.Equal(t, billing.CauseUsage, v.Reasons[0].Cause)
		require.True(t, v.Reasons[0].Amount.Equal(v.Current.Sub(v.Previous.Decimal)))
	}
	found, err = f.ReviewVariances(t.Context(), e.ID, billing.VarianceThreshold{Percent: 50, Least: "100.01"})
	require.NoError(t, err)
	require.Zero(t, found)
}

// What is billed in another currency than before is new there; what is the same differs
// by no threshold.
func TestVariancesInAnotherCurrency(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	moved, none := f.customer("Moved"), f.customer("None")
	w := f.instance()
	w.flush(row(moved, evaluations, today, 100))
	f.closePeriod(period)
	f.exec(`UPDATE organizations SET currency = 'EUR' WHERE id = $1`, moved)
	w.flush(row(moved, evaluations, secondPeriod.FirstDay(), 100))
	e := f.frozen(secondPeriod, "second")
	f.draft(e)
	found, err := f.ReviewVariances(t.Context(), e.ID, billing.VarianceThreshold{Percent: 0, Least: "0"})
	require.NoError(t, err)
	require.EqualValues(t, 1, found, "not %s", none)
	list, err := f.Variances(t.Context(), e.ID, uuid.Nil, 10)
	require.NoError(t, err)
	require.Equal(t, []string{"EUR", "0.00", "100.00", ""}, []string{string(list[0].Currency), list[0].Previous.String(), list[0].Current.String(), list[0].Percent})
}

// A run that was terminated after it had issued its statements is closed by the next one
// of its workflow, and nothing is billed again.
func TestIssuedRunIsClosedByTheNext(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	o := f.customer("Acme")
	f.instance().flush(row(o, evaluations, today, 5))
	e := f.frozen(period, "terminated")
	f.draft(e)
	require.NoError(t, f.IssueExport(t.Context(), e.ID))

	begun, existing, err := f.BeginExport(t.Context(), finalExport(period, "next"))
	require.NoError(t, err)
	require.True(t, existing)
	require.Equal(t, e.ID, begun.ID)
	require.Equal(t, billing.StageClosed, begun.Stage)
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM events WHERE kind = 'export.closed'`))
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM exports`))
	require.Equal(t, 2, f.reopen(period, "again").Revision)
}

// Usage that comes after a period's close, of an organization whose contract begins after
// the period, costs nothing and is shown in the next one.
func TestOrganizationMadeAfterTheCloseIsCorrected(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	old := f.customer("Old")
	w := f.instance()
	w.flush(row(old, evaluations, today, 5))
	f.closePeriod(period)
	later := f.organizationSince("Later", "metered", period.End().Add(time.Hour)).ID
	idle := f.organizationSince("Idle", "metered", period.End().Add(time.Hour)).ID
	w.flush(row(later, evaluations, today, 6), row(later, evaluations, secondPeriod.FirstDay(), 2))
	for _, run := range []string{"rejected", "second"} {
		e := f.frozen(secondPeriod, run)
		f.draft(e)
		require.Equal(t, []string{"2026-10 usage evaluations 0.00"}, corrections(f.statement(e.ID, later)))
		require.Empty(t, corrections(f.statement(e.ID, idle)))
		require.Equal(t, "2.00", f.statement(e.ID, later).Due.String())
		if run == "rejected" {
			require.NoError(t, f.FailExport(t.Context(), e.ID, billing.StageRejected, "once more"))
			continue
		}
		f.finish(e)
	}
	require.Empty(t, corrections(f.statement(f.closePeriod(thirdPeriod).ID, later)))
}

// An export that corrects a period which is opened again meanwhile is not issued.
func TestCorrectionsOfAReopenedPeriodAreStale(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	late := f.customer("Late")
	w := f.instance()
	w.flush(row(late, evaluations, today, 5))
	f.closePeriod(period)
	w.flush(row(late, evaluations, today, 3))
	second := f.frozen(secondPeriod, "second")
	f.draft(second)
	again := f.reopen(period, "again")
	f.draft(again)
	f.finish(again)
	require.Equal(t, "8.00", f.statement(again.ID, late).Due.String())
	require.ErrorIs(t, f.IssueExport(t.Context(), second.ID), billing.ErrCorrectionsStale)
	require.NoError(t, f.FailExport(t.Context(), second.ID, billing.StageFailed, "stale"))
	require.Empty(t, corrections(f.statement(f.closePeriod(secondPeriod).ID, late)))
}
