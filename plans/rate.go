package plans

import (
	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
)

// Share is the part of a period for which a plan was in force, in days. The zero
// value is the whole period.
type Share struct {
	// Days, 0 to Of, are those of the plan; Of are those of the period.
	Days int `json:"days"`
	Of   int `json:"of"`
}

// Whole reports whether the share is the whole period.
func (s Share) Whole() bool { return s.Days == s.Of }

// of returns the share of an amount.
func (s Share) of(f money.Fraction) money.Fraction {
	if s.Whole() {
		return f
	}
	return money.Fraction{
		Numerator:   f.Numerator.Mul(decimal.NewFromInt(int64(s.Days))),
		Denominator: max(f.Denominator, 1) * int64(s.Of),
	}
}

// For returns the share, or the whole period where there is no proration.
func (p Proration) For(s Share) Share {
	if p == ProrateDay {
		return s
	}
	return Share{}
}

// Prorated returns the share of an amount that is prorated, or all of it.
func Prorated(amount decimal.Decimal, p Proration, s Share) money.Fraction {
	return p.For(s).of(money.Whole(amount))
}

// Charge is a quantity and what it costs, with the arithmetic. Amount is exact, not
// rounded, and before any discount and minimum.
type Charge struct {
	// Quantity is what was used, in the meter's unit; Included is what of it cost
	// nothing, and Billed the rest.
	Quantity decimal.Decimal `json:"quantity"`
	Included decimal.Decimal `json:"included"`
	Billed   decimal.Decimal `json:"billed"`
	// Parts add up to Amount, unless the amount is a share of them.
	Parts []Part `json:"parts,omitempty"`
	// Share is not the whole period where the amount was prorated.
	Share  Share          `json:"share,omitzero"`
	Amount money.Fraction `json:"-"`
}

// Part is one step of the arithmetic: a tier, the packages, or the flat fee.
type Part struct {
	// From and To are the first and the last unit of the part, both included, counted
	// after the included ones; zero for a flat fee.
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

func (p *Part) amount() money.Fraction {
	per := decimal.NewFromInt(p.Per)
	f := money.Fraction{Numerator: p.Quantity.Mul(p.UnitPrice).Add(p.FlatFee.Mul(per)), Denominator: p.Per}
	p.Amount = f.String()
	return f
}

// Rate prices a quantity, 0 or more, that a plan was in force for a share of the
// period. It neither rounds nor discounts. An aggregation of Max, and a basis of Level,
// hold for a time, so with [ProrateDay] their amount is the share.
func (p Price) Rate(quantity decimal.Decimal, share Share, aggregation Aggregation) Charge {
	share = p.Prorate.For(share)
	included := decimal.NewFromInt(p.Included)
	if !share.Whole() {
		// Down to a whole unit: a part of one can't be used.
		included = decimal.NewFromInt(p.Included).Mul(decimal.NewFromInt(int64(share.Days)))
		included, _ = included.QuoRem(decimal.NewFromInt(int64(share.Of)), 0)
	}
	c := Charge{Quantity: quantity, Included: decimal.Min(included, quantity), Amount: money.Whole(decimal.Zero)}
	c.Billed = quantity.Sub(c.Included)
	c.Parts = p.parts(c.Billed)
	for i := range c.Parts {
		part := c.Parts[i].amount()
		// All parts of a price have the same Per.
		c.Amount = money.Fraction{Numerator: c.Amount.Numerator.Add(part.Numerator), Denominator: part.Denominator}
	}
	if p.Model == Flat || aggregation == Max || (aggregation == Last && p.Basis == Level) {
		c.Share, c.Amount = share, share.of(c.Amount)
	}
	return c
}

// parts splits a quantity by the model.
func (p Price) parts(billed decimal.Decimal) []Part {
	if !billed.IsPositive() {
		return nil
	}
	one := decimal.NewFromInt(1)
	switch p.Model {
	case Flat:
		return []Part{{Per: 1, FlatFee: p.FlatFee}}
	case PerUnit:
		return []Part{{From: one, To: billed, Quantity: billed, UnitPrice: p.UnitPrice, Per: p.per()}}
	case Package:
		size := decimal.NewFromInt(p.PackageSize)
		packages, rest := billed.QuoRem(size, 0)
		if !rest.IsZero() {
			packages = packages.Add(one)
		}
		return []Part{{From: one, To: billed, Quantity: packages.Mul(size), UnitPrice: p.PackagePrice, Per: p.PackageSize}}
	case Volume:
		for _, t := range p.Tiers {
			if t.UpTo == 0 || billed.LessThanOrEqual(decimal.NewFromInt(t.UpTo)) {
				return []Part{{From: one, To: billed, Quantity: billed, UnitPrice: t.UnitPrice, Per: p.per(), FlatFee: t.FlatFee}}
			}
		}
	case Graduated:
		return p.graduated(billed)
	}
	return nil
}

func (p Price) graduated(billed decimal.Decimal) []Part {
	var parts []Part
	before := decimal.Zero
	for _, t := range p.Tiers {
		to := billed
		if t.UpTo != 0 {
			to = decimal.Min(billed, decimal.NewFromInt(t.UpTo))
		}
		if !to.GreaterThan(before) {
			break
		}
		parts = append(parts, Part{
			From: before.Add(decimal.NewFromInt(1)), To: to, Quantity: to.Sub(before),
			UnitPrice: t.UnitPrice, Per: p.per(), FlatFee: t.FlatFee,
		})
		before = to
	}
	return parts
}

// PricedQuantity returns the quantity of a meter that its price is for: the value, or
// for a snapshot by its average the unit-seconds over the seconds of the whole period.
func (p Price) PricedQuantity(a Aggregation, value int64, unitSeconds decimal.Decimal, periodSeconds int64) decimal.Decimal {
	if a != Last || p.Basis == Level {
		return decimal.NewFromInt(value)
	}
	average := money.Fraction{Numerator: unitSeconds, Denominator: periodSeconds}
	return average.Nearest()
}
