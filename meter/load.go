package meter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
)

// Organization finds an organization, or loads it at its first request. It answers
// [ErrUnknownOrganization] where the store says that there is none, and [ErrQuotaRefused] where it
// answers, and refuses to say what the organization may use. A store that can't answer is no error:
// the organization is then allowed everything, counted, and loaded in the background as soon as that
// is possible (C5). Now is as in [Organization.Admit].
func (m *Meter) Organization(ctx context.Context, id uuid.UUID, now time.Time) (*Organization, error) {
	o := m.orgs.find(id)
	if o == nil {
		return m.load(ctx, id, now)
	}
	if o.stale.Load() {
		m.refreshInBackground(o, now)
		if !o.Loaded() && m.unreadable(id) {
			return nil, fmt.Errorf("load organization %s: %w", id, ErrQuotaRefused)
		}
	}
	return o, nil
}

// Find finds an organization that is in memory.
func (m *Meter) Find(id uuid.UUID) (*Organization, bool) {
	o := m.orgs.find(id)
	return o, o != nil
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
		return m.loadNew(ctx, id, now)
	})
	if err != nil {
		return nil, fmt.Errorf("load organization %s: %w", id, err)
	}
	return loaded.(*Organization), nil
}

// loadNew reads an organization that isn't in memory and puts it there: again where its
// plan has changed meanwhile.
func (m *Meter) loadNew(ctx context.Context, id uuid.UUID, now time.Time) (*Organization, error) {
	m.beginLoad(id)
	defer m.endLoad(id)
	for {
		now = m.latestTime(now)
		snapshot, err := m.config.Store.LoadOrganization(ctx, id, calendar.DayOf(now))
		if errors.Is(err, ErrUnknownOrganization) {
			return nil, err
		}
		if answers(err) {
			return nil, fmt.Errorf("%w: %w", ErrQuotaRefused, err)
		}
		if err != nil {
			m.config.Logger.Warn("Organization could not be loaded: allowing until it is", "organization", id, "error", err)
		}
		m.catalogMu.RLock()
		o := m.newOrganization(id)
		o.refreshAt.Store(now.Add(m.config.LoadRetry).UnixNano())
		if err == nil {
			m.adopt(o, snapshot, now)
		}
		o, changed := m.insertLoaded(o, err == nil)
		m.catalogMu.RUnlock()
		if !changed {
			return o, nil
		}
	}
}

func (m *Meter) beginLoad(id uuid.UUID) {
	m.loadingMu.Lock()
	defer m.loadingMu.Unlock()
	m.loading[id] = false
}

func (m *Meter) endLoad(id uuid.UUID) {
	m.loadingMu.Lock()
	defer m.loadingMu.Unlock()
	delete(m.loading, id)
}

// insertLoaded puts an organization into memory, unless its plan has changed since it
// was read.
func (m *Meter) insertLoaded(o *Organization, read bool) (_ *Organization, changed bool) {
	m.loadingMu.Lock()
	defer m.loadingMu.Unlock()
	if read && m.loading[o.id] {
		m.loading[o.id] = false
		return nil, true
	}
	return m.orgs.insert(o), false
}

// findChanged finds an organization whose plan has changed: in memory, or on its way there.
func (m *Meter) findChanged(id uuid.UUID) *Organization {
	m.loadingMu.Lock()
	defer m.loadingMu.Unlock()
	if _, loading := m.loading[id]; loading {
		m.loading[id] = true
	}
	return m.orgs.find(id)
}

// newOrganization makes an organization that nothing is known of. The caller holds
// catalogMu.
func (m *Meter) newOrganization(id uuid.UUID) *Organization {
	o := &Organization{id: id, meter: m}
	o.view.Store(m.unloaded)
	o.switchAt.Store(math.MaxInt64)
	o.stale.Store(true)
	return o
}

// adopt takes over the plan and the usage that the store has. The caller holds
// catalogMu.
func (m *Meter) adopt(o *Organization, snapshot Snapshot, now time.Time) {
	m.setPlan(o, snapshot, now)
	v := o.view.Load()
	o.stale.Store(false)
	stored := make([]Stored, len(v.entitlements))
	for _, u := range snapshot.Usage {
		if i, ok := m.Index(u.Meter); ok && int(i) < len(stored) {
			stored[i] = u
		}
	}
	for i := range v.entitlements {
		if stored[i] != (Stored{}) || o.made(Index(i)) != nil {
			o.slot(Index(i)).merge(v.entitlements[i].Window, stored[i], now.UnixNano())
		}
	}
}

