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

// CreateOrganization adds an organization. A name that breaks its rule, a plan that doesn't
// exist, and a currency that isn't one of ISO 4217 are each an [*accounts.FieldError].
func (s *Store) CreateOrganization(ctx context.Context, o accounts.NewOrganization) (accounts.Organization, error) {
	var created accounts.Organization
	if o.Currency == "" {
		o.Currency = accounts.DefaultCurrency
	}
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		if err := choosePlan(ctx, tx, &o); err != nil {
			return err
		}
		if err := checkOrganization(ctx, tx, accounts.OrganizationChange{Name: &o.Name, Plan: &o.Plan, Currency: &o.Currency}); err != nil {
			return err
		}
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		row, err := tx.InsertOrganization(ctx, id, o.Name, o.Currency)
		if err != nil {
			return err
		}
		from := row.CreatedAt
		if !o.EffectiveAt.IsZero() {
			from = o.EffectiveAt
		}
		if err := putTerm(ctx, tx, id, accounts.Term{From: from, Plan: o.Plan}); err != nil {
			return err
		}
		created, err = describe(ctx, tx, row)
		return err
	})
	return created, wrap(err, "create an organization")
}

// Organization returns one organization, or [accounts.ErrNotFound].
func (s *Store) Organization(ctx context.Context, id uuid.UUID) (accounts.Organization, error) {
	var found accounts.Organization
	err := s.asOrganization(ctx, id, func(ctx context.Context, tx scoped) error {
		row, err := tx.Organization(ctx, id)
		if err != nil {
			return orNotFound(err)
		}
		found, err = describe(ctx, tx, row)
		return err
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
		if err != nil {
			return err
		}
		found = convert(rows, organization)
		return describeAll(ctx, tx, found)
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

// UpdateOrganization changes an organization's name, currency or plan. A changed plan is
// in force from then on, and it is an event ([events.OrganizationUpgraded]) of the same
// transaction. Errors are those of [Store.CreateOrganization], [accounts.ErrCurrencyFixed] and
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
		if _, err := tx.LockOrganization(ctx, id); err != nil {
			return orNotFound(err)
		}
		previous, err := putPlan(ctx, tx, id, change.Plan)
		if err != nil {
			return err
		}
		row, err := tx.UpdateOrganization(ctx, change.Name, change.Currency, id)
		if err != nil {
			return orNotFound(err)
		}
		if changed, err = describe(ctx, tx, row); err != nil {
			return err
		}
		return publishPlanChange(ctx, tx, previous, changed)
	})
	return changed, wrap(err, "update organization %s", id)
}

// putPlan puts a plan in force from now on, in an organization that the caller has
// locked, and returns the plan before it.
func putPlan(ctx context.Context, tx scoped, id uuid.UUID, plan *string) (string, error) {
	contracts, now, err := readContracts(ctx, tx, id)
	if err != nil {
		return "", err
	}
	current := contracts[id].At(now)
	if plan == nil || current.Plan == *plan {
		return current.Plan, nil
	}
	// Two changes are in the order in which they came about, whatever the clock does.
	if !now.After(current.From) {
		now = current.From.Add(time.Microsecond)
	}
	return current.Plan, putTerm(ctx, tx, id, accounts.Term{From: now, Plan: *plan})
}

func putTerm(ctx context.Context, tx scoped, id uuid.UUID, term accounts.Term) error {
	return tx.InsertOrganizationPlan(ctx, db.InsertOrganizationPlanParams{
		OrganizationID: id, EffectiveFrom: term.From, Plan: optionalText(term.Plan), ByTenant: term.ByTenant,
	})
}

// describe is an organization with its contract.
func describe(ctx context.Context, tx scoped, row db.Organization) (accounts.Organization, error) {
	found := []accounts.Organization{organization(row)}
	err := describeAll(ctx, tx, found)
	return found[0], err
}

func describeAll(ctx context.Context, tx scoped, found []accounts.Organization) error {
	contracts, now, err := readContracts(ctx, tx, convert(found, func(o accounts.Organization) uuid.UUID { return o.ID })...)
	for i := range found {
		contracts[found[i].ID].Describe(&found[i], now)
	}
	return err
}

// readContracts returns what organizations have and are to have, and the time for which
// that is said: the terms in force and those to come.
func readContracts(ctx context.Context, tx scoped, ids ...uuid.UUID) (map[uuid.UUID]accounts.Contract, time.Time, error) {
	contracts := map[uuid.UUID]accounts.Contract{}
	var now time.Time
	rows, err := tx.CurrentPlans(ctx, ids)
	for _, r := range rows {
		term := accounts.Term{From: r.EffectiveFrom.UTC(), ByTenant: r.ByTenant}
		if r.Plan != nil {
			term.Plan = *r.Plan
		}
		contracts[r.OrganizationID] = append(contracts[r.OrganizationID], term)
		now = r.ReadAt
	}
	return contracts, now, err
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

// choosePlan gives an organization that has no plan yet the catalog's default one.
func choosePlan(ctx context.Context, tx scoped, o *accounts.NewOrganization) error {
	if o.Plan != "" {
		return nil
	}
	catalog, err := readCatalog(ctx, tx)
	if err != nil {
		return err
	}
	if o.Plan = catalog.DefaultPlan; o.Plan == "" {
		return &accounts.FieldError{Field: "plan", Rule: "must be given, as the catalog names no default_plan; its plans are: " + catalog.PlanKeys()}
	}
	return nil
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
		return &accounts.FieldError{Field: "plan", Rule: fmt.Sprintf("must be a plan of the catalog (%s), %q is not", catalog.PlanKeys(), *change.Plan)}
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
