package meter

import (
	"math"
	"sync/atomic"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// lane counts what is used in one step, apart from the rest of its slot, until anybody else takes the
// slot's lock: then it is folded into the rest, and closed. So it holds no state of its own that others
// could miss. It is opened by a decision that went by the rest of the slot, and says how much more of the
// same may be decided without: of the same plan, day and epoch, of a lease that stays above what it
// asks at, of a day that holds it.
type lane struct {
	// plan is what it is open for; nil: it is closed.
	plan *view
	// reached is what counts of the window, room how much more may be used before somebody must look.
	reached, room int64
	// at is the time of the last report, reports counts those that aren't folded.
	at      int64
	reports uint32
	// largest is the most that one request may want: more is to be noted for the lease.
	largest uint32
	day     calendar.Day
	// epoch is the drain epoch whose list the slot is on; 0: it is on none. It is written under the lock.
	epoch atomic.Uint32
}

// lock takes the slot's lock for whatever is not done by the lane.
func (s *slot) lock() {
	s.mu.Lock()
	if s.plan != nil {
		s.closeLane()
	}
}

// closeLane folds what the lane has counted.
func (s *slot) closeLane() {
	s.plan = nil
	if s.reports == 0 {
		return
	}
	taken := s.reached - s.laneBase()
	s.tally(s.laneQuota(), taken, s.reports, s.at)
	s.reports = 0
}

// openLane lets what is like the decision before go by the lane. The slot is on the list of the epoch.
func (s *slot) openLane(v *view, e *plans.Entitlement, q *quota) {
	held, room := s.heldInStore(), int64(math.MaxInt64)
	s.largest = math.MaxUint32
	switch {
	case q != nil:
		held, room = q.heldInStore, q.free-q.low
		s.largest = uint32(min(q.largest, math.MaxUint32))
	case e.Mode != plans.Unlimited:
		room = e.Max - s.used
	}
	room = min(room, plans.MaxDaySum-s.sumOf(s.current.day))
	if held != 0 || s.used < 0 || room <= 0 {
		return
	}
	s.leasedLane = q != nil
	s.plan, s.room, s.at, s.day = v, room, s.current.at, s.current.day
	s.reached = s.laneBase()
}

// laneQuota is the lease that the lane takes out of, if any.
func (s *slot) laneQuota() *quota {
	if s.leasedLane {
		return s.quota
	}
	return nil
}

// laneBase is what counts of the window without what the lane has counted. Nothing is held in the store.
func (s *slot) laneBase() int64 {
	if q := s.laneQuota(); q != nil {
		return max(q.elsewhere+q.spent, s.used)
	}
	return s.used
}

// leads reports whether a quantity may be used by the lane. The caller holds mu.
func (l *lane) leads(v *view, epoch uint32, quantity int64) bool {
	return l.plan == v && l.epoch.Load() == epoch && quantity > 0 && quantity <= l.room && quantity <= int64(l.largest)
}

// pass counts a quantity.
func (l *lane) pass(quantity, now int64) {
	l.reached += quantity
	l.room -= quantity
	l.reports++
	l.at = max(l.at, now)
}

// tell is what the caller is told of a quantity that passes.
func (l *lane) tell(e *plans.Entitlement, quantity int64, d *plans.Decision) {
	d.Allowed, d.Mode, d.Current = true, e.Mode, l.reached+quantity
	if e.Mode != plans.Unlimited {
		d.Max, d.Remaining = e.Max, e.Max-d.Current
	}
}
