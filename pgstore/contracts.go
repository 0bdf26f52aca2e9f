package pgstore

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// errTermBegan says that a pending change came into force while it was to be taken back.
var errTermBegan = errors.New("a pending change has come into force meanwhile")

// ChangeContract changes what plan an organization has from when, or ends its contract, by
// the rules of [accounts.Contract.Change]; changes of one organization come one after the
// other. What comes into force at once is an event of the same transaction
// ([events.OrganizationUpgraded], [events.OrganizationEnded]); what is pending becomes one
// in [Store.AnnounceDueTerms]. Errors are those of [accounts.Contract.Change] and
// [accounts.ErrOrganizationNotFound].
func (s *Store) ChangeContract(ctx context.Context, id uuid.UUID, r accounts.Request) (accounts.Changed, error) {
	var changed accounts.Changed
	scope := uuid.Nil
	if r.ByTenant {
		scope = id
	}
	err := s.asOwner(ctx, scope, func(ctx context.Context, tx scoped) error {
		row, err := tx.LockOrganization(ctx, id)
		if err != nil {
			return orNotFound(err, accounts.ErrOrganizationNotFound, id)
		}
		different, err := changeContract(ctx, tx, row, r)
		if err == nil && different {
			row, err = tx.UpdateOrganization(ctx, nil, nil, id)
		}
		if err != nil {
			return err
		}
		changed, err = describeChanged(ctx, tx, row)
		return err
	})
	return changed, wrap(err, "change the contract of organization %s", id)
}

// Standing returns whether an organization is under contract.
func (s *Store) Standing(ctx context.Context, id uuid.UUID) (accounts.Standing, error) {
	var standing accounts.Standing
	err := s.asOrganization(ctx, id, func(ctx context.Context, tx scoped) error {
		contracts, now, err := readContracts(ctx, tx, id)
		standing = contracts[id].Standing(now)
		return err
	})
	return standing, wrap(err, "read the contract of organization %s", id)
}

// changeContract changes the contract of an organization that the caller has locked, and
// reports whether anything is different.
func changeContract(ctx context.Context, tx scoped, o db.Organization, r accounts.Request) (bool, error) {
	contracts, now, err := readContracts(ctx, tx, o.ID)
	if err != nil {
		return false, err
	}
	current := contracts[o.ID]
	facts, err := readFacts(ctx, tx, o, r, current, now)
	if err != nil {
		return false, err
	}
	changed, err := current.Change(r, facts)
	if err != nil || slices.Equal(current, changed) {
		return false, err
	}
	if err := replaceTerms(ctx, tx, o.ID, current, changed, now); err != nil {
		return false, err
	}
	return true, recordChange(ctx, tx, o.ID, r, now)
}

// readFacts reads what a change is decided by.
func readFacts(ctx context.Context, tx scoped, o db.Organization, r accounts.Request, c accounts.Contract, now time.Time) (accounts.Facts, error) {
	facts, err := readOffers(ctx, tx, o.Currency)
	if err != nil {
		return facts, err
	}
	facts.Now = now
	if r.ByTenant {
		facts.Changes, err = tx.TenantChangesSince(ctx, o.ID, now.Add(-accounts.TenantChangesMonth))
		return facts, err
	}
	if r.At.IsZero() || !r.At.Before(now) {
		return facts, nil
	}
	earlier, err := tx.HasEarlierPlan(ctx, o.ID, c.At(now).From)
	if err != nil {
		return facts, err
	}
	facts.FirstTerm = !earlier
	if facts.Used, err = tx.HasUsage(ctx, o.ID); err != nil {
		return facts, err
	}
	facts.Closed, err = closedSince(ctx, tx, r.At)
	return facts, err
}

// readOffers reads the plans that an organization may have in a currency.
func readOffers(ctx context.Context, tx scoped, currency string) (accounts.Facts, error) {
	facts := accounts.Facts{Currency: currency, Offers: map[string]accounts.Offer{}}
	catalog, err := readCatalog(ctx, tx)
	if err != nil {
		return facts, err
	}
	for _, p := range catalog.InForce() {
		_, billable := p.PriceBook(money.Currency(currency))
		facts.Offers[p.Key] = accounts.Offer{SelfService: p.SelfService, Rank: p.Rank, Billable: billable}
	}
	return facts, nil
}

// closedSince returns the first period from a time on that is closed or being closed, and
// keeps the others from being closed until the transaction has ended.
func closedSince(ctx context.Context, tx scoped, at time.Time) (string, error) {
	exports, err := tx.FinalExportsSince(ctx, calendar.PeriodOf(at).Start())
	for _, e := range exports {
		if e.FrozenAt != nil {
			return calendar.PeriodOf(e.Period).String(), nil
		}
	}
	return "", err
}

