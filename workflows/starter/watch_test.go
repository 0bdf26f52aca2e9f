package starter_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/mocks"

	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

// Runs are counted over pages, by type and status; what no program of this version runs is one more type.
func TestEndedRuns(t *testing.T) {
	c := mocks.NewClient(t)
	since := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	run := func(name string, status enumspb.WorkflowExecutionStatus) *workflowpb.WorkflowExecutionInfo {
		return &workflowpb.WorkflowExecutionInfo{Type: &commonpb.WorkflowType{Name: name}, Status: status}
	}
	page := func(token string) any {
		return mock.MatchedBy(func(r *workflowservice.ListWorkflowExecutionsRequest) bool {
			return string(r.GetNextPageToken()) == token
		})
	}
	c.On("ListWorkflow", mock.Anything, page("")).Once().Return(&workflowservice.ListWorkflowExecutionsResponse{
		Executions:    []*workflowpb.WorkflowExecutionInfo{run("RollUpDay", enumspb.WORKFLOW_EXECUTION_STATUS_FAILED), run("Gone", enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED)},
		NextPageToken: []byte("more"),
	}, nil)
	c.On("ListWorkflow", mock.Anything, page("more")).Once().Return(&workflowservice.ListWorkflowExecutionsResponse{
		Executions: []*workflowpb.WorkflowExecutionInfo{run("RollUpDay", enumspb.WORKFLOW_EXECUTION_STATUS_FAILED)},
	}, nil)
	counts, err := starter.EndedRuns(t.Context(), c, "default", since)
	require.NoError(t, err)
	require.EqualValues(t, 2, counts[starter.EndedRun{Type: "RollUpDay", Status: "failed"}])
	require.EqualValues(t, 1, counts[starter.EndedRun{Type: "other", Status: "terminated"}])
	zero, there := counts[starter.EndedRun{Type: "ExportPeriod", Status: "timed_out"}]
	require.True(t, there, "what did not happen is 0")
	require.Zero(t, zero)
	require.NotContains(t, counts, starter.EndedRun{Type: "Gone", Status: "terminated"})
}

// A schedule fired when it last started something; one that never did, when it was made. One that is not there
// is left out.
func TestScheduleStates(t *testing.T) {
	c, schedules := mocks.NewClient(t), mocks.NewScheduleClient(t)
	c.On("ScheduleClient").Return(schedules)
	made, fired := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 28, 0, 5, 1, 0, time.UTC)
	daily, missing, monthly := mocks.NewScheduleHandle(t), mocks.NewScheduleHandle(t), mocks.NewScheduleHandle(t)
	daily.On("Describe", mock.Anything).Return(&client.ScheduleDescription{
		Info: client.ScheduleInfo{CreatedAt: made, RecentActions: []client.ScheduleActionResult{{ActualTime: fired.AddDate(0, 0, -1)}, {ActualTime: fired}}},
	}, nil)
	monthly.On("Describe", mock.Anything).Return(&client.ScheduleDescription{
		Info: client.ScheduleInfo{CreatedAt: made}, Schedule: client.Schedule{State: &client.ScheduleState{Paused: true}},
	}, nil)
	missing.On("Describe", mock.Anything).Maybe().Return(nil, serviceerror.NewNotFound("no"))
	for _, schedule := range workflows.Schedules() {
		handle := missing
		switch schedule.ID {
		case workflows.DailyRollUpScheduleID:
			handle = daily
		case workflows.MonthlyExportScheduleID:
			handle = monthly
		}
		schedules.On("GetHandle", mock.Anything, schedule.ID).Return(handle)
	}
	states, err := starter.ScheduleStates(t.Context(), c)
	require.NoError(t, err)
	require.ElementsMatch(t, []starter.ScheduleState{
		{ID: workflows.DailyRollUpScheduleID, Fired: fired}, {ID: workflows.MonthlyExportScheduleID, Fired: made, Paused: true},
	}, states)
}
