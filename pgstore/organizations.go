package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// CreateOrganization adds an organization on a plan, billed in a currency (empty: USD). A
// name that breaks its rule, a plan that doesn't exist, and a currency that isn't one
// of ISO 4217 are each an [*accounts.FieldError].
func (s *Store) CreateOrganization(ctx context.Context, name, plan, currency string) (accounts.Organization, error) {
	var created accounts.Organization
	if currency == "" {
		currency = accounts.DefaultCurrency
	}
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		if err := checkOrganization(ctx, tx, accounts.OrganizationChange{Name: &name, Plan: &plan, Currency: &currency}); err != nil {
			return err
		}
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		row, err := tx.InsertOrganization(ctx, db.InsertOrganizationParams{ID: id, Name: name, Plan: plan, Currency: currency})
		created = organization(row)
		return err
	})
	return created, wrap(err, "create an organization")
}

// Organization returns one organization, or [accounts.ErrNotFound].
func (s *Store) Organization(ctx context.Context, id uuid.UUID) (accounts.Organization, error) {
	var found accounts.Organization
	err := s.asOrganization(ctx, id, func(ctx context.Context, tx scoped) error {
		row, err := tx.Organization(ctx, id)
		found = organization(row)
		return orNotFound(err)
	})
	return found, wrap(err, "read organization %s", id)
}

// ListOrganizations returns at most limit organizations in the order of their IDs,
// which is that of their creation, from the one after `after`. [uuid.Nil] is
// before all.
func (s *Store) ListOrganizations(ctx context.Context, after uuid.UUID, limit int) ([]accounts.Organization, error) {
	var found []accounts.Organization
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.ListOrganizations(ctx, after, pageSize(limit))
		found = convert(rows, organization)
		return err
	})
	return found, wrap(err, "list organizations")
}

// OrganizationsChangedSince returns the organizations that were made or changed at a
// time or after it. Times are those at which the changes' transactions began.
func (s *Store) OrganizationsChangedSince(ctx context.Context, since time.Time) ([]uuid.UUID, error) {
	var ids []uuid.UUID
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) (err error) {
		ids, err = tx.OrganizationsChangedSince(ctx, since)
		return err
	})
	return ids, wrap(err, "read changed organizations")
}

// UpdateOrganization changes an organization's name, plan or both. A changed plan is
// in force from then on; a trigger adds it to the history of plans, and it is an
// event ([events.OrganizationUpgraded]) of the same transaction. Errors are
// those of [Store.CreateOrganization], [accounts.ErrCurrencyFixed] and
// [accounts.ErrNotFound].
func (s *Store) UpdateOrganization(ctx context.Context, id uuid.UUID, change accounts.OrganizationChange) (accounts.Organization, error) {
	var changed accounts.Organization
	err := s.asOrganization(ctx, id, func(ctx context.Context, tx scoped) error {
		if err := checkOrganization(ctx, tx, change); err != nil {
			return err
		}
		if err := checkCurrencyChange(ctx, tx, id, change); err != nil {
			return err
		}
		previous, err := tx.OrganizationPlan(ctx, id)
		if err != nil {
			return orNotFound(err)
		}
		row, err := tx.UpdateOrganization(ctx, db.UpdateOrganizationParams{Name: change.Name, Plan: change.Plan, Currency: change.Currency, ID: id})
		if err != nil {
			return orNotFound(err)
		}
		changed = organization(row)
		return publishPlanChange(ctx, tx, previous, changed)
	})
	return changed, wrap(err, "update organization %s", id)
}

// publishPlanChange makes an event of a plan that is another one than before.
func publishPlanChange(ctx context.Context, tx scoped, previous string, changed accounts.Organization) error {
	if changed.Plan == previous {
		return nil
	}
	e, err := events.NewPlanChange(events.PlanChange{
		Organization: changed.ID, PreviousPlan: previous, Plan: changed.Plan,
	}, changed.UpdatedAt)
	if err != nil {
		return err
	}
	return publish(ctx, tx, e)
}

func checkOrganization(ctx context.Context, tx scoped, change accounts.OrganizationChange) error {
	if change.Name != nil {
		if err := accounts.ValidateName("name", *change.Name); err != nil {
			return err
		}
	}
	if change.Currency != nil {
		if err := checkCurrency(money.Currency(*change.Currency)); err != nil {
			return err
		}
	}
	if change.Plan == nil {
		return nil
	}
	catalog, err := readCatalog(ctx, tx)
	if err != nil {
		return err
	}
	if _, ok := catalog.Plan(*change.Plan); !ok {
		return &accounts.FieldError{Field: "plan", Rule: fmt.Sprintf("must be a plan of the catalog, %q is not", *change.Plan)}
	}
	return nil
}

// orNotFound turns the absence of a row into the domain's error.
func orNotFound(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return accounts.ErrNotFound
	}
	return err
}

// maxPage bounds what one call returns.
const maxPage = 10_000

// pageSize brings a limit into 1 to [maxPage].
func pageSize(limit int) int32 { return int32(min(max(limit, 1), maxPage)) }
