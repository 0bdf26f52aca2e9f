package pgstore

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// checkCurrency checks a currency that is chosen for something new.
func checkCurrency(c money.Currency) error {
	if rule := c.Rule(); rule != "" {
		return &fault.FieldError{Field: "currency", Rule: fmt.Sprintf("%s, is %q", rule, string(c))}
	}
	return nil
}

// checkNewPriceBooks checks the currencies of a plan version that isn't published yet. One
// that is published keeps what ISO 4217 has withdrawn since.
func checkNewPriceBooks(p plans.Plan) error {
	for i, b := range p.PriceBooks {
		if rule := b.Currency.Rule(); rule != "" {
			return fmt.Errorf("%w: plan %s version %d: price_books[%d].currency: %q %s", plans.ErrInvalidCatalog, p.Key, p.Version, i, b.Currency, rule)
		}
	}
	return nil
}

// checkCurrencyChange refuses to bill an organization in another currency once something
// was issued or granted in the one that it has ([accounts.ErrCurrencyFixed]). It locks the
// organization, so that a grant that comes meanwhile waits.
func checkCurrencyChange(ctx context.Context, tx scoped, id uuid.UUID, change accounts.OrganizationChange) error {
	if change.Currency == nil {
		return nil
	}
	var current string
	if err := tx.QueryRow(ctx, `SELECT currency FROM organizations WHERE id = $1 FOR UPDATE`, id).Scan(&current); err != nil {
		return orNotFound(err, accounts.ErrOrganizationNotFound, id)
	}
	if current == *change.Currency {
		return nil
	}
	var fixed bool
	err := tx.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM statements WHERE organization_id = $1 AND issued)
			OR EXISTS (SELECT FROM credit_grants WHERE organization_id = $1)`, id).Scan(&fixed)
	if err == nil && fixed {
		err = fmt.Errorf("%w: it is %s", accounts.ErrCurrencyFixed, current)
	}
	return err
}
