package workflows_test

import (
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

// newEnvironmentBeforeClose is an environment for an export that began before the close.
func newEnvironmentBeforeClose(t *testing.T) environment {
	t.Helper()
	env := newEnvironment(t, "export/2026-10")
	env.OnGetVersion("close", workflow.DefaultVersion, workflow.Version(1)).Return(workflow.DefaultVersion)
	return env
}

// expectBeforeClose is expect with the stages before the close.
func (e environment) expectBeforeClose(provisional bool, until string) {
	b := begun(provisional)
	e.answer(until, append(e.untilFrozen(b), []step{
		{"writing", func() { e.stage(billing.StageWriting) }},
		{"WriteUsageFile", func() {
			e.OnActivity(onExport.WriteUsageFile, mock.Anything, activities.WriteUsageFileInput{ID: uuid.Max, Folder: b.Folder}).
				Return(activities.WriteUsageFileResult{File: aFile, Totals: aTotals}, nil).After(time.Minute).Once()
		}},
		{"FinishExport", func() {
			e.OnActivity(onExport.FinishExport, mock.Anything, activities.FinishExportInput{Export: b, Files: []billing.File{aFile}, Totals: aTotals}).
				Return(activities.FinishExportResult{Manifest: b.Folder + billing.ManifestFile}, nil).After(time.Minute).Once()
		}},
	}...))
}

func TestExportPeriodBeforeCloseProvisional(t *testing.T) {
	t.Parallel()
	env := newEnvironmentBeforeClose(t)
	env.expectBeforeClose(true, "")
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

func TestExportPeriodBeforeCloseFinal(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]time.Time{"at the period's end": october.End(), "later": october.End().AddDate(0, 3, 0)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnvironmentBeforeClose(t)
			env.SetStartTime(at)
			env.expectBeforeClose(false, "")
			out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
			require.NoError(t, err)
			require.False(t, out.Export.Provisional)
			require.Equal(t, october.End(), out.Export.Cut)
		})
	}
}

// On the first day of a period no day is over: there is nothing to roll up.
func TestExportPeriodBeforeCloseOnItsFirstDay(t *testing.T) {
	t.Parallel()
	env := newEnvironmentBeforeClose(t)
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

// Whatever fails, the run is recorded as failed, with its first cause.
func TestExportPeriodBeforeCloseFails(t *testing.T) {
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
			env := newEnvironmentBeforeClose(t)
			env.expectBeforeClose(true, step)
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

func TestExportPeriodBeforeCloseIsCanceled(t *testing.T) {
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
			env := newEnvironmentBeforeClose(t)
			env.expectBeforeClose(true, tc.until)
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
func TestExportPeriodBeforeCloseIsCanceledTooLate(t *testing.T) {
	t.Parallel()
	env := newEnvironmentBeforeClose(t)
	env.expectBeforeClose(true, "")
	env.RegisterDelayedCallback(env.CancelWorkflow, 150*time.Second)
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	require.NoError(t, err)
	require.Equal(t, billing.StageDone, out.Export.Stage)
}

// A day to which usage keeps coming is counted from its batches: the export goes on.
func TestExportPeriodBeforeCloseGoesOnWithADayThatStaysOutOfDate(t *testing.T) {
	t.Parallel()
	env := newEnvironmentBeforeClose(t)
	env.expectBeforeClose(true, "DaysToRollUp")
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
