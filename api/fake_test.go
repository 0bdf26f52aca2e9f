package api

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
	"github.com/riverline/tollgate/sinks"
)

var errDefect = errors.New("secret details of a defect")

// awayError is what a store answers with that can't be reached.
type awayError struct{}

func (awayError) Error() string   { return "connection refused" }
func (awayError) Retryable() bool { return true }

// fakeStore keeps in memory what a Store keeps, by its letter.
type fakeStore struct {
	mu  sync.Mutex
	err error
	// now is the store's clock; each change of a contract comes after the one before.
	now           func() time.Time
	ticks         time.Duration
	usageKeys     map[usageKeyOf]*fakeUsageKey
	organizations []accounts.Organization
	contracts     map[uuid.UUID]accounts.Contract
	// changes are when organizations changed their contracts by themselves.
	changes map[uuid.UUID][]time.Time
	keys    map[accounts.SecretHash]accounts.Key
	records []billing.UsageRecord
	catalog *plans.Catalog
	// exports are in the order of Exports: the newest first.
	exports   []billing.Export
	close     fakeClose
	audit     fakeAudit
	stand     fakeStand
	instances []meter.Instance
	lookups   int
	// reservations are in the order in which they were made; quota is what hard limits have,
	// in their window, of organization and meter.
	reservations []meter.StoredReservation
	quota        map[quotaOf]*fakeQuota
	holds        int
	// loseHold makes the next hold do its work and then fail.
	loseHold bool
	// credits and creditEntries are in the order in which they were made.
	credits       []billing.CreditGrant
	creditEntries []billing.CreditEntry
	quarantine    []meter.Quarantined
	writes        map[writeOf]*fakeWrite
	proposals     []accounts.Proposal
	// actor is who asked in the last call.
	actor accounts.Actor
	// customers are by their identity.
	customers map[string]sinks.Customer
}

type quotaOf struct {
	organization uuid.UUID
	meter        string
}

// fakeQuota is what a window has left, and what instances give back at the next ask; kept says
// that they don't.
type fakeQuota struct {
	max, used, idle int64
	kept            bool
}

// usageKeyOf is a key of a batch, fakeUsageKey what it is bound to.
type usageKeyOf struct {
	organization uuid.UUID
	identity     meter.Identity
}

type fakeUsageKey struct {
	fingerprint meter.Fingerprint
	ended       bool
	answer      []byte
}

type writeOf struct {
	caller uuid.UUID
	key    [32]byte
}

type fakeWrite struct {
	fingerprint [32]byte
	answer      *accounts.WriteAnswer
}

func newFakeStore() *fakeStore {
	return &fakeStore{
		now: func() time.Time { return noon }, contracts: map[uuid.UUID]accounts.Contract{}, changes: map[uuid.UUID][]time.Time{},
		keys: map[accounts.SecretHash]accounts.Key{}, catalog: plans.Default(),
		quota: map[quotaOf]*fakeQuota{}, writes: map[writeOf]*fakeWrite{}, usageKeys: map[usageKeyOf]*fakeUsageKey{},
		customers: map[string]sinks.Customer{},
	}
}

