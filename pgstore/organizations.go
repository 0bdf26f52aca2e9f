package pgstore

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/money"
)

// CreateOrganization adds an organization. A name that breaks its rule, a plan that doesn't
// exist, and a currency that isn't one of ISO 4217 are each an [*fault.FieldError]; a
// plan without prices in the currency, and a begin in a period that is closed, are each an
// [*accounts.Refusal].
func (s *Store) CreateOrganization(ctx context.Context, o accounts.NewOrganization) (accounts.Organization, error) {
	var created accounts.Organization
	if o.Currency == "" {
		o.Currency = accounts.DefaultCurrency
	}
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		if err := choosePlan(ctx, tx, &o); err != nil {
			return err
		}
		if err := checkOrganization(accounts.OrganizationChange{Name: &o.Name, Currency: &o.Currency}); err != nil {
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
		if err := beginContract(ctx, tx, row, o); err != nil {
			return err
		}
		created, err = describe(ctx, tx, row)
		return err
	})
	return created, wrap(err, "create an organization")
}

// Organization returns one organization, or [accounts.ErrOrganizationNotFound].
func (s *Store) Organization(ctx context.Context, id uuid.UUID) (accounts.Organization, error) {
	var found accounts.Organization
	err := s.asOrganization(ctx, id, func(ctx context.Context, tx scoped) error {
		row, err := tx.Organization(ctx, id)
		if err != nil {
			return orNotFound(err, accounts.ErrOrganizationNotFound, id)
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

// SearchOrganizations returns at most limit organizations whose name or ID begins with a text, by
// name, upper and lower case alike. An empty text is the begin of all.
func (s *Store) SearchOrganizations(ctx context.Context, begin string, limit int) ([]accounts.Organization, error) {
	var found []accounts.Organization
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.SearchOrganizations(ctx, begin, pageSize(limit))
		if err != nil {
			return err
		}
		if first, last, ok := idsFrom(begin); ok {
			more, err := tx.OrganizationsBetween(ctx, first, last, pageSize(limit))
			if err != nil {
				return err
			}
			known := map[uuid.UUID]bool{}
			for _, one := range more {
				known[one.ID] = true
			}
			// A name may begin with the ID of its own organization.
			for _, one := range rows {
				if !known[one.ID] {
					more = append(more, one)
				}
			}
			rows = more[:min(len(more), limit)]
		}
		found = convert(rows, organization)
		return describeAll(ctx, tx, found)
	})
	return found, wrap(err, "search for organizations")
}

// leastOfID is how many digits of an ID say that it is one: fewer are as likely a name's.
const leastOfID = 6

// idsFrom returns the first and the last ID that begin with a text.
func idsFrom(begin string) (first, last uuid.UUID, ok bool) {
	const digits = "00000000-0000-0000-0000-000000000000"
	if len(begin) < leastOfID || len(begin) > len(digits) {
		return first, last, false
	}
	rest := digits[len(begin):]
	first, err := uuid.Parse(begin + rest)
	if err != nil {
		return first, last, false
	}
	last, err = uuid.Parse(begin + strings.ReplaceAll(rest, "0", "f"))
	return first, last, err == nil
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

// UpdateOrganization changes an organization's name, currency or plan, as an administrator
// does. Errors are those of [Store.CreateOrganization] and [Store.ChangeContract], and
// [accounts.ErrCurrencyFixed].
func (s *Store) UpdateOrganization(ctx context.Context, id uuid.UUID, change accounts.OrganizationChange) (accounts.Changed, error) {
	var changed accounts.Changed
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		if err := checkOrganization(change); err != nil {
			return err
		}
		if err := checkCurrencyChange(ctx, tx, id, change); err != nil {
			return err
		}
		if _, err := tx.LockOrganization(ctx, id); err != nil {
			return orNotFound(err, accounts.ErrOrganizationNotFound, id)
		}
		row, err := tx.UpdateOrganization(ctx, change.Name, change.Currency, id)
		if err != nil {
			return orNotFound(err, accounts.ErrOrganizationNotFound, id)
		}
		if change.Plan != nil {
			_, err = changeContract(ctx, tx, row, accounts.Request{
				Action: accounts.ChangePlan, Plan: *change.Plan, At: change.EffectiveAt, Actor: change.Actor,
			})
		}
		if err == nil && change.Currency != nil {
			err = checkContractCurrency(ctx, tx, row)
		}
		if err != nil {
			return err
		}
		changed, err = describeChanged(ctx, tx, row)
		return err
	})
	return changed, wrap(err, "update organization %s", id)
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
		return &fault.FieldError{Field: "plan", Rule: "must be given, as the catalog names no default_plan; its plans are: " + catalog.PlanKeys()}
	}
	return nil
}

func checkOrganization(change accounts.OrganizationChange) error {
	if change.Name != nil {
		if err := accounts.ValidateName("name", *change.Name); err != nil {
			return err
		}
	}
	if change.Currency != nil {
		return checkCurrency(money.Currency(*change.Currency))
	}
	return nil
}
