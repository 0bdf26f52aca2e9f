package workflows_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/workflows"
)

// A provisional export ends by itself: nobody decides, and nothing is issued.
func TestExportPeriodProvisional(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	env.expect(true, "")
	for at, want := range map[time.Duration]workflows.ExportPeriodProgress{
		30 * time.Second:  {Stage: billing.StageWaiting},
		90 * time.Second:  {Stage: billing.StageRating, RolledUp: 1},
		150 * time.Second: {Stage: billing.StageWriting, RolledUp: 1},
	} {
		env.RegisterDelayedCallback(func() {
			p := progress[workflows.ExportPeriodProgress](t, env)
			require.Equal(t, uuid.Max, p.ID)
			require.Equal(t, want, workflows.ExportPeriodProgress{Stage: p.Stage, RolledUp: p.RolledUp, RollingUp: p.RollingUp})
		}, at)
	}
	early := env.decide(150*time.Second, approval())
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	require.NoError(t, err)
	requireRefused(t, early.rejected, workflows.TypeNotAwaiting, "the export of 2026-10 is writing: it waits for no decision")
	require.Len(t, out.Export.Money, 1)
	require.Equal(t, aMoney[0].Statements, out.Export.Money[0].Statements)
	out.Export.Money = nil // decimals that are equal may differ inside
	require.Equal(t, workflows.ExportPeriodResult{
		WorkflowID: "export/2026-10", Manifest: "exports/2026-10/x/manifest.json",
		Export: workflows.ExportPeriodProgress{
			ID: uuid.Max, Period: "2026-10", Stage: billing.StageDone, Cut: cut, Provisional: true,
			RequestedBy: "finance", RequestedAt: cut, Live: 2, RolledUp: 1, Pages: 2, PagesRated: 2, Statements: 2,
			Folder: "exports/2026-10/x/", Files: []billing.File{aStatementFile, aFile}, Totals: aTotals,
		},
	}, out)
}

// An export that begins once the period has ended is final, however late it begins.
func TestExportPeriodIsFinal(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]time.Time{"at the period's end": october.End(), "later": october.End().AddDate(0, 3, 0)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := waiting(t, 0, 0)
			env.SetStartTime(at)
			env.recording(billing.ActionApproved)
			env.answer("", env.untilClosed())
			env.decide(time.Hour, approval())
			out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
			require.NoError(t, err)
			require.False(t, out.Export.Provisional)
			require.Equal(t, october.End(), out.Export.Cut)
		})
	}
}

// A day to which usage keeps coming is counted from its batches: the export goes on.
func TestExportPeriodGoesOnWithADayThatStaysOutOfDate(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	b := begun(true)
	frozen := env.untilFrozen(b)
	env.answer("DaysToRollUp", frozen)
	days := []calendar.Day{friday}
	listing(env, october.FirstDay(), friday, days, days, days, days)
	rollingUp(env, nil, friday, friday, friday)
	env.answer("", append(frozen.from("freezing"), env.untilWritten(b, 0)...))
	env.completing()
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	require.NoError(t, err)
	require.Equal(t, 3, out.Export.RolledUp)
}

// Pages follow each other without a gap, four at a time.
func TestExportPeriodRatesInPages(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	b := begun(true)
	env.answer("PlanRating", append(env.untilFrozen(b), env.untilWritten(b, 0)...))
	var until []uuid.UUID
	for i := range 9 {
		until = append(until, uuid.UUID{0: byte(i + 1)})
	}
	env.OnActivity(onExport.PlanRating, mock.Anything, mock.Anything).Return(activities.PlanRatingResult{Until: until}, nil).Once()
	var after uuid.UUID
	for _, last := range until {
		env.OnActivity(onExport.RateOrganizations, mock.Anything, activities.RateOrganizationsInput{ID: uuid.Max, After: after, Until: last}).
			Return(activities.RateOrganizationsResult{Rated: 10, Parked: 1}, nil).After(time.Minute).Once()
		after = last
	}
	atOnce, most := 0, 0
	var begun, over time.Time
	env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		if info.ActivityType.Name != "RateOrganizations" {
			return
		}
		if begun.IsZero() {
			begun = env.Now()
		}
		atOnce++
		most = max(most, atOnce)
	})
	env.SetOnActivityCompletedListener(func(info *activity.Info, _ converter.EncodedValue, _ error) {
		if info.ActivityType.Name == "RateOrganizations" {
			atOnce--
			over = env.Now()
		}
	})
	env.RegisterDelayedCallback(func() {
		p := progress[workflows.ExportPeriodProgress](t, env)
		require.Equal(t, []int{9, 4}, []int{p.Pages, p.PagesRated})
		require.Equal(t, []int64{40, 4}, []int64{p.Statements, p.Parked})
	}, 150*time.Second)
	env.answer("", env.untilWritten(b, 0).from("writing"))
	env.completing()
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	require.NoError(t, err)
	require.Equal(t, 9, out.Export.PagesRated)
	require.LessOrEqual(t, most, 4)
	require.Equal(t, 3*time.Minute, over.Sub(begun).Truncate(time.Minute), "nine pages, four at a time")
}

