package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/meter"
)

const quarantineColumns = `
	id, instance_id, seq, organization_id, meter, aggregation, day, plan, plan_version, value, at, leased_day, leased_month,
	reports, identity, reason, sqlstate, quarantined_at, state, coalesce(decided_by, ''), coalesce(decided_at, '0001-01-01 00:00:00+00'),
	coalesce(note, '')`

func scanQuarantined(row pgx.CollectableRow) (meter.Quarantined, error) {
	var q meter.Quarantined
	var day time.Time
	var identity []byte
	err := row.Scan(&q.ID, &q.Batch.Instance, &q.Batch.Seq, &q.Organization, &q.Meter, &q.Aggregation, &day, &q.Plan, &q.PlanVersion,
		&q.Value, &q.At, &q.Leased.Day, &q.Leased.Month, &q.Reports, &identity, &q.Reason, &q.SQLState, &q.QuarantinedAt, &q.State,
		&q.DecidedBy, &q.DecidedAt, &q.Note)
	q.Day = calendar.DayOf(day)
	copy(q.Identity[:], identity)
	return q, err
}

// Quarantine returns at most limit of what is set aside and whose IDs come after `after`,
// in their order: that in which it was set aside. An empty state means all, a zero
// organization that of all.
func (s *Store) Quarantine(ctx context.Context, state meter.QuarantineState, organization, after uuid.UUID, limit int) ([]meter.Quarantined, error) {
	var found []meter.Quarantined
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.Query(ctx, `
			SELECT `+quarantineColumns+` FROM usage_quarantine
			WHERE id > $1 AND ($2 = '' OR state = $2) AND ($3 = '00000000-0000-0000-0000-000000000000'::uuid OR organization_id = $3)
			ORDER BY id LIMIT $4`, after, string(state), organization, pageSize(limit))
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, scanQuarantined)
		return err
	})
	return found, wrap(err, "list the quarantine")
}

// Quarantined returns one thing that is set aside; [meter.ErrQuarantineNotFound].
func (s *Store) Quarantined(ctx context.Context, id uuid.UUID) (meter.Quarantined, error) {
	var found meter.Quarantined
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) (err error) {
		found, err = readQuarantined(ctx, tx, id, "")
		return err
	})
	return found, wrap(err, "read %s of the quarantine", id)
}

// QuarantinedRows counts what is set aside and waits for a decision.
func (s *Store) QuarantinedRows(ctx context.Context) (int64, error) {
	return s.count(ctx, quarantinedRows, "the quarantine")
}

func readQuarantined(ctx context.Context, tx scoped, id uuid.UUID, locking string) (meter.Quarantined, error) {
	rows, err := tx.Query(ctx, `SELECT `+quarantineColumns+` FROM usage_quarantine WHERE id = $1 `+locking, id)
	if err != nil {
		return meter.Quarantined{}, err
	}
	found, err := pgx.CollectExactlyOneRow(rows, scanQuarantined)
	return found, orNotFound(err, meter.ErrQuarantineNotFound, id)
}

// ApplyQuarantined writes what was set aside, as a batch of [DirectInstance] with the day,
// the plan and the time that it has, and records who decided so and why. What was applied
// before is answered as it is; what was dropped is [meter.ErrQuarantineDecided]. What is
// still refused for good is [meter.ErrQuarantineRefused], with the reason, and waits on.
func (s *Store) ApplyQuarantined(ctx context.Context, id uuid.UUID, by, note string) (meter.Quarantined, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var q meter.Quarantined
	err := s.asPlatformWriting(ctx, func(ctx context.Context, tx scoped) (err error) {
		q, err = decideQuarantined(ctx, tx, id, meter.QuarantineApplied, by, note, applyQuarantined)
		return err
	})
	if refusedForGood(err) {
		err = fmt.Errorf("%w: %w", meter.ErrQuarantineRefused, err)
	}
	return q, wrap(err, "apply %s of the quarantine", id)
}

