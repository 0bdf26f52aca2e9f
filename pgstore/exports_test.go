package pgstore_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/pgstore"
)

var (
	period   = calendar.PeriodOf(today.Start())
	firstDay = period.FirstDay()
	lastDay  = period.LastDay()
)

// finalExport is a run over a period that has ended.
func finalExport(period calendar.Period, run string) billing.Export {
	return billing.Export{
		ID:          uuid.Must(uuid.NewV7()),
		Period:      period,
		WorkflowID:  "export/" + period.String(),
		RunID:       run,
		Stage:       billing.StageWaiting,
		Cut:         period.End(),
		RequestedBy: "test",
		RequestedAt: period.End().Add(time.Hour),
	}
}

// beginExport begins a final export of a period.
func (f *fixture) beginExport(period calendar.Period, run string) billing.Export {
	f.t.Helper()
	begun, existing, err := f.BeginExport(f.t.Context(), finalExport(period, run))
	require.NoError(f.t, err)
	require.False(f.t, existing)
	return begun
}

func (f *fixture) freeze(id uuid.UUID) []billing.BatchMark {
	f.t.Helper()
	marks, err := f.FreezeExport(f.t.Context(), id)
	require.NoError(f.t, err)
	return marks
}

// complete ends a frozen export with a manifest.
func (f *fixture) complete(id uuid.UUID, manifest billing.Manifest) error {
	if err := f.PutManifest(f.t.Context(), id, manifest); err != nil {
		return err
	}
	return f.CompleteExport(f.t.Context(), id)
}

func manifest(e billing.Export) billing.Manifest {
	return billing.Manifest{
		Format: documents.ManifestFormat, Period: e.Period, Cut: e.Cut, Program: "test",
		Watermark: []billing.BatchMark{{Instance: uuid.Must(uuid.NewV7()), Through: 7}},
		Files:     []billing.File{{Name: "usage.jsonl", SHA256: "ab", Bytes: 10, Rows: 1}},
		Totals:    []billing.ControlTotal{{Meter: evaluations, Organizations: 1, Value: "12345678901234567890"}},
	}
}

func TestExportRunsThroughItsStages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := finalExport(period, "run-1")
	got, existing, err := f.BeginExport(t.Context(), want)
	require.NoError(t, err)
	require.False(t, existing)
	require.WithinDuration(t, time.Now(), got.StagedAt, time.Minute)
	want.Revision, want.StagedAt = 1, got.StagedAt
	require.Empty(t, cmp.Diff(want, got, cmp.AllowUnexported(calendar.Period{})))

	again := finalExport(period, "run-1")
	got, existing, err = f.BeginExport(t.Context(), again)
	require.NoError(t, err)
	require.False(t, existing, "the run goes on")
	require.Equal(t, want.ID, got.ID, "the same run is the same export")

	for _, stage := range []billing.Stage{billing.StageRollups, billing.StageFreezing, billing.StageRollups, billing.StageFreezing, billing.StageWriting} {
		require.NoError(t, f.SetExportStage(t.Context(), want.ID, stage))
	}
	now, err := f.Export(t.Context(), period)
	require.NoError(t, err)
	require.Equal(t, billing.StageWriting, now.Stage)
	require.NoError(t, f.SetExportStage(t.Context(), want.ID, billing.StageWaiting))
	now, err = f.Export(t.Context(), period)
	require.NoError(t, err)
	require.Equal(t, billing.StageWriting, now.Stage, "a stage never goes back")
	require.ErrorContains(t, f.SetExportStage(t.Context(), want.ID, billing.StageDone), "done")

	m := manifest(want)
	require.ErrorIs(t, f.CompleteExport(t.Context(), want.ID), billing.ErrExportNotFrozen)
	require.Empty(t, f.freeze(want.ID), "no usage")
	require.NoError(t, f.complete(want.ID, m))
	require.NoError(t, f.CompleteExport(t.Context(), want.ID), "the same once more")
	other := m
	other.Program = "other"
	require.ErrorIs(t, f.complete(want.ID, other), billing.ErrExportEnded)
	require.ErrorIs(t, f.FailExport(t.Context(), want.ID, billing.StageFailed, "x"), billing.ErrExportEnded)
	require.ErrorIs(t, f.SetExportStage(t.Context(), want.ID, billing.StageWriting), billing.ErrExportEnded)

	done, existing, err := f.BeginExport(t.Context(), finalExport(period, "run-2"))
	require.NoError(t, err)
	require.True(t, existing, "a final export is answered, not run again")
	require.Equal(t, want.ID, done.ID)
	require.Equal(t, billing.StageDone, done.Stage)
	require.NotNil(t, done.FinishedAt)
	require.Empty(t, cmp.Diff(&m, done.Manifest, cmp.AllowUnexported(calendar.Period{})))
}

func TestExportThatFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	e := f.beginExport(period, "run-1")
	require.NoError(t, f.FailExport(t.Context(), e.ID, billing.StageFailed, "the disk is full"))
	require.NoError(t, f.FailExport(t.Context(), e.ID, billing.StageCanceled, "too late"))
	got, err := f.Export(t.Context(), period)
	require.NoError(t, err)
	require.Equal(t, billing.StageFailed, got.Stage)
	require.Equal(t, "the disk is full", got.Error)
	_, err = f.FreezeExport(t.Context(), e.ID)
	require.ErrorIs(t, err, billing.ErrExportEnded)
	require.ErrorIs(t, f.complete(e.ID, manifest(e)), billing.ErrExportEnded)
	require.ErrorIs(t, f.CompleteExport(t.Context(), e.ID), billing.ErrExportEnded)
	require.ErrorContains(t, f.FailExport(t.Context(), e.ID, billing.StageDone, ""), "done")

	next := f.beginExport(period, "run-2")
	require.NotEqual(t, e.ID, next.ID, "a failed run is run again")
	got, err = f.Export(t.Context(), period)
	require.NoError(t, err)
	require.Equal(t, next.ID, got.ID, "the newest")
}

