package pgstore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/pgstore/internal/db"
	"github.com/riverline/tollgate/webhooks"
)

// PublishEvents keeps events, so that each is sent to each endpoint that wants it, in one statement. It is
// idempotent by their keys: of two events with the same key, the first one counts, and the second is no error.
// What can never be kept holds up no other: the answer is an [*events.RefusedError] then.
// An event that breaks a rule is refused with an [*fault.FieldError], one of an organization that doesn't
// exist with [accounts.ErrOrganizationNotFound].
func (s *Store) PublishEvents(ctx context.Context, list ...events.Event) error {
	var refused events.RefusedError
	good := make([]events.Event, 0, len(list))
	for _, e := range list {
		if err := e.Validate(); err != nil {
			refused.Add(e, err)
			continue
		}
		good = append(good, e)
	}
	if len(good) > 0 {
		err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error { return publish(ctx, tx, good...) })
		if refusedForGood(err) {
			var found events.RefusedError
			if found, err = s.publishSorted(ctx, good); err == nil {
				refused.Refused = append(refused.Refused, found.Refused...)
			}
		}
		if err != nil {
			return wrap(err, "publish %d events", len(good))
		}
	}
	if len(refused.Refused) > 0 {
		return &refused
	}
	return nil
}

// publishSorted keeps events but those that are refused.
func (s *Store) publishSorted(ctx context.Context, list []events.Event) (refused events.RefusedError, err error) {
	err = s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		refused = events.RefusedError{}
		return byHalves(ctx, tx, 0, len(list), func(ctx context.Context, tx scoped, from, to int) error {
			return publish(ctx, tx, list[from:to]...)
		}, func(i int, why error) {
			if hasCode(why, foreignKeyViolation) {
				why = accounts.ErrOrganizationNotFound.Of(list[i].Organization)
			}
			refused.Add(list[i], why)
		})
	})
	return refused, err
}

// publish keeps events in a transaction that may do more. Who publishes the same ones meanwhile takes their
// keys in the same order.
func publish(ctx context.Context, tx scoped, list ...events.Event) error {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b events.Event) int { return cmp.Compare(a.Key, b.Key) })
	for chunk := range slices.Chunk(list, chunkRows) {
		var rows db.InsertEventsParams
		for _, e := range chunk {
			if err := e.Validate(); err != nil {
				return err
			}
			rows.Ids, rows.Keys, rows.Kinds = append(rows.Ids, e.ID), append(rows.Keys, e.Key), append(rows.Kinds, string(e.Kind))
			rows.Organizations = append(rows.Organizations, e.Organization)
			rows.OccurredAt = append(rows.OccurredAt, e.OccurredAt.UTC().Truncate(time.Microsecond))
			rows.Data = append(rows.Data, string(e.Data))
		}
		if _, err := tx.InsertEvents(ctx, rows); err != nil {
			return err
		}
	}
	return nil
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
