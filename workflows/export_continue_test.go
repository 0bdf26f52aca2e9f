package workflows_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/workflows"
)

// behind has not flushed for two days, since a request is under way.
var behind = billing.AwaitedInstance{
	Instance: uuid.UUID{15: 7}, Host: "api-7", Watermark: october.End().Add(-60 * time.Hour), SeenAt: october.End(),
	Open: 1, OpenSince: october.End().Add(-60 * time.Hour), OpenOrganization: uuid.UUID{15: 9}, OpenMeter: "evaluations",
}

func continuation() workflows.DecideInput {
	return workflows.DecideInput{Action: billing.ActionContinued, Actor: approver, Note: "the disk is gone"}
}

// looking answers one look at the watermarks that takes so long.
func (e environment) looking(patience, after time.Duration, waiting ...billing.AwaitedInstance) {
	e.OnActivity(onFleet.AwaitWatermarks, mock.Anything, activities.AwaitWatermarksInput{Cut: october.End(), Patience: activities.Duration(patience)}).
		Return(activities.AwaitWatermarksResult{Live: 2, Waiting: waiting}, nil).After(after).Once()
}

// held makes an environment whose final export waits for an instance, from the fifth second on.
func held(t *testing.T) environment {
	t.Helper()
	env := newEnvironment(t, "export/2026-10")
	env.SetStartTime(october.End())
	env.OnActivity(onExport.BeginExport, mock.Anything, mock.Anything).Return(begun(false), nil).Once()
	env.looking(5*time.Second, 5*time.Second, behind)
	return env
}

// A close names whom it waits for, and goes on without them by a decision that says so. The days
// that they have not flushed are not rolled up: that would wait for them, too.
func TestExportPeriodGoesOnWithoutWhoIsWaitedFor(t *testing.T) {
	t.Parallel()
	env := held(t)
	env.looking(time.Hour, time.Hour, behind)
	env.looking(time.Hour, time.Hour, behind)
	env.looking(time.Millisecond, time.Second, behind)
	env.OnActivity(onExport.RecordDecision, mock.Anything, mock.MatchedBy(func(in activities.RecordDecisionInput) bool {
		return in.Decision.Action == billing.ActionContinued && in.Decision.Note == "the disk is gone" && len(in.Decision.Without) == 1 && in.Decision.Without[0] == behind
	})).Return(nil).Once()
	env.stage(billing.StageRollups)
	listing(env, october.FirstDay(), october.FirstDay()+27, nil)
	b := begun(false)
	env.answer("", append(env.untilFrozen(b).from("freezing"), env.untilWritten(b, 0)...))
	env.comparing(0)
	env.stage(billing.StageApproving)
	env.recording(billing.ActionApproved)
	env.answer("", env.untilClosed())

	early := env.decide(time.Second, continuation())
	env.RegisterDelayedCallback(func() {
		p := progress[workflows.ExportPeriodProgress](t, env)
		require.Equal(t, billing.StageWaiting, p.Stage)
		require.Equal(t, []billing.AwaitedInstance{behind}, p.Waiting)
	}, time.Minute)
	self := continuation()
	self.Actor = requester
	bySelf := env.decide(2*time.Minute, self)
	silent := continuation()
	silent.Note = "\t"
	silently := env.decide(3*time.Minute, silent)
	continued := env.decide(90*time.Minute, continuation())
	again := env.decide(90*time.Minute+500*time.Millisecond, continuation())
	env.decide(3*time.Hour, approval())
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
	require.NoError(t, err)
	requireRefused(t, early.rejected, workflows.TypeNotAwaiting, "is waiting: it waits for no instance")
	requireRefused(t, bySelf.rejected, workflows.TypeSelfApproval, "somebody else")
	requireRefused(t, silently.rejected, workflows.TypeInvalidInput, "say why the export goes on")
	requireRefused(t, again.rejected, workflows.TypeNotAwaiting, "was continued by controlling a moment ago")
	require.NoError(t, continued.err)
	require.True(t, continued.done)
	require.Equal(t, billing.StageClosed, out.Export.Stage)
	require.Equal(t, []billing.AwaitedInstance{behind}, out.Export.Without)
	require.Empty(t, out.Export.Waiting)
	require.Equal(t, "controlling", out.Export.ContinuedBy)
}

// Whoever has flushed meanwhile is not gone on without: the decision is refused, nothing is
// recorded, and the run goes on by itself.
func TestExportPeriodIsNotContinuedWhereNobodyIsWaitedFor(t *testing.T) {
	t.Parallel()
	env := held(t)
	env.looking(time.Hour, 2*time.Minute)
	env.looking(time.Millisecond, 2*time.Second)
	env.stage(billing.StageRollups)
	listing(env, october.FirstDay(), october.FirstDay()+30, nil)
	b := begun(false)
	env.answer("", append(env.untilFrozen(b).from("freezing"), env.untilWritten(b, 0)...))
	env.comparing(0)
	env.stage(billing.StageApproving)
	env.recording(billing.ActionApproved)
	env.answer("", env.untilClosed())
	late := env.decide(2*time.Minute+4*time.Second, continuation())
	env.decide(3*time.Hour, approval())
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
	require.NoError(t, err)
	requireRefused(t, late.err, workflows.TypeNotAwaiting, "waits for no instance any more")
	require.Empty(t, out.Export.Without)
}

// Canceled while somebody has it go on, the run ends, and nothing is recorded after the cancel.
func TestExportPeriodIsCanceledBeforeItIsContinued(t *testing.T) {
	t.Parallel()
	env := held(t)
	env.looking(time.Hour, time.Hour, behind)
	env.looking(time.Millisecond, time.Minute, behind)
	env.recording(billing.ActionCanceled)
	env.failing(billing.StageCanceled, "canceled in stage waiting by controlling: stop")
	continued := env.decide(10*time.Minute, continuation())
	canceled := env.decide(10*time.Minute+time.Second, workflows.DecideInput{Action: billing.ActionCanceled, Actor: approver, Note: "stop"})
	_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
	var ended *temporal.CanceledError
	require.ErrorAs(t, err, &ended)
	require.NoError(t, canceled.err)
	require.True(t, canceled.done)
	requireRefused(t, continued.err, workflows.TypeNotAwaiting, "was canceled by controlling a moment ago")
}

// eventsOf is how many events of a history a step makes at most: of an activity scheduled, started
// and completed, of the workflow's task after it as many, and a search attribute or a marker.
const eventsOf = 7

// A day's wait is a few looks: the run's history stays short.
func TestExportPeriodLooksOnceAnHour(t *testing.T) {
	t.Parallel()
	env := held(t)
	looks := 0
	env.OnActivity(onFleet.AwaitWatermarks, mock.Anything, activities.AwaitWatermarksInput{Cut: october.End(), Patience: activities.Duration(time.Hour)}).
		Return(activities.AwaitWatermarksResult{Waiting: []billing.AwaitedInstance{behind}}, nil).After(time.Hour).Run(func(mock.Arguments) { looks++ })
	env.failing(billing.StageCanceled, "canceled in stage waiting")
	env.RegisterDelayedCallback(env.CancelWorkflow, 24*time.Hour)
	_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
	var canceled *temporal.CanceledError
	require.ErrorAs(t, err, &canceled)
	require.Less(t, looks*eventsOf, 200, "events of a day's wait")
}