func TestExportsThatDoNotExist(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := uuid.Must(uuid.NewV7())
	_, err := f.Export(t.Context(), period)
	require.ErrorIs(t, err, billing.ErrExportNotFound)
	require.ErrorIs(t, f.SetExportStage(t.Context(), id, billing.StageWriting), billing.ErrExportNotFound)
	require.ErrorIs(t, f.complete(id, billing.Manifest{}), billing.ErrExportNotFound)
	require.ErrorIs(t, f.CompleteExport(t.Context(), id), billing.ErrExportNotFound)
	require.ErrorIs(t, f.FailExport(t.Context(), id, billing.StageFailed, ""), billing.ErrExportNotFound)
	_, err = f.FreezeExport(t.Context(), id)
	require.ErrorIs(t, err, billing.ErrExportNotFound)
	_, err = f.ExportTotals(t.Context(), id, uuid.Nil, 10)
	require.ErrorIs(t, err, billing.ErrExportNotFound)
	require.False(t, pgstore.Retryable(err))

	e := f.beginExport(period, "run")
	_, err = f.ExportTotals(t.Context(), e.ID, uuid.Nil, 10)
	require.ErrorIs(t, err, billing.ErrExportNotFrozen)
}

// Temporal has one open run of a workflow: when the next begins, the one before was ended there.
func TestExportSupersedesATerminatedRun(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first := f.beginExport(period, "run-1")
	second := f.beginExport(period, "run-2")
	other := f.beginExport(period.Previous(), "run-3")
	exports, err := f.Exports(t.Context(), uuid.Nil, 10)
	require.NoError(t, err)
	require.Len(t, exports, 3)
	stages := map[uuid.UUID]billing.Stage{}
	for _, e := range exports {
		stages[e.ID] = e.Stage
	}
	require.Equal(t, map[uuid.UUID]billing.Stage{
		first.ID: billing.StageCanceled, second.ID: billing.StageWaiting, other.ID: billing.StageWaiting,
	}, stages)
	require.Equal(t, other.ID, exports[2].ID, "the newest first")
	var paged []uuid.UUID
	for before := uuid.Nil; ; {
		few, err := f.Exports(t.Context(), before, 2)
		require.NoError(t, err)
		for _, e := range few {
			paged = append(paged, e.ID)
		}
		if len(few) < 2 {
			break
		}
		before = few[1].ID
	}
	require.Equal(t, []uuid.UUID{exports[0].ID, exports[1].ID, other.ID}, paged)
	none, err := f.Exports(t.Context(), uuid.New(), 2)
	require.NoError(t, err)
	require.Empty(t, none, "nothing is before a run that there isn't")
}

func TestPeriodHasOneFinalExport(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var runs []billing.Export
	for _, workflow := range []string{"one", "two"} {
		e := finalExport(period, "run")
		e.WorkflowID = workflow
		begun, existing, err := f.BeginExport(t.Context(), e)
		require.NoError(t, err)
		require.False(t, existing)
		f.freeze(begun.ID)
		runs = append(runs, begun)
	}
	require.NoError(t, f.complete(runs[1].ID, manifest(runs[1])))
	err := f.complete(runs[0].ID, manifest(runs[0]))
	require.ErrorIs(t, err, billing.ErrPeriodFinal)
	require.False(t, pgstore.Retryable(err))
}

// A provisional export is not final: it is run again, and the final one is preferred.
func TestProvisionalExport(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free")
	w := f.instance()
	w.flush(row(o.ID, evaluations, firstDay, 1), row(o.ID, evaluations, firstDay+1, 2), row(o.ID, evaluations, firstDay+2, 4))
	provisional := finalExport(period, "run-1")
	provisional.Provisional = true
	provisional.Cut = hour(firstDay+1, 12)
	_, existing, err := f.BeginExport(t.Context(), provisional)
	require.NoError(t, err)
	require.False(t, existing)
	f.freeze(provisional.ID)
	totals, err := f.ExportTotals(t.Context(), provisional.ID, uuid.Nil, 10)
	require.NoError(t, err)
	require.Len(t, totals, 1)
	require.EqualValues(t, 3, totals[0].Value, "the day after the cut is not in it")
	require.NoError(t, f.complete(provisional.ID, manifest(provisional)))

	final := f.beginExport(period, "run-2")
	f.freeze(final.ID)
	totals, err = f.ExportTotals(t.Context(), final.ID, uuid.Nil, 10)
	require.NoError(t, err)
	require.EqualValues(t, 7, totals[0].Value)
	require.NoError(t, f.complete(final.ID, manifest(final)))

	later := provisional
	later.ID, later.RunID, later.RequestedAt = uuid.Must(uuid.NewV7()), "run-3", period.End().Add(48*time.Hour)
	got, existing, err := f.BeginExport(t.Context(), later)
	require.NoError(t, err)
	require.True(t, existing)
	require.Equal(t, final.ID, got.ID)
	got, err = f.Export(t.Context(), period)
	require.NoError(t, err)
	require.Equal(t, final.ID, got.ID)
}
