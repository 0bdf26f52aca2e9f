package workflows

import (
	"fmt"
	"strconv"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/activities"
)

// DispatchEventsInput says how to look for events.
type DispatchEventsInput struct {
	// Epoch is how long one activity looks. Zero: [DefaultEpoch].
	Epoch activities.Duration `json:"epoch,omitzero"`
	// Poll is the time between two looks. Zero: 1 s.
	Poll activities.Duration `json:"poll,omitzero"`
	// Progress is that of the run before, which continued as this one. Nil at first.
	Progress *DispatchEventsProgress `json:"progress,omitempty"`
}

// DispatchEventsProgress is what a [DispatchEvents] has done.
type DispatchEventsProgress struct {
	// Since is when it began, UTC.
	Since time.Time `json:"since"`
	// Epochs counts the epochs that are over, Events and Deliveries what was dispatched
	// and started in them.
	Epochs     int   `json:"epochs"`
	Events     int64 `json:"events"`
	Deliveries int64 `json:"deliveries"`
	// Failed counts the failures for good, of single events and of whole epochs. Error is that of
	// the last epoch; empty where it went well.
	Failed int64  `json:"failed,omitempty"`
	Error  string `json:"error,omitempty"`
}

// The stages of a [DispatchEvents].
const (
	stageDispatching = "dispatching"
	stageFailing     = "failing" // the last epoch failed for good; another one is tried
)

// DispatchEvents starts a [DeliverEvent] for each event and each endpoint that wants it. An
// epoch is one activity. One that fails for good is tried again after a while: somebody may mend the
// cause, and nobody else dispatches. It goes on until it is canceled, and continues as new when the
// server suggests it.
func DispatchEvents(ctx workflow.Context, in DispatchEventsInput) (DispatchEventsProgress, error) {
	if id := workflow.GetInfo(ctx).WorkflowExecution.ID; id != DispatchEventsID {
		return DispatchEventsProgress{}, refuse(TypeInvalidInput, "a DispatchEvents must have the workflow ID %s: one is enough", DispatchEventsID)
	}
	if in.Epoch < 0 || in.Poll < 0 {
		return DispatchEventsProgress{}, refuse(TypeInvalidInput, "epoch %s and poll %s must be 0 (the default) or more", in.Epoch, in.Poll)
	}
	epoch, poll := time.Duration(in.Epoch), time.Duration(in.Poll)
	if epoch == 0 {
		epoch = DefaultEpoch
	}
	if poll == 0 {
		poll = dispatchPoll
	}
	progress := DispatchEventsProgress{Since: workflow.Now(ctx).UTC()}
	if in.Progress != nil {
		progress = *in.Progress
	}
	if err := workflow.SetQueryHandler(ctx, QueryProgress, func() (DispatchEventsProgress, error) { return progress, nil }); err != nil {
		return progress, fmt.Errorf("handle the query %s: %w", QueryProgress, err)
	}
	showDispatch(ctx, progress)
	for {
		var summary activities.DispatchSummary
		err := workflow.ExecuteActivity(forDispatch(ctx, epoch), onWebhooks.Dispatch, activities.DispatchInput{
			Epoch: activities.Duration(epoch), Poll: activities.Duration(poll),
		}).Get(ctx, &summary)
		if err != nil && isCanceled(ctx) {
			return progress, err
		}
		if err := progress.add(ctx, summary, err); err != nil {
			return progress, err
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			next := in
			next.Progress = &progress
			return progress, workflow.NewContinueAsNewError(ctx, DispatchEvents, next)
		}
	}
}

// add takes in an epoch that is over, shows it, and after a failure waits.
func (p *DispatchEventsProgress) add(ctx workflow.Context, summary activities.DispatchSummary, failure error) error {
	before := p.stage()
	p.Error = ""
	p.Events += int64(summary.Events)
	p.Deliveries += int64(summary.Deliveries)
	p.Failed += int64(summary.Failed)
	if failure == nil {
		p.Epochs++
	} else {
		p.Failed++
		p.Error = reason(failure)
		workflow.GetLogger(ctx).Error("Events can't be dispatched: it is tried again", "error", failure)
	}
	showDispatch(ctx, *p)
	if stage := p.stage(); stage != before {
		if err := setStage(ctx, stage); err != nil {
			return err
		}
	}
	if failure == nil {
		return nil
	}
	return waitToTryAgain(ctx, againFirst)
}

func (p *DispatchEventsProgress) stage() string {
	if p.Error != "" {
		return stageFailing
	}
	return stageDispatching
}

func showDispatch(ctx workflow.Context, p DispatchEventsProgress) {
	failed := ""
	if p.Failed > 0 {
		failed = strconv.FormatInt(p.Failed, 10)
	}
	workflow.SetCurrentDetails(ctx, "**"+p.stage()+"**\n\n"+table(
		[2]string{"events", strconv.FormatInt(p.Events, 10)},
		[2]string{"deliveries started", strconv.FormatInt(p.Deliveries, 10)},
		[2]string{"epochs", fmt.Sprintf("%d since %s", p.Epochs, stamp(p.Since))},
		[2]string{"failed for good", failed},
		[2]string{"error", p.Error},
	))
}

// DispatchEventsAttributes are the search attributes with which a DispatchEvents is started.
func DispatchEventsAttributes() temporal.SearchAttributes {
	return temporal.NewSearchAttributes(StageAttribute.ValueSet(stageDispatching))
}

// DispatchEventsSummary is the one line that lists of workflows show of a DispatchEvents.
const DispatchEventsSummary = "Starts the deliveries of events to webhook endpoints"