// DropQuarantined gives up what was set aside: it counts nowhere, and its quota is given
// back. It records who decided so and why; the note must not be empty. What was dropped
// before is answered as it is; what was applied is [meter.ErrQuarantineDecided].
func (s *Store) DropQuarantined(ctx context.Context, id uuid.UUID, by, note string) (meter.Quarantined, error) {
	if note == "" {
		return meter.Quarantined{}, wrap(&fault.FieldError{Field: "note", Rule: "must say why it is dropped"}, "drop %s of the quarantine", id)
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var q meter.Quarantined
	err := s.asPlatformWriting(ctx, func(ctx context.Context, tx scoped) (err error) {
		q, err = decideQuarantined(ctx, tx, id, meter.QuarantineDropped, by, note, leaveWindows)
		return err
	})
	return q, wrap(err, "drop %s of the quarantine", id)
}

// QuarantineDecidedSince returns the organizations of which something that was set aside was
// applied or dropped at a time or after it.
func (s *Store) QuarantineDecidedSince(ctx context.Context, since time.Time) ([]uuid.UUID, error) {
	var ids []uuid.UUID
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.Query(ctx, `SELECT DISTINCT organization_id FROM usage_quarantine WHERE decided_at >= $1`, since)
		if err != nil {
			return err
		}
		ids, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		return err
	})
	return ids, wrap(err, "read decisions on the quarantine")
}

// decideQuarantined carries a decision out and records it, once.
func decideQuarantined(
	ctx context.Context, tx scoped, id uuid.UUID, state meter.QuarantineState, by, note string,
	carryOut func(context.Context, scoped, *meter.Quarantined, int64) error,
) (meter.Quarantined, error) {
	q, err := readQuarantined(ctx, tx, id, "FOR NO KEY UPDATE")
	switch {
	case err != nil, q.State == state:
		return q, err
	case q.State != meter.QuarantineWaiting:
		return q, fmt.Errorf("%w: %s", meter.ErrQuarantineDecided, q.State)
	}
	var inWindows int64
	if err := tx.QueryRow(ctx, `SELECT in_windows FROM usage_quarantine WHERE id = $1`, id).Scan(&inWindows); err != nil {
		return q, err
	}
	if err := carryOut(ctx, tx, &q, inWindows); err != nil {
		return q, err
	}
	_, err = tx.Exec(ctx, `
		UPDATE usage_quarantine SET state = $2, decided_by = $3, decided_at = clock_timestamp(), note = $4, in_windows = 0 WHERE id = $1`,
		id, string(state), by, note)
	if err != nil {
		return q, err
	}
	return readQuarantined(ctx, tx, id, "")
}

// applyQuarantined writes the usage. What windows have of it stays there.
func applyQuarantined(ctx context.Context, tx scoped, q *meter.Quarantined, inWindows int64) error {
	published, err := publishedMeters(ctx, tx)
	if err != nil {
		return err
	}
	aggregation, known := published[q.Meter]
	if !known {
		return fmt.Errorf("%w: %s is not in the published catalog", ErrUnknownMeter, q.Meter)
	}
	var now time.Time
	if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return err
	}
	batch := meter.Batch{
		Watermark: now, Reports: 1,
		Rows: []meter.Row{{
			Organization: q.Organization, Meter: q.Meter, Aggregation: aggregation, Day: q.Day, Plan: q.Plan, PlanVersion: q.PlanVersion,
			Value: q.Value, At: q.At,
		}},
	}
	_, err = applyStopped(ctx, tx, meter.BatchID{Instance: DirectInstance}, directHost, batch, &heldQuota{consumed: inWindows > 0})
	return err
}

// leaveWindows takes what is dropped out of the windows: what no lease covered first, of all instances.
func leaveWindows(ctx context.Context, tx scoped, q *meter.Quarantined, inWindows int64) error {
	if inWindows == 0 {
		return nil
	}
	if err := tx.LockWindowsOfDay(ctx, q.Organization, q.Meter, date(q.Day)); err != nil {
		return err
	}
	const ofDay = `organization_id = $1 AND meter = $2 AND window_start <= $3 AND window_end > $3`
	_, err := tx.Exec(ctx, `
		SELECT tollgate_fold_leases(organization_id, meter, limit_window, window_start)
		FROM (SELECT * FROM quota_window_rows WHERE `+ofDay+` ORDER BY limit_window) AS w`, q.Organization, q.Meter, date(q.Day))
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		UPDATE quota_window_rows
		SET uncovered = uncovered - least(uncovered, $4::int8),
			settled = settled - least(settled, $4::int8 - least(uncovered, $4::int8))
		WHERE `+ofDay, q.Organization, q.Meter, date(q.Day), inWindows)
	return err
}
