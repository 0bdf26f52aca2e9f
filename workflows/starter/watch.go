package starter

import (
	"context"
	"fmt"
	"path"
	"reflect"
	"runtime"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/riverline/tollgate/workflows"
)

// EndedRun is how a run of a workflow ended that did not end as it should.
type EndedRun struct {
	// Type is the workflow's name; "other" is one that no program of this version has.
	Type string
	// Status is "failed", "terminated" or "timed_out".
	Status string
}

// endedStatuses are the names of the ends that somebody has to look at. A canceled run is one that somebody
// asked to end.
var endedStatuses = map[enumspb.WorkflowExecutionStatus]string{
	enumspb.WORKFLOW_EXECUTION_STATUS_FAILED:     "failed",
	enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED: "terminated",
	enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:  "timed_out",
}

const (
	// otherType is what runs of workflows are counted under that this program doesn't have.
	otherType = "other"
	// endedPage and endedPages bound how many runs are counted: beyond them the number matters no more.
	endedPage  = 1000
	endedPages = 5
)

// EndedRuns counts the runs that have failed, timed out or been terminated since a time, at most 5,000. Each type of
// workflow has a count for each status.
func EndedRuns(ctx context.Context, c client.Client, namespace string, since time.Time) (map[EndedRun]int64, error) {
	counts := map[EndedRun]int64{}
	known := map[string]bool{otherType: true}
	for _, name := range types() {
		known[name] = true
	}
	for name := range known {
		for _, status := range endedStatuses {
			counts[EndedRun{Type: name, Status: status}] = 0
		}
	}
	request := &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: namespace, PageSize: endedPage,
		Query: fmt.Sprintf("ExecutionStatus IN ('Failed', 'Terminated', 'TimedOut') AND CloseTime > '%s'", since.UTC().Format(time.RFC3339)),
	}
	for range endedPages {
		page, err := c.ListWorkflow(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("list runs that ended: %w", err)
		}
		for _, run := range page.GetExecutions() {
			name := run.GetType().GetName()
			if !known[name] {
				name = otherType
			}
			counts[EndedRun{Type: name, Status: endedStatuses[run.GetStatus()]}]++
		}
		if request.NextPageToken = page.GetNextPageToken(); len(request.NextPageToken) == 0 {
			break
		}
	}
	return counts, nil
}

// ScheduleState is how far a schedule is.
type ScheduleState struct {
	ID string
	// Fired is when it last started something, by itself or by hand; before the first time, when it was made. UTC.
	Fired time.Time
	// Paused says that somebody has paused it.
	Paused bool
}

// ScheduleStates returns the state of each of [workflows.Schedules]. One that is not there is left out.
func ScheduleStates(ctx context.Context, c client.Client) ([]ScheduleState, error) {
	var states []ScheduleState
	for _, schedule := range workflows.Schedules() {
		described, err := c.ScheduleClient().GetHandle(ctx, schedule.ID).Describe(ctx)
		if isNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("describe schedule %s: %w", schedule.ID, err)
		}
		state := ScheduleState{ID: schedule.ID, Fired: described.Info.CreatedAt.UTC()}
		for _, action := range described.Info.RecentActions {
			if action.ActualTime.After(state.Fired) {
				state.Fired = action.ActualTime.UTC()
			}
		}
		if described.Schedule.State != nil {
			state.Paused = described.Schedule.State.Paused
		}
		states = append(states, state)
	}
	return states, nil
}

// types returns the names of all workflows.
func types() []string {
	var n names
	workflows.Register(&n)
	return n.found
}

// names notes what is registered with it.
type names struct {
	worker.WorkflowRegistry
	found []string
}

// RegisterWorkflow notes the name under which Temporal knows a workflow: its function's.
func (n *names) RegisterWorkflow(w any) {
	n.found = append(n.found, path.Ext(runtime.FuncForPC(reflect.ValueOf(w).Pointer()).Name())[1:])
}
