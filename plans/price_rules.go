package plans

import (
	"fmt"

	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
)

// MaxTiers is the most tiers that a price may have.
const MaxTiers = 100

// reporter takes a broken rule: the field, and what it must be.
type reporter func(field, rule string, args ...any)

// maxPrice bounds every amount of a price book: 10^15 units of the currency.
var maxPrice = decimal.New(1, 15)

func checkAmount(field string, d decimal.Decimal, report reporter) {
	switch {
	case d.IsNegative() || d.GreaterThan(maxPrice):
		report(field, "%s must be 0 to %s", d, maxPrice)
	case d.Exponent() < -money.MaxDecimals:
		report(field, "%s must have at most %d decimals", d, money.MaxDecimals)
	}
}

func checkPercent(field string, d decimal.Decimal, report reporter) {
	if d.IsNegative() || d.GreaterThan(decimal.NewFromInt(100)) || d.Exponent() < -money.MaxDecimals {
		report(field, "%s must be 0 to 100, with at most %d decimals", d, money.MaxDecimals)
	}
}

func (b PriceBook) validate(field string, meters map[string]Meter, report reporter) {
	if !b.Currency.Known() {
		report(field+".currency", "%q %s", b.Currency, b.Currency.Rule())
	}
	if !b.Rounding.Valid() {
		report(field+".rounding", "%q must be half_up or half_even", b.Rounding)
	}
	checkAmount(field+".base_fee.amount", b.BaseFee.Amount, report)
	if !b.BaseFee.Prorate.Valid() {
		report(field+".base_fee.prorate", "%q must be day, second or none", b.BaseFee.Prorate)
	}
	checkAmount(field+".minimum", b.Minimum, report)
	checkPercent(field+".discount_percent", b.DiscountPercent, report)
	seen := map[string]bool{}
	for i, p := range b.Prices {
		at := fmt.Sprintf("%s.prices[%d]", field, i)
		meter, ok := meters[p.Meter]
		if !ok {
			report(at+".meter", "%q is not a meter of the catalog", p.Meter)
		}
		if seen[p.Meter] {
			report(at+".meter", "%q is there twice", p.Meter)
		}
		seen[p.Meter] = true
		p.validate(at, meter.Aggregation, report)
	}
}

func (p Price) validate(field string, aggregation Aggregation, report reporter) {
	if p.Basis != "" && (aggregation != Last || (p.Basis != Average && p.Basis != Level)) {
		report(field+".basis", "%q must be average or level, for a meter that is a snapshot, and left out for others", p.Basis)
	}
	if p.Per < 0 || p.Per > MaxQuantity {
		report(field+".per", "%d must be 1 to %d", p.Per, int64(MaxQuantity))
	}
	if p.Included < 0 || p.Included > MaxQuantity {
		report(field+".included", "%d must be 0 to %d", p.Included, int64(MaxQuantity))
	}
	if !p.Prorate.Valid() {
		report(field+".prorate", "%q must be day, second or none", p.Prorate)
	}
	checkPercent(field+".discount_percent", p.DiscountPercent, report)
	for _, amount := range []struct {
		name  string
		value decimal.Decimal
		of    []PriceModel
	}{
		{"minimum", p.Minimum, []PriceModel{Flat, PerUnit, Graduated, Volume, Package}},
		{"unit_price", p.UnitPrice, []PriceModel{PerUnit}},
		{"flat_fee", p.FlatFee, []PriceModel{Flat}},
		{"package_price", p.PackagePrice, []PriceModel{Package}},
	} {
		checkAmount(field+"."+amount.name, amount.value, report)
		p.only(field+"."+amount.name, !amount.value.IsZero(), report, amount.of...)
	}
	p.only(field+".tiers", len(p.Tiers) > 0, report, Graduated, Volume)
	p.only(field+".package_size", p.PackageSize != 0, report, Package)
	p.only(field+".per", p.Per != 0, report, PerUnit, Graduated, Volume)
	p.validateModel(field, report)
}

// only reports a field that another model than the price's has.
func (p Price) only(field string, given bool, report reporter, of ...PriceModel) {
	if !given {
		return
	}
	for _, m := range of {
		if m == p.Model {
			return
		}
	}
	report(field, "must be left out where the model is %s", p.Model)
}

func (p Price) validateModel(field string, report reporter) {
	switch p.Model {
	case Flat, PerUnit:
	case Package:
		if p.PackageSize < 1 || p.PackageSize > MaxQuantity {
			report(field+".package_size", "%d must be 1 to %d", p.PackageSize, int64(MaxQuantity))
		}
	case Graduated, Volume:
		p.validateTiers(field+".tiers", report)
	default:
		report(field+".model", "%q must be flat, per_unit, graduated, volume or package", p.Model)
	}
}

func (p Price) validateTiers(field string, report reporter) {
	if len(p.Tiers) == 0 || len(p.Tiers) > MaxTiers {
		report(field, "must hold 1 to %d tiers, has %d", MaxTiers, len(p.Tiers))
	}
	before := int64(0)
	for i, t := range p.Tiers {
		at := fmt.Sprintf("%s[%d]", field, i)
		last := i == len(p.Tiers)-1
		switch {
		case last && t.UpTo != 0:
			report(at+".up_to", "%d must be left out: the last tier has no end", t.UpTo)
		case !last && (t.UpTo <= before || t.UpTo > MaxQuantity):
			report(at+".up_to", "%d must be more than %d, and at most %d", t.UpTo, before, int64(MaxQuantity))
		}
		before = t.UpTo
		checkAmount(at+".unit_price", t.UnitPrice, report)
		checkAmount(at+".flat_fee", t.FlatFee, report)
	}
}
