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
	"github.com/riverline/tollgate/webhooks"
	"github.com/riverline/tollgate/workflows"
)

var (
	someEventID    = uuid.MustParse("0199a000-0000-7000-8000-0000000000e1")
	someEndpointID = uuid.MustParse("0199a000-0000-7000-8000-0000000000f1")
)

func deliveryInput(event, endpoint uuid.UUID) workflows.DeliverEventInput {
	return workflows.DeliverEventInput{Event: event, Endpoint: endpoint, Schedule: []activities.Duration{
		0, activities.Duration(50 * time.Millisecond), activities.Duration(time.Hour),
	}}
}

// standardInput is of a delivery by the schedule of Standard Webhooks.
func standardInput(organization uuid.UUID) workflows.DeliverEventInput {
	in := workflows.DeliverEventInput{Event: someEventID, Endpoint: someEndpointID, Organization: organization}
	for _, wait := range webhooks.StandardSchedule() {
		in.Schedule = append(in.Schedule, activities.Duration(wait))
	}
	return in
}

// delivery is a DeliverEvent in the test environment, with its receiver.
type delivery struct {
	environment
	// statuses are what the receiver answers, by the number of the attempt; the last one stays.
	statuses   []int
	retryAfter time.Duration
	attempts   []time.Time
	recorded   []activities.RecordAttemptInput
}

func newDelivery(t *testing.T, statuses ...int) *delivery {
	t.Helper()
	d := &delivery{environment: newEnvironment(t, workflows.DeliverEventID(someEventID, someEndpointID)), statuses: statuses}
	d.OnActivity(onWebhooks.Attempt, mock.Anything, activities.AttemptInput{Event: someEventID, Endpoint: someEndpointID, Organization: uuid.Max}).Return(
		func(context.Context, activities.AttemptInput) (activities.AttemptResult, error) {
			d.attempts = append(d.attempts, d.Now().UTC())
			status := d.statuses[min(len(d.attempts), len(d.statuses))-1]
			out := activities.AttemptResult{Status: status, At: d.Now().UTC(), RetryAfter: activities.Duration(d.retryAfter)}
			if status/100 != 2 {
				out.Error = "failed"
			}
			return out, nil
		}).Maybe()
	d.OnActivity(onWebhooks.RecordAttempt, mock.Anything, mock.Anything).Return(
		func(_ context.Context, in activities.RecordAttemptInput) error {
			d.recorded = append(d.recorded, in)
			return nil
		}).Maybe()
	return d
}

func (d *delivery) run(t *testing.T) (workflows.DeliverEventProgress, error) {
	t.Helper()
	return ended[workflows.DeliverEventProgress](t, d.environment, workflows.DeliverEvent,
		standardInput(uuid.Max))
}

func (d *delivery) redeliver(after time.Duration) {
	d.RegisterDelayedCallback(func() { d.SignalWorkflow(workflows.SignalRedeliver, nil) }, after)
}

// waits returns the time between each two attempts.
func (d *delivery) waits() (out []time.Duration) {
	for i := 1; i < len(d.attempts); i++ {
		out = append(out, d.attempts[i].Sub(d.attempts[i-1]).Round(time.Second))
	}
	return out
}

func TestDeliverEventAtOnce(t *testing.T) {
	t.Parallel()
	d := newDelivery(t, 204)
	out, err := d.run(t)
	require.NoError(t, err)
	require.Equal(t, workflows.DeliverEventProgress{State: webhooks.Delivered, Attempts: 1, LastStatus: 204}, out)
	require.Len(t, d.recorded, 1)
	require.Equal(t, webhooks.Delivered, d.recorded[0].State)
	require.False(t, d.recorded[0].Manual)
	require.Contains(t, d.recorded[0].ID, "/1")
}

func TestDeliverEventBySchedule(t *testing.T) {
	t.Parallel()
	d := newDelivery(t, 500, 0, 302, 500, 500, 500, 500, 500, 500, 503)
	out, err := d.run(t)
	require.NoError(t, err)
	require.Equal(t, workflows.DeliverEventProgress{State: webhooks.Exhausted, Attempts: 10, LastStatus: 503, LastError: "failed"}, out)
	require.Equal(t, []time.Duration(webhooks.StandardSchedule()[1:]), d.waits())
	require.Len(t, d.recorded, 10)
	ids := map[string]bool{}
	for i, r := range d.recorded {
		ids[r.ID] = true
		require.Equal(t, i < 9, r.State == webhooks.Pending)
		require.Equal(t, i < 9, !r.NextAttemptAt.IsZero())
	}
	require.Len(t, ids, 10)
}

