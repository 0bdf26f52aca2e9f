package workflows_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/workflows"
)

var gone = temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START, nil)

func loopEnvironment(t *testing.T) environment {
	t.Helper()
	return newEnvironment(t, workflows.FlushLoopID(uuid.Max))
}

func loopInput() workflows.FlushLoopInput {
	return workflows.FlushLoopInput{Instance: uuid.Max, Host: "host-1", Epoch: activities.Duration(time.Minute)}
}

// epochs answers Flush with summaries that count up, then with an error. Each epoch
// takes a minute.
func epochs(env environment, n int, then error) {
	env.OnActivity(onInstance.Flush, mock.Anything, activities.FlushInput{Epoch: activities.Duration(time.Minute)}).Return(
		func(context.Context, activities.FlushInput) (activities.FlushSummary, error) {
			n--
			if n < 0 {
				return activities.FlushSummary{}, then
			}
			return activities.FlushSummary{Seq: 7, Watermark: now, Flushes: 6, Failed: 1, Batches: 6, Rows: 100}, nil
		}).After(time.Minute)
}

// endLost ends a loop that an instance has left.
func endLost(env environment) {
	env.OnActivity(onFleet.MarkInstanceLost, mock.Anything, activities.MarkInstanceLostInput{Instance: uuid.Max}).
		Return(activities.MarkInstanceLostResult{Status: meter.InstanceLost, Watermark: now}, nil).Once()
}

func TestFlushLoopAddsUpEpochs(t *testing.T) {
	t.Parallel()
	env := loopEnvironment(t)
	epochs(env, 3, gone)
	endLost(env)
	env.RegisterDelayedCallback(func() {
		p := progress[workflows.FlushLoopProgress](t, env)
		require.Equal(t, workflows.FlushRunning, p.Stage)
		require.Equal(t, 2, p.Epochs)
	}, 150*time.Second)
	out, err := ended[workflows.FlushLoopResult](t, env, workflows.FlushLoop, loopInput())
	require.NoError(t, err)
	require.Equal(t, workflows.FlushLoopResult{Instance: uuid.Max, Progress: workflows.FlushLoopProgress{
		Stage: workflows.FlushLost, Since: now, Seq: 7, Watermark: now, Epochs: 3, Flushes: 18, Failed: 3, Rows: 300,
	}}, out)
}

func TestFlushLoopRefusesInput(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		id, says string
		in       workflows.FlushLoopInput
	}{
		{workflows.FlushLoopID(uuid.Max), "instance is missing", workflows.FlushLoopInput{}},
		{"flush", "must have the workflow ID flush/ffffffff", loopInput()},
		{workflows.FlushLoopID(uuid.Max), "epoch -1s, interval 0s and lost_after 0s must be 0", workflows.FlushLoopInput{Instance: uuid.Max, Epoch: activities.Duration(-time.Second)}},
		{workflows.FlushLoopID(uuid.Max), "interval -1s", workflows.FlushLoopInput{Instance: uuid.Max, Interval: activities.Duration(-time.Second)}},
		{workflows.FlushLoopID(uuid.Max), "lost_after -1s", workflows.FlushLoopInput{Instance: uuid.Max, LostAfter: activities.Duration(-time.Second)}},
	} {
		_, err := ended[workflows.FlushLoopResult](t, newEnvironment(t, tc.id), workflows.FlushLoop, tc.in)
		requireRefused(t, err, workflows.TypeInvalidInput, tc.says)
	}
}

// An instance that flushes seldom counts as lost later, and an epoch has room for a flush.
func TestFlushLoopOfASlowInstance(t *testing.T) {
	t.Parallel()
	env := loopEnvironment(t)
	env.OnActivity(onInstance.Flush, mock.Anything, activities.FlushInput{
		Epoch: activities.Duration(5 * time.Minute), Interval: activities.Duration(5 * time.Minute),
	}).Return(activities.FlushSummary{}, gone)
	endLost(env)
	in := loopInput()
	in.Interval = activities.Duration(5 * time.Minute)
	_, err := ended[workflows.FlushLoopResult](t, env, workflows.FlushLoop, in)
	require.NoError(t, err)
}