// beginContract gives a new organization its first plan.
func beginContract(ctx context.Context, tx scoped, row db.Organization, o accounts.NewOrganization) error {
	facts, err := readOffers(ctx, tx, row.Currency)
	if err != nil {
		return err
	}
	facts.Now = row.CreatedAt
	if o.EffectiveAt.Before(facts.Now) && !o.EffectiveAt.IsZero() {
		if facts.Closed, err = closedSince(ctx, tx, o.EffectiveAt); err != nil {
			return err
		}
	}
	contract, err := accounts.NewContract(o.Plan, o.EffectiveAt, facts)
	if err != nil {
		return err
	}
	return putTerm(ctx, tx, row.ID, contract[0], !contract[0].From.After(facts.Now))
}

// checkContractCurrency holds that what an organization has and is to have can be had in
// its currency.
func checkContractCurrency(ctx context.Context, tx scoped, o db.Organization) error {
	contracts, _, err := readContracts(ctx, tx, o.ID)
	if err != nil {
		return err
	}
	facts, err := readOffers(ctx, tx, o.Currency)
	if err != nil {
		return err
	}
	return contracts[o.ID].CheckCurrency(facts)
}

// replaceTerms stores a changed contract, and tells of what is in force at once.
func replaceTerms(ctx context.Context, tx scoped, id uuid.UUID, old, changed accounts.Contract, now time.Time) error {
	for _, t := range old {
		if slices.Contains(changed, t) {
			continue
		}
		if !t.From.After(now) {
			return tx.MoveFirstPlan(ctx, changed[0].From, id, t.From)
		}
		deleted, err := tx.DeleteOrganizationPlan(ctx, id, t.From)
		if err != nil {
			return err
		}
		if deleted == 0 {
			return errTermBegan
		}
	}
	for _, t := range changed {
		if slices.Contains(old, t) {
			continue
		}
		inForce := !t.From.After(now)
		if err := putTerm(ctx, tx, id, t, inForce); err != nil {
			return err
		}
		if !inForce {
			continue
		}
		if err := announceTerm(ctx, tx, id, t, old.At(now).Plan); err != nil {
			return err
		}
	}
	return nil
}

func putTerm(ctx context.Context, tx scoped, id uuid.UUID, term accounts.Term, announced bool) error {
	return tx.InsertOrganizationPlan(ctx, db.InsertOrganizationPlanParams{
		OrganizationID: id, EffectiveFrom: term.From, Plan: optionalText(term.Plan), ByTenant: term.ByTenant, Announced: announced,
	})
}

func recordChange(ctx context.Context, tx scoped, id uuid.UUID, r accounts.Request, now time.Time) error {
	change, err := uuid.NewV7()
	if err != nil {
		return err
	}
	return tx.InsertPlanChange(ctx, db.InsertPlanChangeParams{
		ID: change, OrganizationID: id, At: now, Action: string(r.Action), ByTenant: r.ByTenant, ActorID: optional(r.Actor),
		Plan: optionalText(r.Plan), EffectiveAt: optionalTime(r.At), Note: r.Note,
	})
}

// announceTerm tells of a term that has come into force. With the end of a contract all
// that is held is due for release.
func announceTerm(ctx context.Context, tx scoped, id uuid.UUID, term accounts.Term, previous string) error {
	var e events.Event
	var err error
	if term.Plan == "" {
		if err := tx.ExpireReservationsAt(ctx, term.From, id); err != nil {
			return err
		}
		e, err = events.NewContractEnd(events.ContractEnd{Organization: id, PreviousPlan: previous}, term.From)
	} else {
		e, err = events.NewPlanChange(events.PlanChange{Organization: id, PreviousPlan: previous, Plan: term.Plan}, term.From)
	}
	if err != nil {
		return err
	}
	return publish(ctx, tx, e)
}

// AnnounceDueTerms tells of pending changes that have come into force: each once, whoever
// calls. It returns how many there were, at most limit.
func (s *Store) AnnounceDueTerms(ctx context.Context, limit int) (int, error) {
	var due []db.DueTermsRow
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) (err error) {
		if due, err = tx.DueTerms(ctx, pageSize(limit)); err != nil {
			return err
		}
		for _, d := range due {
			if err := announceTerm(ctx, tx, d.OrganizationID, accounts.Term{From: d.EffectiveFrom, Plan: d.Plan}, d.Previous); err != nil {
				return err
			}
			if err := tx.MarkAnnounced(ctx, d.OrganizationID, d.EffectiveFrom); err != nil {
				return err
			}
		}
		return nil
	})
	return len(due), wrap(err, "announce changes that have come into force")
}

// describe is an organization with its contract.
func describe(ctx context.Context, tx scoped, row db.Organization) (accounts.Organization, error) {
	found := []accounts.Organization{organization(row)}
	err := describeAll(ctx, tx, found)
	return found[0], err
}

// describeChanged is describe in the transaction that has changed the organization.
func describeChanged(ctx context.Context, tx scoped, row db.Organization) (changed accounts.Changed, err error) {
	if changed.Organization, err = describe(ctx, tx, row); err != nil {
		return changed, err
	}
	changed.Transaction, err = thisTransaction(ctx, tx)
	return changed, err
}

// thisTransaction returns the number of the transaction that runs.
func thisTransaction(ctx context.Context, tx scoped) (uint64, error) {
	number, err := tx.ThisTransaction(ctx)
	return uint64(number), err
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
