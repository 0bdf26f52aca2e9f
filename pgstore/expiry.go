package pgstore

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// expiryChunk is how many reservations one transaction ends.
const expiryChunk = 1000

// ExpireReservations ends the held reservations that are past their expiry, by Postgres's
// clock, gives back what they held, and returns how many it ended. Those that are
// being settled at the time are left to their settlement. Those that Postgres refuses to end
// are stuck: they stay held, are logged with the reason, and are tried again a minute later.
func (s *Store) ExpireReservations(ctx context.Context) (int64, error) {
	var ended int64
	for {
		var due dueReservations
		err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) (err error) {
			due, err = expire(ctx, tx)
			return err
		})
		if err != nil {
			return ended, wrap(err, "expire reservations")
		}
		if len(due.stuck) > 0 {
			first := due.stuck[0]
			s.log.WarnContext(ctx, "Reservations that have expired can't be ended: they stay held, and are tried again, see reservations_stuck",
				"reservations", len(due.stuck), "organization", uuid.UUID(due.organizations[first]), "reservation", uuid.UUID(due.ids[first]),
				"reason", due.why[0])
		}
		ended += int64(len(due.ids) - len(due.stuck))
		if len(due.ids) < expiryChunk {
			return ended, nil
		}
	}
}

// StuckReservations counts the reservations that have expired and can't be ended.
func (s *Store) StuckReservations(ctx context.Context) (int64, error) {
	return s.count(ctx, stuckHeld, "the reservations that are stuck")
}

// dueReservations are the reservations of one transaction that are past their expiry.
type dueReservations struct {
	organizations, ids [][16]byte
	// stuck are the places of those that can't be ended, in their order, and why says why.
	stuck []int
	why   []string
}

// expire ends one chunk. The due reservations are locked, then their windows in order;
// only then do both change.
func expire(ctx context.Context, tx scoped) (due dueReservations, err error) {
	rows, err := tx.Query(ctx, `
		SELECT organization_id, id FROM reservations
		WHERE state = 'held' AND expires_at <= clock_timestamp()
			AND (organization_id, id) NOT IN (SELECT organization_id, id FROM reservations_stuck WHERE tried_at > clock_timestamp() - interval '1 minute')
		ORDER BY expires_at LIMIT $1
		FOR NO KEY UPDATE SKIP LOCKED`, expiryChunk)
	if err != nil {
		return due, err
	}
	var organization, id uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&organization, &id}, func() error {
		due.organizations, due.ids = append(due.organizations, organization), append(due.ids, id)
		return nil
	})
	if err != nil || len(due.ids) == 0 {
		return due, err
	}
	if err := due.lockWindows(ctx, tx); err != nil {
		return due, err
	}
	err = byHalves(ctx, tx, 0, len(due.ids), due.end, func(i int, why error) {
		due.stuck, due.why = append(due.stuck, i), append(due.why, why.Error())
	})
	if err != nil || len(due.stuck) == 0 {
		return due, err
	}
	return due, due.noteStuck(ctx, tx)
}

func (d *dueReservations) lockWindows(ctx context.Context, tx scoped) error {
	_, err := tx.Exec(ctx, `
		SELECT FROM quota_window_rows w
		WHERE (organization_id, meter, limit_window, window_start) IN (
			SELECT o.organization_id, o.meter, o.limit_window, o.window_start
			FROM unnest($1::uuid[], $2::uuid[]) AS d (organization_id, id)
			JOIN reservations r USING (organization_id, id)
			JOIN quota_window_rows o ON o.organization_id = r.organization_id AND o.meter = r.meter
				AND o.window_start <= r.day AND o.window_end > r.day)
		ORDER BY organization_id, meter COLLATE "C", limit_window, window_start
		FOR NO KEY UPDATE`, d.organizations, d.ids)
	return err
}

// end ends those of a range.
func (d *dueReservations) end(ctx context.Context, tx scoped, from, to int) error {
	_, err := tx.Exec(ctx, `
		WITH due AS (
			SELECT * FROM unnest($1::uuid[], $2::uuid[]) AS d (organization_id, id)
		), ended AS (
			UPDATE reservations r SET state = 'expired', settled_at = clock_timestamp()
			FROM due d
			WHERE r.organization_id = d.organization_id AND r.id = d.id
			RETURNING r.organization_id, r.meter, r.day, r.quantity
		), mended AS (
			DELETE FROM reservations_stuck s USING due d WHERE s.organization_id = d.organization_id AND s.id = d.id
		), freed AS (
			SELECT o.organization_id, o.meter, o.limit_window, o.window_start, sum(e.quantity)::bigint AS quantity
			FROM ended e
			JOIN quota_window_rows o ON o.organization_id = e.organization_id AND o.meter = e.meter
				AND o.window_start <= e.day AND o.window_end > e.day
			GROUP BY o.organization_id, o.meter, o.limit_window, o.window_start
		)
		UPDATE quota_window_rows w SET held = w.held - f.quantity
		FROM freed f
		WHERE w.organization_id = f.organization_id AND w.meter = f.meter AND w.limit_window = f.limit_window
			AND w.window_start = f.window_start`, d.organizations[from:to], d.ids[from:to])
	return err
}

func (d *dueReservations) noteStuck(ctx context.Context, tx scoped) error {
	organizations, ids := make([][16]byte, len(d.stuck)), make([][16]byte, len(d.stuck))
	for n, i := range d.stuck {
		organizations[n], ids[n] = d.organizations[i], d.ids[i]
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO reservations_stuck (organization_id, id, reason, tried_at)
		SELECT organization_id, id, reason, clock_timestamp() FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS d (organization_id, id, reason)
		ON CONFLICT (organization_id, id) DO UPDATE SET reason = excluded.reason, tried_at = excluded.tried_at`, organizations, ids, d.why)
	return err
}
