package plans

import (
	"slices"

	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
)

// PriceBook is what a plan version costs in one currency. All amounts are in units of
// the currency with at most [money.MaxDecimals] decimals.
type PriceBook struct {
	// Currency is the ISO 4217 code of every amount in the book.
	Currency money.Currency `json:"currency" yaml:"currency"`
	// Rounding says how amounts are rounded to the currency's minor unit. Empty: half_up.
	Rounding money.Rounding `json:"rounding,omitempty" yaml:"rounding,omitempty"`
	// BaseFee is due in every period, whatever is used. Zero: none.
	BaseFee BaseFee `json:"base_fee,omitzero" yaml:"base_fee,omitempty"`
	// Prices holds at most one price for each meter. A meter without one is free.
	Prices []Price `json:"prices,omitempty" yaml:"prices,omitempty"`
	// DiscountPercent, 0 to 100, is taken off the base fee and all usage.
	DiscountPercent decimal.Decimal `json:"discount_percent,omitzero" yaml:"discount_percent,omitempty"`
	// Minimum is what the plan costs at least in a whole period, after discounts: a
	// line tops it up. It is prorated as the base fee is.
	Minimum decimal.Decimal `json:"minimum,omitzero" yaml:"minimum,omitempty"`
}

// Proration says what a plan costs that was in force for a part of the period.
type Proration string

// The prorations. Of the versions that a plan had in a period, the last one decides.
const (
	// ProrateNone charges in full, once for each plan. It is the zero value's meaning.
	ProrateNone Proration = "none"
	// ProrateDay charges the days' share: days of the plan / days of the period. A day on
	// which several plans were in force belongs to the one with the highest standing price.
	ProrateDay Proration = "day"
	// ProrateSecond charges the share of the time in which the plan was in force, to the instant.
	ProrateSecond Proration = "second"
)

// Valid reports whether p is one of the prorations, or empty.
func (p Proration) Valid() bool {
	return p == "" || p == ProrateNone || p == ProrateDay || p == ProrateSecond
}

// Prorates reports whether p charges a share.
func (p Proration) Prorates() bool { return p == ProrateDay || p == ProrateSecond }

// BaseFee is a fee for a period.
type BaseFee struct {
	Amount  decimal.Decimal `json:"amount" yaml:"amount"`
	Prorate Proration       `json:"prorate,omitempty" yaml:"prorate,omitempty"`
}

// PriceModel says how a quantity becomes an amount.
type PriceModel string

// The models.
const (
	// Flat is a fee for the period as soon as anything was used.
	Flat PriceModel = "flat"
	// PerUnit is one price for every unit.
	PerUnit PriceModel = "per_unit"
	// Graduated prices each unit by the tier that it falls in.
	Graduated PriceModel = "graduated"
	// Volume prices all units by the tier that the last of them falls in.
	Volume PriceModel = "volume"
	// Package prices packages of units; one that is begun counts whole.
	Package PriceModel = "package"
)

// Basis says which quantity of a meter is priced.
type Basis string

// The bases. A meter that sums has its sum, one that keeps peaks its highest peak.
const (
	// Average is the level of a snapshot averaged over the whole period: its
	// unit-seconds / the period's seconds, exactly. A plan that was in force for a part
	// has its part of it. It is the default of snapshots.
	Average Basis = "average"
	// Level is the last level of a snapshot.
	Level Basis = "level"
)

