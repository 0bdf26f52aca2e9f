package plans

import (
	"fmt"

	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
)

// Share is the part of a period for which a plan was in force, in days or in seconds. The
// zero value is the whole period.
type Share struct {
	// Days, 0 to Of, are those of the plan.
	Days int `json:"days,omitempty"`
	// Seconds, 0 to Of, stand in place of Days where the share goes by instants.
	Seconds decimal.Decimal `json:"seconds,omitzero"`
	// Of are the period's days or seconds.
	Of int `json:"of"`
}

func (s Share) part() decimal.Decimal { return decimal.NewFromInt(int64(s.Days)).Add(s.Seconds) }

// Whole reports whether the share is the whole period.
func (s Share) Whole() bool { return s.part().Equal(decimal.NewFromInt(int64(s.Of))) }

// Add returns the sum of two shares of a period, in the same measure.
func (s Share) Add(t Share) Share {
	return Share{Days: s.Days + t.Days, Seconds: s.Seconds.Add(t.Seconds), Of: s.Of}
}

// Fraction returns the share as a number from 0 to 1.
func (s Share) Fraction() money.Fraction {
	if s.Whole() {
		return money.Whole(decimal.NewFromInt(1))
	}
	return money.Quotient(s.part(), decimal.NewFromInt(int64(s.Of)))
}

// Apply returns the share of an amount.
func (s Share) Apply(f money.Fraction) money.Fraction {
	if s.Whole() {
		return f
	}
	return f.Mul(s.Fraction())
}

// For returns the share, or the whole period where there is no proration.
func (p Proration) For(s Share) Share {
	if p.Prorates() {
		return s
	}
	return Share{}
}

// String writes the share as a quotient: "10/31".
func (s Share) String() string { return fmt.Sprintf("%s/%d", s.part(), s.Of) }

// Explain says what the share is of, and what it multiplies by.
func (s Share) Explain() string {
	if s.Seconds.IsZero() {
		return fmt.Sprintf("for %d of %d days: × %s", s.Days, s.Of, s)
	}
	return fmt.Sprintf("for %s of %s seconds: × %s", Grouped(s.Seconds), Grouped(decimal.NewFromInt(int64(s.Of))), s)
}
