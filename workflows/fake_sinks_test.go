package workflows_test

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/sinks"
)

// fakeSinks is what a fakeStore keeps of deliveries, and a sink that takes statements.
type fakeSinks struct {
	// customers know the sink; the others have none.
	customers   map[uuid.UUID]bool
	delivered   map[uuid.UUID]string
	undelivered map[uuid.UUID]sinks.Undelivered
	// sinks are those of which a worker has the key.
	sinks []string
	// handed are the numbers of the statements that the sink has taken.
	handed []string
}

func newFakeSinks() fakeSinks {
	return fakeSinks{customers: map[uuid.UUID]bool{}, delivered: map[uuid.UUID]string{}, undelivered: map[uuid.UUID]sinks.Undelivered{}}
}

// Sinks names the sink where there is one.
func (s *fakeStore) Sinks(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sinks, nil
}

// allHanded returns the numbers of the statements that the sink has taken.
func (s *fakeStore) allHanded() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.handed)
}

// StatementDeliveryPages makes pages of one organization each.
func (s *fakeStore) StatementDeliveryPages(ctx context.Context, id uuid.UUID, _, _ int) (out []uuid.UUID, err error) {
	err = s.change(ctx, "StatementDeliveryPages", id, func(e *billing.Export) error {
		if e.IssuedAt == nil {
			return billing.ErrNotIssued
		}
		out = s.organizations()
		return nil
	})
	return out, err
}

func (s *fakeStore) IssuedStatements(ctx context.Context, id uuid.UUID, _ string, after, until uuid.UUID, limit int) (out []sinks.Issued, err error) {
	err = s.change(ctx, "IssuedStatements", id, func(*billing.Export) error {
		for _, organization := range s.organizations() {
			statement, ok := s.statements[organization]
			if !ok || slices.Compare(organization[:], after[:]) <= 0 || slices.Compare(organization[:], until[:]) > 0 || len(out) == limit {
				continue
			}
			issued := sinks.Issued{ExternalID: s.delivered[organization], Statement: sinks.Statement{
				Number: statement.Number, Organization: organization, Currency: statement.Currency, Lines: []sinks.Line{{Position: 1, Amount: statement.Due.Decimal}},
			}}
			if s.customers[organization] {
				issued.Customer = "cus_" + organization.String()
			}
			out = append(out, issued)
		}
		return nil
	})
	return out, err
}

func (s *fakeStore) MarkStatementDelivered(ctx context.Context, id, organization uuid.UUID, _, externalID string) error {
	return s.change(ctx, "MarkStatementDelivered", id, func(*billing.Export) error {
		s.delivered[organization] = externalID
		delete(s.undelivered, organization)
		return nil
	})
}

func (s *fakeStore) MarkStatementsUndelivered(ctx context.Context, id uuid.UUID, _ string, undelivered []sinks.Undelivered) error {
	return s.change(ctx, "MarkStatementsUndelivered", id, func(*billing.Export) error {
		for _, u := range undelivered {
			s.undelivered[u.Organization] = u
		}
		return nil
	})
}

func (s *fakeStore) StatementDeliveryCounts(ctx context.Context, id uuid.UUID, _ string, after, until uuid.UUID) (out sinks.Counts, err error) {
	err = s.change(ctx, "StatementDeliveryCounts", id, func(*billing.Export) error {
		for organization := range s.statements {
			if slices.Compare(organization[:], after[:]) <= 0 || slices.Compare(organization[:], until[:]) > 0 {
				continue
			}
			switch {
			case s.delivered[organization] != "":
				out.Delivered++
			case s.undelivered[organization].State == sinks.NoCustomer:
				out.NoCustomer++
			case s.undelivered[organization].State == sinks.Failed:
				out.Failed++
			default:
				out.Pending++
			}
		}
		return nil
	})
	return out, err
}

// fakeSink takes statements for a fakeStore's tests.
type fakeSink struct{ store *fakeStore }

func (fakeSink) Name() string { return sinks.Stripe }

func (f fakeSink) Deliver(ctx context.Context, _ string, statement sinks.Statement) (string, error) {
	err := f.store.call(ctx, "Deliver", func() error {
		if !slices.Contains(f.store.handed, statement.Number) {
			f.store.handed = append(f.store.handed, statement.Number)
		}
		return nil
	})
	return "in_" + statement.Number, err
}
