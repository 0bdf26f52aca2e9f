package workflows

import (
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
)

// Schedules describes the schedules. Their times are UTC. What they start takes its day
// or period from the scheduled time, so a late start does the same as one in time.
func Schedules() []client.ScheduleOptions {
	return []client.ScheduleOptions{
		// One day that can't be closed must not keep the next one from being tried: both
		// meet in the same RollUpDay.
		schedule(DailyRollUpScheduleID, dailyCatchUp,
			client.ScheduleCalendarSpec{Minute: at(5), Hour: at(0), Comment: "every day at 00:05 UTC"},
			client.ScheduleWorkflowAction{
				ID: dailyRollUpID, Workflow: DailyRollUp, Args: []any{DailyRollUpInput{}}, StaticSummary: "Closes the day before",
			}),
		// Each month's export is its own: one that waits doesn't hold up the next.
		schedule(MonthlyExportScheduleID, monthlyCatchUp,
			client.ScheduleCalendarSpec{Minute: at(30), Hour: at(0), DayOfMonth: at(1), Comment: "on the first of the month at 00:30 UTC"},
			client.ScheduleWorkflowAction{
				ID: monthlyExportID, Workflow: MonthlyExport, Args: []any{MonthlyExportInput{}}, StaticSummary: "Exports the billing period before",
			}),
		// A step that waits must not keep the others from being done the next day.
		schedule(HousekeepingScheduleID, housekeepingCatchUp,
			client.ScheduleCalendarSpec{Minute: at(15), Hour: at(0), Comment: "every day at 00:15 UTC"},
			client.ScheduleWorkflowAction{
				ID: housekeepingID, Workflow: Housekeeping, Args: []any{HousekeepingInput{}},
				StaticSummary: "Makes partitions, deletes what is over, expires credits",
			}),
	}
}

// schedule is one whose runs may overlap, on the queue that all workers take.
func schedule(id string, catchUp time.Duration, when client.ScheduleCalendarSpec, action client.ScheduleWorkflowAction) client.ScheduleOptions {
	action.TaskQueue = TaskQueue
	action.Memo = map[string]any{MemoRequestedBy: "schedule"}
	return client.ScheduleOptions{
		ID:            id,
		Spec:          client.ScheduleSpec{Calendars: []client.ScheduleCalendarSpec{when}, TimeZoneName: "UTC"},
		Action:        &action,
		Overlap:       enumspb.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL,
		CatchupWindow: catchUp,
	}
}

// at is the value n of a calendar's field, alone.
func at(n int) []client.ScheduleRange { return []client.ScheduleRange{{Start: n}} }
