package workflows_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/plans"
	"github.com/riverline/tollgate/workflows"
)

func exportInput() workflows.ExportPeriodInput {
	return workflows.ExportPeriodInput{Period: "2026-10", RequestedBy: "finance"}
}

// cut is now as Postgres keeps it.
var cut = now.Truncate(time.Microsecond)

func begun(provisional bool) activities.BegunExport {
	out := activities.BegunExport{
		ID: uuid.Max, Period: october, Stage: billing.StageWaiting, Cut: october.End(), Folder: "exports/2026-10/x/",
	}
	if provisional {
		out.Cut, out.Provisional = cut, true
	}
	return out
}

var (
	aFile   = billing.File{Name: billing.UsageFile, Rows: 3}
	aTotals = []billing.ControlTotal{{Meter: "evaluations", Organizations: 2, Value: "1230"}}
)

// expect answers the activities of an export up to, and without, one of them.
func (e environment) expect(provisional bool, until string) {
	b := begun(provisional)
	steps := []struct {
		name   string
		expect func()
	}{
		{"BeginExport", func() {
			e.OnActivity(onExport.BeginExport, mock.Anything, activities.BeginExportInput{
				Period: october, Cut: b.Cut, Provisional: provisional, RequestedBy: "finance", RequestedAt: e.Now().UTC().Truncate(time.Microsecond),
			}).Return(b, nil).Once()
		}},
		{"AwaitWatermarks", func() {
			e.OnActivity(onFleet.AwaitWatermarks, mock.Anything, activities.AwaitWatermarksInput{Cut: b.Cut}).
				Return(activities.AwaitWatermarksResult{Live: 2}, nil).After(time.Minute).Once()
		}},
		{"rollups", func() { e.stage(billing.StageRollups) }},
		{"DaysToRollUp", func() {
			last := plans.DayOf(b.Cut) - 1
			listing(e, october.FirstDay(), last, []plans.Day{last}, nil)
			rollingUp(e, nil, last)
		}},
		{"freezing", func() { e.stage(billing.StageFreezing) }},
		{"FreezeUsage", func() {
			e.OnActivity(onExport.FreezeUsage, mock.Anything, activities.FreezeUsageInput{ID: uuid.Max}).Return(activities.FreezeUsageResult{Instances: 2}, nil).Once()
		}},
		{"writing", func() { e.stage(billing.StageWriting) }},
		{"WriteUsageFile", func() {
			e.OnActivity(onExport.WriteUsageFile, mock.Anything, activities.WriteUsageFileInput{ID: uuid.Max, Folder: b.Folder}).
				Return(activities.WriteUsageFileResult{File: aFile, Totals: aTotals}, nil).After(time.Minute).Once()
		}},
		{"FinishExport", func() {
			e.OnActivity(onExport.FinishExport, mock.Anything, activities.FinishExportInput{Export: b, Files: []billing.File{aFile}, Totals: aTotals}).
				Return(activities.FinishExportResult{Manifest: b.Folder + billing.ManifestFile}, nil).After(time.Minute).Once()
		}},
	}
	for _, step := range steps {
		if step.name == until {
			return
		}
		step.expect()
	}
}

func (e environment) stage(stage billing.Stage) {
	e.OnActivity(onExport.SetExportStage, mock.Anything, activities.SetExportStageInput{ID: uuid.Max, Stage: stage}).Return(nil).Once()
}

// failing expects that the end of a run is recorded.
func (e environment) failing(stage billing.Stage, reason string) {
	e.OnActivity(onExport.FailExport, mock.Anything, activities.FailExportInput{ID: uuid.Max, Stage: stage, Reason: reason}).Return(nil).Once()
}

func TestExportPeriodProvisional(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	env.expect(true, "")
	env.RegisterDelayedCallback(func() {
		p := progress[workflows.ExportPeriodProgress](t, env)
		require.Equal(t, billing.StageWaiting, p.Stage)
		require.Equal(t, uuid.Max, p.ID)
	}, 30*time.Second)
	env.RegisterDelayedCallback(func() {
		p := progress[workflows.ExportPeriodProgress](t, env)
		require.Equal(t, billing.StageWriting, p.Stage)
		require.Equal(t, 1, p.RolledUp)
		require.Empty(t, p.RollingUp)
	}, 90*time.Second)
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	require.NoError(t, err)
	require.Equal(t, workflows.ExportPeriodResult{
		WorkflowID: "export/2026-10", Manifest: "exports/2026-10/x/manifest.json",
		Export: workflows.ExportPeriodProgress{
			ID: uuid.Max, Period: "2026-10", Stage: billing.StageDone, Cut: cut, Provisional: true,
			RequestedBy: "finance", RequestedAt: cut, Live: 2, RolledUp: 1,
			Folder: "exports/2026-10/x/", Files: []billing.File{aFile}, Totals: aTotals,
		},
	}, out)
}

