package workflows

import (
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
)

// Schedules describes the schedules. Their times are UTC. What they start takes its day
// or period from the scheduled time, so a late start does the same as one in time.
func Schedules() []client.ScheduleOptions {
	at := func(n int) []client.ScheduleRange { return []client.ScheduleRange{{Start: n}} }
	return []client.ScheduleOptions{
		{
			ID: DailyRollUpScheduleID,
			Spec: client.ScheduleSpec{
				Calendars:    []client.ScheduleCalendarSpec{{Minute: at(5), Hour: at(0), Comment: "every day at 00:05 UTC"}},
				TimeZoneName: "UTC",
			},
			Action: &client.ScheduleWorkflowAction{
				ID: dailyRollUpID, Workflow: DailyRollUp, Args: []any{DailyRollUpInput{}}, TaskQueue: TaskQueue,
				Memo:          map[string]any{MemoRequestedBy: "schedule"},
				StaticSummary: "Closes the day before",
			},
			// One day that can't be closed must not keep the next one from being tried: both
			// meet in the same RollUpDay.
			Overlap:       enumspb.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL,
			CatchupWindow: dailyCatchUp,
		},
		{
			ID: MonthlyExportScheduleID,
			Spec: client.ScheduleSpec{
				Calendars:    []client.ScheduleCalendarSpec{{Minute: at(30), Hour: at(0), DayOfMonth: at(1), Comment: "on the first of the month at 00:30 UTC"}},
				TimeZoneName: "UTC",
			},
			Action: &client.ScheduleWorkflowAction{
				ID: monthlyExportID, Workflow: MonthlyExport, Args: []any{MonthlyExportInput{}}, TaskQueue: TaskQueue,
				Memo:          map[string]any{MemoRequestedBy: "schedule"},
				StaticSummary: "Exports the billing period before",
			},
			// Each month's export is its own: one that waits doesn't hold up the next.
			Overlap:       enumspb.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL,
			CatchupWindow: monthlyCatchUp,
		},
		{
			ID: HousekeepingScheduleID,
			Spec: client.ScheduleSpec{
				Calendars:    []client.ScheduleCalendarSpec{{Minute: at(15), Hour: at(0), Comment: "every day at 00:15 UTC"}},
				TimeZoneName: "UTC",
			},
			Action: &client.ScheduleWorkflowAction{
				ID: housekeepingID, Workflow: Housekeeping, Args: []any{HousekeepingInput{}}, TaskQueue: TaskQueue,
				Memo:          map[string]any{MemoRequestedBy: "schedule"},
				StaticSummary: "Makes partitions, deletes what is over, expires credits",
			},
			// A step that waits must not keep the others from being done the next day.
			Overlap:       enumspb.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL,
			CatchupWindow: housekeepingCatchUp,
		},
	}
}
