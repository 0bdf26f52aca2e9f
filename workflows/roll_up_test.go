package workflows_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/workflows"
)

// noBlobs keeps no files.
type noBlobs struct{}

func (noBlobs) NewWriter(context.Context, string) (io.WriteCloser, error) {
	return nil, errors.ErrUnsupported
}

func (noBlobs) Open(context.Context, string) (io.ReadCloser, error) { return nil, fs.ErrNotExist }

// runsAlready is how a child ends whose ID another run has.
var runsAlready = &temporal.ChildWorkflowExecutionAlreadyStartedError{}

// friday is the day before now, october the period of now.
var (
	friday  = calendar.DayOf(now) - 1
	october = calendar.PeriodOf(now)
)

func rollUpInput() workflows.RollUpDayInput { return workflows.RollUpDayInput{Day: "2026-10-16"} }

func TestRollUpDay(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "rollup/2026-10-16")
	lost := []billing.AwaitedInstance{{Instance: uuid.Max, Host: "host|1", Watermark: now}}
	env.OnActivity(onFleet.AwaitWatermarks, mock.Anything, activities.AwaitWatermarksInput{Since: friday.Start(), Cut: friday.End()}).
		Return(activities.AwaitWatermarksResult{Live: 3, Lost: lost}, nil).After(time.Minute).Once()
	rollup := billing.DayRollup{Day: friday, Revision: 2, Batches: 5, Rows: 9, VarianceCount: 1, Variances: []billing.Variance{{Day: friday, Meter: "evaluations", Batches: 2, Records: 1}}}
	env.OnActivity(onRollup.FoldDay, mock.Anything, activities.FoldDayInput{Day: friday}).Return(rollup, nil).After(time.Minute).Once()
	found := activities.ReconcileResult{
		Compared: []billing.Compared{{Comparison: billing.Comparisons()[1], Compared: 9, Different: 1}}, Different: 1,
		First: []billing.Difference{{Comparison: billing.Comparisons()[1], Meter: "evaluations", Day: friday, LeftValue: 2, RightValue: 1}},
	}
	env.OnActivity(onRollup.Reconcile, mock.Anything, activities.ReconcileInput{From: friday, To: friday}).Return(found, nil).After(time.Minute).Once()
	for at, stage := range map[time.Duration]workflows.RollUpStage{30 * time.Second: workflows.RollUpWaiting, 90 * time.Second: workflows.RollUpFolding, 150 * time.Second: workflows.RollUpReconciling} {
		env.RegisterDelayedCallback(func() {
			require.Equal(t, stage, progress[workflows.RollUpDayProgress](t, env).Stage)
		}, at)
	}
	out, err := ended[workflows.RollUpDayResult](t, env, workflows.RollUpDay, rollUpInput())
	require.NoError(t, err)
	require.Equal(t, workflows.RollUpDayResult{WorkflowID: "rollup/2026-10-16", Progress: workflows.RollUpDayProgress{
		Day: "2026-10-16", Stage: workflows.RollUpDone, Live: 3, Lost: lost, Rollup: &rollup, Reconciled: &found,
	}}, out)
}

// reconciling answers that all layers agree.
func reconciling(env environment) {
	env.OnActivity(onRollup.Reconcile, mock.Anything, mock.Anything).Return(activities.ReconcileResult{}, nil).Once()
}

func TestRollUpDayRefusesInput(t *testing.T) {
	t.Parallel()
	for day, want := range map[string][2]string{
		"":           {workflows.TypeInvalidInput, "day is missing"},
		"yesterday":  {workflows.TypeInvalidInput, `day: day "yesterday" is not of the form YYYY-MM-DD`},
		"2026-10-17": {workflows.TypeDayNotOver, "day 2026-10-17 has not ended: it ends at 2026-10-18 00:00:00 UTC"},
		"2027-01-01": {workflows.TypeDayNotOver, "day 2027-01-01 has not ended"},
	} {
		_, err := ended[workflows.RollUpDayResult](t, newEnvironment(t, "rollup/"+day), workflows.RollUpDay, workflows.RollUpDayInput{Day: day})
		requireRefused(t, err, want[0], want[1])
	}
}

