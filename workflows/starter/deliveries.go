package starter

import (
	"context"

	"go.temporal.io/sdk/client"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/workflows"
)

// StartDeliverExport starts the delivery of an export's statements, or finds one of the
// period running.
func StartDeliverExport(ctx context.Context, c client.Client, in workflows.DeliverExportInput) (Started, error) {
	period, err := calendar.ParsePeriod(in.Period)
	if err != nil {
		return Started{}, err
	}
	options := client.StartWorkflowOptions{
		ID:                    workflows.DeliverExportID(period),
		TypedSearchAttributes: workflows.DeliverExportAttributes(period),
		StaticSummary:         workflows.DeliverExportSummary(period),
		Memo:                  map[string]any{workflows.MemoRequestedBy: in.RequestedBy},
	}
	return start(ctx, c, options, workflows.DeliverExport, in)
}
