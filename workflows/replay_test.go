package workflows_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"

	"github.com/riverline/tollgate/workflows"
)

// histories is where recorded histories are: one file for each path through a workflow.
const histories = "testdata/histories"

// replay runs the workflow of today on the history of a run.
func replay(history *historypb.History) error { return replayWith(history, registerAll) }

// registerAll registers the workflows of all queues.
func registerAll(registry worker.WorkflowRegistry) {
	workflows.Register(registry)
	workflows.RegisterWebhooks(registry)
}

// replayWith runs workflows that are registered on the history of a run.
func replayWith(history *historypb.History, register func(worker.WorkflowRegistry)) error {
	// What a workflow sets of its search attributes, the SDK writes into the first event.
	first := proto.Clone(history.GetEvents()[0]).(*historypb.HistoryEvent)
	history = &historypb.History{Events: append([]*historypb.HistoryEvent{first}, history.GetEvents()[1:]...)}
	replayer, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{})
	if err != nil {
		return err
	}
	register(replayer)
	// A replay that fails says why by its error; several fail on purpose.
	started := history.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes()
	// A workflow looks at its own ID.
	return replayer.ReplayWorkflowHistoryWithOptions(quietLogger(), history, worker.ReplayWorkflowHistoryOptions{
		OriginalExecution: workflow.Execution{ID: started.GetWorkflowId(), RunID: started.GetOriginalExecutionRunId()},
	})
}

// quietLogger logs nothing.
func quietLogger() log.Logger { return log.NewStructuredLogger(slog.New(slog.DiscardHandler)) }

// recorded reads the history of a file.
func recorded(t *testing.T, file string) *historypb.History {
	t.Helper()
	in, err := os.Open(filepath.Join(histories, file))
	require.NoError(t, err)
	defer func() { require.NoError(t, in.Close()) }()
	history, err := client.HistoryFromJSON(in, client.HistoryJSONOptions{})
	require.NoError(t, err)
	return history
}

// Runs that began with the code of then go on with the code of today.
func TestReplay(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(histories)
	require.NoError(t, err)
	seen := map[string]int{}
	for _, file := range files {
		history := recorded(t, file.Name())
		seen[history.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetWorkflowType().GetName()]++
		t.Run(file.Name(), func(t *testing.T) {
			t.Parallel()
			require.NoError(t, replay(history))
		})
	}
	for workflowType, atLeast := range map[string]int{"FlushLoop": 4, "RollUpDay": 3, "DailyRollUp": 2, "Housekeeping": 1, "ExportPeriod": 4, "DeliverExport": 2, "MonthlyExport": 1, "DispatchEvents": 1, "DeliverEvent": 4} {
		require.GreaterOrEqual(t, seen[workflowType], atLeast, "recorded histories of %s", workflowType)
	}
}

// A replay that accepts everything would prove nothing.
func TestReplayFindsAChange(t *testing.T) {
	t.Parallel()
	history := recorded(t, "roll-up-day-done.json")
	changed := false
	for _, event := range history.GetEvents() {
		if scheduled := event.GetActivityTaskScheduledEventAttributes(); scheduled != nil {
			scheduled.ActivityType.Name, changed = "Another", true
		}
	}
	require.True(t, changed)
	require.ErrorContains(t, replay(history), "nondeterminis")
}

// upserted returns the names of the search attributes that a run has set, in their order.
func upserted(history *historypb.History) (names []string) {
	for _, event := range history.GetEvents() {
		for name := range event.GetUpsertWorkflowSearchAttributesEventAttributes().GetSearchAttributes().GetIndexedFields() {
			names = append(names, name)
		}
	}
	return names
}

// The recipe of versions.go, followed once: the histories of both sides of a change replay.
// The same change without the branch breaks the run from before it.
func TestReplayOnBothSidesOfAChange(t *testing.T) {
	t.Parallel()
	before, after := recorded(t, "daily-roll-up-before-housekeeping-apart.json"), recorded(t, "daily-roll-up.json")
	require.Empty(t, upserted(before))
	require.NoError(t, replay(before))
	require.Equal(t, []string{"TemporalChangeVersion", "TollgateStage"}, upserted(after))
	require.NoError(t, replay(after))

	withoutBranch := func(ctx workflow.Context, in workflows.DailyRollUpInput) (workflows.DailyRollUpResult, error) {
		result, err := workflows.DailyRollUp(ctx, in)
		return result, errors.Join(err, workflow.UpsertTypedSearchAttributes(ctx, workflows.StageAttribute.ValueSet("done")))
	}
	require.ErrorContains(t, replayWith(before, func(registry worker.WorkflowRegistry) {
		registry.RegisterWorkflowWithOptions(withoutBranch, workflow.RegisterOptions{Name: "DailyRollUp"})
	}), "nondeterminis")
}
