package workflows

import "go.temporal.io/sdk/worker"

// Register registers every workflow with a worker on [TaskQueue].
func Register(registry worker.WorkflowRegistry) {
	registry.RegisterWorkflow(FlushLoop)
	registry.RegisterWorkflow(RollUpDay)
	registry.RegisterWorkflow(DailyRollUp)
	registry.RegisterWorkflow(Housekeeping)
	registry.RegisterWorkflow(ExportPeriod)
	registry.RegisterWorkflow(MonthlyExport)
	registry.RegisterWorkflow(DeliverExport)
	registry.RegisterWorkflow(DispatchEvents)
	registry.RegisterWorkflow(DeliverEvent)
}
