package workflows_test

import (
	"context"
	"io"
	"io/fs"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

// past is a billing period that is over.
func past() calendar.Period { return calendar.PeriodOf(time.Now()).Previous() }

func yesterday() calendar.Day { return calendar.DayOf(time.Now()) - 1 }

// blockOn makes the store wait in a call until the test lets it go or its context ends.
// The first channel is closed once it waits.
func (s *fakeStore) blockOn(what string) (reached <-chan struct{}, let func()) {
	at, gone := make(chan struct{}), make(chan struct{})
	var once, onceGone sync.Once
	s.hook = func(ctx context.Context, called string) error {
		if called != what {
			return nil
		}
		once.Do(func() { close(at) })
		select {
		case <-gone:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return at, func() { onceGone.Do(func() { close(gone) }) }
}

func require1(t *testing.T, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(wait):
		require.Fail(t, what)
	}
}

func (s *system) startExport(t *testing.T, period calendar.Period) starter.Started {
	t.Helper()
	run, err := starter.StartExport(t.Context(), s.client, workflows.ExportPeriodInput{Period: period.String(), RequestedBy: "finance"})
	require.NoError(t, err)
	require.Equal(t, workflows.ExportPeriodID(period), run.WorkflowID)
	return run
}

// verify checks an export's files as anybody can, without the system.
func (s *system) verify(t *testing.T, folder string) billing.Manifest {
	t.Helper()
	r, err := s.blobs.NewReader(t.Context(), folder+documents.ManifestFile)
	require.NoError(t, err)
	document, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	manifest, err := documents.ParseManifest(document)
	require.NoError(t, err)
	require.NoError(t, documents.Verify(manifest, func(name string) (io.ReadCloser, error) {
		return s.blobs.NewReader(t.Context(), folder+name)
	}))
	return manifest
}

func TestServerExportIsFinal(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.store.put(meter.Instance{ID: uuid.Max, Status: meter.InstanceStopped, LastSeq: 9})
	s.store.toRollUp = []calendar.Day{past().LastDay() - 1, past().LastDay()}
	reached, let := s.store.blockOn("RollUpDay")
	run := s.startExport(t, past())
	require1(t, reached, "the export rolls up")
	again := s.startExport(t, past())
	require.True(t, again.Joined)
	require.Equal(t, run.RunID, again.RunID)
	progress, err := starter.ExportProgress(t.Context(), s.client, past())
	require.NoError(t, err)
	require.Equal(t, billing.StageRollups, progress.Stage)
	require.Equal(t, 2, progress.DaysLeft)
	require.Equal(t, (past().LastDay() - 1).String(), progress.RollingUp)
	require.Equal(t, "rollups", s.stage(t, run))
	rollup, err := progressOf[workflows.RollUpDayProgress](t, s, workflows.RollUpDayID(past().LastDay()-1))
	require.NoError(t, err)
	require.Equal(t, workflows.RollUpFolding, rollup.Stage)
	let()

	s.approve(t, past())
	ended, err := result[workflows.ExportPeriodResult](t, s, run)
	require.NoError(t, err)
	require.Equal(t, billing.StageClosed, ended.Export.Stage)
	require.Equal(t, "controlling", ended.Export.ApprovedBy)
	require.Equal(t, 2, ended.Export.Pages)
	require.EqualValues(t, 2, ended.Export.Statements)
	require.Equal(t, 2, ended.Export.RolledUp)
	require.False(t, ended.Export.Provisional)
	require.Equal(t, past().End(), ended.Export.Cut)
	require.Equal(t, "finance", ended.Export.RequestedBy)
	require.Equal(t, []billing.ControlTotal{
		{Meter: "evaluations", Organizations: 2, Value: "1230"}, {Meter: "entity_instances", Organizations: 1, Value: "7"},
	}, ended.Export.Totals)
	require.Equal(t, ended.Export.Folder+documents.ManifestFile, ended.Manifest)
	manifest := s.verify(t, ended.Export.Folder)
	require.Equal(t, []billing.BatchMark{{Instance: uuid.Max, Through: 9}}, manifest.Watermark)
	kept := s.store.allExports()
	require.Len(t, kept, 1)
	require.Equal(t, billing.StageClosed, kept[0].Stage)
	require.Equal(t, []uuid.UUID{kept[0].ID}, s.store.allIssued())
	require.Equal(t, manifest.Files, kept[0].Manifest.Files)
	require.Equal(t, run.RunID, kept[0].RunID)
	require.Equal(t, "closed", s.stage(t, run))
	require.Contains(t, s.details(t, run), "Exports the billing period "+past().String())
	require.Contains(t, s.details(t, run), "usage.jsonl (3 rows")
	require.Contains(t, s.summaries(t, run), `"write usage.jsonl"`)
	s.keep(t, "export-final", run)

	// Once more: the export that is done is the answer.
	answer, err := result[workflows.ExportPeriodResult](t, s, s.startExport(t, past()))
	require.NoError(t, err)
	require.True(t, answer.AlreadyFinal)
	require.Equal(t, ended.Manifest, answer.Manifest)
	require.Equal(t, ended.Export.Totals, answer.Export.Totals)
	require.Len(t, s.store.allExports(), 1)
	described, err := s.client.DescribeWorkflow(t.Context(), run.WorkflowID, "")
	require.NoError(t, err)
	s.keep(t, "export-already-final", starter.Started{WorkflowID: run.WorkflowID, RunID: described.WorkflowExecution.RunID})

	eventually(t, "the runs are found by their period", func() bool {
		return s.count(t, `TollgatePeriod = "`+past().String()+`" AND TollgateStage IN ("done", "closed")`) == 4 // two exports, two rollups
	})
}

func TestServerExportIsProvisional(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	i := s.newInstance(t)
	loop := s.startFlushLoop(t, i)
	now := time.Now()
	run := s.startExport(t, calendar.PeriodOf(now))
	ended, err := result[workflows.ExportPeriodResult](t, s, run)
	require.NoError(t, err)
	require.True(t, ended.Export.Provisional)
	require.Equal(t, billing.StageDone, ended.Export.Stage)
	require.Empty(t, s.store.allIssued())
	require.False(t, ended.Export.Cut.Before(now.Truncate(time.Microsecond)))
	require.False(t, s.store.instance(i.id).Watermark.Before(ended.Export.Cut), "every live instance has flushed")
	require.Equal(t, 1, ended.Export.Live)
	require.True(t, s.verify(t, ended.Export.Folder).Provisional)
	require.Contains(t, s.details(t, run), "provisional")
	s.keep(t, "export-provisional", run)

	second, err := result[workflows.ExportPeriodResult](t, s, s.startExport(t, calendar.PeriodOf(now)))
	require.NoError(t, err)
	require.False(t, second.AlreadyFinal)
	require.NotEqual(t, ended.Export.ID, second.Export.ID)
	_, err = starter.Drain(t.Context(), s.client, i.id)
	require.NoError(t, err)
	_, err = result[workflows.FlushLoopResult](t, s, loop)
	require.NoError(t, err)
}

func TestServerExportFails(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.store.hook = func(_ context.Context, what string) error {
		if what == "FreezeExport" {
			return permanentError("the period is cursed")
		}
		return nil
	}
	run := s.startExport(t, past())
	_, err := result[workflows.ExportPeriodResult](t, s, run)
	require.ErrorContains(t, err, "the period is cursed")
	kept := s.store.allExports()
	require.Len(t, kept, 1)
	require.Equal(t, billing.StageFailed, kept[0].Stage)
	require.Equal(t, "the period is cursed", kept[0].Error)
	require.Equal(t, "failed", s.stage(t, run))
	progress, err := starter.ExportProgress(t.Context(), s.client, past())
	require.NoError(t, err)
	require.Equal(t, "the period is cursed", progress.Error)
	_, err = starter.ExportProgress(t.Context(), s.client, past().Previous())
	require.ErrorIs(t, err, starter.ErrNotRunning)
	s.keep(t, "export-failed", run)
}

// An export that is canceled while it writes leaves no half a file, and no manifest.
func TestServerExportIsCanceled(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	reached, _ := s.store.blockOn("ExportTotals")
	run := s.startExport(t, past())
	require1(t, reached, "the export writes")
	require.NoError(t, s.client.CancelWorkflow(t.Context(), workflows.ExportPeriodID(past()), ""))
	_, err := result[workflows.ExportPeriodResult](t, s, run)
	var canceled *temporal.CanceledError
	require.ErrorAs(t, err, &canceled)
	kept := s.store.allExports()
	require.Len(t, kept, 1)
	require.Equal(t, billing.StageCanceled, kept[0].Stage)
	require.Equal(t, "canceled in stage writing", kept[0].Error)
	require.Equal(t, "canceled", s.stage(t, run))
	for _, name := range []string{documents.UsageFile, documents.ManifestFile} {
		_, err := s.blobs.NewReader(t.Context(), kept[0].Folder()+name)
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
	s.keep(t, "export-canceled", run)
}

// An export that is canceled while it rolls up ends, and the rollup goes on: others may wait for it.
func TestServerExportIsCanceledWhileItRollsUp(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.store.toRollUp = []calendar.Day{past().LastDay()}
	reached, let := s.store.blockOn("RollUpDay")
	run := s.startExport(t, past())
	require1(t, reached, "the export rolls up")
	require.NoError(t, s.client.CancelWorkflow(t.Context(), workflows.ExportPeriodID(past()), ""))
	_, err := result[workflows.ExportPeriodResult](t, s, run)
	var canceled *temporal.CanceledError
	require.ErrorAs(t, err, &canceled)
	require.Equal(t, "canceled", s.stage(t, run))
	let()
	rollup := starter.Started{WorkflowID: workflows.RollUpDayID(past().LastDay())}
	_, err = result[workflows.RollUpDayResult](t, s, rollup)
	require.NoError(t, err)
	s.keep(t, "export-canceled-in-rollups", run)
}

// From Temporal's UI one may give any workflow ID: it meets in the same run.
func TestServerExportUnderAnotherIDMeetsInTheSameRun(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	reached, let := s.store.blockOn("FreezeExport")
	start := func(id string) starter.Started {
		run, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: workflows.TaskQueue},
			"ExportPeriod", map[string]string{"period": past().String()})
		require.NoError(t, err)
		return starter.Started{WorkflowID: id, RunID: run.GetRunID()}
	}
	first := start("my export")
	require1(t, reached, "the export freezes")
	second, err := result[workflows.ExportPeriodResult](t, s, start("my other export"))
	require.NoError(t, err)
	require.Equal(t, workflows.ExportPeriodResult{WorkflowID: workflows.ExportPeriodID(past()), Joined: true}, second)
	let()
	s.approve(t, past())
	ended, err := result[workflows.ExportPeriodResult](t, s, first)
	require.NoError(t, err)
	require.Equal(t, workflows.ExportPeriodID(past()), ended.WorkflowID)
	require.Equal(t, billing.StageClosed, ended.Export.Stage)
	require.Equal(t, "temporal-ui", ended.Export.RequestedBy)
	require.Len(t, s.store.allExports(), 1)
	s.keep(t, "export-under-another-id", first)
}

// What a person gets wrong in Temporal's UI is said, and not tried again.
func TestServerRefusesWrongInputs(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	day := calendar.DayOf(time.Now())
	for _, tc := range []struct {
		name, id, workflow string
		input              []any
		says               string
	}{
		{"no input", "a", "ExportPeriod", nil, "period is missing"},
		{"no period", "b", "ExportPeriod", []any{map[string]string{}}, "period is missing: it must be a month of the form YYYY-MM"},
		{"no month", "c", "ExportPeriod", []any{map[string]string{"period": "October"}}, `period: period "October" is not a month`},
		{"the future", "d", "ExportPeriod", []any{map[string]string{"period": "9998-01"}}, "period 9998-01 has not begun: it begins at 9998-01-01"},
		{"no object", "e", "ExportPeriod", []any{"2026-10"}, "unable to decode"},
		{"no day", "f", "RollUpDay", []any{map[string]string{}}, "day is missing"},
		{"no such day", "g", "RollUpDay", []any{map[string]string{"day": "2026-02-30"}}, `day: day "2026-02-30" is not of the form`},
		{"today", "h", "RollUpDay", []any{map[string]string{"day": day.String()}}, "day " + day.String() + " has not ended"},
		{"no schedule", "i", "MonthlyExport", nil, `start ExportPeriod with {"period":"YYYY-MM"}`},
		{"no schedule", "j", "DailyRollUp", nil, `start RollUpDay with {"day":"YYYY-MM-DD"}`},
		{"no instance", "k", "FlushLoop", nil, "instance is missing"},
		{"wrong id", "l", "FlushLoop", []any{map[string]string{"instance": uuid.Max.String()}}, "must have the workflow ID flush/" + uuid.Max.String()},
	} {
		run, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: tc.id, TaskQueue: workflows.TaskQueue}, tc.workflow, tc.input...)
		require.NoError(t, err, tc.name)
		_, err = result[any](t, s, starter.Started{WorkflowID: tc.id, RunID: run.GetRunID()})
		require.ErrorContains(t, err, tc.says, tc.name)
	}
}