func TestFlushLoopAsksTheStoreBeforeItGivesUp(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		status meter.InstanceStatus
		stage  workflows.FlushStage
	}{{meter.InstanceLost, workflows.FlushLost}, {meter.InstanceStopped, workflows.FlushStopped}} {
		t.Run(string(tc.status), func(t *testing.T) {
			t.Parallel()
			env := loopEnvironment(t)
			epochs(env, 1, gone)
			alive := 2
			env.OnActivity(onFleet.MarkInstanceLost, mock.Anything, mock.Anything).Return(
				func(context.Context, activities.MarkInstanceLostInput) (activities.MarkInstanceLostResult, error) {
					alive--
					if alive >= 0 {
						return activities.MarkInstanceLostResult{Alive: true, Status: meter.InstanceLive}, nil
					}
					return activities.MarkInstanceLostResult{Status: tc.status}, nil
				}).Times(3)
			out, err := ended[workflows.FlushLoopResult](t, env, workflows.FlushLoop, loopInput())
			require.NoError(t, err)
			require.Equal(t, tc.stage, out.Progress.Stage)
			require.Equal(t, 1, out.Progress.Epochs)
		})
	}
}

func TestFlushLoopEndsWithWhatCannotBeTriedAgain(t *testing.T) {
	t.Parallel()
	t.Run("flush", func(t *testing.T) {
		t.Parallel()
		env := loopEnvironment(t)
		epochs(env, 0, permanently("no epoch"))
		_, err := ended[workflows.FlushLoopResult](t, env, workflows.FlushLoop, loopInput())
		requireRefused(t, err, activities.TypePermanent, "no epoch")
	})
	t.Run("unknown instance", func(t *testing.T) {
		t.Parallel()
		env := loopEnvironment(t)
		epochs(env, 0, gone)
		env.OnActivity(onFleet.MarkInstanceLost, mock.Anything, mock.Anything).Return(activities.MarkInstanceLostResult{}, permanently("unknown instance"))
		_, err := ended[workflows.FlushLoopResult](t, env, workflows.FlushLoop, loopInput())
		requireRefused(t, err, activities.TypePermanent, "unknown instance")
	})
}

func TestFlushLoopFlushesNow(t *testing.T) {
	t.Parallel()
	env := loopEnvironment(t)
	epochs(env, 2, gone)
	endLost(env)
	env.OnActivity(onInstance.FlushOnce, mock.Anything).Return(activities.FlushSummary{Seq: 8, Watermark: now.Add(time.Second), Flushes: 1, Rows: 5}, nil).Once()
	ok := env.ask(90*time.Second, workflows.UpdateFlushNow)
	out, err := ended[workflows.FlushLoopResult](t, env, workflows.FlushLoop, loopInput())
	require.NoError(t, err)
	require.NoError(t, ok.err)
	require.True(t, ok.done)
	require.Equal(t, 5, ok.summary.Rows)
	require.Equal(t, 13, out.Progress.Flushes)
	require.Equal(t, int64(8), out.Progress.Seq, "an epoch that knows less doesn't set it back")
	require.Equal(t, now.Add(time.Second), out.Progress.Watermark.Add(time.Second), "the store's word at the end")
}

func TestFlushLoopSaysThatAnInstanceIsUnreachable(t *testing.T) {
	t.Parallel()
	env := loopEnvironment(t)
	epochs(env, 2, gone)
	endLost(env)
	env.OnActivity(onInstance.FlushOnce, mock.Anything).Return(activities.FlushSummary{}, gone).Once()
	out := env.ask(90*time.Second, workflows.UpdateFlushNow)
	_, err := ended[workflows.FlushLoopResult](t, env, workflows.FlushLoop, loopInput())
	require.NoError(t, err)
	requireRefused(t, out.err, workflows.TypeInstanceUnreachable, "took no work within 10s")
}

