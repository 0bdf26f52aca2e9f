package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/calendar"
)

// MonthlyExportInput is empty: the period comes from the scheduled time.
type MonthlyExportInput struct{}

// MonthlyExportResult says what was exported.
type MonthlyExportResult struct {
	// Period is the one before that of the scheduled time.
	Period string `json:"period"`
	// Export is how it ended. Where somebody had started it before, it is only joined.
	Export ExportPeriodResult `json:"export"`
}

// MonthlyExport runs on the first of the month, on its schedule, and exports the
// period that has ended.
func MonthlyExport(ctx workflow.Context, _ MonthlyExportInput) (MonthlyExportResult, error) {
	at, err := scheduledAt(ctx, `ExportPeriod with {"period":"YYYY-MM"}`)
	if err != nil {
		return MonthlyExportResult{}, err
	}
	period := calendar.PeriodOf(at).Previous()
	result := MonthlyExportResult{Period: period.String()}
	if err := workflow.SetQueryHandler(ctx, QueryProgress, func() (MonthlyExportResult, error) { return result, nil }); err != nil {
		return result, fmt.Errorf("handle the query %s: %w", QueryProgress, err)
	}
	if err := setAttribute(ctx, PeriodAttribute, period.String()); err != nil {
		return result, err
	}
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("Period %s is exported by `%s`.\n", period, ExportPeriodID(period)))
	result.Export, err = startExportPeriod(ctx, false, ExportPeriodInput{Period: period.String(), RequestedBy: "schedule"}, period)
	return result, err
}
