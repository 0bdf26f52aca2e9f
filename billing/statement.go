package billing

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// ErrCannotRate is the root of every error about an organization whose period can't
// be rated; its text says why. Such an organization is parked: the others go on.
var ErrCannotRate = errors.New("can't be rated")

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
	Replaces         string         `json:"replaces,omitempty"`
	Period           Period         `json:"period"`
	Organization     uuid.UUID      `json:"organization_id"`
	OrganizationName string         `json:"organization_name"`
	Currency         money.Currency `json:"currency"`
	// Plan is the one in force at the end.
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
	// Amount is the rounded amount; discounts and credits are negative.
	Amount money.Amount `json:"amount"`
	// Corrects is the closed period that a correction is for.
	Corrects *Period `json:"corrects,omitempty"`
	// Corrected is the kind of the lines that a correction is for.
	Corrected LineKind `json:"corrected_kind,omitempty"`
	// Grant is the credit grant that a credit is taken from.
	Grant uuid.UUID `json:"grant_id,omitzero"`
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
		steps = append(steps, fmt.Sprintf("for %d of %d days: × %d/%d", l.Share.Days, l.Share.Of, l.Share.Days, l.Share.Of))
	}
	last := fmt.Sprintf("%s = %s %s", l.Exact, l.Amount, c)
	if l.Rest != "0" {
		last += fmt.Sprintf(" (rounded; rest %s)", l.Rest)
	}
	return append(steps, last)
}

// Segment is a part of a period in which one plan version was in force, and what was
// used in it.
type Segment struct {
	// Start and End are [start, end).
	Start time.Time
	End   time.Time
	Plan  plans.Plan
	// Usage holds at most one value a meter.
	Usage []SegmentUsage
}

// SegmentUsage is the usage of one meter in a segment.
type SegmentUsage struct {
	Meter string
	// Value is the segment's sum, highest peak or last level.
	Value int64
	// UnitSeconds is the integral of a snapshot's level over the segment; zero for others.
	UnitSeconds decimal.Decimal
}

// Account is all that one organization's statement is made from.
type Account struct {
	Organization     uuid.UUID
	OrganizationName string
	Currency         money.Currency
	Period           Period
	// Cut is the period's end, or for a period that is open the time up to which usage counts.
	Cut    time.Time
	Meters []plans.Meter
	// Segments follow each other without a gap; there is at least one.
	Segments []Segment
}

