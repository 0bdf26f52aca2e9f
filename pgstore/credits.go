package pgstore

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// GrantCredit adds a grant and its first entry: Organization, Currency, Amount, Priority,
// EffectiveAt, ExpiresAt and Note are taken from g, and so is ID where it is not
// [uuid.Nil]. It returns the grant as it is kept. An organization that doesn't exist is
// [accounts.ErrOrganizationNotFound]; a field that breaks its rule is an [*fault.FieldError].
func (s *Store) GrantCredit(ctx context.Context, g billing.CreditGrant) (billing.CreditGrant, error) {
	var granted billing.CreditGrant
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) (err error) {
		granted, err = grantCredit(ctx, tx, g)
		return err
	})
	return granted, wrap(err, "grant credit to organization %s", g.Organization)
}

// GrantCreditAlone is [Store.GrantCredit] by one person: where it and what the organization was granted in
// the same currency in the [billing.AloneWithin] before, without a proposal, are more than most together, nothing
// is granted, and it is [accounts.ErrSecondPerson]. What was voided since counts.
func (s *Store) GrantCreditAlone(ctx context.Context, g billing.CreditGrant, most decimal.Decimal) (billing.CreditGrant, error) {
	var granted billing.CreditGrant
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		// Grants of one organization wait for each other, so that each sees those before it.
		if _, err := tx.LockOrganization(ctx, g.Organization); err != nil {
			return orNotFound(err, accounts.ErrOrganizationNotFound, g.Organization)
		}
		alone, err := tx.GrantedAlone(ctx, g.Organization, string(g.Currency), billing.AloneWithin.Seconds())
		if err != nil {
			return err
		}
		if alone.Add(g.Amount).GreaterThan(most) {
			return accounts.ErrSecondPerson
		}
		granted, err = grantCredit(ctx, tx, g)
		return err
	})
	return granted, wrap(err, "grant credit to organization %s", g.Organization)
}

func grantCredit(ctx context.Context, tx scoped, g billing.CreditGrant) (billing.CreditGrant, error) {
	if err := checkCredit(g); err != nil {
		return billing.CreditGrant{}, err
	}
	if g.ID == uuid.Nil {
		id, err := uuid.NewV7()
		if err != nil {
			return billing.CreditGrant{}, err
		}
		g.ID = id
	}
	err := tx.InsertCreditGrant(ctx, db.InsertCreditGrantParams{
		ID: g.ID, OrganizationID: g.Organization, Currency: string(g.Currency), Amount: g.Amount, Priority: int32(g.Priority),
		EffectiveAt: g.EffectiveAt, ExpiresAt: optionalTime(g.ExpiresAt), Note: g.Note,
	})
	if hasCode(err, foreignKeyViolation) {
		return billing.CreditGrant{}, accounts.ErrOrganizationNotFound.Of(g.Organization)
	}
	if err != nil {
		return billing.CreditGrant{}, err
	}
	if err := tx.InsertGrantEntry(ctx, g.ID); err != nil {
		return billing.CreditGrant{}, err
	}
	return creditBalance(ctx, tx, g.ID)
}

// VoidCredit takes away what remains of a grant, and returns the grant as it is after
// that. A grant that was voided and of which nothing remains is returned as it is; one of
// which nothing remains otherwise is [billing.ErrCreditSpent], one that doesn't exist
// [billing.ErrCreditNotFound]. A note that breaks its rule is an [*fault.FieldError].
func (s *Store) VoidCredit(ctx context.Context, grant uuid.UUID, note string) (billing.CreditGrant, error) {
	var voided billing.CreditGrant
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) (err error) {
		if err := checkCreditNote(note); err != nil {
			return err
		}
		if err := tx.LockCreditGrants(ctx, []uuid.UUID{grant}); err != nil {
			return err
		}
		if voided, err = creditBalance(ctx, tx, grant); err != nil {
			return err
		}
		if voided.Remaining.IsZero() {
			if voided.VoidedAt.IsZero() {
				return billing.ErrCreditSpent
			}
			return nil
		}
		if _, err := takeRemaining(ctx, tx, billing.CreditVoided, note, grant); err != nil {
			return err
		}
		voided, err = creditBalance(ctx, tx, grant)
		return err
	})
	return voided, wrap(err, "void credit grant %s", grant)
}

// ExpireCredits takes away what remains of at most limit grants whose time is over at
// a time, the longest over first, and says of how many. Repeat it while it takes
// limit of them.
func (s *Store) ExpireCredits(ctx context.Context, at time.Time, limit int) (int, error) {
	var expired int64
	err := s.asPlatformUnbounded(ctx, func(ctx context.Context, tx scoped) error {
		grants, err := tx.ExpiredCreditGrants(ctx, at, pageSize(limit))
		if err != nil {
			return err
		}
		// The lock comes in a statement of its own: what remains is read under it.
		if err := tx.LockCreditGrants(ctx, grants); err != nil {
			return err
		}
		expired, err = takeRemaining(ctx, tx, billing.CreditExpired, "", grants...)
		return err
	})
	return int(expired), wrap(err, "expire credits")
}

// Credits returns an organization's grants, with what remains of each, in the order in
// which they are burned. Those of which nothing remains are among them.
func (s *Store) Credits(ctx context.Context, organization uuid.UUID) ([]billing.CreditGrant, error) {
	var found []billing.CreditGrant
	err := s.asOrganization(ctx, organization, func(ctx context.Context, tx scoped) error {
		rows, err := tx.CreditBalances(ctx, organization)
		found = convert(rows, func(r db.CreditBalancesRow) billing.CreditGrant { return creditGrant(db.CreditBalanceRow(r)) })
		return err
	})
	return found, wrap(err, "read the credits of organization %s", organization)
}

