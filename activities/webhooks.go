package activities

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"

	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/webhooks"
)

// WebhookStore has events, endpoints and deliveries.
type WebhookStore interface {
	// UndispatchedEvents returns at most limit events whose deliveries have not all been
	// started, but some; each organization's oldest first.
	UndispatchedEvents(ctx context.Context, but []uuid.UUID, limit int) ([]uuid.UUID, error)
	// PrepareWebhookDeliveries makes a delivery for each endpoint that wants the event, and
	// returns all of the event's.
	PrepareWebhookDeliveries(ctx context.Context, event uuid.UUID) ([]webhooks.Delivery, error)
	// MarkEventDispatched notes that every delivery of the event has been started.
	MarkEventDispatched(ctx context.Context, event uuid.UUID) error
	// EventToDeliver returns the event and the endpoint, or [webhooks.ErrEndpointNotFound].
	EventToDeliver(ctx context.Context, event, endpoint uuid.UUID) (events.Event, webhooks.Endpoint, error)
	// RecordWebhookAttempt keeps an attempt and what becomes of the delivery, once an attempt's id.
	RecordWebhookAttempt(ctx context.Context, a webhooks.Attempt) error
	// EndWebhookDelivery notes that no further attempt is made, and why.
	EndWebhookDelivery(ctx context.Context, event, endpoint uuid.UUID, reason string) error
}

// Sender makes one attempt.
type Sender interface {
	// Send posts the event, signed. What comes of it is a response; an error is a mistake.
	Send(ctx context.Context, to webhooks.Endpoint, e events.Event) (webhooks.Response, error)
}

// WebhooksConfig is what [Webhooks] are made from.
type WebhooksConfig struct {
	// Store has events, endpoints and deliveries. Required.
	Store WebhookStore
	// Sender sends. Required.
	Sender Sender
	// Start starts the workflow of a delivery, unless it was started before. Required.
	Start func(ctx context.Context, d webhooks.Delivery) error
	// PageSize is how many events one look at the store takes. Zero: 100.
	PageSize int
	// Now tells the time, UTC. Nil: time.Now.
	Now func() time.Time
}

const defaultEventPage = 100

// Webhooks has the activities that send events to endpoints.
type Webhooks struct{ config WebhooksConfig }

// NewWebhooks makes the activities. It panics where a required field of the config is
// missing.
func NewWebhooks(config WebhooksConfig) *Webhooks {
	if config.Store == nil || config.Sender == nil || config.Start == nil {
		panic("activities: WebhooksConfig.Store, Sender and Start are required")
	}
	if config.PageSize == 0 {
		config.PageSize = defaultEventPage
	}
	if config.Now == nil {
		config.Now = func() time.Time { return time.Now().UTC() }
	}
	return &Webhooks{config: config}
}

// AttemptInput says what to send where.
type AttemptInput struct {
	// Event and Endpoint are their ids. Required.
	Event    uuid.UUID `json:"event"`
	Endpoint uuid.UUID `json:"endpoint"`
}

// AttemptResult is what came of an attempt.
type AttemptResult struct {
	// Withdrawn says why nothing was sent, and nothing is to be sent: the endpoint is gone
	// or disabled. Empty: it was tried.
	Withdrawn string `json:"withdrawn,omitempty"`
	// Status is the HTTP status; 0 where there was no answer. Error says what went wrong.
	Status int    `json:"status,omitempty"`
	Error  string `json:"error,omitempty"`
	// RetryAfter is how long the receiver asks to be left alone.
	RetryAfter Duration `json:"retry_after,omitzero"`
	// At is when the attempt began, UTC, and Took how long it took.
	At   time.Time `json:"at,omitzero"`
	Took Duration  `json:"took,omitzero"`
}

// Response returns the result as the domain has it.
func (r AttemptResult) Response() webhooks.Response {
	return webhooks.Response{
		Status: r.Status, Error: r.Error, RetryAfter: time.Duration(r.RetryAfter), At: r.At, Took: time.Duration(r.Took),
	}
}

