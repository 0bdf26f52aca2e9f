package billing

import (
	"fmt"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// minimum tops all of the plan's lines up to what it costs at least.
func (p *planPeriod) minimum() {
	reached := decimal.Zero
	for _, l := range p.lines {
		reached = reached.Add(l.Amount.Decimal)
	}
	// Nothing is taken off it any more: one line does for all parts.
	p.topUp(plans.Meter{}, p.minimumProration(), reached,
		func(i int) decimal.Decimal { return p.parts[i].book.Minimum }, func(int, int) bool { return true })
}

// topUp adds what is missing to a minimum, compared once with what all lines come to: with
// the last part's minimum, or where it is prorated with the sum of the parts' shares. Its
// lines are those of runs whose other terms are the same.
func (p *planPeriod) topUp(m plans.Meter, how plans.Proration, reached decimal.Decimal, least func(int) decimal.Decimal, same func(a, b int) bool) {
	runs := p.runs(same)
	if !how.Prorates() {
		runs = []run{{0, p.last()}}
	}
	paid := decimal.Zero
	for _, r := range runs {
		var terms []string
		exact := money.Whole(least(p.last()))
		if how.Prorates() {
			exact, terms = p.shares(r.last, how, least)
		}
		due, _ := exact.Round(p.whole.Currency, p.parts[r.last].book.Rounding)
		missing := decimal.Max(due.Sub(reached), decimal.Zero)
		amount := missing.Sub(paid)
		if amount.IsZero() {
			continue
		}
		line := p.line(r, LineMinimum, "Minimum commitment"+onMeter(m), m)
		line.Basis = fmt.Sprintf("at least %s − %s", money.Format(due, p.whole.Currency), money.Format(reached, p.whole.Currency))
		if len(terms) > 0 {
			line.Basis = fmt.Sprintf("at least %s = %s − %s", strings.Join(terms, " + "), money.Format(due, p.whole.Currency), money.Format(reached, p.whole.Currency))
		}
		if paid.IsPositive() {
			line.Basis += fmt.Sprintf(" − %s for the time before", money.Format(paid, p.whole.Currency))
		}
		paid = missing
		p.put(&ledger{}, r.last, line, money.Whole(amount))
	}
}

// shares returns the sum of the parts' shares of an amount, up to a part, and its terms
// where they are not one whole.
func (p *planPeriod) shares(last int, how plans.Proration, amount func(int) decimal.Decimal) (money.Fraction, []string) {
	var sum money.Fraction
	var terms []string
	for _, r := range p.runs(func(i, j int) bool { return amount(i).Equal(amount(j)) }) {
		if r.first > last {
			break
		}
		r.last = min(r.last, last)
		share := p.share(r, how)
		if amount(r.last).IsZero() || share.Fraction().Sign() == 0 {
			continue
		}
		sum = sum.Add(share.Apply(money.Whole(amount(r.last))))
		if !share.Whole() {
			terms = append(terms, fmt.Sprintf("%s × %s", amount(r.last), share))
		}
	}
	return sum, terms
}
