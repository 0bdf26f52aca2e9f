package workflows_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/workflows"
)

// recordedEvents are the events of a recorded history: the kind of each, or the activity that is scheduled.
func recordedEvents(t *testing.T, file string) (events []string) {
	t.Helper()
	for _, e := range recorded(t, file).GetEvents() {
		one := strings.TrimPrefix(e.GetEventType().String(), "EVENT_TYPE_")
		if a := e.GetActivityTaskScheduledEventAttributes(); a != nil {
			one = a.GetActivityType().GetName()
		}
		events = append(events, one)
	}
	return events
}

// turnOf is how many events there are from one of a kind to the next: one turn of a wait. Where there is just
// one, it is up to the end of the workflow task that is woken up.
func turnOf(events []string, kind string) int {
	rest := events[slices.Index(events, kind)+1:]
	if next := slices.Index(rest, kind); next >= 0 {
		return next + 1
	}
	return slices.Index(rest, "WorkflowTaskCompleted") + 2
}

// counting counts the activities that a run starts, by their names.
func (e environment) counting() map[string]int {
	started := map[string]int{}
	e.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		started[info.ActivityType.Name]++
	})
	return started
}

// TestWhatAWaitCosts counts the events of histories: those of one turn of each wait, as the server has recorded
// them, and the turns that the wait has, in Temporal's test environment. A run of which the server keeps thousands
// of events is slow to take over and continues as new. A number that changes is a decision: say here what it is.
func TestWhatAWaitCosts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		// file has the turn, which begins with a kind of event; run makes turns of an activity.
		file, kind, activity string
		run                  func(*testing.T) map[string]int
		// turn is how many events one has, turns how many there are.
		turn, turns, inAll int
	}{
		{
			"the flush loop, an hour", "flush-loop-flush-now-and-drain.json", "Flush", "Flush", func(t *testing.T) map[string]int {
				t.Helper()
				env := loopEnvironment(t)
				started := env.counting()
				env.OnActivity(onInstance.Flush, mock.Anything, mock.Anything).Return(activities.FlushSummary{}, nil).After(workflows.DefaultEpoch)
				env.RegisterDelayedCallback(env.CancelWorkflow, time.Hour-time.Second)
				env.ExecuteWorkflow(workflows.FlushLoop, workflows.FlushLoopInput{Instance: uuid.Max})
				return started
			}, 6, 6, 36,
		},
		{
			"the dispatch while nothing happens, an hour", "dispatch-events.json", "Dispatch", "Dispatch", func(t *testing.T) map[string]int {
				t.Helper()
				env := newEnvironment(t, workflows.DispatchEventsID)
				workflows.RegisterWebhooks(env)
				started := env.counting()
				env.OnActivity(onWebhooks.Dispatch, mock.Anything, mock.Anything).Return(activities.DispatchSummary{}, nil).After(workflows.DefaultEpoch)
				env.RegisterDelayedCallback(env.CancelWorkflow, time.Hour-time.Second)
				env.ExecuteWorkflow(workflows.DispatchEvents, workflows.DispatchEventsInput{})
				return started
			}, 6, 6, 36,
		},
		{
			"a close that waits for an instance, a day", "export-continued.json", "AwaitWatermarks", "AwaitWatermarks", func(t *testing.T) map[string]int {
				t.Helper()
				env := newEnvironment(t, "export/2026-10")
				env.SetStartTime(october.End())
				started := env.counting()
				env.OnActivity(onExport.BeginExport, mock.Anything, mock.Anything).Return(begun(false), nil).Once()
				env.OnActivity(onFleet.AwaitWatermarks, mock.Anything, mock.Anything).Return(activities.AwaitWatermarksResult{Live: 1, Waiting: []billing.AwaitedInstance{behind}}, nil).
					AfterFn(func() time.Duration {
						if started["AwaitWatermarks"] == 1 {
							return 5 * time.Second
						}
						return time.Hour
					})
				env.OnActivity(onExport.FailExport, mock.Anything, mock.Anything).Return(nil)
				env.RegisterDelayedCallback(env.CancelWorkflow, 24*time.Hour)
				env.ExecuteWorkflow(workflows.ExportPeriod, requestedInput())
				return started
			}, 6, 25, 150,
		},
		{
			"a close that waits for an approval, three days", "export-reminded.json", "TimerFired", "Remind", func(t *testing.T) map[string]int {
				t.Helper()
				env, _ := recordingAll(t, 0, 0, []time.Duration{0}, []bool{false})
				started := env.counting()
				env.OnActivity(onExport.Remind, mock.Anything, mock.Anything).Return(nil)
				env.decide(3*24*time.Hour+time.Hour, approval())
				env.ExecuteWorkflow(workflows.ExportPeriod, requestedInput())
				return started
			}, 11, 3, 33,
		},
		{
			"a rollup that waits for another run, a day", "daily-roll-up-joins.json", "AwaitRun", "AwaitRun", func(t *testing.T) map[string]int {
				t.Helper()
				env := scheduled(t, now)
				started := env.counting()
				listing(env, friday-35, friday, []calendar.Day{friday}, nil)
				rollingUp(env, runsAlready, friday)
				env.awaiting("rollup/2026-10-16", 24*time.Hour)
				env.ExecuteWorkflow(workflows.DailyRollUp, workflows.DailyRollUpInput{})
				return started
			}, 6, 1, 6,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.turn, turnOf(recordedEvents(t, tc.file), tc.kind), "events of one turn")
			require.Equal(t, tc.turns, tc.run(t)[tc.activity], "turns")
			require.Equal(t, tc.inAll, tc.turn*tc.turns)
		})
	}
}

// A run of the housekeeping waits for its steps alone: what else is in its history are workflow tasks, of which
// steps that end together share one.
func TestWhatAHousekeepingCosts(t *testing.T) {
	t.Parallel()
	events := slices.DeleteFunc(recordedEvents(t, "housekeeping.json"), func(one string) bool { return strings.HasPrefix(one, "WorkflowTask") })
	require.Len(t, events, 13, "%v", events)
}
