package pgstore

import (
	"context"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/sinks"
)

// PutCustomer sets how a sink knows an organization, in place of what was set before. An
// identity that the sink has for another organization is an [*fault.FieldError], an
// organization that isn't there [accounts.ErrOrganizationNotFound].
func (s *Store) PutCustomer(ctx context.Context, c sinks.Customer) error {
	err := s.asOrganization(ctx, c.Organization, func(ctx context.Context, tx scoped) error {
		err := tx.PutCustomer(ctx, c.Organization, c.Sink, c.ExternalID)
		switch {
		case hasCode(err, foreignKeyViolation):
			return accounts.ErrOrganizationNotFound.Of(c.Organization)
		case hasCode(err, uniqueViolation):
			return &fault.FieldError{Field: "external_id", Rule: "must not be that of another organization"}
		default:
			return err
		}
	})
	return wrap(err, "put the customer of organization %s in %s", c.Organization, c.Sink)
}

// SeeSink records that a worker has the key of a sink.
func (s *Store) SeeSink(ctx context.Context, name string) error {
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error { return tx.SeeSink(ctx, name) })
	return wrap(err, "record sink %s", name)
}

// Sinks returns the names of the sinks of which a worker had the key within the last day.
func (s *Store) Sinks(ctx context.Context) ([]string, error) {
	var found []string
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) (err error) {
		found, err = tx.Sinks(ctx)
		return err
	})
	return found, wrap(err, "list sinks")
}
