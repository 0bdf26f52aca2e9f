package plans

import (
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
)

// ShownDecimals is how many decimals a quantity is shown with. What it costs is exact.
const ShownDecimals = 6

// Charge is a quantity and what it costs, with the arithmetic. Amount is exact, not
// rounded, and before any discount and minimum.
type Charge struct {
	// Quantity is what was used, in the meter's unit, to [ShownDecimals]; Included is what
	// of it cost nothing, and Billed the rest.
	Quantity decimal.Decimal `json:"quantity"`
	Included decimal.Decimal `json:"included"`
	Billed   decimal.Decimal `json:"billed"`
	// UnitSeconds is the integral of the level of which Quantity is the average over so
	// many Seconds; both are zero of what is no average.
	UnitSeconds decimal.Decimal `json:"unit_seconds,omitzero"`
	Seconds     int64           `json:"seconds,omitempty"`
	// Before is what the plan had used before in the period, and PoolBefore what of it was included.
	Before     decimal.Decimal `json:"before,omitzero"`
	PoolBefore decimal.Decimal `json:"included_before,omitzero"`
	// Total is the plan's quantity in the period, where a tier is chosen by it and it is
	// more than Before and Quantity.
	Total decimal.Decimal `json:"total,omitzero"`
	// Pool is what the included units were made of, where they were prorated.
	Pool []Pooled `json:"pool,omitempty"`
	// Parts add up to Amount, unless the amount is a share of them.
	Parts []Part `json:"parts,omitempty"`
	// Share is not the whole period where the amount was prorated.
	Share  Share          `json:"share,omitzero"`
	Amount money.Fraction `json:"-"`
}

// Pooled is what one plan version adds to the included units of a period.
type Pooled struct {
	Included int64 `json:"included"`
	Share    Share `json:"share"`
}

// Part is one step of the arithmetic: a tier, the packages, or the flat fee.
type Part struct {
	// From and To are the first and the last unit of the part, both included, counted
	// after the included ones; zero for a flat fee. Where they aren't whole, the part goes
	// from the one to the other.
	From decimal.Decimal `json:"from,omitzero"`
	To   decimal.Decimal `json:"to,omitzero"`
	// Quantity × UnitPrice / Per is the part's amount, and FlatFee is added to it.
	Quantity  decimal.Decimal `json:"quantity"`
	UnitPrice decimal.Decimal `json:"unit_price"`
	// Per is how many units the price is for: 1, the price's own, or a package's size.
	// Packages are counted whole: their Quantity is packages × Per.
	Per     int64           `json:"per"`
	FlatFee decimal.Decimal `json:"flat_fee,omitzero"`
	// Amount is exact: a decimal, or one with "…" where a division doesn't come out even.
	Amount string `json:"amount"`
}

// Reach is a part of what a plan used in a period: from one quantity to another.
type Reach struct {
	// From and To, 0 or more and in this order, are the plan's quantity before and after.
	From, To money.Fraction
	// Total is the plan's quantity in the whole period.
	Total money.Fraction
	// Included is how many of the plan's first units cost nothing.
	Included money.Fraction
	// Last says that the price is the last one of the plan in the period: what is due once
	// by the plan's whole quantity is due here.
	Last bool
}

// Charge prices a part of what a plan used: with P(q) the price of q units, P(To) −
// P(From). By volume, the units cost what the tier asks in which Total lies, and the
// tier's fee is due with the last price. It neither rounds nor discounts.
func (p Price) Charge(r Reach) Charge {
	from, to := beyond(r.From, r.Included), beyond(r.To, r.Included)
	billed := to.Sub(from)
	c := Charge{
		Quantity: r.To.Sub(r.From).Decimal(ShownDecimals), Billed: billed.Decimal(ShownDecimals),
		Included: r.To.Sub(r.From).Sub(billed).Decimal(ShownDecimals),
		Before:   r.From.Decimal(ShownDecimals), PoolBefore: money.Min(r.From, r.Included).Decimal(ShownDecimals),
	}
	if p.Model == Volume && !r.Total.Equal(r.To) {
		c.Total = r.Total.Decimal(ShownDecimals)
	}
	for _, s := range p.steps(from, to, beyond(r.Total, r.Included), r.Last) {
		part, amount := s.part()
		c.Parts, c.Amount = append(c.Parts, part), c.Amount.Add(amount)
	}
	return c
}