// A day ends with its last instant.
func TestRollUpDayAtMidnight(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "rollup/2026-10-16")
	env.SetStartTime(friday.End())
	env.OnActivity(onFleet.AwaitWatermarks, mock.Anything, mock.Anything).Return(activities.AwaitWatermarksResult{}, nil).Once()
	env.OnActivity(onRollup.FoldDay, mock.Anything, mock.Anything).Return(billing.DayRollup{}, nil).Once()
	reconciling(env)
	_, err := ended[workflows.RollUpDayResult](t, env, workflows.RollUpDay, rollUpInput())
	require.NoError(t, err)
}

func TestRollUpDayFails(t *testing.T) {
	t.Parallel()
	t.Run("waiting", func(t *testing.T) {
		t.Parallel()
		env := newEnvironment(t, "rollup/2026-10-16")
		env.OnActivity(onFleet.AwaitWatermarks, mock.Anything, mock.Anything).Return(activities.AwaitWatermarksResult{}, permanently("no table")).Once()
		_, err := ended[workflows.RollUpDayResult](t, env, workflows.RollUpDay, rollUpInput())
		requireRefused(t, err, activities.TypePermanent, "no table")
	})
	t.Run("folding", func(t *testing.T) {
		t.Parallel()
		env := newEnvironment(t, "rollup/2026-10-16")
		env.OnActivity(onFleet.AwaitWatermarks, mock.Anything, mock.Anything).Return(activities.AwaitWatermarksResult{}, nil).Once()
		env.OnActivity(onRollup.FoldDay, mock.Anything, mock.Anything).Return(billing.DayRollup{}, permanently("no table")).Once()
		_, err := ended[workflows.RollUpDayResult](t, env, workflows.RollUpDay, rollUpInput())
		requireRefused(t, err, activities.TypePermanent, "no table")
	})
	t.Run("reconciling", func(t *testing.T) {
		t.Parallel()
		env := newEnvironment(t, "rollup/2026-10-16")
		env.OnActivity(onFleet.AwaitWatermarks, mock.Anything, mock.Anything).Return(activities.AwaitWatermarksResult{}, nil).Once()
		env.OnActivity(onRollup.FoldDay, mock.Anything, mock.Anything).Return(billing.DayRollup{Revision: 2}, nil).Once()
		env.OnActivity(onRollup.Reconcile, mock.Anything, mock.Anything).Return(activities.ReconcileResult{}, permanently("no table")).Once()
		_, err := ended[workflows.RollUpDayResult](t, env, workflows.RollUpDay, rollUpInput())
		requireRefused(t, err, activities.TypePermanent, "no table")
	})
}

// A store that is away is waited for.
func TestRollUpDayTriesAgain(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "rollup/2026-10-16")
	env.OnActivity(onFleet.AwaitWatermarks, mock.Anything, mock.Anything).Return(activities.AwaitWatermarksResult{}, nil).Once()
	attempts := 0
	env.OnActivity(onRollup.FoldDay, mock.Anything, mock.Anything).Return(func(context.Context, activities.FoldDayInput) (billing.DayRollup, error) {
		if attempts++; attempts < 9 {
			return billing.DayRollup{}, errAway
		}
		return billing.DayRollup{}, nil
	})
	reconciling(env)
	_, err := ended[workflows.RollUpDayResult](t, env, workflows.RollUpDay, rollUpInput())
	require.Equal(t, 9, attempts) // the test environment makes 10 at most
	require.NoError(t, err)
}

func TestRollUpDayIsCanceled(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "rollup/2026-10-16")
	env.OnActivity(onFleet.AwaitWatermarks, mock.Anything, mock.Anything).Return(activities.AwaitWatermarksResult{}, nil).After(time.Hour).Once()
	env.RegisterDelayedCallback(env.CancelWorkflow, time.Minute)
	_, err := ended[workflows.RollUpDayResult](t, env, workflows.RollUpDay, rollUpInput())
	var canceled *temporal.CanceledError
	require.ErrorAs(t, err, &canceled)
}

