package billing

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// StatementVariance is a statement that differs from the period before by more than
// the threshold.
type StatementVariance struct {
	Organization     uuid.UUID      `json:"organization_id"`
	OrganizationName string         `json:"organization_name"`
	Currency         money.Currency `json:"currency"`
	// Previous and Current are subtotals; zero where there is no statement.
	Previous money.Amount `json:"previous"`
	Current  money.Amount `json:"current"`
	// Percent is the difference relative to Previous, to one decimal; empty where that is zero.
	Percent string `json:"percent,omitempty"`
	// Reasons add up to Current − Previous: each cause at most once, in the order of the causes.
	Reasons []VarianceReason `json:"reasons"`
}

// VarianceReason is the part of a difference that has one cause.
type VarianceReason struct {
	Cause VarianceCause `json:"cause"`
	// Amount is never zero.
	Amount money.Amount `json:"amount"`
}

// VarianceCause says why a statement differs from the one before.
type VarianceCause string

// The causes, in the order in which a variance has them.
const (
	// CauseUsage is what was used: by the same terms, the months differ by this.
	CauseUsage VarianceCause = "usage"
	// CausePrice is another version of the same plan: the same usage costs more or less.
	CausePrice VarianceCause = "price"
	// CausePlan is another plan, or a contract that wasn't in force for all of both months.
	CausePlan VarianceCause = "plan"
	// CauseCorrection is what either month has of corrections of closed ones.
	CauseCorrection VarianceCause = "correction"
)

// Explain says why the statements of two months differ. Each month is as it was frozen; the zero
// value where the organization wasn't in it. A month that had one version of a plan throughout
// lends its terms to the other one: what that would have cost by them tells usage from terms.
func (v StatementVariance) Explain(before, now BilledPeriod, catalog *plans.Catalog) ([]VarianceReason, error) {
	paid, due := before.own(v.Currency), now.own(v.Currency)
	terms, cause := due.Sub(paid), CausePlan
	if before.OrganizationPeriod.Currency == now.OrganizationPeriod.Currency {
		found, ok, err := termsEffect(before, now, paid, due, catalog)
		if err != nil {
			return nil, err
		}
		if ok {
			terms = found
		}
		if ok && slices.Equal(before.OrganizationPeriod.planKeys(), now.OrganizationPeriod.planKeys()) {
			cause = CausePrice
		}
	}
	amounts := map[VarianceCause]decimal.Decimal{
		cause:           terms,
		CauseUsage:      due.Sub(paid).Sub(terms),
		CauseCorrection: v.Current.Sub(due).Sub(v.Previous.Sub(paid)),
	}
	reasons := []VarianceReason{}
	for _, c := range []VarianceCause{CauseUsage, CausePrice, CausePlan, CauseCorrection} {
		if a := amounts[c]; !a.IsZero() {
			reasons = append(reasons, VarianceReason{c, money.NewAmount(a, v.Currency)})
		}
	}
	return reasons, nil
}

// termsEffect is what the later month costs more by its own terms than by those of the earlier one.
// ok is false where neither month's terms can be had for the other.
func termsEffect(before, now BilledPeriod, paid, due decimal.Decimal, catalog *plans.Catalog) (effect decimal.Decimal, ok bool, err error) {
	if !before.OrganizationPeriod.covered() || !now.OrganizationPeriod.covered() {
		return decimal.Zero, false, nil
	}
	if terms, one := before.OrganizationPeriod.onePlan(); one {
		again, ok, err := now.OrganizationPeriod.costs(terms, catalog)
		return due.Sub(again), ok, err
	}
	if terms, one := now.OrganizationPeriod.onePlan(); one {
		again, ok, err := before.OrganizationPeriod.costs(terms, catalog)
		return again.Sub(paid), ok, err
	}
	return decimal.Zero, false, nil
}

// own is what a month was billed in a currency, without corrections; zero where it wasn't.
func (b BilledPeriod) own(c money.Currency) decimal.Decimal {
	if b.Billed == nil || b.OrganizationPeriod.Currency != c {
		return decimal.Zero
	}
	return b.Billed.Decimal
}

// covered reports whether a plan was in force at each instant of the period.
func (o OrganizationPeriod) covered() bool {
	at := o.Period.Start()
	for _, s := range o.Segments {
		if s.Plan.Key == "" || !s.Start.Equal(at) {
			return false
		}
		at = s.End
	}
	return len(o.Segments) > 0 && !at.Before(o.Cut)
}

// onePlan returns the plan version that all segments have; there must be one.
func (o OrganizationPeriod) onePlan() (plans.Plan, bool) {
	first := o.Segments[0].Plan
	return first, !slices.ContainsFunc(o.Segments, func(s Segment) bool { return s.Plan.Key != first.Key || s.Plan.Version != first.Version })
}

// planKeys returns the keys of the period's plans, each once, sorted.
func (o OrganizationPeriod) planKeys() []string {
	var keys []string
	for _, s := range o.Segments {
		keys = append(keys, s.Plan.Key)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// costs returns what the period would have cost by one plan version; ok is false where it can't be rated so.
func (o OrganizationPeriod) costs(terms plans.Plan, catalog *plans.Catalog) (cost decimal.Decimal, ok bool, err error) {
	o.Segments = slices.Clone(o.Segments)
	for i := range o.Segments {
		o.Segments[i].Plan = plans.Plan{Key: terms.Key, Version: terms.Version}
	}
	s, err := Rate(Ratable{OrganizationPeriod: o}, catalog)
	if errors.Is(err, ErrCannotRate) {
		return decimal.Zero, false, nil
	}
	return s.Subtotal.Decimal, err == nil, err
}

// VarianceThreshold says which differences have to be reviewed: those that reach both.
type VarianceThreshold struct {
	// Percent of the subtotal before, 1 to 100,000. Zero: 50.
	Percent int64 `json:"percent,omitempty"`
	// Least is the smallest difference in the statement's currency. Empty: 1.
	Least string `json:"least,omitempty"`
}

// WithDefaults fills in what was left out, and checks the rest.
func (v VarianceThreshold) WithDefaults() (VarianceThreshold, error) {
	if v.Percent == 0 {
		v.Percent = 50
	}
	if v.Least == "" {
		v.Least = "1"
	}
	if v.Percent < 1 || v.Percent > 100_000 {
		return v, fmt.Errorf("variance.percent %d must be 1 to 100000", v.Percent)
	}
	if least, err := money.Parse(v.Least); err != nil || least.IsNegative() {
		return v, fmt.Errorf("variance.least %q must be a decimal number of 0 or more", v.Least)
	}
	return v, nil
}