func TestExportPeriodFinal(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]time.Time{"at the period's end": october.End(), "later": october.End().AddDate(0, 3, 0)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t, "export/2026-10")
			env.SetStartTime(at)
			env.expect(false, "")
			out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
			require.NoError(t, err)
			require.False(t, out.Export.Provisional)
			require.Equal(t, october.End(), out.Export.Cut)
		})
	}
}

// On the first day of a period no day is over: there is nothing to roll up.
func TestExportPeriodOnItsFirstDay(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	env.SetStartTime(october.Start())
	b := begun(true)
	b.Cut = october.Start()
	env.OnActivity(onExport.BeginExport, mock.Anything, mock.Anything).Return(b, nil).Once()
	env.OnActivity(onFleet.AwaitWatermarks, mock.Anything, mock.Anything).Return(activities.AwaitWatermarksResult{}, nil).Once()
	env.OnActivity(onExport.SetExportStage, mock.Anything, mock.Anything).Return(nil).Times(3)
	env.OnActivity(onExport.FreezeUsage, mock.Anything, mock.Anything).Return(activities.FreezeUsageResult{}, nil).Once()
	env.OnActivity(onExport.WriteUsageFile, mock.Anything, mock.Anything).Return(activities.WriteUsageFileResult{File: aFile}, nil).Once()
	env.OnActivity(onExport.FinishExport, mock.Anything, mock.Anything).Return(activities.FinishExportResult{}, nil).Once()
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	require.NoError(t, err)
	require.Zero(t, out.Export.RolledUp)
}

func TestExportPeriodRefusesInput(t *testing.T) {
	t.Parallel()
	for period, want := range map[string][2]string{
		"":           {workflows.TypeInvalidInput, "period is missing"},
		"2026-10-01": {workflows.TypeInvalidInput, `period: period "2026-10-01" is not a month`},
		"2026-11":    {workflows.TypePeriodNotBegun, "period 2026-11 has not begun: it begins at 2026-11-01 00:00:00 UTC"},
	} {
		_, err := ended[workflows.ExportPeriodResult](t, newEnvironment(t, "export/"+period), workflows.ExportPeriod, workflows.ExportPeriodInput{Period: period})
		requireRefused(t, err, want[0], want[1])
	}
}

func TestExportPeriodAnswersTheFinalExport(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	env.SetStartTime(october.End())
	final := begun(false)
	final.Stage, final.Final, final.Files, final.Totals = billing.StageDone, true, []billing.File{aFile}, aTotals
	env.OnActivity(onExport.BeginExport, mock.Anything, mock.Anything).Return(final, nil).Once()
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	require.NoError(t, err)
	require.True(t, out.AlreadyFinal)
	require.Equal(t, "exports/2026-10/x/manifest.json", out.Manifest)
	require.Equal(t, []billing.File{aFile}, out.Export.Files)
	require.Equal(t, billing.StageDone, out.Export.Stage)
}

// Whatever fails, the run is recorded as failed, with its first cause.
func TestExportPeriodFails(t *testing.T) {
	t.Parallel()
	curse := permanently("cursed")
	for step, fail := range map[string]func(environment){
		"AwaitWatermarks": func(e environment) {
			e.OnActivity(onFleet.AwaitWatermarks, mock.Anything, mock.Anything).Return(activities.AwaitWatermarksResult{}, curse).Once()
		},
		"rollups": func(e environment) {
			e.OnActivity(onExport.SetExportStage, mock.Anything, mock.Anything).Return(curse).Once()
		},
		"DaysToRollUp": func(e environment) {
			e.OnActivity(onRollup.DaysToRollUp, mock.Anything, mock.Anything).Return(activities.DaysToRollUpResult{Days: []plans.Day{friday}}, nil).Once()
			rollingUp(e, curse, friday)
		},
		"freezing": func(e environment) {
			e.OnActivity(onExport.SetExportStage, mock.Anything, mock.Anything).Return(curse).Once()
		},
		"FreezeUsage": func(e environment) {
			e.OnActivity(onExport.FreezeUsage, mock.Anything, mock.Anything).Return(activities.FreezeUsageResult{}, curse).Once()
		},
		"writing": func(e environment) {
			e.OnActivity(onExport.SetExportStage, mock.Anything, mock.Anything).Return(curse).Once()
		},
		"WriteUsageFile": func(e environment) {
			e.OnActivity(onExport.WriteUsageFile, mock.Anything, mock.Anything).Return(activities.WriteUsageFileResult{}, curse).Once()
		},
		"FinishExport": func(e environment) {
			e.OnActivity(onExport.FinishExport, mock.Anything, mock.Anything).Return(activities.FinishExportResult{}, curse).Once()
		},
	} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t, "export/2026-10")
			env.expect(true, step)
			fail(env)
			env.failing(billing.StageFailed, "cursed")
			_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
			require.ErrorContains(t, err, "cursed")
			p := progress[workflows.ExportPeriodProgress](t, env)
			require.Equal(t, billing.StageFailed, p.Stage)
			require.Equal(t, "cursed", p.Error)
		})
	}
}

