package meter

import (
	"sync"
	"sync/atomic"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// slot is the usage of one meter of one organization: the window that the limit
// counts in, and the day that the usage records are kept by.
//
// Invariant, for a sum: used = known + (drained, not acknowledged) + pending + held.
//
// A decision in one step touches the first of its three cache lines alone, while its lane is open: at
// a million keys, cache misses are what a decision costs.
type slot struct {
	// mu is taken by lock, which closes the lane.
	mu sync.Mutex
	lane
	// dayEnd is the end of current's day in Unix nanoseconds; 0 before the first use.
	dayEnd int64

	// used is the usage of the window: what is stored, pending and held. For Max it
	// is the peak, for Last the last level.
	used    int64
	current dayUsage
	// known is the part of used that the store is known to have: for Max the peak, for Last the level.
	known int64
	// quota is what may be admitted in the window under a hard limit; nil without one.
	quota *quota
	// rare is what most slots don't have most of the time; nil where there is nothing.
	rare  *rare
	meter *plans.Meter
	org   *Organization
	// The window is the days [windowStart, windowEnd).
	windowStart, windowEnd calendar.Day
	// noted says that the slot is among [Meter.exceeded].
	noted atomic.Bool
	// leasedLane says that the lane takes out of quota.
	leasedLane bool
}

// slotApart is a slot that isn't in its organization: it begins with a cache line.
type slotApart struct {
	slot
	_ [16]byte
}

// rare is what a slot seldom has.
type rare struct {
	// older holds days that have passed, and shares of the current day that have another
	// price, with reservations open or usage undrained: one for each day and price.
	older []olderDay
	// levelAt is the time of the current day's last report that isn't in its share: it has
	// another price, or an identity (Last only).
	levelAt int64
	// identified are the reports that bear an identity and are undrained.
	identified []dayIdentified
	// carried is the leased part of the current day's pending usage that quotas which
	// are gone had admitted.
	carried Leased
	// quotas are those of other windows, until they have been given back.
	quotas []*quota
	// full are earlier days that little more fits into (Sum only).
	full []daySum
	// quarantined is the part of used that the store has set aside (Sum only).
	quarantined int64
	// heldInStore is what reservations in the store hold of the window, not in used (Sum only).
	heldInStore int64
	// left is the window before this one, while something of it may be unacknowledged; nil: nothing is.
	left *left
}

// idle reports whether there is nothing.
func (x *rare) idle() bool {
	return len(x.older) == 0 && len(x.identified) == 0 && len(x.quotas) == 0 && len(x.full) == 0 && x.quarantined == 0 && x.levelAt == 0 && x.heldInStore == 0 && x.left == nil
}

// dayUsage is the share of a slot that one day and one price have, but for its identified reports.
type dayUsage struct {
	// pending is what was committed since the last drain, if has.
	pending int64
	// at is the time of the last report, Unix nanoseconds.
	at int64
	// known is what the store is known to have of the day (Sum only).
	known int64
	// held is the quantity of the reservations that open counts (Sum only).
	held int64
	// open counts the reservations that are neither committed nor released.
	open int32
	day  calendar.Day
	// reports counts what pending is folded from.
	reports uint32
	has     bool
	// price is what the share is priced by.
	price price
}

// olderDay is a share that isn't the current one; leased is the leased part of its pending
// usage.
type olderDay struct {
	dayUsage
	leased Leased
	// taken is what was admitted of the day and isn't drained: pending, held, its identified reports.
	taken int64
}

type dayIdentified struct {
	day        calendar.Day
	price      price
	identified *IdentifiedReport
}

// extra returns the slot's rare part, which it makes at the first need.
func (s *slot) extra() *rare {
	if s.rare == nil {
		s.rare = &rare{}
	}
	return s.rare
}

// roll moves the slot to the day of now where its own day has ended, and to a new
// window where its own has. A clock that steps back moves nothing.
func (s *slot) roll(kind calendar.WindowKind, now int64) {
	if now < s.dayEnd {
		return
	}
	if s.dayEnd == 0 {
		// A request that began before midnight and comes here after the drain that
		// closed the day must not add to that day.
		now = max(now, s.org.meter.sweptStart.Load())
	}
	day := dayOf(now)
	if s.dayEnd != 0 {
		s.setAside(s.takenAt())
		s.org.meter.holdDay(s.current.day, s.openOn(s.current.day))
	}
	s.current = dayUsage{day: day, price: s.current.price}
	s.dayEnd = day.End().UnixNano()
	if day >= s.windowEnd {
		s.leave()
		s.openWindow(kind)
		s.used, s.known = 0, 0
		if s.rare != nil {
			s.rare.quarantined, s.rare.heldInStore = 0, 0
		}
	}
	if s.rare != nil {
		s.rare.levelAt = 0
	}
	if q := s.quota; q != nil && day >= q.end {
		s.retire(q)
	}
	if s.rare != nil {
		for _, q := range s.rare.quotas {
			q.active = false
			q.giveBackFree()
		}
	}
}

func (s *slot) openWindow(kind calendar.WindowKind) {
	window := kind.On(s.current.day)
	s.windowStart, s.windowEnd = calendar.DayOf(window.Start), calendar.DayOf(window.End)
}

// rewindow makes the window one of a kind that may be another than so far. What isn't
// stored of the days that come into it, or leave it, moves with them.
func (s *slot) rewindow(kind calendar.WindowKind) {
	start, end := s.windowStart, s.windowEnd
	s.openWindow(kind)
	if s.meter.Aggregation != plans.Sum || s.rare == nil {
		return
	}
	move := func(day calendar.Day, quantity int64) {
		was := day >= start && day < end
		switch now := s.inWindow(day); {
		case now && !was:
			s.used += quantity
		case was && !now:
			s.used -= quantity
		}
	}
	for i := range s.rare.older {
		d := &s.rare.older[i]
		move(d.day, d.pending+d.held)
	}
	for i := range s.rare.identified {
		move(s.rare.identified[i].day, s.rare.identified[i].identified.Quantity)
	}
}

func (s *slot) window() calendar.Window {
	return calendar.Window{Start: s.windowStart.Start(), End: s.windowEnd.Start()}
}

// take decides without a lease, and takes what is allowed. Quantity is at least 0.
func (s *slot) take(e *plans.Entitlement, quantity int64) plans.Decision {
	current, held := s.standing(false)
	d := plans.Decide(s.meter.Aggregation, *e, current, held, quantity)
	if s.meter.Aggregation == plans.Sum && quantity == 0 {
		// It adds nothing: a limit that was passed before doesn't refuse it.
		d.Allowed = true
	}
	if d.Allowed && s.meter.Aggregation == plans.Sum {
		s.used += quantity
	}
	return d
}

// heldInStore is what reservations in the store hold of the window, as far as is known.
func (s *slot) heldInStore() int64 {
	if s.rare == nil {
		return 0
	}
	return s.rare.heldInStore
}

// learnHeld takes note of what reservations in the store hold of the window. Where that is
// less than before, what was found to have nothing left may have some.
func (s *slot) learnHeld(held int64) {
	if held != s.heldInStore() {
		s.extra().heldInStore = held
	}
	q := s.quota
	if q == nil || held == q.heldInStore {
		return
	}
	if held < q.heldInStore {
		q.dryUntil = 0
	}
	q.elsewhere += held - q.heldInStore
	q.total += held - q.heldInStore
	q.heldInStore = held
}

// heldIn is the quantity of the open reservations of the days [start, end).
func (s *slot) heldIn(start, end calendar.Day) int64 {
	held := int64(0)
	if day := s.current.day; day >= start && day < end {
		held = s.current.held
	}
	if s.rare != nil {
		for i := range s.rare.older {
			if d := &s.rare.older[i]; d.day >= start && d.day < end {
				held += d.held
			}
		}
	}
	return held
}

// hold notes that a reservation of a day was made, and out of which lease, if any.
func (s *slot) hold(d *dayUsage, quantity int64, q *quota) {
	d.open++
	if s.meter.Aggregation == plans.Sum {
		d.held += quantity
	}
	if q != nil {
		q.held += quantity
	}
}

// unhold notes that a reservation is settled, and calls fn for each quota that its
// quantity was taken out of: its lease, and those that have adopted it.
func (s *slot) unhold(d *dayUsage, r *Reservation, fn func(*quota)) {
	d.open--
	if s.meter.Aggregation != plans.Sum {
		return
	}
	d.held -= r.quantity
	r.withdraw()
	if q := r.quota; q != nil {
		q.held -= r.quantity
		fn(q)
	}
	if q := s.quota; q != nil && q.adopts(r) {
		q.held -= r.quantity
		fn(q)
	}
	if s.rare == nil {
		return
	}
	for _, q := range s.rare.quotas {
		if q.adopts(r) {
			q.held -= r.quantity
			fn(q)
		}
	}
}

// inWindow reports whether a day counts in the slot's window.
func (s *slot) inWindow(day calendar.Day) bool {
	return day >= s.windowStart && day < s.windowEnd
}

// dayFor returns the share of a day and price, and the older one that it is of; nil: the
// current.
func (s *slot) dayFor(day calendar.Day, p price) (*dayUsage, *olderDay) {
	if s.current.day == day && s.current.price == p {
		return &s.current, nil
	}
	x := s.extra()
	for i := range x.older {
		if x.older[i].day == day && x.older[i].price == p {
			return &x.older[i].dayUsage, &x.older[i]
		}
	}
	x.older = append(x.older, olderDay{dayUsage: dayUsage{day: day, price: p}})
	last := &x.older[len(x.older)-1]
	return &last.dayUsage, last
}

// record adds a committed report to its day.
func (s *slot) record(r *Reservation) {
	quantity := r.quantity
	d, older := s.dayFor(r.day, r.price)
	if r.identified != nil {
		r.identified.Leased = Leased{}
	}
	s.unhold(d, r, func(q *quota) {
		part := q.disown(r)
		if part < quantity {
			s.org.meter.unflushed.Store(true)
		}
		if r.identified == nil {
			s.countLeased(q, older, part)
		} else {
			r.identified.Leased.add(q.key.Kind, part)
		}
	})
	inWindow := s.inWindow(r.day)
	if s.meter.Aggregation != plans.Sum {
		late := s.meter.Aggregation == plans.Last && r.at < d.at
		if late && r.identified == nil {
			// It changes nothing, and was acknowledged all the same.
			d.reports++
			return
		}
		if inWindow && !late && !s.overtaken(r) {
			s.used = s.meter.Aggregation.Fold(s.used, quantity)
		}
		s.noteLevel(r, older)
	}
	if r.identified != nil {
		x := s.extra()
		x.identified = append(x.identified, dayIdentified{day: r.day, price: r.price, identified: r.identified})
		s.org.meter.crowd.enter()
		return
	}
	if d.has {
		d.pending = s.meter.Aggregation.Fold(d.pending, quantity)
	} else {
		d.pending, d.has = quantity, true
	}
	d.reports++
	d.at = max(d.at, r.at)
}

// countLeased notes that pending usage of a day was admitted out of a lease.
func (s *slot) countLeased(q *quota, older *olderDay, quantity int64) {
	switch {
	case older == nil && q == s.quota:
		q.pending += quantity
	case older == nil:
		s.extra().carried.add(q.key.Kind, quantity)
	default:
		older.leased.add(q.key.Kind, quantity)
	}
}

func (l *Leased) add(kind calendar.WindowKind, quantity int64) {
	if kind == calendar.WindowMonth {
		l.Month += quantity
	} else {
		l.Day += quantity
	}
}

// of returns what leases of windows of a kind covered.
func (l Leased) of(kind calendar.WindowKind) int64 {
	if kind == calendar.WindowMonth {
		return l.Month
	}
	return l.Day
}

// takeLeasedPart takes the leased part of the current day's pending usage.
func (s *slot) takeLeasedPart() Leased {
	var l Leased
	if s.rare != nil {
		l, s.rare.carried = s.rare.carried, Leased{}
	}
	if q := s.quota; q != nil && q.pending > 0 {
		l.add(q.key.Kind, q.pending)
		q.pending = 0
	}
	return l
}