// Price is what one meter costs.
type Price struct {
	// Meter is the meter's key.
	Meter string     `json:"meter" yaml:"meter"`
	Model PriceModel `json:"model" yaml:"model"`
	// Basis may be given for snapshots alone. Empty: average.
	Basis Basis `json:"basis,omitempty" yaml:"basis,omitempty"`
	// UnitPrice is the price of Per units, for the model per_unit.
	UnitPrice decimal.Decimal `json:"unit_price,omitzero" yaml:"unit_price,omitempty"`
	// Per is how many units a unit price is for, 1 to [MaxQuantity]: 1073741824 where
	// bytes are sold by the GiB. Zero: 1.
	Per int64 `json:"per,omitempty" yaml:"per,omitempty"`
	// FlatFee is the fee of the model flat.
	FlatFee decimal.Decimal `json:"flat_fee,omitzero" yaml:"flat_fee,omitempty"`
	// Tiers are those of the models graduated and volume, in the order of UpTo.
	Tiers []Tier `json:"tiers,omitempty" yaml:"tiers,omitempty"`
	// PackageSize and PackagePrice are those of the model package.
	PackageSize  int64           `json:"package_size,omitempty" yaml:"package_size,omitempty"`
	PackagePrice decimal.Decimal `json:"package_price,omitzero" yaml:"package_price,omitempty"`
	// Included is how many units of a period cost nothing, the plan's first ones; what
	// follows is priced as if it were the first. Zero: none.
	Included int64 `json:"included,omitempty" yaml:"included,omitempty"`
	// DiscountPercent, 0 to 100, is taken off the meter's amount.
	DiscountPercent decimal.Decimal `json:"discount_percent,omitzero" yaml:"discount_percent,omitempty"`
	// Minimum is what the meter costs at least in a period, after its discount.
	Minimum decimal.Decimal `json:"minimum,omitzero" yaml:"minimum,omitempty"`
	// Prorate says what becomes of the flat fee, the included units and the minimum
	// where the plan was in force for a part of the period; and, for peaks and levels,
	// which hold for a time, of the whole amount, in place of the included units.
	Prorate Proration `json:"prorate,omitempty" yaml:"prorate,omitempty"`
}

// Tier is a range of quantity with a price.
type Tier struct {
	// UpTo is the last unit of the tier. The last tier has none: 0.
	UpTo int64 `json:"up_to,omitempty" yaml:"up_to,omitempty"`
	// UnitPrice is the price of Per units in the tier.
	UnitPrice decimal.Decimal `json:"unit_price" yaml:"unit_price"`
	// FlatFee is due once the quantity reaches into the tier.
	FlatFee decimal.Decimal `json:"flat_fee,omitzero" yaml:"flat_fee,omitempty"`
}

// PriceBook returns the plan's prices in a currency. A plan without any book costs
// nothing in any currency: it has an empty one.
func (p Plan) PriceBook(c money.Currency) (PriceBook, bool) {
	for _, b := range p.PriceBooks {
		if b.Currency == c {
			return b, true
		}
	}
	return PriceBook{Currency: c}, len(p.PriceBooks) == 0
}

// Price returns the book's price of a meter.
func (b PriceBook) Price(meter string) (Price, bool) {
	for _, p := range b.Prices {
		if p.Meter == meter {
			return p, true
		}
	}
	return Price{}, false
}

func (p Price) per() int64 { return max(p.Per, 1) }

// Averages reports whether the price is for the average of a meter's level.
func (p Price) Averages(a Aggregation) bool { return a == Last && p.Basis != Level }

// Holds reports whether the price is for a figure that holds for the period, a peak or a
// last level, and not for units that add up.
func (p Price) Holds(a Aggregation) bool { return a == Max || (a == Last && p.Basis == Level) }

// SameUnits reports whether two prices ask the same for every quantity of a meter, term
// by term: discounts, minimums and prorations are terms of their own.
func (p Price) SameUnits(q Price, a Aggregation) bool {
	return p.Model == q.Model && p.Holds(a) == q.Holds(a) && p.per() == q.per() && p.Included == q.Included &&
		p.UnitPrice.Equal(q.UnitPrice) && p.FlatFee.Equal(q.FlatFee) &&
		p.PackageSize == q.PackageSize && p.PackagePrice.Equal(q.PackagePrice) &&
		slices.EqualFunc(p.Tiers, q.Tiers, func(t, u Tier) bool {
			return t.UpTo == u.UpTo && t.UnitPrice.Equal(u.UnitPrice) && t.FlatFee.Equal(u.FlatFee)
		})
}
