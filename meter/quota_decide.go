package meter

import "github.com/riverline/tollgate/plans"

// verdict says how a decision came about.
type verdict int

const (
	decided verdict = iota
	// leased says that it was taken out of a lease.
	leased
	// unleased says that it was allowed without a lease, since nobody could be asked.
	unleased
	// short says that the lease doesn't cover the quantity, and an ask may.
	short
	// refused says that the store answers, and refuses to grant quota of the window.
	refused
	// unavailable says that nobody can say whether there is room: the store can't be asked, and
	// the settings forbid to do without, or what remains is held by others, who don't use it.
	unavailable
	// overflowing says that the day's sum can't take the quantity.
	overflowing
	// ended says that there is no contract.
	ended
	// moved says that the organization has left memory, and another one is in its place.
	moved
)

// err is what a caller is answered where nothing was decided; nil where something was, or may be
// yet.
func (v verdict) err() error {
	switch v {
	case unavailable:
		return ErrUnavailable
	case refused:
		return ErrQuotaRefused
	case overflowing:
		return ErrQuantityOverflow
	case ended:
		return ErrContractEnded
	case moved:
		return errForgotten
	default:
		return nil
	}
}

// takeLeased decides out of a lease, and takes what is allowed.
func (s *slot) takeLeased(q *quota, e *plans.Entitlement, quantity, at int64) (d plans.Decision, v verdict) {
	m := s.org.meter
	fenced := at >= m.leasesUntil.Load()
	inWindow := q == s.quota
	switch {
	case quantity == 0:
		// It adds nothing: no lease need cover it.
		d = q.refusal(e)
		d.Allowed, d.OverLimit = true, d.Current > e.Max-d.Held
		return d, decided
	case !fenced && q.free >= quantity:
		q.wish(quantity)
		q.free -= quantity
		q.spent += quantity
		if inWindow {
			s.used += quantity
		}
		return q.decide(e, true, s.counted(q)), leased
	case quantity > e.Max:
		if q.away(at) || at < q.refusedUntil || at < q.answeredAt+int64(lookFor) {
			return q.refusal(e), decided
		}
		// No window has room for it; what there is of it is to be known.
		return q.refusal(e), short
	case at < q.refusedUntil:
		return q.refusal(e), refused
	case q.away(at):
		if m.config.DenyUnleased {
			return q.refusal(e), unavailable
		}
		return s.takeUnleased(q, e, quantity), unleased
	case !fenced && at < q.dryUntil && quantity >= q.dryOf:
		return q.refusal(e), q.refuses(e, quantity)
	default:
		return q.refusal(e), short
	}
}

// takeUnleased allows what nobody can be asked about (C5).
func (s *slot) takeUnleased(q *quota, e *plans.Entitlement, quantity int64) plans.Decision {
	if q != s.quota {
		return s.decideAlone(e, quantity)
	}
	limit := *e
	limit.Mode = plans.Soft
	d := s.take(&limit, quantity)
	d.Mode = plans.Hard
	return d
}

// decide says where the window stands where so much of it is used or held.
func (q *quota) decide(e *plans.Entitlement, allowed bool, counted int64) plans.Decision {
	d := plans.Decision{Allowed: allowed, OverLimit: !allowed, Mode: plans.Hard, Held: q.heldInStore, Max: e.Max}
	d.Current = max(0, counted-d.Held)
	d.Remaining = e.Remaining(d.Current, d.Held)
	return d
}

// refusal is the decision where a lease doesn't cover a quantity. What other instances
// hold, and don't give back, counts.
func (q *quota) refusal(e *plans.Entitlement) plans.Decision {
	return q.decide(e, false, max(q.counted(), q.total-q.free))
}
