package meter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"

	"github.com/riverline/tollgate/plans"
)

// Index is a meter's place in the catalog. It stays the same as long as the
// process runs.
type Index int

// Config is what a [Meter] is made from.
type Config struct {
	// Catalog says what is counted and what each plan allows. Required.
	Catalog *plans.Catalog
	// Store has the organizations' plans and stored usage. Required.
	Store Store
	// LoadTimeout bounds the first request's wait for an organization that isn't in
	// memory. Zero: 2 s. After it the request is allowed (C5).
	LoadTimeout time.Duration
	// LoadRetry is the time between two attempts to load an organization that could
	// not be loaded. Zero: 1 s.
	LoadRetry time.Duration
	// Logger takes what can't be returned: failures of background loads. Nil: slog.Default.
	Logger *slog.Logger
}

// Meter counts the usage of organizations in memory. Its methods may be called by
// any number of goroutines.
type Meter struct {
	config Config
	orgs   *table
	stats  stats

	// catalogMu is held for reading while an organization's view is built, and for
	// writing while the catalog and every view are replaced.
	catalogMu sync.RWMutex
	catalog   atomic.Pointer[plans.Catalog]
	indexes   atomic.Pointer[map[string]Index]
	// views holds the view of each plan in force, unloaded that of organizations whose
	// plan isn't known. They are replaced with the catalog.
	views    map[string]*view
	unloaded *view

	loads      singleflight.Group
	background sync.WaitGroup

	// storeMu is held while a batch is written and acknowledged, and while stored
	// usage is read and merged: what was read is then neither older nor newer than
	// what was acknowledged.
	storeMu sync.Mutex

	dirtyMu sync.Mutex
	dirty   []*slot
	spare   []*slot

	// heldDays counts, for each day that has passed, the reservations still open.
	heldMu   sync.Mutex
	heldDays map[plans.Day]int64
	// sweptStart is the start of the day to which a drain last rolled every slot, in
	// Unix nanoseconds.
	sweptStart atomic.Int64
}

