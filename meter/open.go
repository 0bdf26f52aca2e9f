package meter

import (
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/plans"
)

// OpenReservation is a reservation that may stay open for long, because somebody else's work
// decides how it is settled. It counts for the day, and in the window, in which it was made;
// where that day has passed and it has been open for minutes ([Config.RedateAfter]), a flush moves
// it to the day of then, so that it holds up nobody's month. It is never released by itself: what
// is committed in the end counts. Its methods may be called by any number of goroutines.
type OpenReservation struct {
	mu          sync.Mutex
	reservation Reservation
	meter       *Meter
	since       time.Time
	// organization and key, that of the meter, are what it uses.
	organization uuid.UUID
	key          string
}

// openReservations are those that are not settled, by their organization.
type openReservations [16]struct {
	mu  sync.Mutex
	set map[*OpenReservation]struct{}
}

// KeepOpen takes a reservation over, which was made at a time. The zero reservation is settled.
func (m *Meter) KeepOpen(r Reservation, since time.Time) *OpenReservation {
	o := &OpenReservation{reservation: r, meter: m, since: since}
	if !r.Held() {
		return o
	}
	o.organization, o.key = r.slot.org.id, r.slot.meter.Key
	stripe := m.open.of(o.organization)
	stripe.mu.Lock()
	defer stripe.mu.Unlock()
	if stripe.set == nil {
		stripe.set = map[*OpenReservation]struct{}{}
	}
	stripe.set[o] = struct{}{}
	return o
}

func (s *openReservations) of(id uuid.UUID) *struct {
	mu  sync.Mutex
	set map[*OpenReservation]struct{}
} {
	return &s[id[15]%uint8(len(s))]
}

// all returns those that were made before a time.
func (s *openReservations) all(before time.Time) []*OpenReservation {
	var out []*OpenReservation
	for i := range s {
		s[i].mu.Lock()
		for o := range s[i].set {
			if o.since.Before(before) {
				out = append(out, o)
			}
		}
		s[i].mu.Unlock()
	}
	return out
}

// Held reports whether the reservation still waits to be settled.
func (o *OpenReservation) Held() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.reservation.Held()
}

// Commit is [Reservation.Commit]; it reports whether the reservation was not settled before.
func (o *OpenReservation) Commit() bool { return o.settle((*Reservation).Commit) }

// Release is [Reservation.Release]; it reports whether the reservation was not settled before.
func (o *OpenReservation) Release() bool { return o.settle((*Reservation).Release) }

func (o *OpenReservation) settle(how func(*Reservation)) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.reservation.Held() {
		return false
	}
	stripe := o.meter.open.of(o.reservation.slot.org.id)
	how(&o.reservation)
	stripe.mu.Lock()
	defer stripe.mu.Unlock()
	delete(stripe.set, o)
	return true
}

// Open returns what waits to be settled.
func (m *Meter) Open() OpenUsage {
	var out OpenUsage
	for i := range m.open {
		stripe := &m.open[i]
		stripe.mu.Lock()
		out.Count += len(stripe.set)
		for o := range stripe.set {
			if out.Since.IsZero() || o.since.Before(out.Since) {
				out.Since, out.Organization, out.Meter = o.since.UTC(), o.organization, o.key
			}
		}
		stripe.mu.Unlock()
	}
	return out
}

// redateOpen moves what has been open for minutes, and is of a day that has passed, to the day of
// now. It is called before the watermark is read.
func (m *Meter) redateOpen(now time.Time) {
	m.heldMu.Lock()
	passed := len(m.heldDays) > 0
	m.heldMu.Unlock()
	if !passed {
		return
	}
	for _, o := range m.open.all(now.Add(-m.config.RedateAfter)) {
		o.mu.Lock()
		if s, day := o.reservation.slot, o.reservation.day; s != nil && o.reservation.redate(now) {
			m.config.Logger.Warn("A request has been under way since a day that has passed: its usage belongs to the day of now",
				"organization", s.org.id, "meter", s.meter.Key, "quantity", o.reservation.quantity, "since", o.since, "day", day)
			m.stats.redated.Add(1)
		}
		o.mu.Unlock()
	}
}

