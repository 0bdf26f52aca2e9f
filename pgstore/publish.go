package pgstore

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/pgstore/internal/db"
	"github.com/riverline/tollgate/webhooks"
)

// PublishEvent keeps an event, so that it is sent to each endpoint that wants it. It is
// idempotent by the event's key: of two events with the same key, the first one counts,
// and the second is no error. A broken rule is an [*fault.FieldError], an organization
// that doesn't exist [accounts.ErrOrganizationNotFound].
func (s *Store) PublishEvent(ctx context.Context, e events.Event) error {
	err := e.Validate()
	if err == nil {
		err = s.asPlatform(ctx, func(ctx context.Context, tx scoped) error { return publish(ctx, tx, e) })
	}
	if hasCode(err, foreignKeyViolation) {
		err = accounts.ErrOrganizationNotFound.Of(e.Organization)
	}
	return wrap(err, "publish event %s", e.Key)
}

// publish keeps an event in a transaction that may do more.
func publish(ctx context.Context, tx scoped, e events.Event) error {
	if err := e.Validate(); err != nil {
		return err
	}
	_, err := tx.InsertEvent(ctx, db.InsertEventParams{
		ID: e.ID, Key: e.Key, Kind: string(e.Kind), OrganizationID: optional(e.Organization),
		OccurredAt: e.OccurredAt.UTC().Truncate(time.Microsecond), Data: e.Data,
	})
	return err
}

// ListEvents returns at most limit events, the newest first, from the one before `before`;
// [uuid.Nil] is after all. They are those of an organization, or all where that is
// [uuid.Nil]. An empty kind is every kind.
func (s *Store) ListEvents(ctx context.Context, organization uuid.UUID, kind events.Kind, before uuid.UUID, limit int) ([]events.Event, error) {
	var found []events.Event
	var only *string
	if kind != "" {
		only = (*string)(&kind)
	}
	err := s.asOwner(ctx, organization, func(ctx context.Context, tx scoped) error {
		rows, err := tx.ListEvents(ctx, db.ListEventsParams{
			OrganizationID: optional(organization), Before: optional(before), Kind: only, PageSize: pageSize(limit),
		})
		found = convert(rows, event)
		return err
	})
	return found, wrap(err, "list events")
}

// UndispatchedEvents returns at most limit events whose deliveries have not all been started, but
// some: the oldest of each organization, then the second of each, and so on.
func (s *Store) UndispatchedEvents(ctx context.Context, but []uuid.UUID, limit int) ([]uuid.UUID, error) {
	var found []uuid.UUID
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) (err error) {
		found, err = tx.UndispatchedEvents(ctx, but, pageSize(limit))
		return err
	})
	return found, wrap(err, "look for events")
}

// PrepareWebhookDeliveries makes a delivery for each endpoint that wants the event and has none
// yet, and returns all deliveries of the event, those that have ended included.
func (s *Store) PrepareWebhookDeliveries(ctx context.Context, id uuid.UUID) ([]webhooks.Delivery, error) {
	var found []webhooks.Delivery
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		if err := tx.InsertDeliveries(ctx, id); err != nil {
			return err
		}
		rows, err := tx.EventDeliveries(ctx, id)
		found = convert(rows, delivery)
		return err
	})
	return found, wrap(err, "prepare the deliveries of event %s", id)
}

// MarkEventDispatched notes that every delivery of an event has been started. A second
// call changes nothing.
func (s *Store) MarkEventDispatched(ctx context.Context, id uuid.UUID) error {
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error { return tx.MarkEventDispatched(ctx, id) })
	return wrap(err, "mark event %s as dispatched", id)
}

func event(row db.Event) events.Event {
	return events.Event{
		ID: row.ID, Key: row.Key, Kind: events.Kind(row.Kind), Organization: orZero(row.OrganizationID),
		OccurredAt: row.OccurredAt, Data: row.Data,
	}
}