// A store that doesn't answer keeps the loop from nothing: the instance may be alive.
func TestFlushLoopGoesOnWhereTheStoreDoesNotAnswer(t *testing.T) {
	t.Parallel()
	env := loopEnvironment(t)
	flushes, looks := 0, 0
	env.OnActivity(onInstance.Flush, mock.Anything, mock.Anything).Return(
		func(context.Context, activities.FlushInput) (activities.FlushSummary, error) {
			flushes++
			return activities.FlushSummary{}, gone
		})
	env.OnActivity(onFleet.MarkInstanceLost, mock.Anything, mock.Anything).Return(
		func(context.Context, activities.MarkInstanceLostInput) (activities.MarkInstanceLostResult, error) {
			if looks++; flushes < 3 {
				return activities.MarkInstanceLostResult{}, errAway
			}
			return activities.MarkInstanceLostResult{Status: meter.InstanceLost}, nil
		})
	out, err := ended[workflows.FlushLoopResult](t, env, workflows.FlushLoop, loopInput())
	require.NoError(t, err)
	require.Equal(t, workflows.FlushLost, out.Progress.Stage)
	require.Equal(t, 3, flushes)
	require.Greater(t, looks, 3, "it is asked more than once")
	require.Less(t, env.Now().Sub(now), 3*meter.DefaultLostAfter)
}

func TestFlushLoopDrains(t *testing.T) {
	t.Parallel()
	env := loopEnvironment(t)
	epochs(env, 100, nil)
	last := activities.FlushSummary{Seq: 9, Watermark: now.Add(time.Hour), Flushes: 1, Rows: 2}
	env.OnActivity(onInstance.DrainInstance, mock.Anything).Return(last, nil).After(10 * time.Second).Once()
	first := env.ask(90*time.Second, workflows.UpdateDrain)
	second := env.ask(95*time.Second, workflows.UpdateDrain)
	refused := env.ask(96*time.Second, workflows.UpdateFlushNow)
	env.RegisterDelayedCallback(func() {
		require.Equal(t, workflows.FlushDraining, progress[workflows.FlushLoopProgress](t, env).Stage)
	}, 97*time.Second)
	out, err := ended[workflows.FlushLoopResult](t, env, workflows.FlushLoop, loopInput())
	require.NoError(t, err)
	require.Equal(t, workflows.FlushDrained, out.Progress.Stage)
	require.Equal(t, last.Watermark, out.Progress.Watermark)
	for _, drain := range []*asked{first, second} {
		require.True(t, drain.done)
		require.NoError(t, drain.err)
		require.Equal(t, last, drain.summary)
	}
	require.ErrorContains(t, refused.rejected, "is draining: it takes no flush on demand")
}

// An epoch that ends while the instance is being drained isn't followed by another.
func TestFlushLoopBeginsNoEpochWhileDraining(t *testing.T) {
	t.Parallel()
	env := loopEnvironment(t)
	flushes := 0
	env.OnActivity(onInstance.Flush, mock.Anything, mock.Anything).Return(
		func(context.Context, activities.FlushInput) (activities.FlushSummary, error) {
			flushes++
			return activities.FlushSummary{Flushes: 1}, nil
		}).After(time.Minute)
	env.OnActivity(onInstance.DrainInstance, mock.Anything).Return(activities.FlushSummary{}, nil).After(90 * time.Second).Once()
	env.ask(45*time.Second, workflows.UpdateDrain)
	_, err := ended[workflows.FlushLoopResult](t, env, workflows.FlushLoop, loopInput())
	require.NoError(t, err)
	require.Equal(t, 1, flushes)
}

func TestFlushLoopGoesOnAfterADrainThatFailed(t *testing.T) {
	t.Parallel()
	env := loopEnvironment(t)
	epochs(env, 3, gone)
	endLost(env)
	env.OnActivity(onInstance.DrainInstance, mock.Anything).Return(activities.FlushSummary{}, permanently("the store is away")).After(5 * time.Second).Once()
	first := env.ask(90*time.Second, workflows.UpdateDrain)
	second := env.ask(91*time.Second, workflows.UpdateDrain)
	env.RegisterDelayedCallback(func() {
		require.Equal(t, workflows.FlushRunning, progress[workflows.FlushLoopProgress](t, env).Stage)
	}, 100*time.Second)
	out, err := ended[workflows.FlushLoopResult](t, env, workflows.FlushLoop, loopInput())
	require.NoError(t, err)
	require.ErrorContains(t, first.err, "the store is away")
	require.ErrorContains(t, second.err, "the store is away")
	require.Equal(t, 3, out.Progress.Epochs)
}

