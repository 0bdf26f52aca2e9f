package workflows_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

// versionsOf returns the changes by which a run has gone, and on which side.
func versionsOf(t *testing.T, history *historypb.History) map[string]workflow.Version {
	t.Helper()
	out := map[string]workflow.Version{}
	for _, event := range history.GetEvents() {
		marker := event.GetMarkerRecordedEventAttributes()
		if marker.GetMarkerName() != "Version" {
			continue
		}
		var id string
		var version workflow.Version
		require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(marker.GetDetails()["change-id"], &id))
		require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(marker.GetDetails()["version"], &version))
		out[id] = version
	}
	return out
}

// No branch goes that a recorded history needs: each change by which one has gone is listed, with a
// branch for its side. And no history goes of a branch that is there.
func TestEveryChangeHasItsHistories(t *testing.T) {
	t.Parallel()
	listed := map[string]workflows.Change{}
	for _, change := range workflows.Changes() {
		require.NotContains(t, listed, change.ID)
		require.NotEmpty(t, change.Types)
		require.LessOrEqual(t, change.Least, change.Most)
		listed[change.ID] = change
	}
	files, err := os.ReadDir(histories)
	require.NoError(t, err)
	before, with := map[string]bool{}, map[string]bool{}
	for _, file := range files {
		if _, id, found := strings.Cut(strings.TrimSuffix(file.Name(), ".json"), "-before-"); found {
			before[id] = true
		}
		for id, version := range versionsOf(t, recorded(t, file.Name())) {
			change, known := listed[id]
			require.True(t, known, "%s: the change %s is in histories for ever: list it", file.Name(), id)
			require.True(t, change.Least <= version && version <= change.Most, "%s: no branch for version %d of %s", file.Name(), version, id)
			with[id] = with[id] || version == change.Most
		}
	}
	for id, change := range listed {
		require.Equal(t, change.Least == workflow.DefaultVersion, before[id], "a history from before %s is kept as long as its branch is", id)
		require.True(t, with[id], "a history with the newest side of %s", id)
	}
	for id := range before {
		require.Contains(t, listed, id)
	}
}

// A change that isn't listed would be dropped by whoever doesn't know of it.
func TestOnlyListedChangesBranch(t *testing.T) {
	t.Parallel()
	sources, err := filepath.Glob("*.go")
	require.NoError(t, err)
	calls := 0
	for _, name := range sources {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		require.NoError(t, err)
		n := strings.Count(string(source), "workflow.GetVersion(")
		require.True(t, n == 0 || name == "versions.go", "%s asks for a version: a Change does", name)
		calls += n
	}
	require.Equal(t, 1, calls)
}

// What a worker is handed of a run that it doesn't know is any prefix of its history, up to the task at
// hand.
func TestReplayEveryPrefix(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(histories)
	require.NoError(t, err)
	replayed := 0
	for _, file := range files {
		history := recorded(t, file.Name())
		for i, event := range history.GetEvents() {
			if i < 2 || i == len(history.GetEvents())-1 || event.GetEventType() != enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED {
				continue
			}
			require.NoError(t, replay(&historypb.History{Events: history.GetEvents()[:i+1]}), "%s, the first %d events", file.Name(), i+1)
			replayed++
		}
	}
	require.Greater(t, replayed, 300)
}

// A branch is not dropped under a run that needs it: the worker says so, and doesn't start.
func TestServerABranchIsNotDroppedUnderARun(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	run := s.requestExport(t, workflows.ExportPeriodInput{})
	var logged strings.Builder
	dropped := []workflows.Change{
		{ID: "some-change", Types: []string{"ExportPeriod", "MonthlyExport"}, Least: 1, Most: 2},
		{ID: "kept", Types: []string{"ExportPeriod"}, Least: workflow.DefaultVersion, Most: 1},
		{ID: "of-others", Types: []string{"DeliverEvent"}, Least: 1, Most: 1},
	}
	check := func() error {
		return starter.CheckChanges(t.Context(), s.client, s.namespace, dropped, slog.New(slog.NewTextHandler(&logged, nil)))
	}
	eventually(t, "the run is seen", func() bool { return check() != nil })
	require.ErrorIs(t, check(), starter.ErrBranchNeeded)
	require.ErrorContains(t, check(), "1 runs of ExportPeriod, MonthlyExport began before the change some-change")
	require.NoError(t, s.client.TerminateWorkflow(t.Context(), run.WorkflowID, run.RunID, "for the test"))
	eventually(t, "the end is seen", func() bool { return check() == nil })
	require.Contains(t, logged.String(), "change=some-change")
	require.NotContains(t, logged.String(), "change=kept")
	require.NotContains(t, logged.String(), "change=of-others")
}
