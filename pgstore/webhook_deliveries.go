package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/pgstore/internal/db"
	"github.com/riverline/tollgate/webhooks"
)

// WebhookDelivery returns a delivery to an endpoint of an owner ([uuid.Nil] is the platform), or
// [webhooks.ErrDeliveryNotFound].
func (s *Store) WebhookDelivery(ctx context.Context, organization, event, endpoint uuid.UUID) (webhooks.Delivery, error) {
	var found webhooks.Delivery
	err := s.asOwner(ctx, organization, func(ctx context.Context, tx scoped) error {
		row, err := tx.Delivery(ctx, event, endpoint)
		if err == nil && orZero(row.OrganizationID) != organization {
			err = pgx.ErrNoRows
		}
		if err != nil {
			return orNoDelivery(err, event, endpoint)
		}
		found = delivery(row)
		return nil
	})
	return found, wrap(err, "read the delivery of event %s to endpoint %s", event, endpoint)
}

// AdmitRedelivery takes note that a delivery to an endpoint of an owner is asked for. Whichever instance is asked,
// [webhooks.MaxRedeliveries] may be at once, and then one each [webhooks.RedeliveryEvery]: else it is a
// [*webhooks.RedeliveredTooOftenError].
func (s *Store) AdmitRedelivery(ctx context.Context, organization, endpoint uuid.UUID) error {
	const ahead = (webhooks.MaxRedeliveries - 1) * webhooks.RedeliveryEvery
	err := s.asOwner(ctx, organization, func(ctx context.Context, tx scoped) error {
		admitted, err := tx.AdmitRedelivery(ctx, db.AdmitRedeliveryParams{
			EverySeconds: webhooks.RedeliveryEvery.Seconds(), ID: endpoint, OrganizationID: optional(organization),
			AheadSeconds: ahead.Seconds(),
		})
		if err != nil || admitted > 0 {
			return err
		}
		wait, err := tx.RedeliveryWait(ctx, ahead.Seconds(), endpoint, optional(organization))
		if err != nil {
			return orNotFound(err, webhooks.ErrEndpointNotFound, endpoint)
		}
		return &webhooks.RedeliveredTooOftenError{RetryAfter: max(time.Duration(wait*float64(time.Second)), time.Millisecond)}
	})
	return wrap(err, "ask for a delivery to endpoint %s", endpoint)
}

// ListWebhookDeliveries returns at most limit deliveries to an endpoint of an owner, those of the
// newest events first, from the one before the event `before`; [uuid.Nil] is after all.
func (s *Store) ListWebhookDeliveries(ctx context.Context, organization, id, before uuid.UUID, limit int) ([]webhooks.ListedDelivery, error) {
	var found []webhooks.ListedDelivery
	err := s.asOwner(ctx, organization, func(ctx context.Context, tx scoped) error {
		row, err := tx.Endpoint(ctx, id)
		if _, err = owned(row, organization, id, err); err != nil {
			return err
		}
		rows, err := tx.ListDeliveries(ctx, id, optional(before), pageSize(limit))
		found = convert(rows, listedDelivery)
		return err
	})
	return found, wrap(err, "list the deliveries to endpoint %s", id)
}

// OverdueWebhookDeliveries returns at most limit deliveries, in the order of event and endpoint from the one after
// `after`, that were to be tried earlier than lateBy ago and were not.
func (s *Store) OverdueWebhookDeliveries(ctx context.Context, after webhooks.Delivery, lateBy time.Duration, limit int) ([]webhooks.OverdueDelivery, error) {
	var found []webhooks.OverdueDelivery
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.OverdueDeliveries(ctx, db.OverdueDeliveriesParams{
			AfterEvent: after.Event, AfterEndpoint: after.Endpoint, LateSeconds: lateBy.Seconds(), PageSize: pageSize(limit),
		})
		found = convert(rows, overdueDelivery)
		return err
	})
	return found, wrap(err, "look for overdue deliveries")
}

// EventToDeliver returns what an attempt needs: the event and the endpoint with its secrets. An
// endpoint that was deleted is [webhooks.ErrEndpointNotFound].
func (s *Store) EventToDeliver(ctx context.Context, eventID, endpointID uuid.UUID) (events.Event, webhooks.Endpoint, error) {
	var e events.Event
	var to webhooks.Endpoint
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		row, err := tx.Event(ctx, eventID)
		if err != nil {
			return orNotFound(err, events.ErrNotFound, eventID)
		}
		e = event(row)
		found, err := tx.Endpoint(ctx, endpointID)
		to = endpoint(found)
		return orNotFound(err, webhooks.ErrEndpointNotFound, endpointID)
	})
	return e, to, wrap(err, "read what event %s is for endpoint %s", eventID, endpointID)
}