// NewStatement rates an account: its lines are base fees, usage with each meter's
// discount and minimum, and the plan's discount and minimum, segment by segment. It has
// no corrections and no credits yet: [Statement.Correct] and [Statement.PayFrom] add
// them. It fails with [ErrCannotRate].
func NewStatement(a Account) (Statement, error) {
	if len(a.Segments) == 0 {
		return Statement{}, fmt.Errorf("%w: organization %s has no plan in %s", ErrCannotRate, a.Organization, a.Period)
	}
	// One that was withdrawn is rated on: what it was billed in may have to be corrected.
	if !a.Currency.Known() {
		return Statement{}, fmt.Errorf("%w: currency %q of organization %s is not an ISO 4217 code", ErrCannotRate, a.Currency, a.Organization)
	}
	s := Statement{
		Period: a.Period, Organization: a.Organization, OrganizationName: a.OrganizationName,
		Currency: a.Currency, Plan: a.Segments[len(a.Segments)-1].Plan.Key, Lines: []Line{},
	}
	r := rater{account: a, statement: &s}
	for i := range a.Segments {
		if err := r.segment(i); err != nil {
			return Statement{}, err
		}
	}
	s.add()
	return s, nil
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

// rater rates one account.
type rater struct {
	account   Account
	statement *Statement
}

// segment adds the lines of one segment.
func (r *rater) segment(i int) error {
	segment := r.account.Segments[i]
	book, ok := segment.Plan.PriceBook(r.account.Currency)
	if !ok {
		return fmt.Errorf("%w: plan %s version %d has no prices in %s", ErrCannotRate, segment.Plan.Key, segment.Plan.Version, r.account.Currency)
	}
	share := r.share(i)
	first := len(r.statement.Lines)
	if r.charges(i, book.BaseFee.Prorate) && book.BaseFee.Amount.IsPositive() {
		r.fee(segment, book, LineBaseFee, "Base fee, plan "+segment.Plan.Name, book.BaseFee.Amount, book.BaseFee.Prorate.For(share))
	}
	for _, m := range r.account.Meters {
		for _, p := range book.Prices {
			if p.Meter == m.Key {
				r.meter(i, m, p, book, share)
			}
		}
	}
	if book.DiscountPercent.IsPositive() {
		r.discount(segment, book, plans.Meter{}, book.DiscountPercent, r.sum(first))
	}
	if r.charges(i, book.BaseFee.Prorate) {
		r.minimum(segment, book, plans.Meter{}, book.Minimum, book.BaseFee.Prorate.For(share), r.sum(first))
	}
	return nil
}

// share returns the days of a segment: a day belongs to the segment that it ends in.
func (r *rater) share(i int) plans.Share {
	segment := r.account.Segments[i]
	of := int(r.account.Period.LastDay()-r.account.Period.FirstDay()) + 1
	// A time at midnight belongs to the day before it: [start, end).
	before := func(at time.Time) plans.Day { return plans.DayOf(at.Add(-time.Nanosecond)) }
	from, to := plans.DayOf(segment.Start), before(segment.End)
	if i < len(r.account.Segments)-1 {
		to = plans.DayOf(segment.End) - 1
	}
	return plans.Share{Days: int(max(0, to-from+1)), Of: of}
}

// charges reports whether what isn't prorated is due in a segment: once for each
// plan, in the last of its segments.
func (r *rater) charges(i int, p plans.Proration) bool {
	if p == plans.ProrateDay {
		return true
	}
	for _, later := range r.account.Segments[i+1:] {
		if later.Plan.Key == r.account.Segments[i].Plan.Key {
			return false
		}
	}
	return true
}

// sum adds the lines from one on.
func (r *rater) sum(first int) decimal.Decimal {
	sum := decimal.Zero
	for _, l := range r.statement.Lines[first:] {
		sum = sum.Add(l.Amount.Decimal)
	}
	return sum
}

// meter adds the lines of one meter in one segment.
func (r *rater) meter(i int, m plans.Meter, p plans.Price, book plans.PriceBook, share plans.Share) {
	segment := r.account.Segments[i]
	used := segment.used(m.Key)
	seconds := int64(r.account.Period.End().Sub(r.account.Period.Start()) / time.Second)
	quantity := p.PricedQuantity(m.Aggregation, used.Value, used.UnitSeconds, seconds)
	first := len(r.statement.Lines)
	if quantity.IsPositive() {
		charge := p.Rate(quantity, share, m.Aggregation)
		line := r.line(segment, LineUsage, m.Name, m)
		line.Charge = &charge
		r.put(line, charge.Amount, book)
	}
	if p.DiscountPercent.IsPositive() {
		r.discount(segment, book, m, p.DiscountPercent, r.sum(first))
	}
	if r.charges(i, p.Prorate) {
		r.minimum(segment, book, m, p.Minimum, p.Prorate.For(share), r.sum(first))
	}
}

func (r *rater) fee(s Segment, book plans.PriceBook, kind LineKind, description string, amount decimal.Decimal, share plans.Share) {
	line := r.line(s, kind, description, plans.Meter{})
	line.Share, line.Basis = share, "fee "+amount.String()
	r.put(line, share.Apply(money.Whole(amount)), book)
}

// discount takes a percentage off what the lines at hand come to.
func (r *rater) discount(s Segment, book plans.PriceBook, m plans.Meter, percent, of decimal.Decimal) {
	if !of.IsPositive() {
		return
	}
	line := r.line(s, LineDiscount, "Discount "+percent.String()+" %"+onMeter(m), m)
	line.Basis = fmt.Sprintf("− %s %% of %s", percent, money.Format(of, r.account.Currency))
	r.put(line, money.Whole(of.Mul(percent).Shift(-2).Neg()), book)
}

// minimum tops the lines at hand up to what is due at least.
func (r *rater) minimum(s Segment, book plans.PriceBook, m plans.Meter, least decimal.Decimal, share plans.Share, reached decimal.Decimal) {
	due, _ := share.Apply(money.Whole(least)).Round(r.account.Currency, book.Rounding)
	if !due.GreaterThan(reached) {
		return
	}
	line := r.line(s, LineMinimum, "Minimum commitment"+onMeter(m), m)
	line.Basis = fmt.Sprintf("at least %s − %s", money.Format(due, r.account.Currency), money.Format(reached, r.account.Currency))
	r.put(line, money.Whole(due.Sub(reached)), book)
}

func onMeter(m plans.Meter) string {
	if m.Key == "" {
		return ""
	}
	return ", " + m.Name
}

func (r *rater) line(s Segment, kind LineKind, description string, m plans.Meter) Line {
	return Line{
		Kind: kind, Description: description, Plan: s.Plan.Key, PlanVersion: s.Plan.Version,
		Meter: m.Key, Unit: m.Unit, Start: s.Start.UTC(), End: s.End.UTC(),
	}
}

// put rounds a line, once, and adds it.
func (r *rater) put(line Line, exact money.Fraction, book plans.PriceBook) {
	rounded, rest := exact.Round(r.account.Currency, book.Rounding)
	line.Exact, line.Rest, line.Amount = exact.String(), rest.String(), money.NewAmount(rounded, r.account.Currency)
	r.statement.Lines = append(r.statement.Lines, line)
}
