package api

import (
	"bytes"
	"context"
	"slices"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/fault"
)

func (s *fakeStore) GrantCredit(ctx context.Context, g billing.CreditGrant) (billing.CreditGrant, error) {
	err := s.call(ctx, func() error {
		if _, err := s.find(g.Organization); err != nil {
			return err
		}
		if !g.ExpiresAt.IsZero() && !g.ExpiresAt.After(g.EffectiveAt) {
			return &fault.FieldError{Field: "expires_at", Rule: "must be after effective_at"}
		}
		g.ID, g.Remaining, g.CreatedAt = uuid.Must(uuid.NewV7()), g.Amount, noon
		s.credits = append(s.credits, g)
		s.enter(g, billing.CreditGranted, g.Amount, g.Note)
		return nil
	})
	return g, err
}

func (s *fakeStore) GrantCreditAlone(ctx context.Context, g billing.CreditGrant, most decimal.Decimal) (billing.CreditGrant, error) {
	alone := g.Amount
	for _, before := range s.credits {
		if before.Organization == g.Organization && before.Currency == g.Currency {
			alone = alone.Add(before.Amount)
		}
	}
	if alone.GreaterThan(most) {
		return billing.CreditGrant{}, accounts.ErrSecondPerson
	}
	return s.GrantCredit(ctx, g)
}

func (s *fakeStore) enter(g billing.CreditGrant, kind billing.CreditKind, amount decimal.Decimal, note string) {
	debit, credit := kind.Accounts()
	s.creditEntries = append(s.creditEntries, billing.CreditEntry{
		ID: uuid.Must(uuid.NewV7()), Grant: g.ID, Organization: g.Organization, Kind: kind, Debit: debit, Credit: credit,
		Amount: amount, Currency: g.Currency, At: noon, Note: note,
	})
}

func (s *fakeStore) VoidCredit(ctx context.Context, grant uuid.UUID, note string) (voided billing.CreditGrant, err error) {
	err = s.call(ctx, func() error {
		i := slices.IndexFunc(s.credits, func(g billing.CreditGrant) bool { return g.ID == grant })
		if i < 0 {
			return billing.ErrCreditNotFound
		}
		g := &s.credits[i]
		switch {
		case g.Remaining.Sign() > 0:
			s.enter(*g, billing.CreditVoided, g.Remaining, note)
			g.Remaining, g.VoidedAt = decimal.Zero, noon
		case g.VoidedAt.IsZero():
			return billing.ErrCreditSpent
		}
		voided = *g
		return nil
	})
	return voided, err
}

func (s *fakeStore) Credits(ctx context.Context, organization uuid.UUID) (found []billing.CreditGrant, err error) {
	err = s.call(ctx, func() error {
		for _, g := range s.credits {
			if g.Organization == organization {
				found = append(found, g)
			}
		}
		slices.SortFunc(found, billing.CompareCreditGrants)
		return nil
	})
	return found, err
}

func (s *fakeStore) CreditEntries(ctx context.Context, organization, after uuid.UUID, limit int) (found []billing.CreditEntry, err error) {
	err = s.call(ctx, func() error {
		for _, e := range s.creditEntries {
			if e.Organization == organization && bytes.Compare(e.ID[:], after[:]) > 0 && len(found) < limit {
				found = append(found, e)
			}
		}
		return nil
	})
	return found, err
}