func TestDeliverEventAfterFailures(t *testing.T) {
	t.Parallel()
	d := newDelivery(t, 500, 503, 200)
	d.retryAfter = time.Minute
	d.RegisterDelayedCallback(func() {
		p := progress[workflows.DeliverEventProgress](t, d.environment)
		require.Equal(t, webhooks.Pending, p.State)
		require.Equal(t, 1, p.Attempts)
		require.Equal(t, now.Add(time.Minute).Truncate(time.Second), p.NextAttemptAt.Truncate(time.Second))
	}, 30*time.Second)
	out, err := d.run(t)
	require.NoError(t, err)
	require.Equal(t, webhooks.Delivered, out.State)
	require.Equal(t, []time.Duration{time.Minute, 5 * time.Minute}, d.waits(), "Retry-After counts where it is longer")
}

func TestDeliverEventToAnEndpointThatIsGone(t *testing.T) {
	t.Parallel()
	d := newDelivery(t, 500, 410)
	out, err := d.run(t)
	require.NoError(t, err)
	require.Equal(t, webhooks.Exhausted, out.State)
	require.Equal(t, 2, out.Attempts)
	require.Equal(t, 410, d.recorded[1].Result.Status, "which disables the endpoint")
}

func TestDeliverEventToAnEndpointThatWasDisabled(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, workflows.DeliverEventID(someEventID, someEndpointID))
	what := activities.AttemptInput{Event: someEventID, Endpoint: someEndpointID}
	env.OnActivity(onWebhooks.Attempt, mock.Anything, what).Return(activities.AttemptResult{Withdrawn: "the endpoint is disabled"}, nil).Once()
	env.OnActivity(onWebhooks.EndDelivery, mock.Anything, activities.EndDeliveryInput{AttemptInput: what, Reason: "the endpoint is disabled"}).Return(nil).Once()
	out, err := ended[workflows.DeliverEventProgress](t, env, workflows.DeliverEvent, standardInput(uuid.Nil))
	require.NoError(t, err)
	require.Equal(t, workflows.DeliverEventProgress{State: webhooks.Exhausted, Attempts: 1, LastError: "the endpoint is disabled"}, out)
}

// An attempt that somebody asks for takes nothing from the schedule.
func TestDeliverEventOnDemand(t *testing.T) {
	t.Parallel()
	d := newDelivery(t, 500, 500, 500, 200)
	d.redeliver(time.Minute)
	out, err := d.run(t)
	require.NoError(t, err)
	require.Equal(t, workflows.DeliverEventProgress{State: webhooks.Delivered, Attempts: 4, LastStatus: 200}, out)
	require.Equal(t, []time.Duration{5 * time.Second, 55 * time.Second, 4*time.Minute + 5*time.Second}, d.waits())
	manual := []bool{}
	for _, r := range d.recorded {
		manual = append(manual, r.Manual)
	}
	require.Equal(t, []bool{false, false, true, false}, manual)
	require.Equal(t, d.recorded[1].NextAttemptAt, d.recorded[2].NextAttemptAt)
}

func TestDeliverEventOnDemandDelivers(t *testing.T) {
	t.Parallel()
	d := newDelivery(t, 500, 500, 200)
	d.redeliver(time.Minute)
	d.redeliver(time.Minute)
	out, err := d.run(t)
	require.NoError(t, err)
	require.Equal(t, webhooks.Delivered, out.State)
	require.True(t, d.recorded[2].Manual)
}

func TestDeliverEventCanceled(t *testing.T) {
	t.Parallel()
	d := newDelivery(t, 500)
	d.OnActivity(onWebhooks.EndDelivery, mock.Anything, mock.MatchedBy(func(in activities.EndDeliveryInput) bool {
		return in.Reason == "canceled by an operator"
	})).Return(nil).Once()
	d.RegisterDelayedCallback(d.CancelWorkflow, time.Minute)
	_, err := d.run(t)
	require.True(t, temporal.IsCanceledError(err), err)
	require.Len(t, d.attempts, 2)
}

func TestDeliverEventRefusesInput(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		id, says string
		in       workflows.DeliverEventInput
	}{
		{workflows.DeliverEventID(someEventID, someEndpointID), "must be ids", workflows.DeliverEventInput{Event: someEventID}},
		{workflows.DeliverEventID(someEventID, someEndpointID), "schedule is missing", workflows.DeliverEventInput{Event: someEventID, Endpoint: someEndpointID}},
		{"deliver", "must have the workflow ID deliver/", workflows.DeliverEventInput{Event: someEventID, Endpoint: someEndpointID}},
	} {
		_, err := ended[workflows.DeliverEventProgress](t, newEnvironment(t, tc.id), workflows.DeliverEvent, tc.in)
		requireRefused(t, err, workflows.TypeInvalidInput, tc.says)
	}
}