// A run that was never recorded has no end to record.
func TestExportPeriodFailsToBegin(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	env.OnActivity(onExport.BeginExport, mock.Anything, mock.Anything).Return(activities.BegunExport{}, permanently("no table")).Once()
	_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	requireRefused(t, err, activities.TypePermanent, "no table")
	require.Equal(t, billing.StageFailed, progress[workflows.ExportPeriodProgress](t, env).Stage)
}

// That the end can't be recorded doesn't hide why it ended.
func TestExportPeriodKeepsItsErrorWhenTheEndCannotBeRecorded(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	env.expect(true, "AwaitWatermarks")
	env.OnActivity(onFleet.AwaitWatermarks, mock.Anything, mock.Anything).Return(activities.AwaitWatermarksResult{}, permanently("cursed")).Once()
	env.OnActivity(onExport.FailExport, mock.Anything, mock.Anything).Return(permanently("the export has ended")).Once()
	_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	requireRefused(t, err, activities.TypePermanent, "cursed")
}

func TestExportPeriodIsCanceled(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		at    time.Duration
		until string
		stage string
	}{
		{30 * time.Second, "rollups", "waiting"},
		{90 * time.Second, "FinishExport", "writing"},
	} {
		t.Run(tc.stage, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t, "export/2026-10")
			env.expect(true, tc.until)
			env.failing(billing.StageCanceled, "canceled in stage "+tc.stage)
			env.RegisterDelayedCallback(env.CancelWorkflow, tc.at)
			_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
			var canceled *temporal.CanceledError
			require.ErrorAs(t, err, &canceled)
			require.Equal(t, billing.StageCanceled, progress[workflows.ExportPeriodProgress](t, env).Stage)
		})
	}
}

// Once the manifest is being written, a cancel comes too late.
func TestExportPeriodIsCanceledTooLate(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	env.expect(true, "")
	env.RegisterDelayedCallback(env.CancelWorkflow, 150*time.Second)
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	require.NoError(t, err)
	require.Equal(t, billing.StageDone, out.Export.Stage)
}

// While it rolls up, an export that is canceled ends, and leaves the rollup alone.
func TestExportPeriodIsCanceledWhileItRollsUp(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	env.expect(true, "DaysToRollUp")
	env.OnActivity(onRollup.DaysToRollUp, mock.Anything, mock.Anything).Return(activities.DaysToRollUpResult{Days: []plans.Day{friday}}, nil).Once()
	env.OnWorkflow(workflows.RollUpDay, mock.Anything, mock.Anything).Return(
		func(ctx workflow.Context, _ workflows.RollUpDayInput) (workflows.RollUpDayResult, error) {
			return workflows.RollUpDayResult{}, workflow.Sleep(ctx, time.Hour)
		}).Once()
	var recorded time.Duration
	env.OnActivity(onExport.FailExport, mock.Anything, activities.FailExportInput{
		ID: uuid.Max, Stage: billing.StageCanceled, Reason: "canceled in stage rollups",
	}).Return(func(context.Context, activities.FailExportInput) error {
		recorded = env.Now().Sub(now)
		return nil
	}).Once()
	env.RegisterDelayedCallback(env.CancelWorkflow, 90*time.Second)
	_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	var canceled *temporal.CanceledError
	require.ErrorAs(t, err, &canceled)
	require.Equal(t, 90*time.Second, recorded.Truncate(time.Second))
}