// RecordWebhookAttempt keeps what came of an attempt, and what becomes of the delivery, and disables the
// endpoint where its answer was 410 Gone. It is idempotent by the attempt's id: of an attempt
// that is recorded again nothing changes.
func (s *Store) RecordWebhookAttempt(ctx context.Context, a webhooks.Attempt) error {
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		row, err := tx.LockDelivery(ctx, a.Event, a.Endpoint)
		if err != nil {
			return orNoDelivery(err, a.Event, a.Endpoint)
		}
		inserted, err := tx.InsertAttempt(ctx, db.InsertAttemptParams{
			EventID: a.Event, EndpointID: a.Endpoint, ID: a.ID, OrganizationID: row.OrganizationID, Number: row.Attempts + 1,
			Manual: a.Manual, At: a.At, TookMs: a.Took.Milliseconds(), Status: int32(a.Status), Error: a.Error,
		})
		if err != nil || inserted == 0 {
			return err
		}
		var next *time.Time
		if a.State == webhooks.Pending && !a.NextAttemptAt.IsZero() {
			next = &a.NextAttemptAt
		}
		if err := tx.UpdateDelivery(ctx, db.UpdateDeliveryParams{
			EventID: a.Event, EndpointID: a.Endpoint, State: string(a.State), Attempts: row.Attempts + 1, NextAttemptAt: next,
			LastStatus: int32(a.Status), LastError: a.Error,
		}); err != nil {
			return err
		}
		if a.Gone() {
			return tx.DisableEndpoint(ctx, a.Endpoint)
		}
		return nil
	})
	return wrap(err, "record an attempt of event %s to endpoint %s", a.Event, a.Endpoint)
}

// EndWebhookDelivery notes that no further attempt is made, and why.
func (s *Store) EndWebhookDelivery(ctx context.Context, event, endpoint uuid.UUID, reason string) error {
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		row, err := tx.LockDelivery(ctx, event, endpoint)
		if err != nil {
			return orNoDelivery(err, event, endpoint)
		}
		return tx.UpdateDelivery(ctx, db.UpdateDeliveryParams{
			EventID: event, EndpointID: endpoint, State: string(webhooks.Exhausted), Attempts: row.Attempts,
			LastStatus: row.LastStatus, LastError: reason,
		})
	})
	return wrap(err, "end the delivery of event %s to endpoint %s", event, endpoint)
}

func orNoDelivery(err error, event, endpoint uuid.UUID) error {
	return orNotFound(err, webhooks.ErrDeliveryNotFound, fmt.Sprintf("of event %s to webhook endpoint %s", event, endpoint))
}

func delivery(row db.WebhookDelivery) webhooks.Delivery {
	return webhooks.Delivery{
		Event: row.EventID, Endpoint: row.EndpointID, Organization: orZero(row.OrganizationID), State: webhooks.State(row.State),
		Attempts: int(row.Attempts), NextAttemptAt: row.NextAttemptAt, LastStatus: int(row.LastStatus), LastError: row.LastError,
		CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
	}
}

func listedDelivery(row db.ListDeliveriesRow) webhooks.ListedDelivery {
	return webhooks.ListedDelivery{Kind: events.Kind(row.Kind), Delivery: delivery(db.WebhookDelivery{
		EventID: row.EventID, EndpointID: row.EndpointID, OrganizationID: row.OrganizationID, State: row.State,
		Attempts: row.Attempts, NextAttemptAt: row.NextAttemptAt, LastStatus: row.LastStatus, LastError: row.LastError,
		CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
	})}
}

func overdueDelivery(row db.OverdueDeliveriesRow) webhooks.OverdueDelivery {
	return webhooks.OverdueDelivery{Made: int(row.Made), Delivery: delivery(db.WebhookDelivery{
		EventID: row.EventID, EndpointID: row.EndpointID, OrganizationID: row.OrganizationID, State: row.State,
		Attempts: row.Attempts, NextAttemptAt: row.NextAttemptAt, LastStatus: row.LastStatus, LastError: row.LastError,
		CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
	})}
}
