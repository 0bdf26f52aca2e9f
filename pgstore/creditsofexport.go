package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// creditsWithinGrant is the constraint that keeps grants from being overdrawn.
const creditsWithinGrant = "credit_entries_within_grant"

// BurnCredits takes what an export uses of grants, in one step, and returns how many
// entries it wrote. It plans the uses and burns them with [burnCredits], whose errors
// it has; a grant that doesn't exist is [billing.ErrCreditNotFound]. The same again
// burns nothing more; other uses of the same export are [billing.ErrCreditChanged].
func (s *Store) BurnCredits(ctx context.Context, export uuid.UUID, uses []billing.CreditUse) (int64, error) {
	var burned int64
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) (err error) {
		if err := planCredits(ctx, tx, export, uses); err != nil {
			return err
		}
		burned, err = burnCredits(ctx, tx, export)
		return err
	})
	return burned, wrap(err, "burn the credits of export %s", export)
}

// RestoreCredits gives back all that an export burned, in one step, because another
// revision supersedes it; it returns how many entries it wrote. The same again
// changes nothing.
func (s *Store) RestoreCredits(ctx context.Context, export uuid.UUID) (int64, error) {
	var restored int64
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) (err error) {
		restored, err = restoreCredits(ctx, tx, export)
		return err
	})
	return restored, wrap(err, "restore the credits of export %s", export)
}

// planCredits adds uses to what an export plans to take, in their order. Statements take
// at most [chunkRows] of them.
func planCredits(ctx context.Context, tx scoped, export uuid.UUID, uses []billing.CreditUse) error {
	for part := range slices.Chunk(uses, chunkRows) {
		grants, amounts := make([]uuid.UUID, len(part)), make([]string, len(part))
		for i, u := range part {
			grants[i], amounts[i] = u.Grant, u.Amount.String()
		}
		if _, err := tx.Exec(ctx, insertPlan, export, grants, amounts); err != nil {
			if hasCode(err, foreignKeyViolation) {
				return fmt.Errorf("%w: %s", billing.ErrExportNotFound, export)
			}
			return err
		}
		var known, planned int
		if err := tx.QueryRow(ctx, countPlan, export, grants, amounts).Scan(&known, &planned); err != nil {
			return err
		}
		switch {
		case known < len(part):
			return billing.ErrCreditNotFound
		case planned < len(part):
			return billing.ErrCreditChanged
		}
	}
	return nil
}

// insertPlan adds to what the export $1 plans: of the grants $2 the amounts $3. Those of an organization
// count on from the ones that are there.
const insertPlan = `
	INSERT INTO export_credit_uses (export_id, organization_id, grant_id, amount, position)
	SELECT $1::uuid, g.organization_id, u.grant_id, u.amount,
		coalesce(there.uses, 0) + row_number() OVER (PARTITION BY g.organization_id ORDER BY u.place) - 1
	FROM unnest($2::uuid[], $3::text[]::numeric[]) WITH ORDINALITY AS u (grant_id, amount, place)
	JOIN credit_grants g ON g.id = u.grant_id
	LEFT JOIN (
		SELECT p.organization_id, count(*) AS uses FROM export_credit_uses p WHERE p.export_id = $1::uuid GROUP BY p.organization_id
	) AS there ON there.organization_id = g.organization_id
	ORDER BY g.organization_id, u.place
	ON CONFLICT (export_id, organization_id, grant_id) DO NOTHING`

// countPlan counts the grants that exist, and those that are planned with just this amount.
const countPlan = `
	SELECT count(g.id), count(p.grant_id)
	FROM unnest($2::uuid[], $3::text[]::numeric[]) AS u (grant_id, amount)
	LEFT JOIN credit_grants g ON g.id = u.grant_id
	LEFT JOIN export_credit_uses p
		ON p.export_id = $1::uuid AND p.organization_id = g.organization_id AND p.grant_id = g.id AND p.amount = u.amount`

