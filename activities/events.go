package activities

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/events"
)

// EventStore keeps events.
type EventStore interface {
	// PublishEvent keeps an event; it is idempotent by the event's key.
	PublishEvent(ctx context.Context, e events.Event) error
}

// EventsConfig is what [Events] are made from.
type EventsConfig struct {
	// Store keeps the events. Required.
	Store EventStore
	// Now tells the time, UTC. Nil: time.Now.
	Now func() time.Time
}

// Events has the activity with which workflows tell others what happened.
type Events struct{ config EventsConfig }

// NewEvents makes the activity. It panics where a required field of the config is missing.
func NewEvents(config EventsConfig) *Events {
	if config.Store == nil {
		panic("activities: EventsConfig.Store is required")
	}
	if config.Now == nil {
		config.Now = func() time.Time { return time.Now().UTC() }
	}
	return &Events{config: config}
}

// PublishEventInput says what happened.
type PublishEventInput struct {
	// Key makes publishing idempotent, see [events.Event]. Required.
	Key string `json:"key"`
	// Kind is one of [events.Kinds]. Required.
	Kind string `json:"kind"`
	// Organization is whom it is about; [uuid.Nil] for the platform.
	Organization uuid.UUID `json:"organization,omitzero"`
	// Data is a JSON object. Required.
	Data json.RawMessage `json:"data"`
}

// PublishEvent keeps an event, which is then sent to each endpoint that wants it. Of events
// with the same key, the first one counts: so it may be tried any number of times.
func (e *Events) PublishEvent(ctx context.Context, in PublishEventInput) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make the id of event %s: %w", in.Key, err)
	}
	event := events.Event{
		ID: id, Key: in.Key, Kind: events.Kind(in.Kind), Organization: in.Organization, OccurredAt: e.config.Now(), Data: in.Data,
	}
	if err := event.Validate(); err != nil {
		return classify(fmt.Errorf("%w: %w", errInvalidInput, err))
	}
	return classify(e.config.Store.PublishEvent(ctx, event))
}
