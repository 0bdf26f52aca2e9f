package pgstore

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// RegisterInstance adds an instance as live; ID, Host and StartedAt are taken from i.
// Its watermark begins at StartedAt, or at i.Watermark where that is set. An instance
// that is there already is live again, and keeps its sequence and its watermark.
func (s *Store) RegisterInstance(ctx context.Context, i meter.Instance) error {
	watermark := i.Watermark
	if watermark.IsZero() {
		watermark = i.StartedAt
	}
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		return tx.RegisterInstance(ctx, db.RegisterInstanceParams{
			ID:        i.ID,
			Host:      i.Host,
			Status:    string(meter.InstanceLive),
			StartedAt: i.StartedAt,
			Watermark: watermark,
		})
	})
	return wrap(err, "register instance %s", i.ID)
}

// StopInstance records that an instance has flushed all and is gone. One that doesn't
// exist is [meter.ErrUnknownInstance].
func (s *Store) StopInstance(ctx context.Context, id uuid.UUID) error {
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		n, err := tx.StopInstance(ctx, id)
		if err == nil && n == 0 {
			return meter.ErrUnknownInstance
		}
		return err
	})
	return wrap(err, "stop instance %s", id)
}

// MarkInstanceLost declares a live instance lost unless it was seen at notSeenSince
// or later. It returns the instance as it is afterwards, and whether this call
// marked it. One that doesn't exist is [meter.ErrUnknownInstance].
func (s *Store) MarkInstanceLost(ctx context.Context, id uuid.UUID, notSeenSince time.Time) (meter.Instance, bool, error) {
	var found meter.Instance
	var marked bool
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		n, err := tx.MarkInstanceLost(ctx, id, notSeenSince)
		if err != nil {
			return err
		}
		marked = n > 0
		row, err := tx.Instance(ctx, id)
		found = instance(row)
		return orUnknownInstance(err)
	})
	return found, marked, wrap(err, "mark instance %s as lost", id)
}

// Instances returns all instances in the order in which they started. The one of
// direct writes is among them once there were any; it is always stopped.
func (s *Store) Instances(ctx context.Context) ([]meter.Instance, error) {
	var found []meter.Instance
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.Instances(ctx)
		found = convert(rows, instance)
		return err
	})
	return found, wrap(err, "list instances")
}