// A day to which usage keeps coming is counted from its batches: the export goes on.
func TestExportPeriodGoesOnWithADayThatStaysOutOfDate(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	env.expect(true, "DaysToRollUp")
	days := []plans.Day{friday}
	listing(env, october.FirstDay(), friday, days, days, days, days)
	rollingUp(env, nil, friday, friday, friday)
	env.stage(billing.StageFreezing)
	env.stage(billing.StageWriting)
	env.OnActivity(onExport.FreezeUsage, mock.Anything, mock.Anything).Return(activities.FreezeUsageResult{}, nil).Once()
	env.OnActivity(onExport.WriteUsageFile, mock.Anything, mock.Anything).Return(activities.WriteUsageFileResult{File: aFile}, nil).Once()
	env.OnActivity(onExport.FinishExport, mock.Anything, mock.Anything).Return(activities.FinishExportResult{}, nil).Once()
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	require.NoError(t, err)
	require.Equal(t, 3, out.Export.RolledUp)
}

func TestExportPeriodUnderAnotherID(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "my export")
	env.expect(true, "")
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	require.NoError(t, err)
	require.Equal(t, "export/2026-10", out.WorkflowID)
	require.Equal(t, billing.StageDone, out.Export.Stage)
}

// Who started an export under another ID may cancel it there.
func TestExportPeriodUnderAnotherIDIsCanceled(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "my export")
	env.expect(true, "rollups")
	env.failing(billing.StageCanceled, "canceled in stage waiting")
	env.RegisterDelayedCallback(env.CancelWorkflow, 30*time.Second)
	_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	var canceled *temporal.CanceledError
	require.ErrorAs(t, err, &canceled)
}

func TestMonthlyExport(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		at     time.Time
		period string
	}{
		"in time":         {october.End().Add(30 * time.Minute), "2026-10"},
		"weeks late":      {october.End().Add(30 * time.Minute), "2026-10"},
		"across the year": {time.Date(2027, 1, 1, 0, 30, 0, 0, time.UTC), "2026-12"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := scheduled(t, tc.at)
			env.SetStartTime(tc.at.AddDate(0, 0, 40)) // the clock says nothing
			env.OnWorkflow(workflows.ExportPeriod, mock.Anything, workflows.ExportPeriodInput{Period: tc.period, RequestedBy: "schedule"}).
				Return(workflows.ExportPeriodResult{Manifest: "m"}, nil).Once()
			out, err := ended[workflows.MonthlyExportResult](t, env, workflows.MonthlyExport, workflows.MonthlyExportInput{})
			require.NoError(t, err)
			require.Equal(t, workflows.MonthlyExportResult{Period: tc.period, Export: workflows.ExportPeriodResult{Manifest: "m"}}, out)
			require.Equal(t, out, progress[workflows.MonthlyExportResult](t, env))
		})
	}
}

func TestMonthlyExportFindsTheExportRunning(t *testing.T) {
	t.Parallel()
	env := scheduled(t, october.End())
	env.OnWorkflow(workflows.ExportPeriod, mock.Anything, mock.Anything).Return(workflows.ExportPeriodResult{}, runsAlready).Once()
	out, err := ended[workflows.MonthlyExportResult](t, env, workflows.MonthlyExport, workflows.MonthlyExportInput{})
	require.NoError(t, err)
	require.Equal(t, workflows.ExportPeriodResult{WorkflowID: "export/2026-10", Joined: true}, out.Export)
}

func TestMonthlyExportFails(t *testing.T) {
	t.Parallel()
	_, err := ended[workflows.MonthlyExportResult](t, newEnvironment(t, "x"), workflows.MonthlyExport, workflows.MonthlyExportInput{})
	requireRefused(t, err, workflows.TypeInvalidInput, "is started by its schedule")

	env := scheduled(t, october.End())
	env.OnWorkflow(workflows.ExportPeriod, mock.Anything, mock.Anything).Return(workflows.ExportPeriodResult{}, permanently("cursed")).Once()
	_, err = ended[workflows.MonthlyExportResult](t, env, workflows.MonthlyExport, workflows.MonthlyExportInput{})
	require.ErrorContains(t, err, "cursed")
}

// A timeout has no message of its own to show.
func TestExportPeriodSaysThatItTimedOut(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	env.expect(true, "AwaitWatermarks")
	env.OnActivity(onFleet.AwaitWatermarks, mock.Anything, mock.Anything).Return(
		func(context.Context, activities.AwaitWatermarksInput) (activities.AwaitWatermarksResult, error) {
			return activities.AwaitWatermarksResult{}, gone
		}).Once()
	env.OnActivity(onExport.FailExport, mock.Anything, mock.MatchedBy(func(in activities.FailExportInput) bool {
		return in.Stage == billing.StageFailed && in.Reason[:10] == "timed out:"
	})).Return(nil).Once()
	_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	require.Error(t, err)
}