// The instance is declared lost while its drain waits: the drain has its answer
// before the loop ends, and the loop ends as lost.
func TestFlushLoopIsLostWhileDraining(t *testing.T) {
	t.Parallel()
	env := loopEnvironment(t)
	epochs(env, 0, gone)
	endLost(env)
	env.OnActivity(onInstance.DrainInstance, mock.Anything).Return(activities.FlushSummary{}, gone).After(time.Minute).Once()
	drain := env.ask(30*time.Second, workflows.UpdateDrain)
	refused := env.ask(70*time.Second, workflows.UpdateFlushNow)
	again := env.ask(75*time.Second, workflows.UpdateDrain)
	out, err := ended[workflows.FlushLoopResult](t, env, workflows.FlushLoop, loopInput())
	require.NoError(t, err)
	require.Equal(t, workflows.FlushLost, out.Progress.Stage)
	requireRefused(t, drain.err, workflows.TypeInstanceUnreachable, "took no work")
	requireRefused(t, again.err, workflows.TypeInstanceUnreachable, "took no work")
	require.ErrorContains(t, refused.rejected, "is lost: it takes no flush on demand")
}

func TestFlushLoopContinuesAsNew(t *testing.T) {
	t.Parallel()
	env := loopEnvironment(t)
	epochs(env, 100, nil)
	env.RegisterDelayedCallback(func() { env.SetContinueAsNewSuggested(true) }, 90*time.Second)
	_, err := ended[workflows.FlushLoopResult](t, env, workflows.FlushLoop, loopInput())
	var next *workflow.ContinueAsNewError
	require.ErrorAs(t, err, &next)
	require.Equal(t, "FlushLoop", next.WorkflowType.Name)
}

// What continues a run goes on counting, and sets no search attribute again.
func TestFlushLoopGoesOnCounting(t *testing.T) {
	t.Parallel()
	env := loopEnvironment(t)
	epochs(env, 1, gone)
	endLost(env)
	in := loopInput()
	in.Progress = &workflows.FlushLoopProgress{Stage: workflows.FlushRunning, Since: now.Add(-time.Hour), Epochs: 60, Flushes: 360, Rows: 6000}
	out, err := ended[workflows.FlushLoopResult](t, env, workflows.FlushLoop, in)
	require.NoError(t, err)
	require.Equal(t, 61, out.Progress.Epochs)
	require.Equal(t, 366, out.Progress.Flushes)
	require.Equal(t, now.Add(-time.Hour), out.Progress.Since)
}

// A drain that arrives when a run should continue as new is answered by that run.
func TestFlushLoopDrainsBeforeItContinuesAsNew(t *testing.T) {
	t.Parallel()
	env := loopEnvironment(t)
	epochs(env, 100, nil)
	env.OnActivity(onInstance.DrainInstance, mock.Anything).Return(activities.FlushSummary{}, nil).After(time.Minute).Once()
	drain := env.ask(45*time.Second, workflows.UpdateDrain)
	env.RegisterDelayedCallback(func() { env.SetContinueAsNewSuggested(true) }, 50*time.Second)
	out, err := ended[workflows.FlushLoopResult](t, env, workflows.FlushLoop, loopInput())
	require.NoError(t, err)
	require.NoError(t, drain.err)
	require.Equal(t, workflows.FlushDrained, out.Progress.Stage)
}

// So is a flush on demand: the run continues after it.
func TestFlushLoopFlushesBeforeItContinuesAsNew(t *testing.T) {
	t.Parallel()
	env := loopEnvironment(t)
	epochs(env, 100, nil)
	env.OnActivity(onInstance.FlushOnce, mock.Anything).Return(activities.FlushSummary{Flushes: 1}, nil).After(time.Minute).Once()
	flush := env.ask(45*time.Second, workflows.UpdateFlushNow)
	env.RegisterDelayedCallback(func() { env.SetContinueAsNewSuggested(true) }, 50*time.Second)
	_, err := ended[workflows.FlushLoopResult](t, env, workflows.FlushLoop, loopInput())
	var next *workflow.ContinueAsNewError
	require.ErrorAs(t, err, &next)
	require.True(t, flush.done)
	require.NoError(t, flush.err)
}

func TestFlushLoopIsCanceled(t *testing.T) {
	t.Parallel()
	env := loopEnvironment(t)
	epochs(env, 100, nil)
	env.RegisterDelayedCallback(env.CancelWorkflow, 90*time.Second)
	_, err := ended[workflows.FlushLoopResult](t, env, workflows.FlushLoop, loopInput())
	var canceled *temporal.CanceledError
	require.ErrorAs(t, err, &canceled)
}
