package meter

import (
	"math"
	"slices"
	"time"

	"github.com/riverline/tollgate/plans"
)

// quota is the part of a hard limit that this instance may admit in one window: its
// lease. Its slot's lock guards it.
//
// What was issued in all is spent + free: usage moves from free to spent when it is
// admitted, and back when it is released. What a flush settles changes neither.
type quota struct {
	key   QuotaWindow
	index Index
	slot  *slot
	// end is the first day after the window.
	end plans.Day
	// active says that the slot admits out of it; otherwise what is free is given back.
	active      bool
	free, spent int64
	// pending is the leased part of the current day's pending usage.
	pending int64
	// open counts what was admitted out of it and may yet come back: reservations that are
	// not settled, and events that are not acknowledged.
	open int
	// total is what the store last counted as used or leased: total - free is used, as
	// far as this instance knows.
	total int64
	// low is how much must be free for no ask to be made ahead of need.
	low int64
	// dryUntil is the time before which nothing is asked, because there was none.
	dryUntil int64
	// wanted is what requests wait for; woken is closed when they should look again.
	wanted int64
	woken  chan struct{}
	// queued says that an ask is due, asking that one is under way, recalled that others
	// ask for what isn't used. version counts the asks.
	queued, asking, recalled bool
	generation, version      int64
	// needed is what must be issued to meet the need of the last ask.
	needed int64
	pause  time.Duration
	// grantedAt and spentThen are the time of the last grant, and what was spent then.
	grantedAt, spentThen int64
}

const (
	// leaseHorizon is for how long a lease should last at the present rate.
	leaseHorizon = 2 * time.Second
	// dryFor is how long a window in which nothing is left, but may be given back, is
	// taken for dry. With the wait before it, quota lies idle for less than a second.
	dryFor = 250 * time.Millisecond
	// firstPause and longestPause bound the time between two asks while other instances
	// hand quota back.
	firstPause, longestPause = 10 * time.Millisecond, 160 * time.Millisecond
)

// quotaFor returns the quota of the window of kind e.Window that has the day, and makes
// it at the first need.
func (s *slot) quotaFor(kind plans.WindowKind, index Index, day plans.Day) *quota {
	if q := s.quota; q != nil && q.key.Kind == kind && day >= q.key.Start && day < q.end {
		return q
	}
	current := false
	window := kind.On(day)
	start, end := plans.DayOf(window.Start), plans.DayOf(window.End)
	if s.current.day >= start && s.current.day < end {
		current = true
		if s.quota != nil {
			s.retire(s.quota)
		}
	}
	q := s.findQuota(kind, day)
	if q == nil {
		q = &quota{
			key:   QuotaWindow{Organization: s.org.id, Meter: s.meter.Key, Kind: kind, Start: start},
			index: index, slot: s, end: end, generation: s.org.meter.generations.Add(1),
		}
		if !current {
			s.extra().quotas = append(s.extra().quotas, q)
		}
	} else if current && s.rare != nil {
		s.rare.quotas = slices.DeleteFunc(s.rare.quotas, func(other *quota) bool { return other == q })
	}
	q.active = true
	if current {
		s.quota = q
	}
	return q
}

// findQuota returns the quota of a window, or nil.
func (s *slot) findQuota(kind plans.WindowKind, day plans.Day) *quota {
	is := func(q *quota) bool { return q.key.Kind == kind && day >= q.key.Start && day < q.end }
	if s.quota != nil && is(s.quota) {
		return s.quota
	}
	if s.rare != nil {
		if i := slices.IndexFunc(s.rare.quotas, is); i >= 0 {
			return s.rare.quotas[i]
		}
	}
	return nil
}

// retire ends the slot's quota; what is free of it is given back.
func (s *slot) retire(q *quota) {
	x := s.extra()
	x.carried.add(q.key.Kind, q.pending)
	q.pending, q.active, s.quota = 0, false, nil
	x.quotas = append(x.quotas, q)
	q.giveBackFree()
}

// giveBackFree gives back all that is free and that no request waits for.
func (q *quota) giveBackFree() {
	q.low = 0
	if q.version > 0 {
		q.recalled = true
		q.slot.org.meter.keeper.enqueue(q)
	}
}

// refund takes back what was admitted and not used.
func (q *quota) refund(quantity int64) {
	q.spent -= quantity
	q.free += quantity
	if !q.active {
		q.giveBackFree()
	}
}

// verdict says how a decision came about.
type verdict int

const (
	decided verdict = iota
	// short says that the lease doesn't cover the quantity, and an ask may.
	short
	// unavailable says that the store can't be asked, and the settings forbid to do without.
	unavailable
	// overflowing says that the day's sum can't take the quantity.
	overflowing
)