// burnCredits takes what the export plans to use (export_credit_uses), by one statement,
// and returns how many entries it wrote. Where less remains of any grant it is
// [billing.ErrCreditChanged], where the export's credits were given back
// [billing.ErrCreditRestored]; the caller's transaction must end then, and nothing is burned.
// The same again burns nothing more: an entry's key is burn/<export>/<grant>.
//
// It takes the locks of number 8 (README.md), the last ones.
func burnCredits(ctx context.Context, tx scoped, export uuid.UUID) (int64, error) {
	if err := tx.LockCreditsOfExport(ctx, export); err != nil {
		return 0, err
	}
	restored, err := tx.CreditsRestored(ctx, &export)
	if err != nil {
		return 0, err
	}
	if restored {
		return 0, billing.ErrCreditRestored
	}
	burned, err := tx.BurnCredits(ctx, export)
	if overdrawn(err) {
		return 0, billing.ErrCreditChanged
	}
	return burned, err
}

// restoreCredits gives back what the export burned, by one statement, and returns how
// many entries it wrote: none where it has been given back. What is given back of a grant
// whose time is over can be frozen for a cut before that time, and goes at the next
// [Store.ExpireCredits].
func restoreCredits(ctx context.Context, tx scoped, export uuid.UUID) (int64, error) {
	if err := tx.LockCreditsOfExport(ctx, export); err != nil {
		return 0, err
	}
	return tx.RestoreCredits(ctx, &export)
}

// freezeCredits keeps, by one statement and for all organizations, the grants that an
// export may use: effective and not expired at the time, with what remains of them now. It
// returns how many. The caller makes sure that an export is frozen once; what the revision that
// it supersedes burned is given back before.
func freezeCredits(ctx context.Context, tx scoped, export uuid.UUID, at time.Time) (int64, error) {
	return tx.FreezeCredits(ctx, export, at)
}

// exportCredits returns what was frozen for some organizations, each one's grants in
// the order in which they are burned. An organization without any has no entry.
func exportCredits(ctx context.Context, tx scoped, export uuid.UUID, organizations []uuid.UUID) (map[uuid.UUID][]billing.CreditGrant, error) {
	rows, err := tx.ExportCredits(ctx, export, organizations)
	found := map[uuid.UUID][]billing.CreditGrant{}
	for _, r := range rows {
		found[r.OrganizationID] = append(found[r.OrganizationID], frozenCredit(r))
	}
	return found, err
}

// FreezeCredits is [freezeCredits] in a transaction of its own.
func (s *Store) FreezeCredits(ctx context.Context, export uuid.UUID, at time.Time) (int64, error) {
	var frozen int64
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) (err error) {
		frozen, err = freezeCredits(ctx, tx, export, at)
		return err
	})
	return frozen, wrap(err, "freeze the credits of export %s", export)
}

// ExportCredits returns the grants that were frozen for an export, of some organizations,
// as [exportCredits] does: Remaining is what remained when they were frozen.
func (s *Store) ExportCredits(ctx context.Context, export uuid.UUID, organizations []uuid.UUID) (map[uuid.UUID][]billing.CreditGrant, error) {
	var found map[uuid.UUID][]billing.CreditGrant
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) (err error) {
		found, err = exportCredits(ctx, tx, export, organizations)
		return err
	})
	return found, wrap(err, "read the credits of export %s", export)
}

func frozenCredit(r db.ExportCreditsRow) billing.CreditGrant {
	return billing.CreditGrant{
		ID: r.GrantID, Organization: r.OrganizationID, Currency: money.Currency(r.Currency), Amount: r.Amount, Remaining: r.Remaining,
		Priority: int(r.Priority), EffectiveAt: r.EffectiveAt, ExpiresAt: timeOrZero(r.ExpiresAt), Note: r.Note, CreatedAt: r.CreatedAt,
	}
}

// overdrawn reports whether entries were refused because a grant has less.
func overdrawn(err error) bool {
	var server *pgconn.PgError
	return errors.As(err, &server) && server.ConstraintName == creditsWithinGrant
}