// Attempt makes one attempt. A receiver that can't be reached, or answers that it failed, is a
// result, and so is a mistake of ours: when it is tried again is up to the workflow.
func (w *Webhooks) Attempt(ctx context.Context, in AttemptInput) (AttemptResult, error) {
	if err := in.check(); err != nil {
		return AttemptResult{}, err
	}
	e, to, err := w.config.Store.EventToDeliver(ctx, in.Event, in.Endpoint)
	switch {
	case errors.Is(err, webhooks.ErrEndpointNotFound):
		return AttemptResult{Withdrawn: "the endpoint was deleted"}, nil
	case errors.Is(err, events.ErrNotFound):
		return AttemptResult{Withdrawn: "the event is gone"}, nil
	case err != nil:
		return w.notMade(ctx, err)
	case to.DisabledAt != nil:
		return AttemptResult{Withdrawn: "the endpoint is disabled"}, nil
	}
	out, err := w.config.Sender.Send(ctx, to, e)
	if err != nil {
		return w.notMade(ctx, err)
	}
	return AttemptResult{
		Status: out.Status, Error: out.Error, RetryAfter: Duration(out.RetryAfter), At: out.At, Took: Duration(out.Took),
	}, nil
}

// notMade makes what would come again a failed attempt: the next one is made by the schedule, when
// somebody may have mended the cause. The owner of the endpoint learns nothing else of it.
func (w *Webhooks) notMade(ctx context.Context, err error) (AttemptResult, error) {
	if err = classify(err); !isPermanent(err) {
		return AttemptResult{}, err
	}
	activity.GetLogger(ctx).Error("An attempt to deliver an event can't be made: it is tried again by the schedule", "error", err)
	return AttemptResult{Error: "the attempt could not be made", At: w.config.Now()}, nil
}

func (in AttemptInput) check() error {
	if in.Event == uuid.Nil {
		return missing("event")
	}
	if in.Endpoint == uuid.Nil {
		return missing("endpoint")
	}
	return nil
}

// RecordAttemptInput says what came of an attempt, and what becomes of the delivery.
type RecordAttemptInput struct {
	AttemptInput
	// ID tells attempts apart: the run and the attempt in it. Required.
	ID string `json:"id"`
	// Manual says that somebody asked for the attempt.
	Manual bool `json:"manual,omitempty"`
	// Result is what came of it.
	Result AttemptResult `json:"result"`
	// State is that of the delivery now. Required.
	State webhooks.State `json:"state"`
	// NextAttemptAt is when it is tried again, UTC; zero where it is not.
	NextAttemptAt time.Time `json:"next_attempt_at,omitzero"`
}

// RecordAttempt keeps an attempt. It may be called again for the same one.
func (w *Webhooks) RecordAttempt(ctx context.Context, in RecordAttemptInput) error {
	if err := in.check(); err != nil {
		return err
	}
	if in.ID == "" {
		return missing("id")
	}
	return classify(w.config.Store.RecordWebhookAttempt(ctx, webhooks.Attempt{
		Event: in.Event, Endpoint: in.Endpoint, ID: in.ID, Manual: in.Manual,
		Response: in.Result.Response(), State: in.State, NextAttemptAt: in.NextAttemptAt,
	}))
}

// EndDeliveryInput says which delivery ends without another attempt.
type EndDeliveryInput struct {
	AttemptInput
	// Reason is why, for people. Required.
	Reason string `json:"reason"`
}

// EndDelivery notes that no further attempt is made.
func (w *Webhooks) EndDelivery(ctx context.Context, in EndDeliveryInput) error {
	if err := in.check(); err != nil {
		return err
	}
	if in.Reason == "" {
		return missing("reason")
	}
	return classify(w.config.Store.EndWebhookDelivery(ctx, in.Event, in.Endpoint, in.Reason))
}
