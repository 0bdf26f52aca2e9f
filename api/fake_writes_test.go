package api

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// take takes a quantity out of what a hard limit has. What instances hold idle is free
// after the first ask that was short of it.
func (s *fakeStore) take(r *meter.StoredReservation, quantity int64) error {
	if r.Mode != plans.Hard {
		r.Held += quantity
		r.OverLimit = r.Mode == plans.Soft && r.Current+r.Held > r.Max
		return nil
	}
	q, ok := s.quota[quotaOf{r.Organization, r.Meter}]
	if !ok {
		q = &fakeQuota{max: r.Max}
		s.quota[quotaOf{r.Organization, r.Meter}] = q
	}
	if q.used+q.idle+quantity > q.max {
		short := &meter.QuotaShortError{Max: q.max, Current: q.used, Leased: q.idle, Waiting: q.idle > 0}
		if !q.kept {
			q.idle = 0
		}
		return short
	}
	q.used += quantity
	r.Max, r.Current, r.Held = q.max, q.used-quantity, quantity
	return nil
}

func (s *fakeStore) HoldReservation(ctx context.Context, r meter.StoredReservation, _ int) (held meter.StoredReservation, err error) {
	err = s.call(ctx, func() error {
		s.holds++
		for _, there := range s.reservations {
			same := there.ID == r.ID || r.Identity != (meter.Identity{}) && there.Identity == r.Identity
			if !same || there.Organization != r.Organization {
				continue
			}
			if there.ID != r.ID && there.Fingerprint != r.Fingerprint {
				return meter.ErrIdentityReused
			}
			held = there
			return nil
		}
		if err := s.take(&r, r.Quantity); err != nil {
			return err
		}
		s.reservations, held = append(s.reservations, r), r
		if s.loseHold {
			s.loseHold = false
			return awayError{}
		}
		return nil
	})
	return held, err
}

// settle runs fn on a reservation.
func (s *fakeStore) settle(ctx context.Context, organization, id uuid.UUID, fn func(*meter.StoredReservation) error) (found meter.StoredReservation, err error) {
	err = s.call(ctx, func() error {
		i := slices.IndexFunc(s.reservations, func(r meter.StoredReservation) bool { return r.ID == id && r.Organization == organization })
		if i < 0 {
			return meter.ErrReservationNotFound
		}
		err := fn(&s.reservations[i])
		found = s.reservations[i]
		return err
	})
	return found, err
}

func (s *fakeStore) CommitReservation(ctx context.Context, organization, id uuid.UUID, quantity *int64) (meter.StoredReservation, error) {
	return s.settle(ctx, organization, id, func(r *meter.StoredReservation) error {
		used := r.Quantity
		if quantity != nil {
			used = *quantity
		}
		switch {
		case r.State == meter.ReservationCommitted && (quantity == nil || used == r.Committed):
			return nil
		case r.State != meter.ReservationHeld:
			return meter.ErrReservationEnded
		}
		changed := *r
		if err := s.take(&changed, used-r.Quantity); err != nil {
			return err
		}
		r.State, r.Committed = meter.ReservationCommitted, used
		return nil
	})
}

func (s *fakeStore) ReleaseReservation(ctx context.Context, organization, id uuid.UUID) (meter.StoredReservation, error) {
	return s.settle(ctx, organization, id, func(r *meter.StoredReservation) error {
		switch r.State {
		case meter.ReservationCommitted:
			return meter.ErrReservationEnded
		case meter.ReservationHeld:
			r.State = meter.ReservationReleased
			changed := *r
			return s.take(&changed, -r.Quantity)
		}
		return nil
	})
}

func (s *fakeStore) Reservation(ctx context.Context, organization, id uuid.UUID) (meter.StoredReservation, error) {
	found, err := s.settle(ctx, organization, id, func(*meter.StoredReservation) error { return nil })
	if found.State == meter.ReservationHeld && !s.time().Before(found.ExpiresAt) {
		found.State = meter.ReservationExpired
	}
	return found, err
}

func (s *fakeStore) BeginUsageKey(ctx context.Context, organization uuid.UUID, key meter.BatchKey) (answer []byte, err error) {
	err = s.call(ctx, func() error {
		there, ok := s.usageKeys[usageKeyOf{organization, key.Identity}]
		switch {
		case !ok:
			s.usageKeys[usageKeyOf{organization, key.Identity}] = &fakeUsageKey{fingerprint: key.Fingerprint}
		case there.fingerprint != key.Fingerprint:
			return meter.ErrIdentityReused
		case !there.ended:
			return accounts.ErrWriteUnderWay
		case there.answer == nil:
			there.ended = false
		default:
			answer = there.answer
		}
		return nil
	})
	return answer, err
}

func (s *fakeStore) EndUsageKey(ctx context.Context, organization uuid.UUID, key meter.BatchKey, answer []byte) error {
	return s.call(ctx, func() error {
		there := s.usageKeys[usageKeyOf{organization, key.Identity}]
		there.ended, there.answer = true, answer
		return nil
	})
}

func (s *fakeStore) BeginWrite(ctx context.Context, w accounts.Write) (before *accounts.WriteAnswer, err error) {
	err = s.call(ctx, func() error {
		there, ok := s.writes[writeOf{w.Caller, w.Key}]
		switch {
		case !ok:
			s.writes[writeOf{w.Caller, w.Key}] = &fakeWrite{fingerprint: w.Fingerprint}
			return nil
		case there.fingerprint != w.Fingerprint:
			return accounts.ErrWriteReused
		case there.answer == nil:
			return accounts.ErrWriteUnderWay
		}
		before = there.answer
		return nil
	})
	return before, err
}

func (s *fakeStore) FinishWrite(ctx context.Context, w accounts.Write, answer accounts.WriteAnswer) error {
	return s.call(ctx, func() error {
		if ctx.Err() != nil || answer.Body == nil {
			return errors.New("the answer must be kept whole, whether the client is gone or not")
		}
		s.writes[writeOf{w.Caller, w.Key}].answer = &answer
		return nil
	})
}

func (s *fakeStore) AbandonWrite(ctx context.Context, w accounts.Write) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.writes, writeOf{w.Caller, w.Key})
	return ctx.Err()
}