// CreditEntries returns at most limit of an organization's entries in the order of their
// IDs, which is about that of their time, from the one after `after`. [uuid.Nil] is before all.
func (s *Store) CreditEntries(ctx context.Context, organization, after uuid.UUID, limit int) ([]billing.CreditEntry, error) {
	var found []billing.CreditEntry
	err := s.asOrganization(ctx, organization, func(ctx context.Context, tx scoped) error {
		rows, err := tx.CreditEntries(ctx, organization, after, pageSize(limit))
		found = convert(rows, creditEntry)
		return err
	})
	if err == nil {
		err = s.datePeriods(ctx, found)
	}
	return found, wrap(err, "read the credit entries of organization %s", organization)
}

// datePeriods says which month's exports burned and gave back. Exports are the platform's: an organization's scope sees none.
func (s *Store) datePeriods(ctx context.Context, entries []billing.CreditEntry) error {
	var exports []uuid.UUID
	for _, e := range entries {
		if e.Export != uuid.Nil {
			exports = append(exports, e.Export)
		}
	}
	if len(exports) == 0 {
		return nil
	}
	return s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.PeriodsOfExports(ctx, exports)
		for _, row := range rows {
			for i := range entries {
				if entries[i].Export == row.ID {
					entries[i].Period, entries[i].Revision = calendar.PeriodOf(row.Period), int(row.Revision)
				}
			}
		}
		return err
	})
}

// takeRemaining writes the entries that empty grants; they are locked.
func takeRemaining(ctx context.Context, tx scoped, kind billing.CreditKind, note string, grants ...uuid.UUID) (int64, error) {
	_, account := kind.Accounts()
	return tx.TakeRemainingCredit(ctx, db.TakeRemainingCreditParams{
		Kind: string(kind), Account: string(account), Note: note, Ids: grants,
	})
}

func creditBalance(ctx context.Context, tx scoped, grant uuid.UUID) (billing.CreditGrant, error) {
	row, err := tx.CreditBalance(ctx, grant)
	return creditGrant(row), orNotFound(err, billing.ErrCreditNotFound, grant)
}

func checkCredit(g billing.CreditGrant) error {
	if err := checkCurrency(g.Currency); err != nil {
		return err
	}
	digits := g.Currency.Digits()
	if g.Amount.Sign() <= 0 || !g.Amount.Equal(g.Amount.Truncate(digits)) || g.Amount.GreaterThanOrEqual(decimal.New(1, billing.MaxCreditDigits)) {
		return &fault.FieldError{Field: "amount", Rule: fmt.Sprintf("must be more than 0, with at most %d digits and the %d decimals of %s", billing.MaxCreditDigits, digits, g.Currency)}
	}
	if g.Priority < 0 || g.Priority > billing.MaxCreditPriority {
		return &fault.FieldError{Field: "priority", Rule: fmt.Sprintf("must be a whole number, 0 to %d", billing.MaxCreditPriority)}
	}
	if g.EffectiveAt.IsZero() {
		return &fault.FieldError{Field: "effective_at", Rule: "must be given"}
	}
	if !g.ExpiresAt.IsZero() && !g.ExpiresAt.Truncate(time.Microsecond).After(g.EffectiveAt) {
		return &fault.FieldError{Field: "expires_at", Rule: "must be after effective_at"}
	}
	return checkCreditNote(g.Note)
}

func checkCreditNote(note string) error {
	if n := utf8.RuneCountInString(note); n > billing.MaxCreditNote {
		return &fault.FieldError{Field: "note", Rule: fmt.Sprintf("must be at most %d characters, has %d", billing.MaxCreditNote, n)}
	}
	// Control characters have no place in a statement that finance reads, and Postgres takes no NUL.
	for _, r := range note {
		if r < 0x20 || r == 0x7f {
			return &fault.FieldError{Field: "note", Rule: "must not contain control characters"}
		}
	}
	return nil
}

func creditGrant(r db.CreditBalanceRow) billing.CreditGrant {
	return billing.CreditGrant{
		ID: r.ID, Organization: r.OrganizationID, Currency: money.Currency(r.Currency), Amount: r.Amount, Remaining: r.Remaining,
		Priority: int(r.Priority), EffectiveAt: r.EffectiveAt, ExpiresAt: timeOrZero(r.ExpiresAt), Note: r.Note,
		CreatedAt: r.CreatedAt, ExpiredAt: r.ExpiredAt, VoidedAt: r.VoidedAt,
	}
}

func creditEntry(e db.CreditEntry) billing.CreditEntry {
	out := billing.CreditEntry{
		ID: e.ID, Grant: e.GrantID, Organization: e.OrganizationID, Kind: billing.CreditKind(e.Kind),
		Debit: billing.CreditAccount(e.Debit), Credit: billing.CreditAccount(e.Credit),
		Amount: e.Amount, Currency: money.Currency(e.Currency), Key: e.Key, At: e.At, Note: e.Note,
	}
	if e.ExportID != nil {
		out.Export = *e.ExportID
	}
	return out
}

// optionalTime is nil for the zero time; timeOrZero is the way back.
func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func timeOrZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
