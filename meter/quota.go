package meter

import (
	"slices"
	"time"

	"github.com/riverline/tollgate/calendar"
)

// quota is the part of a hard limit that this instance may admit in one window: its
// lease. Its slot's lock guards it.
//
// What was issued in all is spent + free: usage moves from free to spent when it is
// admitted, and back when it is released. What a flush consumes changes neither.
//
// Its first cache line is all that a decision in one step touches ([Organization.Use]).
type quota struct {
	free, spent int64
	// pending is the leased part of the current day's pending usage.
	pending int64
	// low is how much must be free for no ask to be made ahead of need. largest is the most that
	// one request has wanted since the last grant.
	low, largest int64
	// elsewhere + spent is what counts of the window, as of the last answer: elsewhere
	// leaves out what others hold idle. heldInStore is the part of it that reservations in the
	// store hold.
	elsewhere, heldInStore int64
	// The window is the days [start, end).
	start, end calendar.Day

	key QuotaWindow
	// held is the part of spent that open reservations hold.
	held int64
	// active says that the slot admits out of it; otherwise what is free is given back.
	active bool

	index Index
	slot  *slot
	// consumed is the part of spent that is in batches which the store has acknowledged. The rest
	// is outstanding: the store keeps it for this instance, whatever else it has lost.
	consumed int64
	// adopted is what was taken over of reservations that were made without a lease of the
	// window, since the limit was not in force: it is in spent. booked is the part of it that
	// the store is known to have, asked what the ask under way says. Those made before
	// adoptedAt, a stamp, are adopted.
	adopted, booked, asked, adoptedAt int64
	// excused is what is adopted and not booked, and keeps the instance from taking over no change:
	// the store refused to be told.
	excused int64
	// strictSince is the stamp of the last change that may leave less than is issued: what
	// was admitted before it and comes back is the store's to grant.
	strictSince int64
	// total is what the store last counted as used, leased or held: total - free is what
	// nobody can have, as far as this instance knows.
	total int64
	// answeredAt is when an ask was last answered; 0: never. idleElsewhere is what others held idle
	// when they last asked.
	answeredAt, idleElsewhere int64
	// largestBefore is what largest was when the last grant came.
	largestBefore int64
	// dryUntil is the time before which dryOf, or more, is not asked for, because there was
	// less. least is the least that a request has waited for since the last answer to it; 0:
	// none has.
	dryUntil, dryOf, least int64
	// wanted is what requests wait for; woken is closed when they should look again.
	wanted int64
	woken  chan struct{}
	// queued says that an ask is due, asking that one is under way, recalled that others
	// ask for what isn't used, looks that the next ask is to find out where the window
	// stands. version counts the asks.
	queued, asking, recalled, looks bool
	// surrenders says that the next ask gives all back that isn't spent or free, whoever
	// waits; void that the ask under way was made before that; changing that the store grants nothing
	// until a change of the plan is taken over, here or by all.
	surrenders, void, changing bool
	// barred is what who waits is told in the end, as the store answers and decides nothing: it
	// doesn't have what it had acknowledged (unavailable), or can't decide now (refused); decided:
	// it does decide.
	barred verdict
	// contested says that it could not decide on the last ask.
	contested           bool
	generation, version int64
	// heard is the last ask that was answered; denied, with less than was needed.
	heard, denied int64
	// refusedUntil is the time before which requests are refused, because the store refused the
	// last ask; 0: it didn't.
	refusedUntil int64
	// needed is what must be issued to meet the need of the last ask, hoped what that asked for.
	needed, hoped int64
	pause         time.Duration
	// grantedAt and spentThen are the time of the last grant, and what was spent then.
	grantedAt, spentThen int64
}

const (
	// leaseHorizon is for how long a lease should last at the present rate, leaseRequests for how
	// many requests at least, as large as the largest of late.
	leaseHorizon  = 2 * time.Second
	leaseRequests = 32
	// dryFor is how long a window in which nothing is left, but may be given back, is
	// taken for dry. With the wait before it, quota lies idle for less than a second.
	dryFor = 250 * time.Millisecond
	// lookFor is for how long an answer is told to who wants more than the limit.
	lookFor = 250 * time.Millisecond
	// firstPause and longestPause bound the time between two asks while other instances
	// hand quota back.
	firstPause, longestPause = 10 * time.Millisecond, 160 * time.Millisecond
)

