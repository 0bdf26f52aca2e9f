package pgstore

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/meter"
)

// SkipBatches implements [meter.RewindStore]. Each missing batch becomes an empty one, so that
// whoever turns up with it later adds nothing.
func (s *Store) SkipBatches(ctx context.Context, missing meter.MissingBatches) error {
	err := s.asPlatformWriting(ctx, func(ctx context.Context, tx scoped) error {
		var last int64
		err := tx.QueryRow(ctx, `SELECT last_seq FROM instances WHERE id = $1 FOR NO KEY UPDATE`, missing.Instance).Scan(&last)
		switch {
		case err != nil:
			return orNotFound(err, meter.ErrUnknownInstance, missing.Instance)
		case missing.First != last+1 || missing.Last < missing.First:
			return fmt.Errorf("%w: the last is %d", meter.ErrSequenceGap, last)
		}
		var b pgx.Batch
		b.Queue(`UPDATE instances SET last_seq = $2, seen_at = greatest(seen_at, clock_timestamp()) WHERE id = $1`, missing.Instance, missing.Last)
		b.Queue(`
			INSERT INTO usage_batches (instance_id, seq, watermark, row_count)
			SELECT i.id, seq, i.watermark, 0 FROM instances i, generate_series($2::bigint, $3::bigint) AS seq WHERE i.id = $1
			ON CONFLICT DO NOTHING`, missing.Instance, missing.First, missing.Last)
		b.Queue(`INSERT INTO usage_missing_batches (instance_id, first_seq, last_seq, reports) VALUES ($1, $2, $3, $4)`,
			missing.Instance, missing.First, missing.Last, missing.Reports)
		return tx.SendBatch(ctx, &b).Close()
	})
	return wrap(err, "record missing batches of instance %s", missing.Instance)
}

// LeasedWindows implements [meter.RewindStore].
func (s *Store) LeasedWindows(ctx context.Context, instance uuid.UUID) ([]meter.LeasedWindow, error) {
	var found []meter.LeasedWindow
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.LeasedWindows(ctx, instance)
		found = convert(rows, leasedWindow)
		return err
	})
	return found, wrap(err, "list the leases of instance %s", instance)
}

// ReleaseLeases implements [meter.RewindStore].
func (s *Store) ReleaseLeases(ctx context.Context, instance uuid.UUID, windows []meter.LeasedWindow) error {
	if len(windows) == 0 {
		return nil
	}
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		if _, err := tx.LockInstance(ctx, instance); err != nil {
			return orNotFound(err, meter.ErrUnknownInstance, instance)
		}
		return releaseWindows(ctx, tx, instance, windows, false)
	})
	return wrap(err, "release leases of instance %s", instance)
}

// MissingBatches returns what is lost of instances, in the order in which it was found.
func (s *Store) MissingBatches(ctx context.Context) ([]meter.MissingBatches, error) {
	var found []meter.MissingBatches
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) (err error) {
		found, err = missingBatches(ctx, tx)
		return err
	})
	return found, wrap(err, "read missing batches")
}

func missingBatches(ctx context.Context, tx scoped) ([]meter.MissingBatches, error) {
	rows, err := tx.Query(ctx, `
		SELECT instance_id, first_seq, last_seq, reports, noted_at FROM usage_missing_batches ORDER BY noted_at, instance_id, first_seq`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (m meter.MissingBatches, err error) {
		err = row.Scan(&m.Instance, &m.First, &m.Last, &m.Reports, &m.NotedAt)
		return m, err
	})
}

// CountMissingBatches returns how many batches are lost, of all instances.
func (s *Store) CountMissingBatches(ctx context.Context) (int64, error) {
	return s.count(ctx, missingTotal, "missing batches")
}

// foundAgain moves an instance on over a batch that is there already, though the instance's
// own row says otherwise.
func foundAgain(ctx context.Context, tx scoped, id meter.BatchID) error {
	_, err := tx.Exec(ctx, `UPDATE instances SET last_seq = $2 WHERE id = $1 AND last_seq = $2 - 1`, id.Instance, id.Seq)
	return err
}
