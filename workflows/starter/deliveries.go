package starter

import (
	"context"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/workflows"
)

// DeliverExportInput says whose statements to deliver.
type DeliverExportInput struct {
	// Period is the billing period, Export the run that issued its statements. Required.
	Period calendar.Period
	Export uuid.UUID
	// RequestedBy says who asks, for people. Required.
	RequestedBy string
}

// StartDeliverExport starts the delivery of an export's statements, or finds one of the
// period running.
func StartDeliverExport(ctx context.Context, c client.Client, in DeliverExportInput) (Started, error) {
	options := client.StartWorkflowOptions{
		ID:                    workflows.DeliverExportID(in.Period),
		TypedSearchAttributes: workflows.DeliverExportAttributes(in.Period),
		StaticSummary:         workflows.DeliverExportSummary(in.Period),
		Memo:                  map[string]any{workflows.MemoRequestedBy: in.RequestedBy},
	}
	return start(ctx, c, options, workflows.DeliverExport, workflows.DeliverExportInput{
		Period: in.Period.String(), Export: in.Export, RequestedBy: in.RequestedBy,
	})
}

// DeliverExportProgress asks the delivery of a period's statements how far it is, one that
// has ended too.
func DeliverExportProgress(ctx context.Context, c client.Client, period calendar.Period) (workflows.DeliverExportProgress, error) {
	return progress[workflows.DeliverExportProgress](ctx, c, workflows.DeliverExportID(period))
}