// quotaFor returns the quota of the window of kind e.Window that has the day, and makes
// it at the first need.
func (s *slot) quotaFor(kind calendar.WindowKind, index Index, day calendar.Day) *quota {
	if q := s.quota; q != nil && q.covers(kind, day) {
		return q
	}
	current := false
	window := kind.On(day)
	start, end := calendar.DayOf(window.Start), calendar.DayOf(window.End)
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
			index: index, slot: s, start: start, end: end, generation: s.org.meter.generations.Add(1),
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
		s.learnHeld(s.heldInStore())
	}
	return q
}

// covers reports whether the quota is of the window of a kind that has the day. A month has more than
// one, so that the kind need not be read.
func (q *quota) covers(kind calendar.WindowKind, day calendar.Day) bool {
	return day >= q.start && day < q.end && (q.end-q.start > 1) == (kind == calendar.WindowMonth)
}

// findQuota returns the quota of a window, or nil.
func (s *slot) findQuota(kind calendar.WindowKind, day calendar.Day) *quota {
	is := func(q *quota) bool { return q.covers(kind, day) }
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

// forfeit gives up what is free: it can't be admitted before the store has been asked,
// by what is in force then.
func (q *quota) forfeit() {
	q.free = 0
	q.strictSince = q.slot.org.meter.generations.Add(1)
	q.handBack()
}

// handBack sees that what isn't spent or free any more goes to the store before anything
// else is asked for: an answer to an ask that counted it gives nothing.
func (q *quota) handBack() {
	q.void, q.surrenders = q.asking, true
	q.giveBackFree()
}

// adoptOpen takes over the open reservations of the window that were made without a lease
// of it: they count, and may be committed, whatever the limit is.
func (q *quota) adoptOpen() {
	open := q.slot.heldIn(q.start, q.end) - q.held
	if open <= 0 {
		return
	}
	q.held += open
	q.adoptMore(open)
}

// adoptMore takes a quantity over that was admitted without a lease of the window.
func (q *quota) adoptMore(quantity int64) {
	m := q.slot.org.meter
	q.spent += quantity
	q.adopted += quantity
	m.unbooked.Add(quantity)
	q.adoptedAt = m.generations.Add(1)
	q.strictSince = q.adoptedAt
	m.keeper.enqueue(q)
}

// adopts reports whether an open reservation was adopted.
func (q *quota) adopts(r *Reservation) bool {
	return r.quota != q && r.stamp < q.adoptedAt && r.day >= q.start && r.day < q.end
}

// disown gives up what was adopted of a quantity that is settled before the store was told
// of it, and returns how much of it the store has.
func (q *quota) disown(r *Reservation) int64 {
	if q == r.quota {
		return r.quantity
	}
	n := min(r.quantity, q.adopted-q.booked)
	if n <= 0 {
		return r.quantity
	}
	q.adopted -= n
	q.spent -= n
	if q.asking {
		q.handBack()
	}
	q.settled(n)
	return r.quantity - n
}

// excuse lets changes of others be taken over, though the store refuses to be told what is adopted.
func (q *quota) excuse() {
	open := q.adopted - q.booked
	q.slot.org.meter.unbooked.Add(q.excused - open)
	q.excused = open
}

// settled notes that so much less is adopted and not booked.
func (q *quota) settled(n int64) {
	excused := min(n, q.excused)
	q.excused -= excused
	q.slot.org.meter.unbooked.Add(excused - n)
}

func (q *quota) counted() int64 { return q.slot.counted(q) }

// counted is what counts of a quota's window, as far as this instance knows: used or held.
func (s *slot) counted(q *quota) int64 {
	counted := q.elsewhere + q.spent
	if q == s.quota {
		counted = max(counted, s.used+q.heldInStore)
	}
	return max(0, counted)
}

// refund takes back what was admitted, at a stamp, and not used. It is free to be admitted
// again, unless a change since may have left less of the limit than that.
func (q *quota) refund(quantity, stamp int64) {
	q.spent -= quantity
	if stamp < q.strictSince {
		q.handBack()
		return
	}
	q.free += quantity
	if !q.active {
		q.giveBackFree()
	}
}

// wake makes the requests that wait look again.
func (q *quota) wake() {
	q.least = 0
	if q.woken != nil {
		close(q.woken)
		q.woken = nil
	}
}

// forgetFinished forgets the quotas of other windows that nothing more comes of.
func (s *slot) forgetFinished() {
	if s.rare != nil {
		s.rare.quotas = slices.DeleteFunc(s.rare.quotas, (*quota).finished)
	}
}

// finished reports whether a quota of another window can be forgotten.
func (q *quota) finished() bool {
	return !q.active && q.free == 0 && q.wanted == 0 && q.spent == q.consumed && !q.queued && !q.asking
}
