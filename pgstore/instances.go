package pgstore

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// RegisterInstance adds an instance as live; ID, Host and StartedAt are taken from i.
// Its watermark begins at StartedAt, or at i.Watermark where that is set. An instance
// that is there already is live again, and keeps its sequence and its watermark. One that began before
// others that were deleted ([Store.DeleteInstances]) and isn't known is [meter.ErrForgotten].
func (s *Store) RegisterInstance(ctx context.Context, i meter.Instance) error {
	watermark := i.Watermark
	if watermark.IsZero() {
		watermark = i.StartedAt
	}
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		n, err := tx.RegisterInstance(ctx, db.RegisterInstanceParams{
			ID:        i.ID,
			Host:      i.Host,
			Status:    string(meter.InstanceLive),
			StartedAt: i.StartedAt,
			Watermark: watermark, LostAfterMs: i.Patience().Milliseconds(),
		})
		if err == nil && n == 0 {
			err = meter.ErrForgotten
		}
		return err
	})
	return wrap(err, "register instance %s", i.ID)
}

// StopInstance records that an instance has flushed all and is gone, and releases its
// leases. One that doesn't exist is [meter.ErrUnknownInstance].
func (s *Store) StopInstance(ctx context.Context, id uuid.UUID) error {
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		if _, err := tx.LockInstance(ctx, id); err != nil {
			return orNotFound(err, meter.ErrUnknownInstance, id)
		}
		if err := tx.StopInstance(ctx, id); err != nil {
			return err
		}
		return releaseLeases(ctx, tx, id, false)
	})
	return wrap(err, "stop instance %s", id)
}

// MarkInstanceLost declares a live instance lost unless it was seen within its own LostAfter, by
// Postgres's clock. It returns the instance as it is afterwards, and whether this call
// marked it. Then its leases are released, and [Store.LostLeases] has what they held. One
// that doesn't exist is [meter.ErrUnknownInstance].
func (s *Store) MarkInstanceLost(ctx context.Context, id uuid.UUID) (meter.Instance, bool, error) {
	var found meter.Instance
	var marked bool
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		_, err := tx.LockSilentInstance(ctx, id)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if marked = err == nil; marked {
			if err := tx.MarkInstanceLost(ctx, id); err != nil {
				return err
			}
			if err := releaseLeases(ctx, tx, id, true); err != nil {
				return err
			}
		}
		row, err := tx.Instance(ctx, id)
		found = instance(row)
		return orNotFound(err, meter.ErrUnknownInstance, id)
	})
	return found, marked, wrap(err, "mark instance %s as lost", id)
}

// InstanceAlive reports whether an instance is live and was seen within its own LostAfter, by
// Postgres's clock. One that doesn't exist is not.
func (s *Store) InstanceAlive(ctx context.Context, id uuid.UUID) (bool, error) {
	var alive bool
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		return tx.QueryRow(ctx, `
			SELECT EXISTS (SELECT FROM instances
				WHERE id = $1 AND status = 'live' AND seen_at > clock_timestamp() - make_interval(secs => lost_after_ms / 1000.0))`,
			id).Scan(&alive)
	})
	return alive, wrap(err, "see whether instance %s is alive", id)
}

// LastSeq returns the sequence of an instance's last batch, 0 before the first. One that
// doesn't exist is [meter.ErrUnknownInstance].
func (s *Store) LastSeq(ctx context.Context, id uuid.UUID) (int64, error) {
	var last int64
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		row, err := tx.Instance(ctx, id)
		last = row.LastSeq
		return orNotFound(err, meter.ErrUnknownInstance, id)
	})
	return last, wrap(err, "read the last batch of instance %s", id)
}

// Instance returns one instance, or [meter.ErrUnknownInstance]. Its leases are not counted.
func (s *Store) Instance(ctx context.Context, id uuid.UUID) (meter.Instance, error) {
	var found meter.Instance
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		row, err := tx.Instance(ctx, id)
		found = instance(row)
		return orNotFound(err, meter.ErrUnknownInstance, id)
	})
	return found, wrap(err, "read instance %s", id)
}

// InstancesSince returns the live instances, and those that are gone and were seen since a time, in the
// order in which they started. Those of direct writes and of settled reservations are among them once there
// were any; they are always stopped.
func (s *Store) InstancesSince(ctx context.Context, since time.Time) ([]meter.Instance, error) {
	var found []meter.Instance
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.InstancesSince(ctx, since)
		found = convert(rows, func(r db.InstancesSinceRow) meter.Instance {
			i := instance(r.Instance)
			i.LostQuota, i.Leased = r.LostQuota, r.Leased
			return i
		})
		return err
	})
	return found, wrap(err, "list instances that were seen since %s", since.Format(time.RFC3339))
}
