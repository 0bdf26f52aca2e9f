package starter

import (
	"context"
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/riverline/tollgate/workflows"
)

// EnsureDispatchEvents starts the one workflow that dispatches events, or finds it running.
// It may be called any number of times.
func EnsureDispatchEvents(ctx context.Context, c client.Client, in workflows.DispatchEventsInput) (Started, error) {
	options := client.StartWorkflowOptions{
		ID:                    workflows.DispatchEventsID,
		TypedSearchAttributes: workflows.DispatchEventsAttributes(),
		StaticSummary:         workflows.DispatchEventsSummary,
	}
	return start(ctx, c, options, workflows.DispatchEvents, in)
}

// StartDeliverEvent starts the delivery of an event to an endpoint. One that was started before
// is joined, even where it has ended: it is not sent again.
func StartDeliverEvent(ctx context.Context, c client.Client, in workflows.DeliverEventInput) (Started, error) {
	options := deliveryOptions(in)
	options.WorkflowIDReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE
	return start(ctx, c, options, workflows.DeliverEvent, in)
}

// ResumeDeliverEvent starts a delivery that is pending in the store and due, and finds it where it
// runs. A run that has ended and didn't say so is followed by another: it was terminated, or
// the store has forgotten how it ended.
func ResumeDeliverEvent(ctx context.Context, c client.Client, in workflows.DeliverEventInput) (Started, error) {
	return start(ctx, c, deliveryOptions(in), workflows.DeliverEvent, in)
}

// Redeliver makes a delivery try at once. Where it has ended, a new run begins, and with it
// the schedule.
func Redeliver(ctx context.Context, c client.Client, in workflows.DeliverEventInput) (Started, error) {
	options := deliveryOptions(in)
	options.WorkflowIDReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE
	run, err := c.SignalWithStartWorkflow(ctx, options.ID, workflows.SignalRedeliver, nil, options, workflows.DeliverEvent, in)
	if err != nil {
		return Started{}, fmt.Errorf("redeliver by workflow %s: %w", options.ID, err)
	}
	return Started{WorkflowID: options.ID, RunID: run.GetRunID()}, nil
}

func deliveryOptions(in workflows.DeliverEventInput) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{
		ID:                    workflows.DeliverEventID(in.Event, in.Endpoint),
		TaskQueue:             workflows.WebhooksQueue,
		Priority:              workflows.DeliverEventPriority(in.Organization),
		TypedSearchAttributes: workflows.DeliverEventAttributes(in.Organization),
		StaticSummary:         workflows.DeliverEventSummary(in.Event, in.Endpoint),
	}
}
