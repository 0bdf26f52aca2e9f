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
