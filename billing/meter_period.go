package billing

import (
	"slices"

	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// meterPeriod is what a plan used of one meter in a period, and what its versions ask for it.
type meterPeriod struct {
	*planPeriod
	meter plans.Meter
	// prices are the parts'; nil where a part has none.
	prices []*plans.Price
	how    plans.Proration
	// reached is what the plan had used before each part, and after the last: sums, or the
	// averages of levels. Peaks don't add up: they have none.
	reached []money.Fraction
}

// meter adds the lines of one meter: usage with its discounts, and the minimum.
func (p *planPeriod) meter(m plans.Meter) {
	a := meterPeriod{planPeriod: p, meter: m, how: p.meterProration(m.Key), reached: []money.Fraction{{}}}
	priced := false
	for _, part := range p.parts {
		var own *plans.Price
		if price, ok := part.book.Price(m.Key); ok {
			own, priced = &price, true
		}
		a.prices = append(a.prices, own)
		a.reached = append(a.reached, a.reached[len(a.reached)-1].Add(p.whole.quantity(m, part.segment.used(m.Key))))
	}
	if !priced {
		return
	}
	first := len(p.lines)
	var cost, discounts ledger
	for _, r := range p.runs(a.same) {
		charge, ok := a.charge(r)
		if !ok {
			continue
		}
		line := p.line(r, LineUsage, m.Name, m)
		line.Charge = &charge
		p.put(&cost, r.last, line, charge.Amount)
		p.discountLine(&discounts, r, m, a.prices[r.last].DiscountPercent, p.lines[len(p.lines)-1].Amount.Decimal)
	}
	reached := decimal.Zero
	for _, l := range p.lines[first:] {
		reached = reached.Add(l.Amount.Decimal)
	}
	p.topUp(m, a.how, reached, func(i int) decimal.Decimal {
		if a.prices[i] == nil {
			return decimal.Zero
		}
		return a.prices[i].Minimum
	}, p.sameDiscount)
}

// quantity returns what a segment adds to a plan's quantity: its sum, or its part of the
// average of a level.
func (o OrganizationPeriod) quantity(m plans.Meter, used SegmentUsage) money.Fraction {
	switch m.Aggregation {
	case plans.Max:
		return money.Fraction{}
	case plans.Last:
		return money.Quotient(used.UnitSeconds, decimal.NewFromInt(o.Period.Seconds()))
	default:
		return money.Whole(decimal.NewFromInt(used.Value))
	}
}

// same reports whether two parts ask the same for the meter's units, and bear the same discounts.
func (a *meterPeriod) same(i, j int) bool {
	p, q := a.prices[i], a.prices[j]
	if p == nil || q == nil {
		return p == q
	}
	return p.SameUnits(*q, a.meter.Aggregation) && p.DiscountPercent.Equal(q.DiscountPercent) && a.sameDiscount(i, j)
}

// charge prices a run. There is none where nothing was used, or what is due once isn't
// due in this run.
func (a *meterPeriod) charge(r run) (plans.Charge, bool) {
	if a.prices[r.last] == nil {
		return plans.Charge{}, false
	}
	price := *a.prices[r.last]
	included, pool := a.included(price)
	total := a.reached[len(a.reached)-1]
	reach := plans.Reach{From: a.reached[r.first], To: a.reached[r.last+1], Total: total, Included: included, Last: r.last == a.last()}
	var share plans.Share
	if price.Holds(a.meter.Aggregation) || (price.Model == plans.Flat && a.how.Prorates()) {
		// One amount for the period: its share where it is prorated, or once by the last version.
		if share = a.share(r, a.how); share.Fraction().Sign() == 0 || (!a.how.Prorates() && !reach.Last) {
			return plans.Charge{}, false
		}
		if price.Holds(a.meter.Aggregation) {
			total = a.figure()
		}
		reach.From, reach.To, reach.Total, reach.Last = money.Fraction{}, total, total, true
	}
	charge := price.Charge(reach).Prorated(share)
	charge.Pool = pool
	if price.Averages(a.meter.Aggregation) {
		charge.Seconds = a.whole.Period.Seconds()
		charge.UnitSeconds = reach.To.Sub(reach.From).Mul(money.Whole(decimal.NewFromInt(charge.Seconds))).Decimal(plans.ShownDecimals)
	}
	return charge, reach.From.Cmp(reach.To) < 0 || charge.Amount.Sign() != 0
}

// figure returns the plan's highest peak or last level: of its own segments, or where the
// price is prorated by the day of the days that are the plan's.
func (a *meterPeriod) figure() money.Fraction {
	var value int64
	segments := a.holds
	if a.how != plans.ProrateDay {
		segments = nil
		for _, part := range a.parts {
			segments = append(segments, part.segment)
		}
	}
	for _, s := range segments {
		// A level that holds is in every later segment, too.
		if at := slices.IndexFunc(s.Usage, func(u SegmentUsage) bool { return u.Meter == a.meter.Key }); at >= 0 {
			value = a.meter.Aggregation.Fold(value, s.Usage[at].Value)
		}
	}
	return money.Whole(decimal.NewFromInt(value))
}

// included returns how many units of the period cost nothing by a price: its own, or where
// they are prorated one pool that all parts fill. Of what holds for a time the amount is
// prorated, and nothing twice.
func (a *meterPeriod) included(price plans.Price) (money.Fraction, []plans.Pooled) {
	if !a.how.Prorates() || price.Holds(a.meter.Aggregation) {
		return money.Whole(decimal.NewFromInt(price.Included)), nil
	}
	of := func(i int) int64 {
		if a.prices[i] == nil {
			return 0
		}
		return a.prices[i].Included
	}
	var sum money.Fraction
	var pool []plans.Pooled
	for _, r := range a.runs(func(i, j int) bool { return of(i) == of(j) }) {
		share := a.share(r, a.how)
		if of(r.last) == 0 || share.Fraction().Sign() == 0 {
			continue
		}
		pool = append(pool, plans.Pooled{Included: of(r.last), Share: share})
		sum = sum.Add(share.Apply(money.Whole(decimal.NewFromInt(of(r.last)))))
	}
	if len(pool) == 1 && pool[0].Share.Whole() {
		pool = nil
	}
	if !price.Averages(a.meter.Aggregation) {
		// Down to a whole unit: a part of one can't be used.
		sum = sum.Floor()
	}
	return sum, pool
}
