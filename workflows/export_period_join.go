package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/calendar"
)

// startExportPeriod runs the period's ExportPeriod, or finds it running. Where a final export is
// wanted, a provisional one that still runs under the same ID is waited for: it closes nothing.
func startExportPeriod(ctx workflow.Context, follow bool, in ExportPeriodInput, period calendar.Period) (ExportPeriodResult, error) {
	options := childOptions(ExportPeriodID(period), ExportPeriodSummary(period), exportPeriodAttributes(period)...)
	options.Memo = map[string]any{MemoRequestedBy: in.RequestedBy}
	for {
		var result ExportPeriodResult
		joined, err := runFixed(ctx, follow, options, ExportPeriod, in, &result)
		if !joined {
			return result, err
		}
		right, err := isRightExport(ctx, period)
		if err != nil {
			return ExportPeriodResult{}, err
		}
		if right {
			return ExportPeriodResult{WorkflowID: options.WorkflowID, Joined: true}, nil
		}
	}
}

// isRightExport reports whether the export of a period that runs already is of the kind that is
// wanted. Where it isn't, or can't be known yet, it waits first.
func isRightExport(ctx workflow.Context, period calendar.Period) (bool, error) {
	if workflow.Now(ctx).Before(period.End()) {
		return true, nil
	}
	var found activities.FindExportResult
	what := "which export of " + period.String() + " runs already"
	err := workflow.ExecuteActivity(forStore(ctx, what), onExport.FindExport, activities.FindExportInput{Period: period}).Get(ctx, &found)
	switch {
	case err != nil:
		return false, err
	case !found.Running:
		return false, pause(ctx, "the export of "+period.String()+" that runs already is not recorded yet")
	case !found.Provisional:
		return true, nil
	}
	return false, awaitRun(ctx, ExportPeriodID(period), "a provisional export of "+period.String()+" runs")
}
