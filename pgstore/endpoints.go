package pgstore

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/pgstore/internal/db"
	"github.com/riverline/tollgate/webhooks"
)

// CreateEndpoint adds an endpoint: Organization, URL, Kinds, Description and the secret in
// force are taken from e. The caller has validated them. [webhooks.MaxEndpoints] of one
// owner are all: [webhooks.ErrTooManyEndpoints]. An organization that doesn't exist is
// [accounts.ErrOrganizationNotFound].
func (s *Store) CreateEndpoint(ctx context.Context, e webhooks.Endpoint) (webhooks.Endpoint, error) {
	var created webhooks.Endpoint
	err := s.asOwner(ctx, e.Organization, func(ctx context.Context, tx scoped) error {
		if e.Organization != uuid.Nil {
			// Two requests at once must not both be the last one.
			if _, err := tx.LockOrganization(ctx, e.Organization); err != nil {
				return orNotFound(err, accounts.ErrOrganizationNotFound, e.Organization)
			}
		}
		n, err := tx.CountEndpoints(ctx, optional(e.Organization))
		if err != nil {
			return err
		}
		if n >= webhooks.MaxEndpoints {
			return webhooks.ErrTooManyEndpoints
		}
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		row, err := tx.InsertEndpoint(ctx, db.InsertEndpointParams{
			ID: id, OrganizationID: optional(e.Organization), Url: e.URL, Kinds: kindTexts(e.Kinds),
			Description: e.Description, Secret: e.Secrets.Current,
		})
		created = endpoint(row)
		return err
	})
	return created, wrap(err, "create a webhook endpoint")
}

// ListEndpoints returns the endpoints of an organization, or the platform's own where that
// is [uuid.Nil], in the order of their creation.
func (s *Store) ListEndpoints(ctx context.Context, organization uuid.UUID) ([]webhooks.Endpoint, error) {
	var found []webhooks.Endpoint
	err := s.asOwner(ctx, organization, func(ctx context.Context, tx scoped) error {
		rows, err := tx.ListEndpoints(ctx, optional(organization))
		found = convert(rows, endpoint)
		return err
	})
	return found, wrap(err, "list webhook endpoints")
}

// Endpoint returns an endpoint of an organization, or the platform's own where that is
// [uuid.Nil]. Another's is [webhooks.ErrEndpointNotFound], like one that doesn't exist.
func (s *Store) Endpoint(ctx context.Context, organization, id uuid.UUID) (webhooks.Endpoint, error) {
	var found webhooks.Endpoint
	err := s.asOwner(ctx, organization, func(ctx context.Context, tx scoped) error {
		row, err := tx.Endpoint(ctx, id)
		found, err = owned(row, organization, id, err)
		return err
	})
	return found, wrap(err, "read webhook endpoint %s", id)
}

// UpdateEndpoint changes an endpoint of an owner, as [Store.Endpoint] finds it, after check
// has found the outcome valid.
func (s *Store) UpdateEndpoint(
	ctx context.Context, organization, id uuid.UUID, change webhooks.Change, check func(webhooks.Endpoint) error,
) (webhooks.Endpoint, error) {
	var changed webhooks.Endpoint
	err := s.asOwner(ctx, organization, func(ctx context.Context, tx scoped) error {
		row, err := tx.LockEndpoint(ctx, id)
		e, err := owned(row, organization, id, err)
		if err != nil {
			return err
		}
		e, disabled := applied(e, change)
		if err := check(e); err != nil {
			return err
		}
		row, err = tx.UpdateEndpoint(ctx, db.UpdateEndpointParams{
			ID: id, Url: e.URL, Kinds: kindTexts(e.Kinds), Description: e.Description, Disabled: disabled,
		})
		changed = endpoint(row)
		return err
	})
	return changed, wrap(err, "update webhook endpoint %s", id)
}

// applied returns the endpoint as it is to be, and whether it is disabled then.
func applied(e webhooks.Endpoint, change webhooks.Change) (changed webhooks.Endpoint, disabled bool) {
	if change.URL != nil {
		e.URL = *change.URL
	}
	if change.Kinds != nil {
		e.Kinds = *change.Kinds
	}
	if change.Description != nil {
		e.Description = *change.Description
	}
	disabled = e.DisabledAt != nil
	if change.Disabled != nil {
		disabled = *change.Disabled
	}
	return e, disabled
}

// RotateEndpoint puts another secret in force for an endpoint of an owner; the one before
// signs along for [webhooks.Overlap] from now.
func (s *Store) RotateEndpoint(ctx context.Context, organization, id uuid.UUID, secret string, now time.Time) (webhooks.Endpoint, error) {
	var changed webhooks.Endpoint
	err := s.asOwner(ctx, organization, func(ctx context.Context, tx scoped) error {
		row, err := tx.LockEndpoint(ctx, id)
		e, err := owned(row, organization, id, err)
		if err != nil {
			return err
		}
		next := e.Secrets.Rotate(secret, now)
		row, err = tx.RotateEndpoint(ctx, db.RotateEndpointParams{
			ID: id, Secret: next.Current, PreviousSecret: next.Previous, PreviousUntil: &next.PreviousUntil,
		})
		changed = endpoint(row)
		return err
	})
	return changed, wrap(err, "rotate the secret of webhook endpoint %s", id)
}

// DeleteEndpoint removes an endpoint of an owner, with its secrets. What was sent to it
// stays; what waits is not sent.
func (s *Store) DeleteEndpoint(ctx context.Context, organization, id uuid.UUID) error {
	err := s.asOwner(ctx, organization, func(ctx context.Context, tx scoped) error {
		row, err := tx.LockEndpoint(ctx, id)
		if _, err = owned(row, organization, id, err); err != nil {
			return err
		}
		_, err = tx.DeleteEndpoint(ctx, id)
		return err
	})
	return wrap(err, "delete webhook endpoint %s", id)
}

// owned returns the endpoint where it is the owner's: the platform sees everybody's, and
// administers its own.
func owned(row db.WebhookEndpoint, organization, id uuid.UUID, err error) (webhooks.Endpoint, error) {
	if err == nil && orZero(row.OrganizationID) != organization {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return webhooks.Endpoint{}, orNotFound(err, webhooks.ErrEndpointNotFound, id)
	}
	return endpoint(row), nil
}

func endpoint(row db.WebhookEndpoint) webhooks.Endpoint {
	out := webhooks.Endpoint{
		ID: row.ID, Organization: orZero(row.OrganizationID), URL: row.Url, Description: row.Description,
		Secrets:   webhooks.Secrets{Current: row.Secret, Previous: row.PreviousSecret},
		CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt, DisabledAt: row.DisabledAt,
		Kinds: convert(row.Kinds, func(k string) events.Kind { return events.Kind(k) }),
	}
	if row.PreviousUntil != nil {
		out.Secrets.PreviousUntil = *row.PreviousUntil
	}
	return out
}

func kindTexts(kinds []events.Kind) []string {
	return convert(kinds, func(k events.Kind) string { return string(k) })
}
