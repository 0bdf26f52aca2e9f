package pgstore

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// QuotaChannel is quotaChannel.
func QuotaChannel(instance uuid.UUID) string { return quotaChannel(instance) }

// As they are outside of tests.
var (
	ShippedChunkRows = chunkRows
	ShippedFewRows   = fewRows
)

// SetChunkRows sets how many rows one statement takes.
func SetChunkRows(n int) { chunkRows = n }

// SetFewRows sets how many rows a batch has at most that takes no turn.
func SetFewRows(n int) { fewRows = n }

const (
	TakeTurn   = takeTurn
	TurnsTaken = turnsTaken
)

// What a close does with credits in transactions of its own steps, for tests one by one.

// SetBulkPatience sets how long rollups and exports wait for a lock.
func (s *Store) SetBulkPatience(d time.Duration) { s.bulkPatience = d }

// FreezeCredits is freezeCredits as of a time.
func (s *Store) FreezeCredits(ctx context.Context, export uuid.UUID, at time.Time) (int64, error) {
	var frozen int64
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) (err error) {
		frozen, err = freezeCredits(ctx, tx, db.Export{ID: export, Cut: at.Add(time.Microsecond)})
		return err
	})
	return frozen, err
}

// ExportCredits is exportCredits.
func (s *Store) ExportCredits(ctx context.Context, export uuid.UUID, organizations []uuid.UUID) (map[uuid.UUID][]billing.CreditGrant, error) {
	var found map[uuid.UUID][]billing.CreditGrant
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) (err error) {
		found, err = exportCredits(ctx, tx, export, organizations)
		return err
	})
	return found, err
}

// BurnCredits plans uses, in place of what was planned for the same organizations, and burns
// all that is planned.
func (s *Store) BurnCredits(ctx context.Context, export uuid.UUID, uses []billing.CreditUse) (int64, error) {
	var burned int64
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error {
		of, err := organizationsOf(ctx, tx, uses)
		if err != nil {
			return err
		}
		var plan creditUses
		for organization, uses := range of {
			plan.add(organization, uses)
		}
		if err := plan.plan(ctx, tx, export, plan.organizations); err != nil {
			return err
		}
		if err := tx.LockCreditsOfExports(ctx, []uuid.UUID{export}); err != nil {
			return err
		}
		burned, err = burnCredits(ctx, tx, export)
		return err
	})
	return burned, err
}

func organizationsOf(ctx context.Context, tx scoped, uses []billing.CreditUse) (map[uuid.UUID][]billing.CreditUse, error) {
	byGrant := map[uuid.UUID]uuid.UUID{}
	var grants []uuid.UUID
	for _, use := range uses {
		grants = append(grants, use.Grant)
	}
	rows, err := tx.Query(ctx, `SELECT id, organization_id FROM credit_grants WHERE id = ANY ($1::uuid[])`, grants)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var grant, organization uuid.UUID
		if err := rows.Scan(&grant, &organization); err != nil {
			return nil, err
		}
		byGrant[grant] = organization
	}
	of := map[uuid.UUID][]billing.CreditUse{}
	for _, use := range uses {
		of[byGrant[use.Grant]] = append(of[byGrant[use.Grant]], use)
	}
	return of, rows.Err()
}

// RestoreCredits is restoreCredits.
func (s *Store) RestoreCredits(ctx context.Context, export uuid.UUID) (int64, error) {
	var restored int64
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) (err error) {
		if err := tx.LockCreditsOfExports(ctx, []uuid.UUID{export}); err != nil {
			return err
		}
		restored, err = restoreCredits(ctx, tx, export)
		return err
	})
	return restored, err
}
