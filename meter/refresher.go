package meter

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/plans"
)

// RefresherConfig is what a [Refresher] is made from. All members are required.
type RefresherConfig struct {
	Meter *Meter
	// Catalog reads the plans that are published.
	Catalog func(context.Context) (*plans.Catalog, Seen, error)
	// Now tells the time, UTC.
	Now func() time.Time
}

// Refresher is where an instance reads again what has changed, and puts it in force. Several
// hear of one change: the request that made it, the store's notification and the takeover.
// The first of them reads; the others find that this has seen the change.
type Refresher struct {
	config RefresherConfig
	// mu is held while the catalog is read and put in force; seen is what that reading has seen.
	mu   sync.Mutex
	seen Seen
}

// NewRefresher makes one. It panics where a member of the config is missing.
func NewRefresher(config RefresherConfig) *Refresher {
	if config.Meter == nil || config.Catalog == nil || config.Now == nil {
		panic("meter: all members of RefresherConfig are required")
	}
	return &Refresher{config: config}
}

// Organization puts an organization in force as a transaction has left it. Zero is an unknown
// transaction: it is read in any case. An error leaves what was there.
func (r *Refresher) Organization(ctx context.Context, id uuid.UUID, transaction uint64) error {
	return r.config.Meter.reloadAfter(ctx, id, transaction, time.Time{}, r.config.Now())
}

// Catalog puts the plans in force as a transaction has left them. Zero is an unknown
// transaction: they are read in any case. An error leaves what was there.
func (r *Refresher) Catalog(ctx context.Context, transaction uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen.Has(transaction) {
		return nil
	}
	catalog, seen, err := r.config.Catalog(ctx)
	if err != nil {
		return err
	}
	if err := r.config.Meter.SetCatalog(catalog); err != nil {
		return err
	}
	r.seen = seen
	return nil
}

// Forget forgets which changes were seen: the store may have gone back in time, and then the
// numbers of its transactions come again. Call it where the store was away.
func (r *Refresher) Forget() {
	r.mu.Lock()
	r.seen = Seen{}
	r.mu.Unlock()
	r.config.Meter.orgs.each(func(o *Organization) {
		o.reading.Lock()
		o.read = reading{}
		o.reading.Unlock()
	})
}

// takeOver puts a change in force. Of an organization it gives up, besides, what is free of
// its limits. That is so also where the plan is the same as before: under another one that was
// in force in between, and that this instance never saw, others may have used it up.
func (r *Refresher) takeOver(ctx context.Context, c PlanChange, now time.Time) error {
	if c.Organization == uuid.Nil {
		return r.Catalog(ctx, c.Transaction)
	}
	m := r.config.Meter
	if err := m.reloadAfter(ctx, c.Organization, c.Transaction, c.EffectiveFrom, now); err != nil {
		return err
	}
	if o := m.orgs.find(c.Organization); o != nil && m.keeper != nil {
		o.eachQuota((*quota).forfeit)
	}
	return nil
}