func TestRollUpDayUnderAnotherID(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "my rollup")
	env.OnActivity(onFleet.AwaitWatermarks, mock.Anything, mock.Anything).Return(activities.AwaitWatermarksResult{}, nil).Once()
	env.OnActivity(onRollup.FoldDay, mock.Anything, mock.Anything).Return(billing.DayRollup{Revision: 7}, nil).Once()
	reconciling(env)
	var child string
	env.SetOnChildWorkflowStartedListener(func(info *workflow.Info, _ workflow.Context, _ converter.EncodedValues) {
		child = info.WorkflowExecution.ID
	})
	out, err := ended[workflows.RollUpDayResult](t, env, workflows.RollUpDay, rollUpInput())
	require.NoError(t, err)
	require.Equal(t, "rollup/2026-10-16", out.WorkflowID)
	require.Equal(t, 7, out.Progress.Rollup.Revision)
	require.Equal(t, "rollup/2026-10-16", child)
}

// scheduled makes the environment that of a workflow which its schedule has started.
func scheduled(t *testing.T, at time.Time) environment {
	t.Helper()
	env := newEnvironment(t, "scheduled")
	require.NoError(t, env.SetTypedSearchAttributesOnStart(temporal.NewSearchAttributes(
		temporal.NewSearchAttributeKeyTime("TemporalScheduledStartTime").ValueSet(at))))
	return env
}

// listing answers DaysToRollUp with one list after the other.
func listing(env environment, from, to calendar.Day, lists ...[]calendar.Day) {
	for _, days := range lists {
		env.OnActivity(onRollup.DaysToRollUp, mock.Anything, activities.DaysToRollUpInput{From: from, To: to}).
			Return(activities.DaysToRollUpResult{Days: days}, nil).Once()
	}
}

// rollingUp expects rollups, in this order, and answers each.
func rollingUp(env environment, answer error, days ...calendar.Day) {
	for _, day := range days {
		env.OnWorkflow(workflows.RollUpDay, mock.Anything, mock.MatchedBy(func(in workflows.RollUpDayInput) bool { return in.Day == day.String() })).
			Return(workflows.RollUpDayResult{}, answer).Once()
	}
}

// ending expects that a stage is shown, and no other one.
func ending(env environment, stage string) {
	env.OnUpsertTypedSearchAttributes(temporal.NewSearchAttributes(workflows.StageAttribute.ValueSet(stage))).Return(nil).Once()
}

func TestDailyRollUp(t *testing.T) {
	t.Parallel()
	env := scheduled(t, friday.End().Add(5*time.Minute)) // and started late
	// The first of them turns out to be unchanged, so the second is still good.
	listing(env, friday-35, friday, []calendar.Day{friday - 2, friday - 1, friday}, []calendar.Day{friday}, nil)
	rollingUp(env, nil, friday-2, friday)
	ending(env, "done")
	out, err := ended[workflows.DailyRollUpResult](t, env, workflows.DailyRollUp, workflows.DailyRollUpInput{})
	require.NoError(t, err)
	require.Equal(t, workflows.DailyRollUpResult{Day: "2026-10-16", RolledUp: 2}, out)
	require.Equal(t, out, progress[workflows.DailyRollUpResult](t, env))
}

// A run that began before the housekeeping was apart does it itself, and ends without a stage.
func TestDailyRollUpBeforeHousekeeping(t *testing.T) {
	t.Parallel()
	env := scheduled(t, now)
	env.OnGetVersion("housekeeping-apart", workflow.DefaultVersion, workflow.Version(1)).Return(workflow.DefaultVersion)
	env.OnUpsertTypedSearchAttributes(mock.Anything).Return(errors.New("no stage")).Maybe()
	env.OnActivity(onRollup.EnsurePartitions, mock.Anything, mock.Anything).Return(nil).Once()
	listing(env, friday-35, friday, nil)
	expiring(env)
	expiringCredits(env)
	out, err := ended[workflows.DailyRollUpResult](t, env, workflows.DailyRollUp, workflows.DailyRollUpInput{})
	require.NoError(t, err)
	require.Equal(t, workflows.DailyRollUpResult{Day: "2026-10-16"}, out)
}

