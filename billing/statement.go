package billing

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// ErrCannotRate is the root of every error about an organization whose period can't
// be rated; its text says why. Such an organization is parked: the others go on.
var ErrCannotRate = errors.New("can't be rated")

// ErrInvalidStatement is the root of every error about a statement in a file. The
// error's text names the statement and the rule that is broken.
var ErrInvalidStatement = errors.New("invalid statement")

// LineKind says what a line of a statement is for.
type LineKind string

// The kinds, in the order in which a statement has them.
const (
	LineBaseFee    LineKind = "base_fee"
	LineUsage      LineKind = "usage"
	LineDiscount   LineKind = "discount"
	LineMinimum    LineKind = "minimum"
	LineCorrection LineKind = "correction"
	LineCredit     LineKind = "credit"
)

// Statement is one organization's priced period.
type Statement struct {
	// Number is unique over all periods and revisions: "TG-2026-10-000001". A statement
	// that isn't numbered has none; one that isn't issued is a draft.
	Number string `json:"number,omitempty"`
	// Replaces is the number of the statement of the revision before; empty in the first.
	Replaces         string          `json:"replaces,omitempty"`
	Period           calendar.Period `json:"period"`
	Organization     uuid.UUID       `json:"organization_id"`
	OrganizationName string          `json:"organization_name"`
	Currency         money.Currency  `json:"currency"`
	// Plan is the last one of the period; empty where there was none.
	Plan  string `json:"plan"`
	Lines []Line `json:"lines"`
	// Subtotal is the sum of all lines but credits, Credits the sum of credits as a
	// positive amount, and Due what is left. A negative amount is owed to the organization.
	Subtotal money.Amount `json:"subtotal"`
	Credits  money.Amount `json:"credits"`
	Due      money.Amount `json:"due"`
}

// Line is one amount of a statement.
type Line struct {
	Kind        LineKind `json:"kind"`
	Description string   `json:"description"`
	// Plan and PlanVersion are what prices the line; empty and 0 where no plan does.
	Plan        string `json:"plan,omitempty"`
	PlanVersion int    `json:"plan_version,omitempty"`
	// Meter and Unit are those of a metered line; empty otherwise.
	Meter string `json:"meter,omitempty"`
	Unit  string `json:"unit,omitempty"`
	// Start and End are [start, end) of what is charged, UTC.
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	// Charge is the arithmetic of a metered line.
	Charge *plans.Charge `json:"charge,omitempty"`
	// Share is that of a prorated fee.
	Share plans.Share `json:"share,omitzero"`
	// Basis says in words what the amount is made of, where Charge doesn't: "10 % of 35.00".
	Basis string `json:"basis,omitempty"`
	// Exact is the amount before rounding, Rest what rounding took (exact − amount).
	Exact string `json:"exact"`
	Rest  string `json:"rest"`
	// Running is how the amount was rounded, where not by itself: the lines of one term of a
	// plan add up to their rounded sum.
	Running *Running `json:"running,omitempty"`
	// Amount is the rounded amount; discounts and credits are negative.
	Amount money.Amount `json:"amount"`
	// Corrects is the closed period that a correction is for.
	Corrects *calendar.Period `json:"corrects,omitempty"`
	// Corrected is the kind of the lines that a correction is for.
	Corrected LineKind `json:"corrected_kind,omitempty"`
	// Outside says that the line shows what was used outside of the contract, at no cost.
	Outside bool `json:"outside_of_contract,omitempty"`
	// Grant is the credit grant that a credit is taken from.
	Grant uuid.UUID `json:"grant_id,omitzero"`
}

// Running is the sum of the lines of one term of a plan, up to a line.
type Running struct {
	// Exact is the sum before rounding, Amount the rounded sum, and Before the amounts of
	// the lines before: the line's own amount is Amount − Before.
	Exact  string       `json:"exact"`
	Amount money.Amount `json:"amount"`
	Before money.Amount `json:"before"`
}

