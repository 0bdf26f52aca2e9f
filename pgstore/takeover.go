package pgstore

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// PlanChanges implements [meter.ChangeStore].
func (s *Store) PlanChanges(ctx context.Context, instance uuid.UUID) ([]meter.PlanChange, error) {
	var changes []meter.PlanChange
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.PlanChanges(ctx, instance)
		changes = convert(rows, func(r db.PlanChangesRow) meter.PlanChange {
			c := meter.PlanChange{Number: r.Number, Transaction: uint64(r.TransactionID), EffectiveFrom: r.EffectiveFrom}
			if r.OrganizationID != nil {
				c.Organization = *r.OrganizationID
			}
			return c
		})
		return err
	})
	return changes, wrap(err, "read the changes of plans")
}

// TakenOver implements [meter.ChangeStore].
func (s *Store) TakenOver(ctx context.Context, instance uuid.UUID, through int64, until time.Time) error {
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		return tx.TakenOver(ctx, through, until, instance)
	})
	return wrap(err, "note what instance %s has taken over", instance)
}
