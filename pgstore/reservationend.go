package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/accounts"
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
// the limit was hard; where there isn't enough the answer is a [*meter.QuotaShortError],
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
		err = &accounts.FieldError{Field: "quantity", Rule: fmt.Sprintf("must be 0 to %d, is %d", int64(plans.MaxQuantity), *quantity)}
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
	r, row, now, err := lockReservation(ctx, tx, organization, id)
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
	var held *heldQuota
	if row.CountsInQuota {
		held = &heldQuota{window: quotaWindow(r), reservation: r.ID, held: r.Quantity, used: used}
	}
	if err := settleReservation(ctx, tx, r, used, now, held); err != nil {
		return r, err
	}
	row, err = tx.EndReservation(ctx, db.EndReservationParams{
		OrganizationID: organization, ID: id, State: string(meter.ReservationCommitted), Committed: &used, SettledAt: now,
	})
	return reservation(row), err
}

// lockReservation locks a reservation, and then tells the time.
func lockReservation(ctx context.Context, tx scoped, organization, id uuid.UUID) (r meter.StoredReservation, row db.Reservation, now time.Time, err error) {
	if row, err = tx.LockReservation(ctx, organization, id); err != nil {
		return r, row, now, orNoReservation(err)
	}
	err = tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now)
	return reservation(row), row, now, err
}

// settleReservation writes the usage of a reservation as a batch of one row.
func settleReservation(ctx context.Context, tx scoped, r meter.StoredReservation, used int64, now time.Time, held *heldQuota) error {
	day := plans.DayOf(r.CreatedAt)
	instance := SettlementInstance(r.Organization)
	if err := lockDays(ctx, tx, shared, []int32{int32(day)}); err != nil {
		return err
	}
	if err := tx.EnsureDirectInstance(ctx, instance, "settled reservations"); err != nil {
		return err
	}
	seq, err := tx.NextDirectSeq(ctx, instance)
	if err != nil {
		return err
	}
	batch := meter.Batch{
		ID:        meter.BatchID{Instance: instance, Seq: seq},
		Watermark: now,
		Rows: []meter.Row{{
			Organization: r.Organization, Meter: r.Meter, Aggregation: plans.Sum, Day: day, Value: used, At: r.CreatedAt,
		}},
		Reports: 1,
	}
	_, err = applyRows(ctx, tx, batch, meter.InstanceStopped, held)
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
		if row.CountsInQuota {
			err := tx.FreeHeld(ctx, db.FreeHeldParams{
				OrganizationID: organization, Meter: r.Meter, LimitWindow: row.LimitWindow, WindowStart: row.WindowStart, Quantity: r.Quantity,
			})
			if err != nil {
				return err
			}
		}
		row, err = tx.EndReservation(ctx, db.EndReservationParams{
			OrganizationID: organization, ID: id, State: string(meter.ReservationReleased), SettledAt: now,
		})
		r = reservation(row)
		return err
	})
	return r, wrap(err, "release reservation %s", id)
}

// expiryChunk is how many reservations one transaction ends.
const expiryChunk = 1000

// ExpireReservations ends the held reservations that are past their expiry, by Postgres's
// clock, gives back what they held, and returns how many it ended. Those that are
// being settled at the time are left to their settlement.
func (s *Store) ExpireReservations(ctx context.Context) (int64, error) {
	var ended int64
	for {
		var n int
		err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) (err error) {
			n, err = expire(ctx, tx)
			return err
		})
		if err == nil {
			ended += int64(n)
		}
		if err != nil || n < expiryChunk {
			return ended, wrap(err, "expire reservations")
		}
	}
}

// expire ends one chunk. The due reservations are locked, then their windows in order;
// only then do both change.
func expire(ctx context.Context, tx scoped) (int, error) {
	rows, err := tx.Query(ctx, `
		SELECT organization_id, id FROM reservations
		WHERE state = 'held' AND expires_at <= clock_timestamp()
		ORDER BY expires_at LIMIT $1
		FOR NO KEY UPDATE SKIP LOCKED`, expiryChunk)
	if err != nil {
		return 0, err
	}
	var organizations, ids [][16]byte
	var organization, id uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&organization, &id}, func() error {
		organizations, ids = append(organizations, organization), append(ids, id)
		return nil
	})
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	var b pgx.Batch
	b.Queue(`
		SELECT FROM quota_windows w
		WHERE (organization_id, meter, limit_window, window_start) IN (
			SELECT r.organization_id, r.meter, r.limit_window, r.window_start
			FROM unnest($1::uuid[], $2::uuid[]) AS d (organization_id, id)
			JOIN reservations r USING (organization_id, id)
			WHERE r.counts_in_quota)
		ORDER BY organization_id, meter COLLATE "C", limit_window, window_start
		FOR NO KEY UPDATE`, organizations, ids)
	b.Queue(`
		WITH ended AS (
			UPDATE reservations r SET state = 'expired', settled_at = clock_timestamp()
			FROM unnest($1::uuid[], $2::uuid[]) AS d (organization_id, id)
			WHERE r.organization_id = d.organization_id AND r.id = d.id
			RETURNING r.organization_id, r.meter, r.limit_window, r.window_start, r.quantity, r.counts_in_quota
		), freed AS (
			SELECT organization_id, meter, limit_window, window_start, sum(quantity)::bigint AS quantity
			FROM ended WHERE counts_in_quota
			GROUP BY organization_id, meter, limit_window, window_start
		)
		UPDATE quota_windows w SET held = w.held - f.quantity
		FROM freed f
		WHERE w.organization_id = f.organization_id AND w.meter = f.meter AND w.limit_window = f.limit_window
			AND w.window_start = f.window_start`, organizations, ids)
	return len(ids), tx.SendBatch(ctx, &b).Close()
}