// Explain returns the arithmetic of the line, one step a line, ending with the amount.
func (l Line) Explain(c money.Currency) []string {
	var steps []string
	if l.Charge != nil {
		steps = l.Charge.Explain(l.Unit)
	}
	if l.Basis != "" {
		steps = append(steps, l.Basis)
	}
	if !l.Share.Whole() {
		steps = append(steps, l.Share.Explain())
	}
	if l.Running != nil {
		return append(steps, fmt.Sprintf("%s; with the lines before it %s, rounded %s, less their %s = %s %s (rest %s)",
			l.Exact, l.Running.Exact, l.Running.Amount, l.Running.Before, l.Amount, c, l.Rest))
	}
	last := fmt.Sprintf("%s = %s %s", l.Exact, l.Amount, c)
	if l.Rest != "0" {
		last += fmt.Sprintf(" (rounded; rest %s)", l.Rest)
	}
	return append(steps, last)
}

// NewStatement rates a period: for each plan its base fee, usage with each meter's
// discount and minimum, and the plan's discount and minimum; then what was used without
// a contract, at no cost. It has no corrections and no credits yet: [Statement.Correct]
// and [Statement.PayFrom] add them. It fails with [ErrCannotRate].
func NewStatement(o OrganizationPeriod) (Statement, error) {
	if err := o.check(); err != nil {
		return Statement{}, err
	}
	s := Statement{
		Period: o.Period, Organization: o.Organization, OrganizationName: o.OrganizationName,
		Currency: o.Currency, Plan: o.plan(), Lines: []Line{},
	}
	plans, err := planPeriods(o)
	if err != nil {
		return Statement{}, err
	}
	for _, p := range plans {
		for _, l := range p.rate() {
			s.Lines = append(s.Lines, l.Line)
		}
	}
	s.Lines = append(s.Lines, o.outside()...)
	s.add()
	return s, nil
}

// outside shows what was used before the first plan or after the contract's end: it costs nothing.
func (o OrganizationPeriod) outside() []Line {
	var without []Segment
	for _, s := range o.Segments {
		if s.Plan.Key == "" {
			without = append(without, s)
		}
	}
	var lines []Line
	for _, m := range o.Meters {
		var sum money.Fraction
		shown := false
		for _, s := range without {
			used := s.used(m.Key)
			shown = shown || used.Value != 0 || !used.UnitSeconds.IsZero()
			if m.Aggregation == plans.Max {
				sum = money.Max(sum, money.Whole(decimal.NewFromInt(used.Value)))
			} else {
				sum = sum.Add(o.quantity(m, used))
			}
		}
		if shown {
			lines = append(lines, Line{
				Kind: LineUsage, Description: m.Name + ", outside of the contract", Meter: m.Key, Unit: m.Unit, Outside: true,
				Start: without[0].Start.UTC(), End: without[len(without)-1].End.UTC(),
				Charge: &plans.Charge{Quantity: sum.Decimal(plans.ShownDecimals)}, Basis: "nothing is due outside of the contract",
				Exact: "0", Rest: "0", Amount: money.NewAmount(decimal.Zero, o.Currency),
			})
		}
	}
	return lines
}

// add computes the sums.
func (s *Statement) add() {
	subtotal, credits := decimal.Zero, decimal.Zero
	for _, l := range s.Lines {
		if l.Kind == LineCredit {
			credits = credits.Sub(l.Amount.Decimal)
		} else {
			subtotal = subtotal.Add(l.Amount.Decimal)
		}
	}
	s.Subtotal = money.NewAmount(subtotal, s.Currency)
	s.Credits = money.NewAmount(credits, s.Currency)
	s.Due = money.NewAmount(subtotal.Sub(credits), s.Currency)
}

// Check reports what of a statement doesn't add up, as [ErrInvalidStatement].
func (s Statement) Check() error {
	again := s
	again.add()
	if !again.Subtotal.Equal(s.Subtotal.Decimal) || !again.Credits.Equal(s.Credits.Decimal) || !again.Due.Equal(s.Due.Decimal) {
		return fmt.Errorf("%w: %s of organization %s: its lines add up to %s − %s = %s, it says %s − %s = %s", ErrInvalidStatement,
			s.Number, s.Organization, again.Subtotal, again.Credits, again.Due, s.Subtotal, s.Credits, s.Due)
	}
	return nil
}