// Prorated returns the share of a charge.
func (c Charge) Prorated(s Share) Charge {
	c.Share, c.Amount = s, s.Apply(c.Amount)
	return c
}

// Rate prices a quantity, 0 or more, that a plan without other versions used in a share
// of the period. It neither rounds nor discounts. Of what [Price.Holds], and of a flat
// fee, the amount is the share where the price is prorated.
func (p Price) Rate(quantity decimal.Decimal, share Share, aggregation Aggregation) Charge {
	share = p.Prorate.For(share)
	included := money.Whole(decimal.NewFromInt(p.Included))
	if !p.Holds(aggregation) {
		included = share.Apply(included)
	}
	if !p.Averages(aggregation) {
		// Down to a whole unit: a part of one can't be used.
		included = included.Floor()
	}
	used := money.Whole(quantity)
	c := p.Charge(Reach{To: used, Total: used, Included: included, Last: true})
	if p.Model == Flat || p.Holds(aggregation) {
		return c.Prorated(share)
	}
	return c
}

func beyond(quantity, included money.Fraction) money.Fraction {
	return money.Max(quantity.Sub(included), money.Fraction{})
}

// step is a part before it is shown: units from one to another at a price.
type step struct {
	from, to, quantity money.Fraction
	unitPrice          decimal.Decimal
	per                int64
	fee                decimal.Decimal
}

func (s step) part() (Part, money.Fraction) {
	amount := s.quantity.Mul(money.Quotient(s.unitPrice, decimal.NewFromInt(s.per))).Add(money.Whole(s.fee))
	part := Part{
		From: s.from.Decimal(ShownDecimals), To: s.to.Decimal(ShownDecimals), Quantity: s.quantity.Decimal(ShownDecimals),
		UnitPrice: s.unitPrice, Per: s.per, FlatFee: s.fee, Amount: amount.String(),
	}
	if s.from.IsWhole() && s.to.IsWhole() && s.from.Cmp(s.to) < 0 {
		part.From = part.From.Add(decimal.NewFromInt(1))
	}
	return part, amount
}

// steps splits what is billed by the model.
func (p Price) steps(from, to, total money.Fraction, last bool) []step {
	used := from.Cmp(to) < 0
	switch p.Model {
	case Flat:
		if used && from.Sign() == 0 {
			return []step{{per: 1, fee: p.FlatFee}}
		}
	case PerUnit:
		if used {
			return []step{{from: from, to: to, quantity: to.Sub(from), unitPrice: p.UnitPrice, per: p.per()}}
		}
	case Package:
		if used {
			size := money.Whole(decimal.NewFromInt(p.PackageSize))
			packages := to.Quo(size).Ceil().Sub(from.Quo(size).Ceil())
			return []step{{from: from, to: to, quantity: packages.Mul(size), unitPrice: p.PackagePrice, per: p.PackageSize}}
		}
	case Volume:
		return p.volume(from, to, total, last)
	case Graduated:
		return p.graduated(from, to)
	}
	return nil
}

func (p Price) volume(from, to, total money.Fraction, last bool) []step {
	for _, t := range p.Tiers {
		if t.UpTo != 0 && total.Cmp(money.Whole(decimal.NewFromInt(t.UpTo))) > 0 {
			continue
		}
		s := step{unitPrice: t.UnitPrice, per: p.per()}
		if last && total.Sign() > 0 {
			s.fee = t.FlatFee
		}
		if from.Cmp(to) < 0 {
			s.from, s.to, s.quantity = from, to, to.Sub(from)
		} else if s.fee.IsZero() {
			return nil
		}
		return []step{s}
	}
	return nil
}

func (p Price) graduated(from, to money.Fraction) []step {
	var steps []step
	var before money.Fraction
	for _, t := range p.Tiers {
		first, end := money.Max(from, before), to
		if t.UpTo != 0 {
			end = money.Min(to, money.Whole(decimal.NewFromInt(t.UpTo)))
		}
		if first.Cmp(end) < 0 {
			s := step{from: first, to: end, quantity: end.Sub(first), unitPrice: t.UnitPrice, per: p.per()}
			if first.Equal(before) {
				s.fee = t.FlatFee
			}
			steps = append(steps, s)
		}
		before = money.Whole(decimal.NewFromInt(t.UpTo))
		if t.UpTo == 0 || to.Cmp(before) <= 0 {
			break
		}
	}
	return steps
}
