package billing

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/money"
)

// Bounds of a credit grant.
const (
	// MaxCreditPriority is the last priority; 0 is the first.
	MaxCreditPriority = 100
	// DefaultCreditPriority is that of a grant which names none.
	DefaultCreditPriority = 50
	// MaxCreditDigits is the most digits before the point that an amount has.
	MaxCreditDigits = 12
	// MaxCreditNote is the longest note, in characters.
	MaxCreditNote = 500
	// AloneWithin is how long grants of one person to an organization are added up, to see whether they
	// take a second one: 24 hours.
	AloneWithin = 24 * time.Hour
)

// Errors about credits.
var (
	// ErrCreditNotFound says that there is no grant with that ID.
	ErrCreditNotFound = &fault.NotFoundError{Kind: "credit grant"}
	// ErrCreditSpent says that nothing remains of a grant that is to be voided.
	ErrCreditSpent = errors.New("nothing remains of the credit grant")
	// ErrCreditChanged says that less remains of a grant than was planned to be used. Nothing
	// was burned: freeze the credits anew and plan again.
	ErrCreditChanged = errors.New("less remains of a credit grant than was planned")
)

// CreditGrant is an amount that an organization has paid, or was given, in advance.
type CreditGrant struct {
	// ID is a UUIDv7.
	ID           uuid.UUID      `json:"id"`
	Organization uuid.UUID      `json:"organization_id"`
	Currency     money.Currency `json:"currency"`
	// Amount is what was granted, more than 0; Remaining is what is left, 0 to Amount. Both
	// are in the currency's unit with at most the decimals of its minor unit.
	Amount    decimal.Decimal `json:"amount"`
	Remaining decimal.Decimal `json:"remaining"`
	// Priority is 0 to [MaxCreditPriority]; lower is used first.
	Priority int `json:"priority"`
	// EffectiveAt is the time from which the grant can be used.
	EffectiveAt time.Time `json:"effective_at"`
	// ExpiresAt is the time from which it can't any more. Zero: never.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// Note says why it was granted, 0 to [MaxCreditNote] characters.
	Note      string    `json:"note"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	// ExpiredAt and VoidedAt are when what remained was last taken away. Zero: never.
	ExpiredAt time.Time `json:"expired_at,omitzero"`
	VoidedAt  time.Time `json:"voided_at,omitzero"`
}

// UsableAt reports whether the grant is effective and not expired at a time: in
// [EffectiveAt, ExpiresAt). It says nothing about what remains.
func (g CreditGrant) UsableAt(at time.Time) bool {
	return !g.EffectiveAt.After(at) && (g.ExpiresAt.IsZero() || at.Before(g.ExpiresAt))
}

// CreditUse is what is taken of a grant.
type CreditUse struct {
	Grant uuid.UUID `json:"grant_id"`
	// Amount is more than 0, in the grant's currency.
	Amount decimal.Decimal `json:"amount"`
}

// CompareCreditGrants orders grants as they are burned: by priority, then the one that
// expires soonest (never is last), then the one that is effective first, then by ID.
func CompareCreditGrants(a, b CreditGrant) int {
	return cmp.Or(
		cmp.Compare(a.Priority, b.Priority),
		compareExpiry(a.ExpiresAt, b.ExpiresAt),
		a.EffectiveAt.Compare(b.EffectiveAt),
		bytes.Compare(a.ID[:], b.ID[:]),
	)
}

func compareExpiry(a, b time.Time) int {
	switch {
	case a.IsZero() && b.IsZero():
		return 0
	case a.IsZero():
		return 1
	case b.IsZero():
		return -1
	}
	return a.Compare(b)
}

// LastInstant is the time as of which grants pay a period that ends, or is cut, at a
// time: a microsecond earlier, which is how fine the times of grants are. So a grant that
// expires at the period's end pays for it, and one that is effective from then on does not.
func LastInstant(cut time.Time) time.Time { return cut.Add(-time.Microsecond) }

// BurnDown pays what is due in a currency from an organization's grants, as of a time. It
// returns what is taken of each, in the order of [CompareCreditGrants], and what is left to pay.
//
// Only grants of that currency that are usable at the time count. No more is taken
// than is due, nor of a grant than remains of it; where nothing is due (0 or less), nothing
// is taken and left is due. The grants are not changed, and their order doesn't matter.
func BurnDown(grants []CreditGrant, due decimal.Decimal, c money.Currency, at time.Time) (uses []CreditUse, left decimal.Decimal) {
	left = due
	if due.Sign() <= 0 {
		return nil, left
	}
	usable := make([]CreditGrant, 0, len(grants))
	for _, g := range grants {
		if g.Currency == c && g.Remaining.Sign() > 0 && g.UsableAt(at) {
			usable = append(usable, g)
		}
	}
	slices.SortFunc(usable, CompareCreditGrants)
	for _, g := range usable {
		if left.Sign() == 0 {
			break
		}
		amount := decimal.Min(left, g.Remaining)
		uses = append(uses, CreditUse{Grant: g.ID, Amount: amount})
		left = left.Sub(amount)
	}
	return uses, left
}