// What fails for good leaves no delivery pending for ever: each step is tried again.
func TestDeliverEventGoesOnAfterFailuresForGood(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, workflows.DeliverEventID(someEventID, someEndpointID))
	env.OnActivity(onWebhooks.Attempt, mock.Anything, mock.Anything).Return(activities.AttemptResult{}, permanently("no such column")).Once()
	env.OnActivity(onWebhooks.Attempt, mock.Anything, mock.Anything).Return(activities.AttemptResult{Status: 200, At: now}, nil).Once()
	env.OnActivity(onWebhooks.RecordAttempt, mock.Anything, mock.Anything).Return(permanently("no right")).Times(3)
	env.OnActivity(onWebhooks.RecordAttempt, mock.Anything, mock.Anything).Return(nil).Once()
	env.RegisterDelayedCallback(func() {
		require.Equal(t, "no such column", progress[workflows.DeliverEventProgress](t, env).Failure)
	}, 30*time.Second)
	env.RegisterDelayedCallback(func() {
		require.Equal(t, "no right", progress[workflows.DeliverEventProgress](t, env).Failure)
	}, 90*time.Second)
	out, err := ended[workflows.DeliverEventProgress](t, env, workflows.DeliverEvent, standardInput(uuid.Nil))
	require.NoError(t, err)
	require.Equal(t, workflows.DeliverEventProgress{State: webhooks.Delivered, Attempts: 1, LastStatus: 200}, out)
	require.GreaterOrEqual(t, env.Now().Sub(now), 8*time.Minute, "1, and 1, 2 and 4 minutes")
}

func TestDeliverEventThatFailsForGoodCanBeCanceled(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, workflows.DeliverEventID(someEventID, someEndpointID))
	env.OnActivity(onWebhooks.Attempt, mock.Anything, mock.Anything).Return(activities.AttemptResult{Status: 200, At: now}, nil)
	env.OnActivity(onWebhooks.RecordAttempt, mock.Anything, mock.Anything).Return(permanently("no right"))
	env.OnActivity(onWebhooks.EndDelivery, mock.Anything, mock.Anything).Return(nil).Once()
	env.RegisterDelayedCallback(env.CancelWorkflow, 24*time.Hour)
	_, err := ended[workflows.DeliverEventProgress](t, env, workflows.DeliverEvent, standardInput(uuid.Nil))
	require.True(t, temporal.IsCanceledError(err), err)
}

func TestDispatchEventsAddsUpEpochs(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, workflows.DispatchEventsID)
	left := 3
	env.OnActivity(onWebhooks.Dispatch, mock.Anything, activities.DispatchInput{
		Epoch: activities.Duration(10 * time.Minute), Poll: activities.Duration(time.Second),
	}).Return(func(context.Context, activities.DispatchInput) (activities.DispatchSummary, error) {
		if left--; left == 0 {
			env.SetContinueAsNewSuggested(true)
		}
		return activities.DispatchSummary{Events: 2, Deliveries: 3}, nil
	}).After(time.Minute)
	_, err := ended[workflows.DispatchEventsProgress](t, env, workflows.DispatchEvents, workflows.DispatchEventsInput{
		Progress: &workflows.DispatchEventsProgress{Since: now, Epochs: 1, Events: 1, Deliveries: 1},
	})
	require.True(t, workflow.IsContinueAsNewError(err), err)
	require.Equal(t, workflows.DispatchEventsProgress{Since: now, Epochs: 4, Events: 7, Deliveries: 10},
		progress[workflows.DispatchEventsProgress](t, env))
}

func TestDispatchEventsRefusesInput(t *testing.T) {
	t.Parallel()
	_, err := ended[workflows.DispatchEventsProgress](t, newEnvironment(t, "another"), workflows.DispatchEvents, workflows.DispatchEventsInput{})
	requireRefused(t, err, workflows.TypeInvalidInput, "must have the workflow ID dispatch-events")
	_, err = ended[workflows.DispatchEventsProgress](t, newEnvironment(t, workflows.DispatchEventsID), workflows.DispatchEvents,
		workflows.DispatchEventsInput{Poll: activities.Duration(-1)})
	requireRefused(t, err, workflows.TypeInvalidInput, "must be 0 (the default) or more")
}

// Nobody else dispatches events: one failure for good doesn't end it.
func TestDispatchEventsGoesOnAfterAFailureForGood(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, workflows.DispatchEventsID)
	env.OnActivity(onWebhooks.Dispatch, mock.Anything, mock.Anything).Return(activities.DispatchSummary{}, permanently("no such table")).Times(3)
	env.OnActivity(onWebhooks.Dispatch, mock.Anything, mock.Anything).Return(func(context.Context, activities.DispatchInput) (activities.DispatchSummary, error) {
		env.SetContinueAsNewSuggested(true)
		return activities.DispatchSummary{Events: 2, Deliveries: 3, Failed: 1}, nil
	}).Once()
	env.RegisterDelayedCallback(func() {
		require.Equal(t, workflows.DispatchEventsProgress{Since: now, Failed: 3, Error: "no such table"}, progress[workflows.DispatchEventsProgress](t, env))
	}, 150*time.Second)
	_, err := ended[workflows.DispatchEventsProgress](t, env, workflows.DispatchEvents, workflows.DispatchEventsInput{})
	require.True(t, workflow.IsContinueAsNewError(err), err)
	require.Equal(t, workflows.DispatchEventsProgress{Since: now, Epochs: 1, Events: 2, Deliveries: 3, Failed: 4}, progress[workflows.DispatchEventsProgress](t, env))
}
