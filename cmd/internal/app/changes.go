package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
)

// changes keeps an instance's copies of plans, limits and keys true: it follows
// Postgres's notifications, and reads again what changed at intervals, should one
// have been missed.
type changes struct {
	store *pgstore.Store
	// instance is whose quota others ask for.
	instance  uuid.UUID
	meter     *meter.Meter
	refresher *meter.Refresher
	logger    *slog.Logger
	// keys are those that the API has in memory.
	keys     keys
	interval time.Duration
	// takeover takes changes of plans over; due has room for one: something may have changed.
	takeover *meter.Takeover
	due      chan struct{}
	// rewound has one where Postgres had gone back in time: nothing that was known of it holds.
	// behind takes one where that may be so: it was away.
	rewound <-chan struct{}
	behind  chan<- struct{}

	mu sync.Mutex
	// since is the time from which changes may not have been seen.
	since time.Time
}

// keys are what [api.Server] has of keys.
type keys interface {
	// ForgetKey makes the API look a key up again; [uuid.Nil] is every key.
	ForgetKey(id uuid.UUID)
	// ForgetOrganization makes the API look the keys of an organization up again.
	ForgetOrganization(id uuid.UUID)
	// ConfirmKeys finds out which keys were revoked, for all of them at once.
	ConfirmKeys(ctx context.Context) error
}

// confirmEvery is the time between two calls of ConfirmKeys: several within the minute for which a key
// of finance or an administrator works that nobody confirms.
const confirmEvery = 15 * time.Second

// overlap is how far a re-read looks back before the last one: a transaction that
// was under way then had an earlier time.
const overlap = time.Minute

// Pending changes of contracts are looked for at this interval once they are due, this
// many in one transaction.
const (
	announceEvery  = time.Second
	announceAtOnce = 500
)

// run follows until the context ends.
func (c *changes) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		// Its only error is the context's.
		_ = c.store.Listen(ctx, c.instance, func(change pgstore.Change) { c.follow(ctx, change) })
	})
	wg.Go(func() { c.takeOver(ctx) })
	wg.Go(func() { every(ctx, announceEvery, c.announce) })
	wg.Go(func() { c.followRewinds(ctx) })
	wg.Go(func() { every(ctx, confirmEvery, c.confirmKeys) })
	every(ctx, c.interval, c.resync)
}

// every calls do at intervals until the context ends.
func every(ctx context.Context, interval time.Duration, do func(context.Context)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			do(ctx)
		}
	}
}

// announce tells of changes of contracts that have come into force. Each instance looks
// for them, and one finds each.
func (c *changes) announce(ctx context.Context) {
	for {
		n, err := c.store.AnnounceDueTerms(ctx, announceAtOnce)
		if err != nil && ctx.Err() == nil {
			c.logger.Warn("Changes that have come into force could not be announced: they are tried again", "error", err)
		}
		if err != nil || n < announceAtOnce {
			return
		}
	}
}

// confirmKeys finds out which keys were revoked, should no word of it have come.
func (c *changes) confirmKeys(ctx context.Context) {
	if err := c.keys.ConfirmKeys(ctx); err != nil && ctx.Err() == nil {
		c.logger.Warn("Keys can't be confirmed: they go on working up to their bounds", "error", err)
	}
}

func (c *changes) follow(ctx context.Context, change pgstore.Change) {
	switch change.Kind {
	case pgstore.ChangeOrganization:
		if id, err := uuid.Parse(change.ID); err == nil {
			c.keys.ForgetOrganization(id)
			// The takeover would read it, after what it has under way: the plan is in force before that, and not
			// every change is one that is taken over.
			c.reload(ctx, id, change.Transaction)
			c.changed()
		}
	case pgstore.ChangeUsage:
		if id, err := uuid.Parse(change.ID); err == nil {
			c.refresh(ctx, id)
		}
	case pgstore.ChangeKey:
		if id, err := uuid.Parse(change.ID); err == nil {
			c.keys.ForgetKey(id)
		}
	case pgstore.ChangePlans:
		c.readCatalog(ctx, change.Transaction)
		c.changed()
	case pgstore.ChangeQuota:
		if window, ok := change.QuotaWindow(); ok {
			if change.Look {
				c.meter.Tell(window)
			} else {
				c.meter.Recall(window)
			}
		}
	case pgstore.ChangeResync:
		c.refresher.Forget()
		c.keys.ForgetKey(uuid.Nil)
		poke(c.behind)
		c.resync(ctx)
	}
}

// followRewinds reads everything again where Postgres had gone back in time. The meter reads
// organizations again as they are asked for.
func (c *changes) followRewinds(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.rewound:
			c.refresher.Forget()
			c.keys.ForgetKey(uuid.Nil)
			c.resync(ctx)
		}
	}
}

// changed says that plans may have changed.
func (c *changes) changed() { poke(c.due) }

const (
	// takeoverTimeout bounds one attempt to take changes over, takeoverRetry is the time
	// before the next.
	takeoverTimeout = 5 * time.Second
	takeoverRetry   = 200 * time.Millisecond
)

// takeOver takes changes of plans over, as they are made and as they come into force,
// beside what else is followed: it may have to wait for a flush.
func (c *changes) takeOver(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.due:
		case <-timer.C:
		}
		taking, cancel := context.WithTimeout(ctx, takeoverTimeout)
		next, err := c.takeover.Follow(taking)
		cancel()
		if err != nil && !failing && ctx.Err() == nil {
			c.logger.Warn("Changes of plans can't be taken over: they are tried again", "error", err)
		}
		failing = err != nil
		switch {
		case err != nil:
			timer.Reset(takeoverRetry)
		case !next.IsZero():
			timer.Reset(max(0, time.Until(next)) + time.Millisecond)
		}
	}
}

func (c *changes) reload(ctx context.Context, id uuid.UUID, transaction uint64) bool {
	err := c.refresher.Organization(ctx, id, transaction)
	if err != nil && ctx.Err() == nil {
		c.logger.Warn("A changed organization could not be read: it is tried again", "organization", id, "error", err)
	}
	return err == nil
}

func (c *changes) refresh(ctx context.Context, id uuid.UUID) bool {
	err := c.meter.Refresh(ctx, id, time.Now().UTC())
	if err != nil && ctx.Err() == nil {
		c.logger.Warn("An organization's usage could not be read: it is shown as it was", "organization", id, "error", err)
	}
	return err == nil
}

func (c *changes) readCatalog(ctx context.Context, transaction uint64) bool {
	err := c.refresher.Catalog(ctx, transaction)
	if err != nil && ctx.Err() == nil {
		c.logger.Warn("The changed catalog could not be read: it is tried again", "error", err)
	}
	return err == nil
}

// unknown is the transaction of what may have changed: it is read in any case.
const unknown = 0

// resync reads again what may have been missed.
func (c *changes) resync(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	began := time.Now().UTC()
	changed, err := c.store.OrganizationsChangedSince(ctx, c.since.Add(-overlap))
	var decided []uuid.UUID
	if err == nil {
		decided, err = c.store.QuarantineDecidedSince(ctx, c.since.Add(-overlap))
	}
	if err != nil {
		if ctx.Err() == nil {
			c.logger.Warn("Changes could not be read: they are tried again", "error", err)
		}
		return
	}
	c.changed()
	complete := c.readCatalog(ctx, unknown)
	for _, id := range changed {
		c.keys.ForgetOrganization(id)
		complete = c.reload(ctx, id, unknown) && complete
	}
	for _, id := range decided {
		complete = c.refresh(ctx, id) && complete
	}
	if complete {
		c.since = began
	}
}
