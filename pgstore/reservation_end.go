package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore/internal/db"
	"github.com/riverline/tollgate/plans"
)

// settlementInstances is the number of instances under which the usage of committed
// reservations is written, so that not all of them wait for each other.
const settlementInstances = 16

// SettlementInstance returns the instance under which the reservations of an
// organization are settled. Like [DirectInstance] it is always stopped.
func SettlementInstance(organization uuid.UUID) uuid.UUID {
	id := uuid.MustParse("00000000-0000-7000-8000-000000000100")
	id[15] = organization[15] % settlementInstances
	return id
}

// CommitReservation counts a quantity, 0 to [plans.MaxQuantity], as usage of the day on
// which the reservation was made, and ends it; nil is the quantity that is held. Less
// than that frees the rest. More takes what is missing out of the window's quota, where
// the limit in force is hard; where there isn't enough the answer is a [*meter.QuotaShortError],
// and the reservation stays held.
//
// A reservation that was committed with the same quantity, or any where quantity is nil, is
// answered again. One that was committed with another, was released or is past its expiry,
// by Postgres's clock, is [meter.ErrReservationEnded]; one that doesn't exist
// [meter.ErrReservationNotFound].
func (s *Store) CommitReservation(ctx context.Context, organization, id uuid.UUID, quantity *int64) (meter.StoredReservation, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var r meter.StoredReservation
	var err error
	if quantity != nil && (*quantity < 0 || *quantity > plans.MaxQuantity) {
		err = &fault.FieldError{Field: "quantity", Rule: fmt.Sprintf("must be 0 to %d, is %d", int64(plans.MaxQuantity), *quantity)}
	} else {
		err = s.asPlatformWriting(ctx, func(ctx context.Context, tx scoped) (err error) {
			r, err = commit(ctx, tx, organization, id, quantity)
			return err
		})
		err = s.recall(ctx, quotaWindow(r), err)
	}
	return r, wrap(err, "commit reservation %s", id)
}

func commit(ctx context.Context, tx scoped, organization, id uuid.UUID, quantity *int64) (meter.StoredReservation, error) {
	limit, err := limitBeyond(ctx, tx, organization, id, quantity)
	if err != nil {
		return meter.StoredReservation{}, err
	}
	r, _, now, err := lockReservation(ctx, tx, organization, id)
	if err != nil {
		return r, err
	}
	used := r.Quantity
	if quantity != nil {
		used = *quantity
	}
	if r.State == meter.ReservationCommitted && (quantity == nil || *quantity == r.Committed) {
		return r, nil
	}
	if r.State != meter.ReservationHeld || !now.Before(r.ExpiresAt) {
		return r, meter.ErrReservationEnded
	}
	held := &heldQuota{
		organization: organization, meter: r.Meter, reservation: id, held: r.Quantity, used: used, limit: limit.Window, max: limit.Max,
	}
	if err := settleReservation(ctx, tx, r, used, now, held); err != nil {
		return r, err
	}
	row, err := tx.EndReservation(ctx, db.EndReservationParams{
		OrganizationID: organization, ID: id, State: string(meter.ReservationCommitted), Committed: &used, SettledAt: now,
	})
	return reservation(row), err
}

// limitBeyond returns the hard limit that counts for what is used beyond what a reservation
// holds, and opens its window before anything is locked. Where there is no such limit, or
// no more is used, Window is empty.
func limitBeyond(ctx context.Context, tx scoped, organization, id uuid.UUID, quantity *int64) (plans.Entitlement, error) {
	var none plans.Entitlement
	if quantity == nil {
		return none, nil
	}
	row, err := tx.Reservation(ctx, organization, id)
	if err != nil {
		return none, orNotFound(err, meter.ErrReservationNotFound, id)
	}
	r := reservationNow(row.Reservation, row.Due)
	if r.State != meter.ReservationHeld || *quantity <= r.Quantity {
		return none, nil
	}
	found, err := tx.LimitInForce(ctx, db.LimitInForceParams{OrganizationID: organization, Meter: r.Meter})
	if err != nil {
		return none, err
	}
	limit := plans.Entitlement{Meter: r.Meter, Mode: plans.Mode(found.Mode), Window: calendar.WindowKind(found.LimitWindow), Max: found.Max}
	if found.Mode == "" {
		// The catalog in the tables doesn't say: what decided then does.
		limit.Mode, limit.Window, limit.Max = r.Mode, r.Window, r.Max
	}
	if limit.Mode != plans.Hard {
		return none, nil
	}
	r.Window = limit.Window
	return limit, openWindow(ctx, tx, quotaWindow(r), limit.Max)
}

// lockReservation locks a reservation, and then tells the time.
func lockReservation(ctx context.Context, tx scoped, organization, id uuid.UUID) (r meter.StoredReservation, row db.Reservation, now time.Time, err error) {
	if row, err = tx.LockReservation(ctx, organization, id); err != nil {
		return r, row, now, orNotFound(err, meter.ErrReservationNotFound, id)
	}
	err = tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now)
	return reservation(row), row, now, err
}

// settleReservation writes the usage of a reservation as a batch of one row.
func settleReservation(ctx context.Context, tx scoped, r meter.StoredReservation, used int64, now time.Time, held *heldQuota) error {
	day := calendar.DayOf(r.CreatedAt)
	batch := meter.Batch{
		Watermark: now,
		Rows: []meter.Row{{
			Organization: r.Organization, Meter: r.Meter, Aggregation: plans.Sum, Day: day, Value: used, At: r.CreatedAt,
			Plan: r.Plan, PlanVersion: r.PlanVersion,
		}},
		Reports: 1,
	}
	_, err := applyStopped(ctx, tx, meter.BatchID{Instance: SettlementInstance(r.Organization)}, "settled reservations", batch, held)
	return orOverflow(err)
}

// ReleaseReservation gives back what a reservation holds, and ends it. One that was
// released or has expired is answered as it is. One that was committed is
// [meter.ErrReservationEnded], one that doesn't exist [meter.ErrReservationNotFound].
func (s *Store) ReleaseReservation(ctx context.Context, organization, id uuid.UUID) (meter.StoredReservation, error) {
	var r meter.StoredReservation
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		found, row, now, err := lockReservation(ctx, tx, organization, id)
		r = found
		switch {
		case err != nil:
			return err
		case r.State == meter.ReservationCommitted:
			return meter.ErrReservationEnded
		case r.State != meter.ReservationHeld:
			return nil
		}
		if err := tx.LockWindowsOfDay(ctx, organization, r.Meter, row.Day); err != nil {
			return err
		}
		err = tx.FreeHeld(ctx, db.FreeHeldParams{OrganizationID: organization, Meter: r.Meter, Day: row.Day, Quantity: r.Quantity})
		if err != nil {
			return err
		}
		row, err = tx.EndReservation(ctx, db.EndReservationParams{
			OrganizationID: organization, ID: id, State: string(meter.ReservationReleased), SettledAt: now,
		})
		r = reservation(row)
		return err
	})
	return r, wrap(err, "release reservation %s", id)
}
