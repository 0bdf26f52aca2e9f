package workflows

import (
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/webhooks"
)

// DeliverEventInput says what to deliver where.
type DeliverEventInput struct {
	// Event and Endpoint are their ids. Required.
	Event    uuid.UUID `json:"event"`
	Endpoint uuid.UUID `json:"endpoint"`
	// Organization is that of the endpoint; [uuid.Nil] is the platform.
	Organization uuid.UUID `json:"organization,omitzero"`
	// Made counts the attempts of the schedule that runs made which Temporal has lost: it is tried at
	// once, as the one after them. Zero: it is the first run.
	Made int `json:"made,omitempty"`
	// Schedule is the time before each attempt. Required: a run keeps the one with which it was started.
	Schedule []activities.Duration `json:"schedule"`
}

// DeliverEventProgress is how far a delivery is; it is the result, too.
type DeliverEventProgress struct {
	// State is pending, delivered or exhausted.
	State webhooks.State `json:"state"`
	// Attempts counts the attempts of this run, those that somebody asked for included.
	Attempts int `json:"attempts"`
	// NextAttemptAt is when it is tried again, UTC; zero where it is not.
	NextAttemptAt time.Time `json:"next_attempt_at,omitzero"`
	// LastStatus is the HTTP status of the last attempt, 0 where there was no answer, and
	// LastError what went wrong.
	LastStatus int    `json:"last_status,omitempty"`
	LastError  string `json:"last_error,omitempty"`
	// Failure is why a step of ours failed for good, which is tried again; empty otherwise.
	Failure string `json:"failure,omitempty"`
}

// DeliverEvent delivers one event to one endpoint: it tries by the schedule until the
// receiver answers 2xx, the endpoint is gone or the schedule is over. The signal
// [SignalRedeliver] makes it try at once, which takes nothing from the schedule; for a
// delivery that has ended, it begins a new run and with that the schedule.
func DeliverEvent(ctx workflow.Context, in DeliverEventInput) (DeliverEventProgress, error) {
	d, err := newDelivery(ctx, in)
	if err != nil {
		return DeliverEventProgress{}, err
	}
	for {
		manual, err := d.await(ctx)
		if err == nil {
			err = d.attempt(ctx, manual)
		}
		if err != nil && isCanceled(ctx) {
			err = d.cancel(ctx)
			return d.progress, err
		}
		if err != nil {
			return d.progress, err
		}
		d.show(ctx)
		// What is asked for while an attempt is under way is another attempt.
		if d.progress.State.Ended() && d.asked.Len() == 0 {
			return d.progress, setStage(ctx, string(d.progress.State))
		}
	}
}

type eventDelivery struct {
	in       DeliverEventInput
	schedule webhooks.Schedule
	// made counts the attempts of the schedule.
	made     int
	asked    workflow.ReceiveChannel
	progress DeliverEventProgress
}

func newDelivery(ctx workflow.Context, in DeliverEventInput) (*eventDelivery, error) {
	if in.Event == uuid.Nil || in.Endpoint == uuid.Nil {
		return nil, refuse(TypeInvalidInput, "event %s and endpoint %s must be ids", in.Event, in.Endpoint)
	}
	if want := DeliverEventID(in.Event, in.Endpoint); workflow.GetInfo(ctx).WorkflowExecution.ID != want {
		return nil, refuse(TypeInvalidInput, "a DeliverEvent of event %s to endpoint %s must have the workflow ID %s: it would be sent twice", in.Event, in.Endpoint, want)
	}
	if len(in.Schedule) == 0 {
		return nil, refuse(TypeInvalidInput, "schedule is missing: it must be the time before each attempt")
	}
	d := &eventDelivery{
		in: in, asked: workflow.GetSignalChannel(ctx, SignalRedeliver), progress: DeliverEventProgress{State: webhooks.Pending},
	}
	for _, wait := range in.Schedule {
		d.schedule = append(d.schedule, time.Duration(wait))
	}
	wait, _ := d.schedule.Next(0, 0)
	if in.Made > 0 {
		d.made, wait = in.Made, 0
	}
	d.progress.NextAttemptAt = workflow.Now(ctx).UTC().Add(wait)
	if err := workflow.SetQueryHandler(ctx, QueryProgress, func() (DeliverEventProgress, error) { return d.progress, nil }); err != nil {
		return nil, fmt.Errorf("handle the query %s: %w", QueryProgress, err)
	}
	d.show(ctx)
	return d, setStage(ctx, string(webhooks.Pending))
}

// await waits until the next attempt is due, or somebody asks for one.
func (d *eventDelivery) await(ctx workflow.Context) (manual bool, err error) {
	for d.asked.ReceiveAsync(nil) {
		manual = true
	}
	wait := d.progress.NextAttemptAt.Sub(workflow.Now(ctx))
	if manual || wait <= 0 {
		return manual, nil
	}
	timerCtx, stop := workflow.WithCancel(ctx)
	defer stop()
	timer := workflow.NewTimerWithOptions(timerCtx, wait, workflow.TimerOptions{
		Summary: fmt.Sprintf("try %d of %d", d.made+1, len(d.schedule)),
	})
	selector := workflow.NewSelector(ctx)
	selector.AddFuture(timer, func(f workflow.Future) { err = f.Get(ctx, nil) })
	selector.AddReceive(d.asked, func(c workflow.ReceiveChannel, _ bool) {
		c.Receive(ctx, nil)
		manual = true
	})
	selector.Select(ctx)
	return manual, err
}