// Reload reads an organization's plan again after a change, and its usage where
// the plan's windows are of another kind. An organization that isn't in memory
// needs nothing. An error leaves what was there.
func (m *Meter) Reload(ctx context.Context, id uuid.UUID, now time.Time) error {
	return m.reloadAfter(ctx, id, 0, time.Time{}, now)
}

// reloadAfter is [Meter.Reload] where what is in memory has not seen a transaction, or was read
// before what that wrote came into force.
func (m *Meter) reloadAfter(ctx context.Context, id uuid.UUID, transaction uint64, effectiveFrom, now time.Time) error {
	o := m.findChanged(id)
	if o == nil {
		return nil
	}
	read, err := m.reload(ctx, o, transaction, effectiveFrom, now)
	if err != nil || !read || !o.stale.Load() {
		return err
	}
	return m.refresh(ctx, o, now)
}

// reload reads an organization's plan and puts it in force, unless that has been done since a
// transaction. What is read later is put in force later.
func (m *Meter) reload(ctx context.Context, o *Organization, transaction uint64, effectiveFrom, now time.Time) (read bool, err error) {
	o.reading.Lock()
	defer o.reading.Unlock()
	if o.read.has(transaction, effectiveFrom) {
		return false, nil
	}
	now = m.latestTime(now)
	snapshot, err := m.config.Store.LoadOrganization(ctx, o.id, calendar.DayOf(now))
	if err != nil {
		return false, fmt.Errorf("reload organization %s: %w", o.id, err)
	}
	m.catalogMu.RLock()
	defer m.catalogMu.RUnlock()
	m.setPlan(o, snapshot, now)
	return true, nil
}

// Refresh reads an organization's plan and usage again, after usage that was set aside has
// been decided on. An organization that isn't in memory needs nothing.
func (m *Meter) Refresh(ctx context.Context, id uuid.UUID, now time.Time) error {
	o := m.orgs.find(id)
	if o == nil {
		return nil
	}
	if err := m.refresh(ctx, o, now); err != nil {
		return err
	}
	o.eachQuota((*quota).forgetDry)
	return nil
}

// refresh reads plan and usage with no batch under way, so that what is stored and
// what is not yet can be told apart.
func (m *Meter) refresh(ctx context.Context, o *Organization, now time.Time) error {
	o.reading.Lock()
	defer o.reading.Unlock()
	m.storeMu.Lock()
	defer m.storeMu.Unlock()
	now = m.latestTime(now)
	snapshot, err := m.config.Store.LoadOrganization(ctx, o.id, calendar.DayOf(now))
	if err != nil {
		return fmt.Errorf("refresh organization %s: %w", o.id, err)
	}
	m.catalogMu.RLock()
	defer m.catalogMu.RUnlock()
	m.adopt(o, snapshot, now)
	return nil
}

// unreadable reports whether the store answered the last load of an organization in the background,
// and refused.
func (m *Meter) unreadable(id uuid.UUID) bool {
	_, is := m.refusedLoads.Load(id)
	return is
}

func (m *Meter) noteReadable(id uuid.UUID, is bool) {
	if is {
		m.refusedLoads.Delete(id)
		return
	}
	m.refusedLoads.Store(id, struct{}{})
}

func (m *Meter) refreshInBackground(o *Organization, now time.Time) {
	due := o.refreshAt.Load()
	if m.latest(nanos(now)) < due || !o.refreshing.CompareAndSwap(false, true) {
		return
	}
	m.background.Go(func() {
		defer o.refreshing.Store(false)
		o.refreshAt.Store(now.Add(m.config.LoadRetry).UnixNano())
		ctx, cancel := context.WithTimeout(context.Background(), m.config.LoadTimeout)
		defer cancel()
		err := m.refresh(ctx, o, now)
		m.noteReadable(o.id, !answers(err))
		if err != nil {
			m.config.Logger.Warn("Organization could not be refreshed", "organization", o.id, "error", err)
		}
	})
}