func TestDailyRollUpWaitsForARollUpThatRuns(t *testing.T) {
	t.Parallel()
	env := scheduled(t, now)
	listing(env, friday-35, friday, []calendar.Day{friday}, []calendar.Day{friday}, nil)
	rollingUp(env, runsAlready, friday, friday)
	env.awaiting("rollup/2026-10-16", 24*time.Hour)
	env.awaiting("rollup/2026-10-16", time.Minute)
	out, err := ended[workflows.DailyRollUpResult](t, env, workflows.DailyRollUp, workflows.DailyRollUpInput{})
	require.NoError(t, err)
	require.Zero(t, out.RolledUp)
	require.Equal(t, 24*time.Hour+time.Minute, env.Now().Sub(now).Truncate(time.Second))
}

// Usage that keeps coming for a day that is over doesn't hold it up for ever.
func TestDailyRollUpLeavesADayThatStaysOutOfDate(t *testing.T) {
	t.Parallel()
	env := scheduled(t, now)
	days := []calendar.Day{friday}
	listing(env, friday-35, friday, days, days, days, days)
	rollingUp(env, nil, friday, friday, friday)
	ending(env, "stale")
	out, err := ended[workflows.DailyRollUpResult](t, env, workflows.DailyRollUp, workflows.DailyRollUpInput{})
	require.NoError(t, err)
	require.Equal(t, workflows.DailyRollUpResult{Day: "2026-10-16", RolledUp: 3, Stale: "2026-10-16"}, out)
	value, err := env.QueryWorkflow("__temporal_workflow_metadata")
	require.NoError(t, err)
	var metadata sdkpb.WorkflowMetadata
	require.NoError(t, value.Get(&metadata))
	require.Contains(t, metadata.GetCurrentDetails(), "Day **2026-10-16** stays out of date")
}

func TestDailyRollUpFails(t *testing.T) {
	t.Parallel()
	t.Run("without a schedule", func(t *testing.T) {
		t.Parallel()
		_, err := ended[workflows.DailyRollUpResult](t, newEnvironment(t, "x"), workflows.DailyRollUp, workflows.DailyRollUpInput{})
		requireRefused(t, err, workflows.TypeInvalidInput, "is started by its schedule")
	})
	t.Run("looking", func(t *testing.T) {
		t.Parallel()
		env := scheduled(t, now)
		env.OnActivity(onRollup.DaysToRollUp, mock.Anything, mock.Anything).Return(activities.DaysToRollUpResult{}, permanently("no table")).Once()
		_, err := ended[workflows.DailyRollUpResult](t, env, workflows.DailyRollUp, workflows.DailyRollUpInput{})
		requireRefused(t, err, activities.TypePermanent, "no table")
	})
	t.Run("a day", func(t *testing.T) {
		t.Parallel()
		env := scheduled(t, now)
		listing(env, friday-35, friday, []calendar.Day{friday})
		rollingUp(env, permanently("cursed"), friday)
		_, err := ended[workflows.DailyRollUpResult](t, env, workflows.DailyRollUp, workflows.DailyRollUpInput{})
		require.ErrorContains(t, err, "roll up 2026-10-16")
		require.ErrorContains(t, err, "cursed")
	})
}

func TestDailyRollUpIsCanceledWhileItWaits(t *testing.T) {
	t.Parallel()
	env := scheduled(t, now)
	env.OnActivity(onRollup.DaysToRollUp, mock.Anything, mock.Anything).Return(activities.DaysToRollUpResult{Days: []calendar.Day{friday}}, nil)
	env.OnWorkflow(workflows.RollUpDay, mock.Anything, mock.Anything).Return(workflows.RollUpDayResult{}, runsAlready)
	env.awaiting("rollup/2026-10-16", time.Hour)
	env.RegisterDelayedCallback(env.CancelWorkflow, 12*time.Second)
	_, err := ended[workflows.DailyRollUpResult](t, env, workflows.DailyRollUp, workflows.DailyRollUpInput{})
	var canceled *temporal.CanceledError
	require.ErrorAs(t, err, &canceled)
}
