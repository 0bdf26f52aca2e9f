package workflows

import "go.temporal.io/sdk/worker"

// Register registers the workflows with a worker on [TaskQueue].
func Register(registry worker.WorkflowRegistry) {
	registry.RegisterWorkflow(FlushLoop)
	registry.RegisterWorkflow(RollUpDay)
	registry.RegisterWorkflow(DailyRollUp)
	registry.RegisterWorkflow(Housekeeping)
	registry.RegisterWorkflow(ExportPeriod)
	registry.RegisterWorkflow(MonthlyExport)
	registry.RegisterWorkflow(DeliverExport)
	registry.RegisterWorkflow(DispatchEvents)
}

// RegisterWebhooks registers the workflow of a delivery with a worker on [WebhooksQueue].
func RegisterWebhooks(registry worker.WorkflowRegistry) { registry.RegisterWorkflow(DeliverEvent) }
