package workflows_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/workflows"
)

// histories is where recorded histories are: one file for each path through a workflow.
const histories = "testdata/histories"

// replay runs the workflow of today on the history of a run.
func replay(history *historypb.History) error {
	replayer, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{})
	if err != nil {
		return err
	}
	workflows.Register(replayer)
	started := history.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes()
	// A workflow looks at its own ID.
	return replayer.ReplayWorkflowHistoryWithOptions(nil, history, worker.ReplayWorkflowHistoryOptions{
		OriginalExecution: workflow.Execution{ID: started.GetWorkflowId(), RunID: started.GetOriginalExecutionRunId()},
	})
}

// Runs that began with the code of then go on with the code of today.
func TestReplay(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(histories, "*.json"))
	require.NoError(t, err)
	seen := map[string]int{}
	for _, file := range files {
		in, err := os.Open(file)
		require.NoError(t, err)
		history, err := client.HistoryFromJSON(in, client.HistoryJSONOptions{})
		require.NoError(t, err)
		require.NoError(t, in.Close())
		seen[history.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetWorkflowType().GetName()]++
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			require.NoError(t, replay(history))
		})
	}
	for workflowType, atLeast := range map[string]int{"FlushLoop": 4, "RollUpDay": 3, "DailyRollUp": 1, "ExportPeriod": 4, "DeliverExport": 2, "MonthlyExport": 1, "DispatchEvents": 1, "DeliverEvent": 4} {
		require.GreaterOrEqual(t, seen[workflowType], atLeast, "recorded histories of %s", workflowType)
	}
}

// A replay that accepts everything would prove nothing.
func TestReplayFindsAChange(t *testing.T) {
	t.Parallel()
	in, err := os.Open(filepath.Join(histories, "roll-up-day-done.json"))
	require.NoError(t, err)
	defer func() { require.NoError(t, in.Close()) }()
	history, err := client.HistoryFromJSON(in, client.HistoryJSONOptions{})
	require.NoError(t, err)
	changed := false
	for _, event := range history.GetEvents() {
		if scheduled := event.GetActivityTaskScheduledEventAttributes(); scheduled != nil {
			scheduled.ActivityType.Name, changed = "Another", true
		}
	}
	require.True(t, changed)
	require.ErrorContains(t, replay(history), "nondeterminis")
}
