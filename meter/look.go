package meter

import (
	"context"
	"time"
)

const (
	// lookPause is how long other instances are given to say what they have used.
	lookPause = 20 * time.Millisecond
	// lookTimeout bounds a look.
	lookTimeout = 500 * time.Millisecond
	// An organization has a look each lookEvery, and lookBurst's worth of them at once: beyond
	// that memory answers, so that nobody who polls costs the store more.
	lookEvery = 50 * time.Millisecond
	lookBurst = time.Second
)

// Freshen reads an organization's plan and usage again, what reservations hold included. It
// waits half a second at most: where the store can't say by then, what is in memory stays.
func (o *Organization) Freshen(ctx context.Context, now time.Time) {
	o.bounded(ctx, func(ctx context.Context) { o.freshen(ctx, now) })
}

// Look is [Organization.Freshen] that also finds out where the windows of hard limits stand:
// other instances are asked what they have admitted. What [Organization.Usage] says then is
// what a request would find. Of more than 20 looks a second the others do nothing.
func (o *Organization) Look(ctx context.Context, now time.Time) {
	if !o.mayLook(now.UnixNano()) {
		return
	}
	o.bounded(ctx, func(ctx context.Context) {
		o.freshen(ctx, now)
		o.lookAround(ctx, now)
	})
}

// mayLook takes one of the looks that an organization has (the generic cell rate algorithm,
// ITU-T I.371).
func (o *Organization) mayLook(now int64) bool {
	for {
		from := o.looksFrom.Load()
		next := max(from, now) + int64(lookEvery)
		if next-now > int64(lookBurst) {
			return false
		}
		if o.looksFrom.CompareAndSwap(from, next) {
			return true
		}
	}
}

// bounded calls fn, and waits for it as long as it is worth it. Each caller has a call of its
// own: one that was under way may have read the store before what this one is to see.
func (o *Organization) bounded(ctx context.Context, fn func(context.Context)) {
	done := make(chan struct{})
	o.meter.background.Go(func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
		defer cancel()
		fn(ctx)
	})
	timer := time.NewTimer(lookTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (o *Organization) freshen(ctx context.Context, now time.Time) {
	if err := o.meter.refresh(ctx, o, now); err != nil && ctx.Err() == nil {
		o.meter.config.Logger.Warn("Organization could not be refreshed", "organization", o.id, "error", err)
	}
}

// lookAround asks where the current windows of hard limits stand: twice where other
// instances hold some that they may have used meanwhile.
func (o *Organization) lookAround(ctx context.Context, now time.Time) {
	m, at := o.meter, now.UnixNano()
	if m.keeper == nil || m.config.manualLeases || at < m.leasesAway.Load() || at >= m.leasesUntil.Load() {
		return
	}
	quotas := o.currentQuotas(at)
	if !lookInto(ctx, quotas) {
		return
	}
	select {
	case <-time.After(lookPause):
	case <-ctx.Done():
		return
	}
	lookInto(ctx, quotas)
}

// currentQuotas returns the quotas of the current windows of hard limits.
func (o *Organization) currentQuotas(at int64) (quotas []*quota) {
	v := o.view.Load()
	for i := range v.entitlements {
		if !v.leased[i] {
			continue
		}
		s, kind := o.slot(Index(i)), v.entitlements[i].Window
		s.lock()
		if !o.Forgotten() {
			s.roll(kind, o.meter.latest(at))
			quotas = append(quotas, s.quotaFor(kind, Index(i), s.current.day))
		}
		s.mu.Unlock()
	}
	return quotas
}

// lookInto asks where windows stand, and reports whether others hold some of one that they
// were not known to have used: they were asked what they have.
func lookInto(ctx context.Context, quotas []*quota) (idle bool) {
	for _, q := range quotas {
		q.slot.lock()
		q.looks = !q.slot.org.Forgotten()
		q.slot.mu.Unlock()
	}
	for _, q := range quotas {
		for {
			answered, woken := q.looked()
			if answered {
				break
			}
			select {
			case <-woken:
			case <-ctx.Done():
				return false
			}
		}
		q.slot.lock()
		idle = idle || q.idleElsewhere > 0
		q.slot.mu.Unlock()
	}
	return idle
}

// looked reports whether a look was answered, and otherwise when to see again.
func (q *quota) looked() (answered bool, woken <-chan struct{}) {
	q.slot.lock()
	defer q.slot.mu.Unlock()
	if !q.looks && !q.asking {
		return true, nil
	}
	if q.woken == nil {
		q.woken = make(chan struct{})
	}
	q.slot.org.meter.keeper.enqueue(q)
	return false, q.woken
}

// Tell says how much of a window's quota this instance has used: another one looks.
func (m *Meter) Tell(key QuotaWindow) {
	m.withQuota(key, func(q *quota) {
		if q.version > 0 {
			m.keeper.enqueue(q)
		}
	})
}

// withQuota calls fn for the quota of a window, under its slot's lock, where there is one.
func (m *Meter) withQuota(key QuotaWindow, fn func(*quota)) {
	o := m.orgs.find(key.Organization)
	index, ok := m.Index(key.Meter)
	if o == nil || !ok || m.keeper == nil {
		return
	}
	s := o.made(index)
	if s == nil {
		return
	}
	s.lock()
	defer s.mu.Unlock()
	if q := s.findQuota(key.Kind, key.Start); q != nil {
		fn(q)
	}
}
