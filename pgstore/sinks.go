package pgstore

import (
	"context"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/pgstore/internal/db"
	"github.com/riverline/tollgate/sinks"
)

// PutCustomer sets how a sink knows an organization, in place of what was set before. An
// identity that the sink has for another organization is an [*accounts.FieldError], an
// organization that isn't there [accounts.ErrNotFound].
func (s *Store) PutCustomer(ctx context.Context, c sinks.Customer) error {
	err := s.asOrganization(ctx, c.Organization, func(ctx context.Context, tx scoped) error {
		err := tx.PutCustomer(ctx, c.Organization, c.Sink, c.ExternalID)
		switch {
		case hasCode(err, foreignKeyViolation):
			return accounts.ErrNotFound
		case hasCode(err, uniqueViolation):
			return &accounts.FieldError{Field: "external_id", Rule: "must not be that of another organization"}
		default:
			return err
		}
	})
	return wrap(err, "put the customer of organization %s in %s", c.Organization, c.Sink)
}

// Customers returns how a sink knows organizations. Those that it doesn't know are left out.
func (s *Store) Customers(ctx context.Context, sink string, organizations []uuid.UUID) (map[uuid.UUID]string, error) {
	found := map[uuid.UUID]string{}
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.Customers(ctx, sink, organizations)
		for _, row := range rows {
			found[row.OrganizationID] = row.ExternalID
		}
		return err
	})
	return found, wrap(err, "read the customers of %s", sink)
}

// Deliveries returns, of an export's statements of organizations, those that a sink has
// taken, with what it made of each.
func (s *Store) Deliveries(ctx context.Context, export uuid.UUID, sink string, organizations []uuid.UUID) (map[uuid.UUID]string, error) {
	found := map[uuid.UUID]string{}
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.Deliveries(ctx, export, sink, organizations)
		for _, row := range rows {
			found[row.OrganizationID] = row.ExternalID
		}
		return err
	})
	return found, wrap(err, "read the deliveries of export %s to %s", export, sink)
}

// MarkDelivered records that a sink has taken an organization's statement, and what it made
// of it. What was recorded before stays.
func (s *Store) MarkDelivered(ctx context.Context, export, organization uuid.UUID, sink, externalID string) error {
	err := s.asOrganization(ctx, organization, func(ctx context.Context, tx scoped) error {
		return tx.MarkDelivered(ctx, db.MarkDeliveredParams{
			ExportID: export, OrganizationID: organization, Sink: sink, ExternalID: externalID,
		})
	})
	return wrap(err, "record the delivery of organization %s of export %s to %s", organization, export, sink)
}