// attempt makes an attempt and records what came of it.
func (d *eventDelivery) attempt(ctx workflow.Context, manual bool) error {
	// An attempt that is due is the schedule's, whoever asked for it.
	scheduled := d.progress.State == webhooks.Pending && !workflow.Now(ctx).Before(d.progress.NextAttemptAt)
	d.progress.Attempts++
	what := activities.AttemptInput{Event: d.in.Event, Endpoint: d.in.Endpoint, Organization: d.in.Organization}
	var result activities.AttemptResult
	err := insist(ctx, d.failed(ctx), func() error {
		return workflow.ExecuteActivity(forAttempt(ctx, fmt.Sprintf("try %d", d.progress.Attempts)), onWebhooks.Attempt, what).Get(ctx, &result)
	})
	if err != nil {
		return err
	}
	if result.Withdrawn != "" {
		d.end(result.Withdrawn)
		return insist(ctx, d.failed(ctx), func() error {
			return workflow.ExecuteActivity(forStore(ctx, result.Withdrawn), onWebhooks.EndDelivery,
				activities.EndDeliveryInput{AttemptInput: what, Reason: result.Withdrawn}).Get(ctx, nil)
		})
	}
	if scheduled {
		d.made++
	}
	d.decide(ctx, result.Response(), scheduled)
	// What was sent is recorded, though a cancel comes in between.
	recordCtx := detached(ctx)
	return insist(ctx, d.failed(ctx), func() error {
		return workflow.ExecuteActivity(forStore(recordCtx, "record try "+strconv.Itoa(d.progress.Attempts)), onWebhooks.RecordAttempt,
			activities.RecordAttemptInput{
				AttemptInput: what,
				ID:           fmt.Sprintf("%s/%d", workflow.GetInfo(ctx).WorkflowExecution.RunID, d.progress.Attempts),
				Manual:       manual, Result: result,
				State: d.progress.State, NextAttemptAt: d.progress.NextAttemptAt,
			}).Get(recordCtx, nil)
	})
}

// failed shows what failed for good, until the next attempt.
func (d *eventDelivery) failed(ctx workflow.Context) func(string) {
	return func(failure string) {
		d.progress.Failure = failure
		d.show(ctx)
	}
}

// decide says what becomes of the delivery after an attempt.
func (d *eventDelivery) decide(ctx workflow.Context, out webhooks.Response, scheduled bool) {
	p := &d.progress
	p.LastStatus, p.LastError = out.Status, out.Error
	switch {
	case out.Delivered():
		p.State, p.NextAttemptAt = webhooks.Delivered, time.Time{}
	case out.Gone():
		d.end(out.Error)
	case scheduled:
		wait, again := d.schedule.Next(d.made, out.RetryAfter)
		if !again {
			d.end(out.Error)
			return
		}
		p.NextAttemptAt = workflow.Now(ctx).UTC().Add(wait)
	}
}

func (d *eventDelivery) end(reason string) {
	d.progress.State, d.progress.NextAttemptAt, d.progress.LastError = webhooks.Exhausted, time.Time{}, reason
}

// cancel records that an operator has ended the delivery.
func (d *eventDelivery) cancel(ctx workflow.Context) error {
	ending, _ := workflow.NewDisconnectedContext(ctx)
	const reason = "canceled by an operator"
	d.end(reason)
	d.show(ending)
	err := workflow.ExecuteActivity(forStore(ending, reason), onWebhooks.EndDelivery, activities.EndDeliveryInput{
		AttemptInput: activities.AttemptInput{Event: d.in.Event, Endpoint: d.in.Endpoint}, Reason: reason,
	}).Get(ending, nil)
	if err != nil {
		return err
	}
	if err := setStage(ending, string(webhooks.Exhausted)); err != nil {
		return err
	}
	return ctx.Err()
}

func (d *eventDelivery) show(ctx workflow.Context) {
	p := d.progress
	status := ""
	if p.Attempts > 0 {
		status = strconv.Itoa(p.LastStatus)
	}
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("**%s** · event `%s` to endpoint `%s`\n\n", p.State, d.in.Event, d.in.Endpoint)+table(
		[2]string{"attempts", fmt.Sprintf("%d, of the schedule %d of %d", p.Attempts, d.made, len(d.schedule))},
		[2]string{"next attempt", stamp(p.NextAttemptAt)},
		[2]string{"last status", status},
		[2]string{"last error", p.LastError},
		[2]string{"failed, and is tried again", p.Failure},
	))
}

// DeliverEventPriority makes organizations take turns on [WebhooksQueue], where the server knows how.
func DeliverEventPriority(organization uuid.UUID) temporal.Priority {
	if organization == uuid.Nil {
		return temporal.Priority{FairnessKey: "platform"}
	}
	return temporal.Priority{FairnessKey: organization.String()}
}

// DeliverEventAttributes are the search attributes with which a DeliverEvent is started.
func DeliverEventAttributes(organization uuid.UUID) temporal.SearchAttributes {
	updates := []temporal.SearchAttributeUpdate{StageAttribute.ValueSet(string(webhooks.Pending))}
	if organization != uuid.Nil {
		updates = append(updates, OrganizationAttribute.ValueSet(organization.String()))
	}
	return temporal.NewSearchAttributes(updates...)
}

// DeliverEventSummary is the one line that lists of workflows show of a DeliverEvent.
func DeliverEventSummary(event, endpoint uuid.UUID) string {
	return fmt.Sprintf("Delivers event %s to endpoint %s", event, endpoint)
}
