package billing

import (
	"fmt"

	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// part is a segment of a plan, with what it costs there.
type part struct {
	segment Segment
	book    plans.PriceBook
	// days are those of the period that belong to the part.
	days int
}

// planPeriod is one plan in a period of an organization: all segments of its key, also around
// another plan, with the lines that they cost.
type planPeriod struct {
	// whole is the organization's period that the plan has a part in.
	whole OrganizationPeriod
	key   string
	parts []part
	lines []planLine
	// holds are the segments of the period whose peaks and levels are the plan's by day.
	holds []Segment
}

// planLine is a line, and the part of the plan that prices it.
type planLine struct {
	Line
	part int
}

// run is a row of parts, both included, whose terms are equal: they cost what one would.
type run struct{ first, last int }

// planPeriods groups the segments of a period by plan, in the order of the first one.
func planPeriods(o OrganizationPeriod) ([]*planPeriod, error) {
	var out []*planPeriod
	byKey := map[string]*planPeriod{}
	for _, s := range o.Segments {
		if s.Plan.Key == "" {
			continue
		}
		book, ok := s.Plan.PriceBook(o.Currency)
		if !ok {
			return nil, fmt.Errorf("%w: plan %s version %d has no prices in %s", ErrCannotRate, s.Plan.Key, s.Plan.Version, o.Currency)
		}
		p := byKey[s.Plan.Key]
		if p == nil {
			p = &planPeriod{whole: o, key: s.Plan.Key}
			byKey[p.key], out = p, append(out, p)
		}
		p.parts = append(p.parts, part{segment: s, book: book})
	}
	giveDays(o, byKey)
	return out, nil
}

// rate adds the plan's lines: the base fee; each meter's usage, discount and minimum; the
// plan's discount and minimum.
func (p *planPeriod) rate() []planLine {
	p.baseFee()
	for _, m := range p.whole.Meters {
		p.meter(m)
	}
	p.discount()
	p.minimum()
	return p.lines
}

func (p *planPeriod) last() int { return len(p.parts) - 1 }

// runs groups parts that follow each other and are the same.
func (p *planPeriod) runs(same func(a, b int) bool) []run {
	runs := []run{{}}
	for i := 1; i < len(p.parts); i++ {
		if same(i-1, i) {
			runs[len(runs)-1].last = i
		} else {
			runs = append(runs, run{i, i})
		}
	}
	return runs
}

// due returns the runs in which a term is charged: all where it is prorated, else the last.
func (p *planPeriod) due(how plans.Proration, same func(a, b int) bool) []run {
	runs := p.runs(same)
	if how.Prorates() {
		return runs
	}
	return runs[len(runs)-1:]
}

// share returns the share of the period that a run was in force for.
func (p *planPeriod) share(r run, how plans.Proration) plans.Share {
	period := p.whole.Period
	switch how {
	case plans.ProrateDay:
		share := plans.Share{Of: int(period.LastDay()-period.FirstDay()) + 1}
		for _, part := range p.parts[r.first : r.last+1] {
			share.Days += part.days
		}
		return share
	case plans.ProrateSecond:
		share := plans.Share{Of: int(period.Seconds())}
		for _, part := range p.parts[r.first : r.last+1] {
			share.Seconds = share.Seconds.Add(decimal.New(int64(part.segment.End.Sub(part.segment.Start)), -9))
		}
		return share
	default:
		return plans.Share{}
	}
}

// proration returns how the last part that has a term prorates it.
func (p *planPeriod) proration(of func(plans.PriceBook) (plans.Proration, bool)) plans.Proration {
	for i := p.last(); i >= 0; i-- {
		if how, ok := of(p.parts[i].book); ok {
			return how
		}
	}
	return plans.ProrateNone
}

func (p *planPeriod) baseFeeProration() plans.Proration {
	return p.proration(func(b plans.PriceBook) (plans.Proration, bool) {
		return b.BaseFee.Prorate, b.BaseFee.Amount.IsPositive()
	})
}

// minimumProration is that of the plan's minimum, which is prorated as the base fee is.
func (p *planPeriod) minimumProration() plans.Proration {
	return p.proration(func(b plans.PriceBook) (plans.Proration, bool) { return b.BaseFee.Prorate, b.Minimum.IsPositive() })
}

func (p *planPeriod) meterProration(meter string) plans.Proration {
	return p.proration(func(b plans.PriceBook) (plans.Proration, bool) {
		price, ok := b.Price(meter)
		return price.Prorate, ok
	})
}

// sameDiscount reports whether two parts take the same discount off all of the plan.
func (p *planPeriod) sameDiscount(a, b int) bool {
	return p.parts[a].book.DiscountPercent.Equal(p.parts[b].book.DiscountPercent)
}

func (p *planPeriod) baseFee() {
	how := p.baseFeeProration()
	var paid ledger
	for _, r := range p.due(how, func(a, b int) bool {
		return p.sameDiscount(a, b) && p.parts[a].book.BaseFee.Amount.Equal(p.parts[b].book.BaseFee.Amount)
	}) {
		last := p.parts[r.last]
		exact := p.share(r, how).Apply(money.Whole(last.book.BaseFee.Amount))
		if exact.Sign() == 0 {
			continue
		}
		line := p.line(r, LineBaseFee, "Base fee, plan "+last.segment.Plan.Name, plans.Meter{})
		line.Share, line.Basis = p.share(r, how), "fee "+last.book.BaseFee.Amount.String()
		p.put(&paid, r.last, line, exact)
	}
}

// discount takes the parts' percentages off what their lines come to.
func (p *planPeriod) discount() {
	var given ledger
	for _, r := range p.runs(p.sameDiscount) {
		sum := decimal.Zero
		for _, l := range p.lines {
			if r.first <= l.part && l.part <= r.last {
				sum = sum.Add(l.Amount.Decimal)
			}
		}
		p.discountLine(&given, r, plans.Meter{}, p.parts[r.last].book.DiscountPercent, sum)
	}
}

// discountLine takes a percentage off an amount.
func (p *planPeriod) discountLine(given *ledger, r run, m plans.Meter, percent, of decimal.Decimal) {
	if !percent.IsPositive() || !of.IsPositive() {
		return
	}
	line := p.line(r, LineDiscount, "Discount "+percent.String()+" %"+onMeter(m), m)
	line.Basis = fmt.Sprintf("− %s %% of %s", percent, money.Format(of, p.whole.Currency))
	p.put(given, r.last, line, money.Whole(of.Mul(percent).Shift(-2).Neg()))
}

// line returns a line of a run: it names the last version, and spans from the first
// start to the last end.
func (p *planPeriod) line(r run, kind LineKind, description string, m plans.Meter) Line {
	first, last := p.parts[r.first].segment, p.parts[r.last].segment
	return Line{
		Kind: kind, Description: description, Plan: last.Plan.Key, PlanVersion: last.Plan.Version,
		Meter: m.Key, Unit: m.Unit, Start: first.Start.UTC(), End: last.End.UTC(),
	}
}

func onMeter(m plans.Meter) string {
	if m.Key == "" {
		return ""
	}
	return ", " + m.Name
}

// ledger adds up the lines of one term of a plan. Each is rounded with those before it, so
// that they add up to the rounded sum wherever the period is split.
type ledger struct {
	exact  money.Fraction
	amount decimal.Decimal
}

// put rounds a line, once, with the lines of its term before it, and adds it.
func (p *planPeriod) put(l *ledger, part int, line Line, exact money.Fraction) {
	currency, rounding := p.whole.Currency, p.parts[part].book.Rounding
	before := l.amount
	l.exact = l.exact.Add(exact)
	l.amount, _ = l.exact.Round(currency, rounding)
	amount := l.amount.Sub(before)
	line.Exact, line.Rest, line.Amount = exact.String(), exact.Sub(money.Whole(amount)).String(), money.NewAmount(amount, currency)
	if alone, _ := exact.Round(currency, rounding); !alone.Equal(amount) {
		line.Running = &Running{Exact: l.exact.String(), Amount: money.NewAmount(l.amount, currency), Before: money.NewAmount(before, currency)}
	}
	p.lines = append(p.lines, planLine{line, part})
}
