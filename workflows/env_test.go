package workflows_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/workflows"
)

// The groups of activities, for their methods' names.
var (
	onInstance *activities.Instance
	onFleet    *activities.Fleet
	onRollup   *activities.Rollup
	onCredits  *activities.Credits
	onExport   *activities.Export
	onRuns     *activities.Runs
	onWebhooks *activities.Webhooks
	onSinks    *activities.Sinks
)

// environment is Temporal's test environment: time passes as fast as it can.
type environment struct {
	*testsuite.TestWorkflowEnvironment
}

// now is when every test begins.
var now = time.Date(2026, 10, 17, 12, 0, 0, 123456789, time.UTC)

func newEnvironment(t *testing.T, workflowID string) environment {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quietLogger())
	env := suite.NewTestWorkflowEnvironment()
	workflows.Register(env)
	for _, group := range []any{&activities.Instance{}, &activities.Fleet{}, &activities.Rollup{}, &activities.Credits{}, &activities.Export{}, &activities.Runs{}, &activities.Webhooks{}, &activities.Sinks{}} {
		env.RegisterActivity(group)
	}
	env.SetStartTime(now)
	env.SetWorkflowRunTimeout(30 * 24 * time.Hour)
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: workflowID, TaskQueue: workflows.TaskQueue})
	t.Cleanup(func() { env.AssertExpectations(t) })
	return environment{env}
}

// ended runs a workflow and returns its result.
func ended[T any](t *testing.T, env environment, workflow, input any) (T, error) {
	t.Helper()
	env.ExecuteWorkflow(workflow, input)
	require.True(t, env.IsWorkflowCompleted())
	var out T
	if err := env.GetWorkflowError(); err != nil {
		return out, err
	}
	require.NoError(t, env.GetWorkflowResult(&out))
	return out, nil
}

// progress asks a workflow how far it is.
func progress[T any](t *testing.T, env environment) T {
	t.Helper()
	value, err := env.QueryWorkflow(workflows.QueryProgress)
	require.NoError(t, err)
	var out T
	require.NoError(t, value.Get(&out))
	return out
}

// requireRefused checks that a workflow ended for good with an error of a type.
func requireRefused(t *testing.T, err error, kind, says string) {
	t.Helper()
	var refused *temporal.ApplicationError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, kind, refused.Type())
	require.True(t, refused.NonRetryable())
	require.ErrorContains(t, err, says)
}

// permanently is a failure of an activity that isn't tried again.
func permanently(says string) error {
	return temporal.NewNonRetryableApplicationError(says, activities.TypePermanent, errors.New(says))
}

// awaiting answers one wait for another run, which ends after a time.
func (e environment) awaiting(id string, after time.Duration) {
	e.OnActivity(onRuns.AwaitRun, mock.Anything, activities.AwaitRunInput{WorkflowID: id}).Return(nil).After(after).Once()
}

// asked is the outcome of an update.
type asked struct {
	rejected error
	done     bool
	summary  activities.FlushSummary
	decided  workflows.DecideResult
	err      error
}

// ask sends an update after a delay.
func (e environment) ask(after time.Duration, update string, args ...any) *asked {
	out := &asked{}
	e.RegisterDelayedCallback(func() {
		e.UpdateWorkflow(update, uuid.NewString(), &testsuite.TestUpdateCallback{
			OnAccept: func() {},
			OnReject: func(err error) { out.rejected = err },
			OnComplete: func(result any, err error) {
				out.done, out.err = true, err
				switch result := result.(type) {
				case activities.FlushSummary:
					out.summary = result
				case workflows.DecideResult:
					out.decided = result
				}
			},
		}, args...)
	}, after)
	return out
}

// Every workflow and every activity is known by one name: two groups with a method of
// the same name pass in the test environment, and panic on a real worker.
func TestEverythingRegistersOnARealWorker(t *testing.T) {
	t.Parallel()
	c, err := client.NewLazyClient(client.Options{HostPort: "127.0.0.1:1"})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	w := worker.New(c, workflows.TaskQueue, workflows.WorkerOptions())
	store := newFakeStore()
	workflows.Register(w)
	workflows.RegisterWebhooks(w)
	w.RegisterActivity(activities.NewFleet(activities.FleetConfig{Store: store}))
	w.RegisterActivity(activities.NewRuns(activities.RunsConfig{IsRunning: func(context.Context, string) (bool, error) { return false, nil }}))
	w.RegisterActivity(activities.NewRollup(activities.RollupConfig{Store: store}))
	w.RegisterActivity(activities.NewCredits(activities.CreditsConfig{Store: store}))
	w.RegisterActivity(activities.NewExport(activities.ExportConfig{Store: store, Blobs: noBlobs{}, Program: "1.0.0"}))
	w.RegisterActivity(activities.NewWebhooks(activities.WebhooksConfig{Store: store, Sender: store, Start: store.startNothing}))
	w.RegisterActivity(activities.NewSinks(activities.SinksConfig{Store: store}))
	// On its own queue in truth; here, so that its names are compared with the others.
	w.RegisterActivity(activities.NewInstance(activities.InstanceConfig{ID: uuid.Max, Flusher: &fakeFlusher{}, Store: store}))
	require.Panics(t, func() { w.RegisterActivity(&activities.Rollup{}) }, "a real worker finds a name that is taken")

	own := worker.New(c, workflows.InstanceQueue(uuid.Max), workflows.InstanceWorkerOptions())
	own.RegisterActivity(activities.NewInstance(activities.InstanceConfig{ID: uuid.Max, Flusher: &fakeFlusher{}, Store: store}))
	require.True(t, workflows.InstanceWorkerOptions().DisableWorkflowWorker)
}

func TestNames(t *testing.T) {
	t.Parallel()
	require.Equal(t, "tollgate-instance-ffffffff-ffff-ffff-ffff-ffffffffffff", workflows.InstanceQueue(uuid.Max))
	require.Equal(t, "flush/ffffffff-ffff-ffff-ffff-ffffffffffff", workflows.FlushLoopID(uuid.Max))
	require.Equal(t, "rollup/2026-10-16", workflows.RollUpDayID(friday))
	require.Equal(t, "export/2026-10", workflows.ExportPeriodID(october))
	require.Equal(t, "export/2026-10/deliver", workflows.DeliverExportID(october))
	require.Equal(t, "deliver/ffffffff-ffff-ffff-ffff-ffffffffffff/ffffffff-ffff-ffff-ffff-ffffffffffff", workflows.DeliverEventID(uuid.Max, uuid.Max))
	require.Equal(t, "dispatch-events", workflows.DispatchEventsID)
	require.Len(t, workflows.SearchAttributes(), 4)
	ids := map[string]bool{}
	for _, schedule := range workflows.Schedules() {
		ids[schedule.ID] = true
		require.Positive(t, schedule.CatchupWindow, "explicit")
		require.NotZero(t, schedule.Overlap, "explicit")
		require.Equal(t, "UTC", schedule.Spec.TimeZoneName)
	}
	require.Equal(t, map[string]bool{"daily-rollup": true, "monthly-export": true, "housekeeping": true}, ids)
}
