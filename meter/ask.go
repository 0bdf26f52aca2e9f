package meter

import (
	"math"
	"time"

	"github.com/riverline/tollgate/plans"
)

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
	case q.surrenders:
		need, more = 0, 0
	case q.recalled || !q.active:
		// What is given back must not be admitted meanwhile.
		q.free = min(q.free, q.wanted)
	case q.looks && q.free >= q.low:
	default:
		more = max(need, q.size(now)-q.free)
	}
	looks := q.looks
	q.recalled, q.looks = false, false
	q.asked = q.adopted
	q.version++
	q.needed, q.hoped = q.spent+q.free+need, q.spent+q.free+max(0, more)
	return LeaseAsk{
		QuotaWindow: q.key, Generation: q.generation, Version: q.version, Issued: q.hoped, Spent: q.spent, Outstanding: q.spent - q.consumed, Adopted: q.adopted,
		Need: need, Look: looks, Plan: v.plan.Key, PlanVersion: v.plan.Version, Max: e.Max,
	}
}

// size returns how much a lease should have free: what leaseHorizon takes at the rate since the last
// grant, and what leaseRequests requests take, however slowly they come.
func (q *quota) size(now int64) int64 {
	size := leaseRequests * float64(max(q.largest, q.largestBefore))
	elapsed, spent := now-q.grantedAt, q.spent-q.spentThen
	if q.grantedAt != 0 && spent > 0 {
		size = max(size, float64(spent)/float64(max(elapsed, int64(time.Millisecond)))*float64(leaseHorizon))
	}
	return int64(min(size, plans.MaxQuantity))
}

// adopt takes over an answer. It reports whether another ask is due, and after what time.
func (q *quota) adopt(a LeaseAnswer, now int64) (again bool, pause time.Duration) {
	if q.void {
		// What was granted was asked for by what is in force no longer: it goes back.
		q.void, q.recalled = false, true
		return true, 0
	}
	q.surrenders, q.heard = false, q.version
	had := q.free
	q.free = max(0, a.Issued-q.spent)
	q.learn(&a, now)
	switch {
	case q.free > had:
		q.low = q.mark(&a)
		q.grantedAt, q.spentThen = now, q.spent
		q.largestBefore, q.largest = q.largest, 0
	case q.hoped > q.spent+had:
		q.low = 0
	}
	unmet := a.Issued < q.needed
	if unmet {
		q.denied = q.version
	}
	if !unmet || q.free > had {
		q.pause = 0
	}
	switch {
	case (unmet && a.Waiting) || (a.Outdated && (unmet || q.booked < q.adopted)):
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
	return q.recalled || q.looks || q.booked < q.adopted || (!q.active && q.free > 0) || (!unmet && q.wanted > q.free), 0
}

// mark returns how much must be free for no ask to be made ahead of need, after a grant: the next request
// finds its part. Who was granted less than it asked for, or all that remains, asks no oftener than that
// is worth.
func (q *quota) mark(a *LeaseAnswer) int64 {
	switch {
	case q.total >= a.Max:
		return 0
	case a.Issued < q.hoped:
		return q.free / 4
	default:
		return max(q.free/4, q.largest, q.largestBefore)
	}
}

// learn takes note of where the store says that the window stands.
func (q *quota) learn(a *LeaseAnswer, now int64) {
	q.total = a.Consumed + a.Unleased + a.Leased + a.Held
	q.elsewhere = q.total - a.Idle - a.Issued
	q.heldInStore = a.Held
	if s := q.slot; q == s.quota && a.Held != s.heldInStore() {
		s.extra().heldInStore = a.Held
	}
	q.idleElsewhere = a.Idle
	q.answeredAt = now
	q.changing = a.Changing || a.Outdated
	// What was settled meanwhile is not adopted any more.
	if booked := min(q.asked, q.adopted); !a.Outdated && booked > q.booked {
		q.settled(booked - q.booked)
		q.booked = booked
	}
}

// dry notes that the window has nothing left. Where all of it is used, nothing can
// come back before its end, but for a change of the plan.
func (q *quota) dry(a LeaseAnswer, now int64) {
	q.dryUntil, q.dryOf = now+int64(dryFor), q.least
	if q.least == 0 {
		q.dryOf = math.MaxInt64
	}
	if a.Consumed+a.Unleased >= a.Max {
		q.dryUntil = math.MaxInt64
	}
}

// forgetDry lets the store be asked again by who was refused: there may be more left of the
// window than it last said.
func (q *quota) forgetDry() { q.dryUntil, q.answeredAt = 0, 0 }
