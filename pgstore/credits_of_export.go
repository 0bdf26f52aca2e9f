package pgstore

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// creditsWithinGrant is the constraint that keeps grants from being overdrawn.
const creditsWithinGrant = "credit_entries_within_grant"

// creditUses are what statements take of grants, in columns.
type creditUses struct {
	organizations, grants []uuid.UUID
	amounts               []string
	positions             []int32
}

func (u *creditUses) add(organization uuid.UUID, uses []billing.CreditUse) {
	for i, use := range uses {
		u.organizations = append(u.organizations, organization)
		u.grants = append(u.grants, use.Grant)
		u.amounts = append(u.amounts, use.Amount.String())
		u.positions = append(u.positions, int32(i))
	}
}

// plan keeps what an export is to take of grants, in place of what was kept for the
// organizations.
func (u *creditUses) plan(ctx context.Context, tx scoped, export uuid.UUID, organizations []uuid.UUID) error {
	first, last := ends(organizations)
	err := tx.DeleteCreditUses(ctx, db.DeleteCreditUsesParams{ExportID: export, Organizations: organizations, First: first, Last: last})
	if err != nil || len(u.grants) == 0 {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO export_credit_uses (export_id, organization_id, grant_id, amount, position)
		SELECT $1::uuid, * FROM unnest($2::uuid[], $3::uuid[], $4::text[]::numeric[], $5::int4[])`,
		export, u.organizations, u.grants, u.amounts, u.positions)
	return err
}

// burnCredits takes what the export plans to use (export_credit_uses), by one statement,
// and returns how many entries it wrote. Where less remains of any grant it is
// [billing.ErrCreditChanged]; the caller's transaction must end then, and nothing is burned.
// The same again burns nothing more: an entry's key is burn/<export>/<grant>.
//
// The grants are locked by [applyCredits].
func burnCredits(ctx context.Context, tx scoped, export uuid.UUID) (int64, error) {
	burned, err := tx.BurnCredits(ctx, export)
	if overdrawn(err) {
		return 0, billing.ErrCreditChanged
	}
	return burned, err
}

// restoreCredits gives back what the export burned, by one statement, and returns how
// many entries it wrote: none where it has been given back. What is given back of a grant
// whose time is over can be frozen for a cut before that time, and goes at the next
// [Store.ExpireCredits]. The grants are locked by [applyCredits].
func restoreCredits(ctx context.Context, tx scoped, export uuid.UUID) (int64, error) {
	return tx.RestoreCredits(ctx, &export)
}

// freezeCredits keeps, by one statement and for all organizations, the grants that an
// export may use: usable at the [billing.LastInstant] before its cut, with what remains of them
// now. What the revision that it reopens burned counts as remaining. It returns how many. The
// caller makes sure that an export is frozen once.
func freezeCredits(ctx context.Context, tx scoped, export db.Export) (int64, error) {
	return tx.FreezeCredits(ctx, export.ID, export.Reopens, billing.LastInstant(export.Cut))
}

// exportCredits returns what was frozen for some organizations, each one's grants in
// the order in which they are burned. An organization without any has no entry.
func exportCredits(ctx context.Context, tx scoped, export uuid.UUID, organizations []uuid.UUID) (map[uuid.UUID][]billing.CreditGrant, error) {
	rows, err := tx.ExportCredits(ctx, organizations, export)
	found := map[uuid.UUID][]billing.CreditGrant{}
	for _, r := range rows {
		found[r.OrganizationID] = append(found[r.OrganizationID], frozenCredit(r))
	}
	return found, err
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

// applyCredits gives back what the revision before burned, and burns what the export
// takes: all or none, with the errors of [burnCredits]. It takes the locks of number 8
// (README.md), the last ones, at once.
func applyCredits(ctx context.Context, tx scoped, export db.Export) error {
	exports := []uuid.UUID{export.ID}
	if export.Reopens != nil {
		exports = append(exports, *export.Reopens)
	}
	if err := tx.LockCreditsOfExports(ctx, exports); err != nil {
		return err
	}
	if export.Reopens != nil {
		if _, err := restoreCredits(ctx, tx, *export.Reopens); err != nil {
			return err
		}
	}
	_, err := burnCredits(ctx, tx, export.ID)
	return err
}