// New makes a meter with no organizations in memory. It panics where a required
// field of the config is missing.
func New(config Config) *Meter {
	if config.Catalog == nil || config.Store == nil {
		panic("meter: Config.Catalog and Config.Store are required")
	}
	if config.LoadTimeout == 0 {
		config.LoadTimeout = 2 * time.Second
	}
	if config.LoadRetry == 0 {
		config.LoadRetry = time.Second
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	m := &Meter{
		config:   config,
		orgs:     newTable(),
		heldDays: map[plans.Day]int64{},
	}
	m.stats.meters = make([][stripes]stripe, plans.MaxMeters)
	m.views, m.unloaded = viewsOf(config.Catalog)
	m.publish(config.Catalog)
	return m
}

// Close waits for background loads to end. Call it after the last request.
func (m *Meter) Close() { m.background.Wait() }

func (m *Meter) publish(catalog *plans.Catalog) {
	indexes := make(map[string]Index, len(catalog.Meters))
	for i, meter := range catalog.Meters {
		indexes[meter.Key] = Index(i)
	}
	m.catalog.Store(catalog)
	m.indexes.Store(&indexes)
}

// viewsOf resolves every plan in force against the catalog's meters.
func viewsOf(catalog *plans.Catalog) (views map[string]*view, unloaded *view) {
	views = map[string]*view{}
	for _, plan := range catalog.InForce() {
		views[plan.Key] = newView(catalog, plan, true)
	}
	return views, newView(catalog, plans.Plan{}, false)
}

func newView(catalog *plans.Catalog, plan plans.Plan, loaded bool) *view {
	v := &view{loaded: loaded, plan: plan, entitlements: make([]plans.Entitlement, len(catalog.Meters))}
	for i := range catalog.Meters {
		v.entitlements[i] = plan.Entitlement(catalog.Meters[i].Key)
	}
	return v
}

// Catalog returns the catalog in force. It must not be changed.
func (m *Meter) Catalog() *plans.Catalog { return m.catalog.Load() }

// Index returns the place of the meter with the key.
func (m *Meter) Index(key string) (Index, bool) {
	i, ok := (*m.indexes.Load())[key]
	return i, ok
}

// Organizations returns how many organizations are in memory.
func (m *Meter) Organizations() int { return m.orgs.len() }

// Counts returns the decisions on one meter since the process began.
func (m *Meter) Counts(i Index) Counts { return m.stats.read(i) }

// Organization finds an organization, or loads it at its first request. It answers
// [ErrUnknownOrganization] where the store says that there is none. A store that
// can't answer is no error: the organization is then allowed everything, counted,
// and loaded in the background as soon as that is possible (C5).
func (m *Meter) Organization(ctx context.Context, id uuid.UUID, now time.Time) (*Organization, error) {
	o := m.orgs.find(id)
	if o == nil {
		return m.load(ctx, id, now)
	}
	if o.stale.Load() {
		m.refreshInBackground(o, now)
	}
	return o, nil
}

func (m *Meter) load(ctx context.Context, id uuid.UUID, now time.Time) (*Organization, error) {
	// The load is shared by all who wait for it, so it must not end with one of them.
	ctx = context.WithoutCancel(ctx)
	loaded, err, _ := m.loads.Do(id.String(), func() (any, error) {
		if o := m.orgs.find(id); o != nil {
			return o, nil
		}
		ctx, cancel := context.WithTimeout(ctx, m.config.LoadTimeout)
		defer cancel()
		snapshot, err := m.config.Store.LoadOrganization(ctx, id, plans.DayOf(now))
		if errors.Is(err, ErrUnknownOrganization) {
			return nil, err
		}
		if err != nil {
			m.config.Logger.Warn("Organization could not be loaded: allowing until it is", "organization", id, "error", err)
		}
		m.catalogMu.RLock()
		defer m.catalogMu.RUnlock()
		o := m.newOrganization(id)
		o.refreshAt.Store(now.Add(m.config.LoadRetry).UnixNano())
		if err == nil {
			m.adopt(o, snapshot, now)
		}
		return m.orgs.insert(o), nil
	})
	if err != nil {
		return nil, fmt.Errorf("load organization %s: %w", id, err)
	}
	return loaded.(*Organization), nil
}

// newOrganization makes an organization that nothing is known of. The caller holds
// catalogMu.
func (m *Meter) newOrganization(id uuid.UUID) *Organization {
	catalog := m.Catalog()
	o := &Organization{id: id, meter: m, slots: make([]slot, len(catalog.Meters))}
	for i := range o.slots {
		o.slots[i].org, o.slots[i].meter = o, &catalog.Meters[i]
	}
	o.view.Store(m.unloaded)
	o.stale.Store(true)
	return o
}

// viewFor returns the view of a plan. The caller holds catalogMu.
func (m *Meter) viewFor(o *Organization, planKey string) *view {
	if v, ok := m.views[planKey]; ok {
		return v
	}
	m.config.Logger.Error("Plan is not in the catalog: nothing is limited", "organization", o.id, "plan", planKey)
	return newView(m.Catalog(), plans.Plan{Key: planKey}, true)
}

// show puts a view in force for an organization. Where a window changes its kind,
// the organization is stale: the store has to be asked what the new window holds.
func (o *Organization) show(v *view) {
	was := o.view.Load()
	for i := range was.entitlements {
		if was.entitlements[i].Window != v.entitlements[i].Window {
			o.stale.Store(true)
			break
		}
	}
	o.view.Store(v)
}

// adopt takes over the plan and the usage that the store has. The caller holds
// catalogMu.
func (m *Meter) adopt(o *Organization, snapshot Snapshot, now time.Time) {
	v := m.viewFor(o, snapshot.Plan)
	o.show(v)
	o.stale.Store(false)
	stored := make([]Stored, len(v.entitlements))
	for _, u := range snapshot.Usage {
		if i, ok := m.Index(u.Meter); ok && int(i) < len(stored) {
			stored[i] = u
		}
	}
	for i := range v.entitlements {
		o.slot(Index(i)).merge(v.entitlements[i].Window, stored[i], now.UnixNano())
	}
}

// Reload reads an organization's plan again after a change, and its usage where
// the plan's windows are of another kind. An organization that isn't in memory
// needs nothing. An error leaves what was there.
func (m *Meter) Reload(ctx context.Context, id uuid.UUID, now time.Time) error {
	o := m.orgs.find(id)
	if o == nil {
		return nil
	}
	snapshot, err := m.config.Store.LoadOrganization(ctx, id, plans.DayOf(now))
	if err != nil {
		return fmt.Errorf("reload organization %s: %w", id, err)
	}
	m.catalogMu.RLock()
	o.show(m.viewFor(o, snapshot.Plan))
	m.catalogMu.RUnlock()
	if !o.stale.Load() {
		return nil
	}
	return m.refresh(ctx, o, now)
}

// refresh reads plan and usage with no batch under way, so that what is stored and
// what is not yet can be told apart.
func (m *Meter) refresh(ctx context.Context, o *Organization, now time.Time) error {
	m.storeMu.Lock()
	defer m.storeMu.Unlock()
	snapshot, err := m.config.Store.LoadOrganization(ctx, o.id, plans.DayOf(now))
	if err != nil {
		return fmt.Errorf("refresh organization %s: %w", o.id, err)
	}
	m.catalogMu.RLock()
	defer m.catalogMu.RUnlock()
	m.adopt(o, snapshot, now)
	return nil
}

func (m *Meter) refreshInBackground(o *Organization, now time.Time) {
	due := o.refreshAt.Load()
	if now.UnixNano() < due || !o.refreshing.CompareAndSwap(false, true) {
		return
	}
	m.background.Go(func() {
		defer o.refreshing.Store(false)
		o.refreshAt.Store(now.Add(m.config.LoadRetry).UnixNano())
		ctx, cancel := context.WithTimeout(context.Background(), m.config.LoadTimeout)
		defer cancel()
		if err := m.refresh(ctx, o, now); err != nil {
			m.config.Logger.Warn("Organization could not be refreshed", "organization", o.id, "error", err)
		}
	})
}

// SetCatalog puts another catalog in force for every organization. Meters keep
// their place: those of the catalog before stay first, whatever the order of the
// new one. A meter's aggregation can't change: that is an error, and nothing is
// changed.
func (m *Meter) SetCatalog(catalog *plans.Catalog) error {
	m.catalogMu.Lock()
	defer m.catalogMu.Unlock()
	next := m.Catalog().Overlay(catalog)
	for i, was := range m.Catalog().Meters {
		if now := next.Meters[i]; now.Aggregation != was.Aggregation {
			return fmt.Errorf("%w: meters: %s is a %s and can't become a %s", plans.ErrInvalidCatalog, was.Key, was.Aggregation, now.Aggregation)
		}
	}
	if err := next.Validate(); err != nil {
		return err
	}
	m.views, m.unloaded = viewsOf(next)
	m.orgs.each(func(o *Organization) {
		o.grow(next)
		was := o.view.Load()
		if !was.loaded {
			o.show(m.unloaded)
			return
		}
		o.show(m.viewFor(o, was.plan.Key))
	})
	m.publish(next)
	return nil
}

// grow adds slots for the meters that a catalog has at its end.
func (o *Organization) grow(catalog *plans.Catalog) {
	var added []*slot
	if there := o.added.Load(); there != nil {
		added = append(added, *there...)
	}
	for i := len(o.slots) + len(added); i < len(catalog.Meters); i++ {
		added = append(added, &slot{org: o, meter: &catalog.Meters[i]})
	}
	o.added.Store(&added)
}

// holdDay counts reservations that are still open on a day that has passed.
func (m *Meter) holdDay(day plans.Day, delta int64) {
	if delta == 0 {
		return
	}
	m.heldMu.Lock()
	defer m.heldMu.Unlock()
	m.heldDays[day] += delta
	if m.heldDays[day] == 0 {
		delete(m.heldDays, day)
	}
}

// drain takes all usage that was committed since the last drain, and says up to
// when it is complete.
func (m *Meter) drain(now time.Time) (rows []drained, watermark time.Time) {
	if today := plans.DayOf(now).Start().UnixNano(); today > m.sweptStart.Load() {
		m.sweptStart.Store(today)
		m.orgs.each(func(o *Organization) { o.roll(now.UnixNano()) })
	}
	// Holds are read before the usage is taken: a reservation that settles in between
	// then delays the watermark, and never passes it.
	watermark = now
	m.heldMu.Lock()
	for day := range m.heldDays {
		if before := day.End().Add(-time.Microsecond); before.Before(watermark) {
			watermark = before
		}
	}
	m.heldMu.Unlock()

	m.dirtyMu.Lock()
	taken := m.dirty
	m.dirty = m.spare[:0]
	m.dirtyMu.Unlock()
	rows = make([]drained, 0, len(taken))
	for _, s := range taken {
		rows = s.drain(rows)
	}
	clear(taken)
	m.spare = taken[:0]
	return rows, watermark
}

// roll moves every slot to the day of now.
func (o *Organization) roll(now int64) {
	v := o.view.Load()
	for i := range v.entitlements {
		s := o.slot(Index(i))
		s.mu.Lock()
		if s.dayEnd != 0 {
			s.roll(v.entitlements[i].Window, now)
		}
		s.mu.Unlock()
	}
}