// redate moves a reservation to the day of now, and reports whether it did: its own has passed. What was
// held of the window that it was made in goes on being held where that has the new day, too;
// otherwise it is given back, and taken out of the new window whatever that has left.
func (r *Reservation) redate(now time.Time) bool {
	s, m := r.slot, r.slot.org.meter
	index, ok := m.Index(s.meter.Key)
	if !ok {
		return false
	}
	s.lock()
	view := s.org.view.Load()
	e := &view.entitlements[index]
	s.roll(e.Window, now.UnixNano())
	from := r.day
	if from >= s.current.day || s.overflows(s.current.day, r.quantity) {
		// What the day has no room for waits for another one.
		s.mu.Unlock()
		return false
	}
	if r.coming != nil && s.current.day >= r.coming.end {
		// That day has passed, too.
		r.withdraw()
	}
	if view.leased[index] && !r.announce(s.quotaFor(e.Window, index, s.current.day), now.UnixNano()) {
		s.mu.Unlock()
		return false
	}
	s.leaveDay(r)
	joining := s.moveQuotas(r)
	if !s.inWindow(from) && s.meter.Aggregation == plans.Sum {
		s.used += r.quantity
	}
	r.day, r.at, r.windowStart, r.windowEnd = s.current.day, now.UnixNano(), s.windowStart, s.windowEnd
	share, older := s.dayFor(r.day, r.price)
	s.hold(share, r.quantity, nil)
	if r.coming != nil {
		r.coming.held += r.quantity
		r.coming = nil
	}
	if older != nil && s.meter.Aggregation == plans.Sum {
		older.taken += r.quantity
	}
	if view.leased[index] {
		if q := s.quotaFor(e.Window, index, r.day); q != r.quota && !q.adopts(r) {
			joining = append(joining, q)
		}
	}
	for _, q := range joining {
		q.adoptOpen()
	}
	s.mu.Unlock()
	m.holdDay(from, -1)
	return true
}

// announce has the store told of what is about to count in a quota's window, and reports whether the
// reservation may move: nobody is granted then what it takes. A store that can't be asked, or refuses,
// is not waited for. The caller holds the slot's lock.
func (r *Reservation) announce(q *quota, now int64) bool {
	if q == r.quota || r.slot.meter.Aggregation != plans.Sum || r.day >= q.key.Start {
		return true
	}
	if r.coming != q {
		r.withdraw()
		r.coming, r.announced = q, q.version
		// What was made before is taken for adopted from now on.
		q.adoptOpen()
		q.adoptMore(r.quantity)
	}
	return q.heard > r.announced || q.away(now) || q.refusedUntil != 0
}

// withdraw gives up what was announced of a move.
func (r *Reservation) withdraw() {
	if q := r.coming; q != nil {
		r.coming = nil
		q.refund(q.disown(r), r.stamp)
	}
}

// leaveDay takes a reservation out of the share of its day.
func (s *slot) leaveDay(r *Reservation) {
	share, _ := s.dayFor(r.day, r.price)
	share.open--
	if s.meter.Aggregation == plans.Sum {
		share.held -= r.quantity
	}
	s.rare.acknowledgeTaken(r.day, r.quantity)
}

// moveQuotas gives a reservation, which is about to be of the current day, back to the quotas of
// windows that don't have that day. It returns those that must adopt it: they have the day, and
// adopted what was made when it was, but not what was of its day.
func (s *slot) moveQuotas(r *Reservation) (joining []*quota) {
	if s.meter.Aggregation != plans.Sum {
		return nil
	}
	s.eachQuota(func(q *quota) {
		holds := q == r.quota || q.adopts(r)
		has := s.current.day >= q.key.Start && s.current.day < q.end
		switch {
		case !holds && has && r.stamp < q.adoptedAt:
			joining = append(joining, q)
		case holds && !has:
			q.held -= r.quantity
			q.refund(q.disown(r), r.stamp)
			if q == r.quota {
				r.quota = nil
			}
		}
	})
	return joining
}