// On the first day of a period nothing is rolled up, and there may be nobody to rate.
func TestExportPeriodOfNobody(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	env.SetStartTime(october.Start())
	b := begun(true)
	b.Cut = october.Start()
	env.OnActivity(onExport.BeginExport, mock.Anything, mock.Anything).Return(b, nil).Once()
	env.OnActivity(onFleet.AwaitWatermarks, mock.Anything, mock.Anything).Return(activities.AwaitWatermarksResult{}, nil).Once()
	env.OnActivity(onExport.SetExportStage, mock.Anything, mock.Anything).Return(nil).Times(4)
	env.OnActivity(onExport.FreezeUsage, mock.Anything, mock.Anything).Return(activities.FreezeUsageResult{}, nil).Once()
	env.OnActivity(onExport.PlanRating, mock.Anything, mock.Anything).Return(activities.PlanRatingResult{}, nil).Once()
	env.answer("", env.untilWritten(b, 0).from("WriteStatements"))
	env.completing()
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	require.NoError(t, err)
	require.Zero(t, out.Export.RolledUp)
	require.Zero(t, out.Export.Pages)
}

// Whatever fails, the run is recorded as failed, with its first cause.
func TestExportPeriodFails(t *testing.T) {
	t.Parallel()
	curse := permanently("cursed")
	stage := func(e environment) {
		e.OnActivity(onExport.SetExportStage, mock.Anything, mock.Anything).Return(curse).Once()
	}
	for step, fail := range map[string]func(environment){
		"AwaitWatermarks": func(e environment) {
			e.OnActivity(onFleet.AwaitWatermarks, mock.Anything, mock.Anything).Return(activities.AwaitWatermarksResult{}, curse).Once()
		},
		"rollups": stage,
		"DaysToRollUp": func(e environment) {
			e.OnActivity(onRollup.DaysToRollUp, mock.Anything, mock.Anything).Return(activities.DaysToRollUpResult{Days: []calendar.Day{friday}}, nil).Once()
			rollingUp(e, curse, friday)
		},
		"freezing": stage,
		"FreezeUsage": func(e environment) {
			e.OnActivity(onExport.FreezeUsage, mock.Anything, mock.Anything).Return(activities.FreezeUsageResult{}, curse).Once()
		},
		"rating":  stage,
		"writing": stage,
		"PlanRating": func(e environment) {
			e.OnActivity(onExport.PlanRating, mock.Anything, mock.Anything).Return(activities.PlanRatingResult{}, curse).Once()
		},
		"RateOrganizations": func(e environment) {
			e.OnActivity(onExport.RateOrganizations, mock.Anything, mock.Anything).Return(activities.RateOrganizationsResult{}, curse).Once()
			e.OnActivity(onExport.RateOrganizations, mock.Anything, mock.Anything).Return(activities.RateOrganizationsResult{}, nil).After(time.Minute).Once()
		},
		"WriteStatements": func(e environment) {
			e.OnActivity(onExport.WriteStatements, mock.Anything, mock.Anything).Return(activities.WriteStatementsResult{}, curse).Once()
			e.usageFile(begun(true)).Maybe()
		},
		"WriteUsageFile": func(e environment) {
			e.OnActivity(onExport.WriteUsageFile, mock.Anything, mock.Anything).Return(activities.WriteUsageFileResult{}, curse).After(time.Minute).Once()
		},
		"WriteManifest": func(e environment) {
			e.OnActivity(onExport.WriteManifest, mock.Anything, mock.Anything).Return(activities.WriteManifestResult{}, curse).Once()
		},
		"CompleteExport": func(e environment) {
			e.OnActivity(onExport.CompleteExport, mock.Anything, mock.Anything).Return(curse).Once()
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

// A period that is closed is opened again for a reason, and is the next revision.
func TestExportPeriodReopens(t *testing.T) {
	t.Parallel()
	in := exportInput()
	in.Reopen, in.Reason, in.RequestedByID = true, "a late batch", requester.ID
	env := newEnvironment(t, "export/2026-10")
	env.SetStartTime(october.End())
	b := begun(false)
	b.Revision = 2
	env.OnActivity(onExport.ReopenExport, mock.Anything, matching(activities.BeginExportInput{
		Period: october, Cut: october.End(), RequestedBy: "finance", RequestedByID: requester.ID, RequestedAt: october.End(), Reason: "a late batch",
	})).Return(b, nil).Once()
	env.answer("", append(env.untilFrozen(b).from("AwaitWatermarks"), env.untilWritten(b, 0)...))
	env.comparing(0)
	env.stage(billing.StageApproving)
	env.recording(billing.ActionApproved)
	env.answer("", env.untilClosed())
	env.decide(time.Hour, approval())
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, in)
	require.NoError(t, err)
	require.Equal(t, 2, out.Export.Revision)
	require.Equal(t, billing.StageClosed, out.Export.Stage)
}

func TestExportPeriodCannotReopenWhatIsNotClosed(t *testing.T) {
	t.Parallel()
	in := exportInput()
	in.Reopen, in.Reason = true, "a late batch"
	env := newEnvironment(t, "export/2026-10")
	notClosed := temporal.NewNonRetryableApplicationError("the period is not closed", activities.TypeNotClosed, nil)
	env.OnActivity(onExport.ReopenExport, mock.Anything, mock.Anything).Return(activities.BegunExport{}, notClosed).Once()
	_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, in)
	requireRefused(t, err, activities.TypeNotClosed, "the period is not closed")
	require.Equal(t, billing.StageFailed, progress[workflows.ExportPeriodProgress](t, env).Stage)
}

func TestExportPeriodRefusesOptions(t *testing.T) {
	t.Parallel()
	for says, change := range map[string]func(*workflows.ExportPeriodInput){
		"reason is missing: say why the period is opened again":       func(in *workflows.ExportPeriodInput) { in.Reopen, in.Reason = true, " \n" },
		"variance.percent -1 must be 1 to 100000":                     func(in *workflows.ExportPeriodInput) { in.Variance.Percent = -1 },
		`variance.least "much" must be a decimal number of 0 or more`: func(in *workflows.ExportPeriodInput) { in.Variance.Least = "much" },
		`variance.least "-0.5" must be a decimal number of 0 or more`: func(in *workflows.ExportPeriodInput) { in.Variance.Least = "-0.5" },
		`documents: focus "9.9" must be one of`:                       func(in *workflows.ExportPeriodInput) { in.Documents.Focus = "9.9" },
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			in := exportInput()
			change(&in)
			_, err := ended[workflows.ExportPeriodResult](t, newEnvironment(t, "export/2026-10"), workflows.ExportPeriod, in)
			requireRefused(t, err, workflows.TypeInvalidInput, says)
		})
	}
}

func TestExportPeriodIsCanceled(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		at    time.Duration
		until string
		stage string
	}{
		{30 * time.Second, "rollups", "waiting"},
		{90 * time.Second, "writing", "rating"},
		{150 * time.Second, "WriteManifest", "writing"},
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

// Once the end of a provisional run is being recorded, a cancel comes too late.
func TestExportPeriodProvisionalIsCanceledTooLate(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	env.expect(true, "CompleteExport")
	env.OnActivity(onExport.CompleteExport, mock.Anything, mock.Anything).Return(nil).After(time.Minute).Once()
	env.RegisterDelayedCallback(env.CancelWorkflow, 270*time.Second)
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	require.NoError(t, err)
	require.Equal(t, billing.StageDone, out.Export.Stage)
}
