package documents

import (
	"strconv"

	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
)

// focusKinds says how FOCUS sees each kind (sections "Charge Category" and "Charge
// Frequency"). A discount on a whole statement is awarded after the fact, and so a
// credit ("Discount Handling"); a minimum is nothing that is used or bought.
var focusKinds = map[FocusKind]struct{ category, frequency string }{
	FocusBaseFee:    {"Purchase", "Recurring"},
	FocusUsage:      {"Usage", "Usage-Based"},
	FocusMinimum:    {"Adjustment", "One-Time"},
	FocusDiscount:   {"Credit", "One-Time"},
	FocusCorrection: {"Adjustment", "One-Time"},
	FocusCredit:     {"Credit", "One-Time"},
}

// focusCharge is a row as FOCUS sees it.
type focusCharge struct {
	FocusRow
	service, serviceCategory, serviceSubcategory string

	category, class, frequency string
	// priced says that there are a price and a SKU: of fees and usage.
	priced bool
	list   decimal.Decimal

	consumed, quantity                 decimal.NullDecimal
	pricingUnit                        string
	listUnitPrice, contractedUnitPrice decimal.NullDecimal
}

func chargeOf(row FocusRow, options FocusOptions) focusCharge {
	kind := focusKinds[row.Kind]
	c := focusCharge{
		FocusRow: row, service: options.Service, serviceCategory: options.Category, serviceSubcategory: options.Subcategory,
		category: kind.category, frequency: kind.frequency, list: row.Billed,
	}
	if c.service == "" {
		c.service = row.Provider
	}
	switch row.Kind {
	case FocusBaseFee:
		c.priced, c.list = true, row.List
	case FocusUsage:
		c.priced, c.list, c.consumed = true, row.List, row.Quantity
	case FocusCorrection:
		c.class = "Correction"
		// A correction of usage is charged as usage, so that both add up by category.
		if row.Meter.Key != "" {
			c.category, c.priced, c.list, c.consumed = "Usage", true, row.List, row.Quantity
		}
	case FocusMinimum, FocusDiscount, FocusCredit:
	}
	if c.list.Sign()*row.Billed.Sign() < 0 {
		// No prices that aren't negative have products of both signs.
		c.list = row.Billed
	}
	if c.priced {
		c.price()
	}
	return c
}

// price finds a quantity and unit prices whose products match the costs ("Pricing
// Quantity", "List Unit Price", "Contracted Unit Price"). Where the row has one that
// does, as without tiers and packages, it is shown; else it is the average price. What
// isn't counted, and what has no average, is one unit at the price of the whole.
func (c *focusCharge) price() {
	c.quantity, c.pricingUnit = c.Quantity, c.Meter.Unit
	if c.Kind == FocusCorrection && !c.quantity.Valid {
		c.pricingUnit, c.list = "", c.Billed
		return
	}
	ok := c.quantity.Valid
	if ok {
		c.listUnitPrice, ok = unitPrice(c.list, c.quantity.Decimal, c.UnitPrice, c.Currency)
	}
	if ok {
		c.contractedUnitPrice, ok = unitPrice(c.Billed, c.quantity.Decimal, c.UnitPrice, c.Currency)
	}
	if ok {
		return
	}
	one := decimal.NewFromInt(1)
	if c.Billed.IsNegative() || c.list.IsNegative() {
		one = one.Neg()
	}
	c.pricingUnit = "Units"
	c.quantity = decimal.NewNullDecimal(one)
	c.listUnitPrice = decimal.NewNullDecimal(c.list.Mul(one))
	c.contractedUnitPrice = decimal.NewNullDecimal(c.Billed.Mul(one))
}

// unitPrice returns a price of one unit that isn't negative and whose product with the
// quantity, rounded to the currency's minor unit, is the amount.
func unitPrice(amount, quantity decimal.Decimal, given decimal.NullDecimal, c money.Currency) (decimal.NullDecimal, bool) {
	if given.Valid && focusMatch(given.Decimal.Mul(quantity), amount, c) {
		return given, true
	}
	if quantity.IsZero() || amount.Sign()*quantity.Sign() < 0 {
		return decimal.NullDecimal{}, false
	}
	// Two decimals more than it takes to keep the product within half a minor unit.
	digits := c.Digits() + int32(quantity.NumDigits()) + max(quantity.Exponent(), 0) + 2
	return decimal.NewNullDecimal(amount.DivRound(quantity, digits)), true
}

// focusMatch reports whether a product and an amount are the same to within half a
// minor unit, which is what rounding the amount can make of it.
func focusMatch(product, amount decimal.Decimal, c money.Currency) bool {
	return product.Sub(amount).Abs().LessThanOrEqual(decimal.New(5, -c.Digits()-1))
}

// sku returns what identifies the thing that is sold, over all organizations and plans.
func (c *focusCharge) sku() string {
	switch {
	case !c.priced:
		return ""
	case c.Meter.Key != "":
		return c.Meter.Key
	case c.Plan.Key != "":
		return "plan/" + c.Plan.Key
	default:
		return string(c.Kind)
	}
}

// skuPrice returns what identifies its price: the sku as a version of a plan prices it.
func (c *focusCharge) skuPrice() string {
	sku := c.sku()
	if sku == "" || c.Plan.Key == "" {
		return sku
	}
	return sku + "@" + c.Plan.Key + "/" + strconv.Itoa(c.Plan.Version)
}

// skuMeter returns what is measured.
func (c *focusCharge) skuMeter() string {
	switch {
	case !c.priced:
		return ""
	case c.Meter.Key == "":
		return "Base fee"
	case c.Meter.Name == "":
		return c.Meter.Key
	default:
		return c.Meter.Name
	}
}

// onlyPriced returns a text for what has a price, and else null.
func (c *focusCharge) onlyPriced(text string) string {
	if !c.priced {
		return ""
	}
	return text
}

func (c *focusCharge) invoiceDetail() string {
	if c.Statement == "" {
		return ""
	}
	return c.Statement + "/" + strconv.Itoa(c.Position)
}