// call runs fn under the lock, unless the store is to fail.
func (s *fakeStore) call(ctx context.Context, fn func() error) error {
	if _, ok := ctx.(*gin.Context); ok {
		return errors.New("gin's context is used again, and must not be handed on")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.actor = accounts.ActorOf(ctx)
	if s.err != nil {
		return s.err
	}
	return fn()
}

func (s *fakeStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *fakeStore) find(id uuid.UUID) (*accounts.Organization, error) {
	i := slices.IndexFunc(s.organizations, func(o accounts.Organization) bool { return o.ID == id })
	if i < 0 {
		return nil, fault.ErrNotFound
	}
	return &s.organizations[i], nil
}

func (s *fakeStore) check(name, currency *string) error {
	if name != nil {
		if err := accounts.ValidateName("name", *name); err != nil {
			return err
		}
	}
	if currency != nil && *currency != "" && !money.Currency(*currency).Valid() {
		return &fault.FieldError{Field: "currency", Rule: "must be an ISO 4217 code of three upper-case letters"}
	}
	return nil
}

func (s *fakeStore) time() time.Time { return s.now().Add(s.ticks) }

// facts are what a change of an organization's contract is decided by.
func (s *fakeStore) facts(o accounts.Organization) accounts.Facts {
	s.ticks += time.Microsecond
	f := accounts.Facts{Now: s.time(), Currency: o.Currency, Offers: map[string]accounts.Offer{}, FirstTerm: len(s.contracts[o.ID]) == 1, Changes: s.changes[o.ID]}
	for _, p := range s.catalog.InForce() {
		_, billable := p.PriceBook(money.Currency(o.Currency))
		f.Offers[p.Key] = accounts.Offer{SelfService: p.SelfService, Rank: p.Rank, Billable: billable}
	}
	return f
}

func (s *fakeStore) CreateOrganization(ctx context.Context, o accounts.NewOrganization) (made accounts.Organization, err error) {
	err = s.call(ctx, func() error {
		if err := s.check(&o.Name, &o.Currency); err != nil {
			return err
		}
		made = accounts.Organization{ID: uuid.Must(uuid.NewV7()), Name: o.Name, Currency: cmp.Or(o.Currency, accounts.DefaultCurrency), CreatedAt: noon, UpdatedAt: noon}
		contract, err := accounts.NewContract(cmp.Or(o.Plan, s.catalog.DefaultPlan), o.EffectiveAt, s.facts(made))
		if err != nil {
			return err
		}
		s.contracts[made.ID] = contract
		contract.Describe(&made, s.time())
		s.organizations = append(s.organizations, made)
		return nil
	})
	return made, err
}

func (s *fakeStore) Organization(ctx context.Context, id uuid.UUID) (found accounts.Organization, err error) {
	err = s.call(ctx, func() error {
		o, err := s.find(id)
		if err == nil {
			found = *o
		}
		return err
	})
	return found, err
}

func (s *fakeStore) ListOrganizations(ctx context.Context, after uuid.UUID, limit int) (found []accounts.Organization, err error) {
	err = s.call(ctx, func() error {
		for _, o := range s.organizations {
			if bytes.Compare(o.ID[:], after[:]) > 0 && len(found) < limit {
				found = append(found, o)
			}
		}
		return nil
	})
	return found, err
}

func (s *fakeStore) UpdateOrganization(ctx context.Context, id uuid.UUID, change accounts.OrganizationChange) (changed accounts.Changed, err error) {
	err = s.call(ctx, func() error {
		if err := s.check(change.Name, change.Currency); err != nil {
			return err
		}
		o, err := s.find(id)
		if err != nil {
			return err
		}
		if change.Plan != nil {
			if err := s.change(o, accounts.Request{Action: accounts.ChangePlan, Plan: *change.Plan, At: change.EffectiveAt}); err != nil {
				return err
			}
		}
		if change.Name != nil {
			o.Name = *change.Name
		}
		if change.Currency != nil {
			o.Currency = *change.Currency
		}
		changed.Organization = *o
		return nil
	})
	return changed, err
}

func (s *fakeStore) ChangeContract(ctx context.Context, id uuid.UUID, r accounts.Request) (changed accounts.Changed, err error) {
	err = s.call(ctx, func() error {
		o, err := s.find(id)
		if err == nil {
			err = s.change(o, r)
		}
		if err == nil {
			changed.Organization = *o
		}
		return err
	})
	return changed, err
}

// change changes a contract. The caller holds the lock.
func (s *fakeStore) change(o *accounts.Organization, r accounts.Request) error {
	contract, err := s.contracts[o.ID].Change(r, s.facts(*o))
	if err != nil {
		return err
	}
	if r.ByTenant && len(contract) != len(s.contracts[o.ID]) {
		s.changes[o.ID] = append(s.changes[o.ID], s.time())
	}
	s.contracts[o.ID] = contract
	contract.Describe(o, s.time())
	return nil
}

func (s *fakeStore) Standing(ctx context.Context, id uuid.UUID) (found accounts.Standing, err error) {
	err = s.call(ctx, func() error {
		found = s.contracts[id].Standing(s.time())
		return nil
	})
	return found, err
}

func (s *fakeStore) CreateKey(ctx context.Context, k accounts.Key, hash accounts.SecretHash) (made accounts.Key, err error) {
	err = s.call(ctx, func() error {
		if err := accounts.ValidateName("name", k.Name); err != nil {
			return err
		}
		if k.Role == roleTenant {
			if _, err := s.find(k.Organization); err != nil {
				return err
			}
		} else if k.Owner, err = accounts.ParseOwner(k.Owner); err != nil {
			return err
		}
		k.ID, k.CreatedAt = uuid.Must(uuid.NewV7()), noon
		s.keys[hash], made = k, k
		return nil
	})
	return made, err
}

func (s *fakeStore) ListKeys(ctx context.Context, organization *uuid.UUID) (found []accounts.Key, err error) {
	err = s.call(ctx, func() error {
		for _, k := range s.keys {
			if organization == nil || k.Organization == *organization {
				found = append(found, k)
			}
		}
		slices.SortFunc(found, func(a, b accounts.Key) int { return bytes.Compare(a.ID[:], b.ID[:]) })
		return nil
	})
	return found, err
}

func (s *fakeStore) StaffKeys(ctx context.Context) ([]accounts.Key, error) {
	return s.ListKeys(ctx, &uuid.Nil)
}

func (s *fakeStore) RevokeKey(ctx context.Context, id uuid.UUID) error {
	return s.call(ctx, func() error {
		for hash, k := range s.keys {
			if k.ID == id {
				at := s.time()
				k.RevokedAt = &at
				s.keys[hash] = k
				return nil
			}
		}
		return fault.ErrNotFound
	})
}

func (s *fakeStore) KeyByHash(ctx context.Context, hash accounts.SecretHash) (found accounts.Key, err error) {
	err = s.call(ctx, func() error {
		s.lookups++
		k, ok := s.keys[hash]
		if !ok {
			return fault.ErrNotFound
		}
		found = k
		return nil
	})
	return found, err
}

func (s *fakeStore) KeysRevokedSince(ctx context.Context, since time.Time) (ids []uuid.UUID, asOf time.Time, err error) {
	err = s.call(ctx, func() error {
		asOf = s.time()
		for _, k := range s.keys {
			if !since.IsZero() && k.RevokedAt != nil && !k.RevokedAt.Before(since) {
				ids = append(ids, k.ID)
			}
		}
		return nil
	})
	return ids, asOf, err
}

func (s *fakeStore) KeyBegins(ctx context.Context, prefix string) (found bool, err error) {
	err = s.call(ctx, func() error {
		for _, k := range s.keys {
			found = found || k.Prefix == prefix
		}
		return nil
	})
	return found, err
}

func (s *fakeStore) UsageRange(ctx context.Context, organization uuid.UUID, from, to calendar.Day, meterKey string) (found []billing.UsageRecord, err error) {
	err = s.call(ctx, func() error {
		for _, r := range s.records {
			if r.Organization == organization && r.Meter == meterKey && r.Day >= from && r.Day <= to {
				found = append(found, r)
			}
		}
		return nil
	})
	return found, err
}

func (s *fakeStore) UsageRangeAll(ctx context.Context, from, to calendar.Day) (totals []billing.UsageTotal, err error) {
	err = s.call(ctx, func() error {
		for _, o := range s.organizations {
			for _, m := range s.catalog.Meters {
				t := billing.UsageTotal{Organization: o.ID, OrganizationName: o.Name, Plan: o.Plan, Meter: m.Key, Unit: m.Unit, Aggregation: m.Aggregation}
				used := false
				for _, r := range s.records {
					if r.Organization == o.ID && r.Meter == m.Key && r.Day >= from && r.Day <= to {
						t.Value, used = m.Aggregation.Fold(t.Value, r.Value), true
					}
				}
				if used {
					totals = append(totals, t)
				}
			}
		}
		return nil
	})
	return totals, err
}

func (s *fakeStore) Catalog(ctx context.Context) (found *plans.Catalog, err error) {
	err = s.call(ctx, func() error { found = s.catalog.Overlay(&plans.Catalog{}); return nil })
	return found, err
}

func (s *fakeStore) CatalogSeen(ctx context.Context) (*plans.Catalog, meter.Seen, error) {
	found, err := s.Catalog(ctx)
	return found, meter.Seen{}, err
}

func (s *fakeStore) PublishPlans(ctx context.Context, list ...plans.Plan) (kept []plans.Published, err error) {
	err = s.call(ctx, func() error {
		next := s.catalog
		for _, p := range list {
			highest, _ := next.Plan(p.Key)
			p.Version = highest.Version + 1
			if err := next.ValidatePlan(p); err != nil {
				return err
			}
			next = next.Overlay(&plans.Catalog{Plans: []plans.Plan{p}})
			kept = append(kept, plans.Published{Plan: p})
		}
		s.catalog = next
		return nil
	})
	return kept, err
}

func (s *fakeStore) Instance(ctx context.Context, id uuid.UUID) (found meter.Instance, err error) {
	err = s.call(ctx, func() error {
		i := slices.IndexFunc(s.instances, func(i meter.Instance) bool { return i.ID == id })
		if i < 0 {
			return meter.ErrUnknownInstance.Of(id)
		}
		found = s.instances[i]
		return nil
	})
	return found, err
}

// meterStore is what a meter reads of the store: plans, and failures.
func (s *fakeStore) meterStore() *metertest.Store {
	of := metertest.NewStore()
	of.Before = func(ctx context.Context, _ metertest.Call) error { return s.call(ctx, func() error { return nil }) }
	of.PlanOf = func(id uuid.UUID) (string, bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		o, err := s.find(id)
		if err != nil {
			return "", false
		}
		return o.Plan, true
	}
	return of
}