// takeLeased decides out of a lease, and takes what is allowed. Fenced says that leases
// can't be relied on; leased, that the quantity was taken out of the lease.
func (s *slot) takeLeased(q *quota, e *plans.Entitlement, quantity, at int64) (d plans.Decision, leased bool, v verdict) {
	m := s.org.meter
	fenced := at >= m.leasesUntil.Load()
	inWindow := q == s.quota
	switch {
	case quantity == 0:
		// It adds nothing: no lease need cover it.
		d = q.refusal(e)
		d.Allowed, d.OverLimit = true, d.Current > e.Max
		return d, false, decided
	case !fenced && q.free >= quantity:
		q.free -= quantity
		q.spent += quantity
		q.open++
		if q.free < q.low {
			m.keeper.enqueue(q)
		}
		d = plans.Decision{Allowed: true, Mode: plans.Hard, Max: e.Max, Current: quantity}
		if inWindow {
			s.used += quantity
			d.Current = min(s.used, e.Max)
		}
		d.Remaining = e.Max - d.Current
		return d, true, decided
	case quantity > e.Max:
		return q.refusal(e), false, decided
	case fenced || at < m.leasesAway.Load():
		if m.config.DenyUnleased {
			return q.refusal(e), false, unavailable
		}
		return s.takeUnleased(q, e, quantity), false, decided
	case at < q.dryUntil:
		return q.refusal(e), false, decided
	default:
		return q.refusal(e), false, short
	}
}

// takeUnleased allows what nobody can be asked about (C5).
func (s *slot) takeUnleased(q *quota, e *plans.Entitlement, quantity int64) plans.Decision {
	addUpTo(&s.org.meter.stats.unleased, quantity)
	if q != s.quota {
		return s.decideAlone(e, quantity)
	}
	limit := *e
	limit.Mode = plans.Soft
	d := s.take(&limit, quantity)
	d.Mode = plans.Hard
	return d
}

// refusal is the decision where a lease doesn't cover a quantity.
func (q *quota) refusal(e *plans.Entitlement) plans.Decision {
	current := q.total - q.free
	if q == q.slot.quota {
		current = max(current, q.slot.used)
	}
	current = min(max(0, current), e.Max)
	return plans.Decision{OverLimit: true, Mode: plans.Hard, Current: current, Max: e.Max, Remaining: e.Max - current}
}

// wake makes the requests that wait look again.
func (q *quota) wake() {
	if q.woken != nil {
		close(q.woken)
		q.woken = nil
	}
}

// ask makes the next ask. The caller holds the slot's lock.
func (q *quota) ask(now int64) LeaseAsk {
	v := q.slot.org.view.Load()
	e := &v.entitlements[q.index]
	if !v.leased[q.index] || e.Window != q.key.Kind {
		q.active = false
	}
	need := max(0, q.wanted-q.free)
	more := need
	switch {
	case q.recalled || !q.active:
		// What is given back must not be admitted meanwhile.
		q.free = min(q.free, q.wanted)
	default:
		more = max(need, q.size(now)-q.free)
	}
	q.recalled = false
	q.version++
	q.needed = q.spent + q.free + need
	return LeaseAsk{
		QuotaWindow: q.key, Generation: q.generation, Version: q.version, Issued: q.spent + q.free + max(0, more), Spent: q.spent,
		Need: need, Plan: v.plan.Key, PlanVersion: v.plan.Version, Max: e.Max,
	}
}

// size returns how much a lease should have free at the rate since the last grant: what
// leaseHorizon takes.
func (q *quota) size(now int64) int64 {
	elapsed, spent := now-q.grantedAt, q.spent-q.spentThen
	if q.grantedAt == 0 || spent <= 0 {
		return 0
	}
	size := float64(spent) / float64(max(elapsed, int64(time.Millisecond))) * float64(leaseHorizon)
	return int64(min(size, plans.MaxQuantity))
}

// adopt takes over an answer. It reports whether another ask is due, and after what time.
func (q *quota) adopt(a LeaseAnswer, now int64) (again bool, pause time.Duration) {
	had := q.free
	q.free = max(0, a.Issued-q.spent)
	q.total = a.Consumed + a.Unleased + a.Leased + a.Held
	if q.free > had {
		q.grantedAt, q.spentThen = now, q.spent
		q.low = q.free / 4
	}
	unmet := a.Issued < q.needed
	if !unmet || q.free > had {
		q.pause = 0
	}
	switch {
	case unmet && (a.Waiting || a.Outdated):
		q.pause = min(max(firstPause, 2*q.pause), longestPause)
		if q.free > had {
			q.wake()
		}
		return true, q.pause
	case unmet:
		q.dry(a, now)
	}
	q.wake()
	// Requests that came since the ask may want more than it was for.
	return q.recalled || (!q.active && q.free > 0) || (!unmet && q.wanted > q.free), 0
}

// dry notes that the window has nothing left. Where all of it is used, nothing can
// come back before its end, but for a change of the plan.
func (q *quota) dry(a LeaseAnswer, now int64) {
	q.dryUntil = now + int64(dryFor)
	if a.Consumed+a.Unleased >= a.Max {
		q.dryUntil = math.MaxInt64
	}
}

// forgetSettled forgets the quotas of other windows that nothing more comes of.
func (s *slot) forgetSettled() {
	if s.rare != nil {
		s.rare.quotas = slices.DeleteFunc(s.rare.quotas, (*quota).settled)
	}
}

// settled reports whether a quota of another window can be forgotten.
func (q *quota) settled() bool {
	return !q.active && q.free == 0 && q.wanted == 0 && q.open == 0 && !q.queued && !q.asking
}
