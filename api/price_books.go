package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// amounts reads decimal numbers out of a request. The first that isn't one is err: the
// catalog checks the rest.
type amounts struct{ err error }

// read reads an amount that must be given.
func (a *amounts) read(field, text string) decimal.Decimal {
	d, err := money.Parse(text)
	if err != nil && a.err == nil {
		a.err = invalid(field, "must be a decimal number in a string, of at most %d decimals; %q is not", money.MaxDecimals, text)
	}
	return d
}

// optional reads an amount that is zero where it is left out.
func (a *amounts) optional(field, text string) decimal.Decimal {
	if text == "" {
		return decimal.Decimal{}
	}
	return a.read(field, text)
}

func priceBooksOf(books []gen.PriceBook) ([]plans.PriceBook, error) {
	var a amounts
	var out []plans.PriceBook
	for i, b := range books {
		at := fmt.Sprintf("price_books[%d]", i)
		book := plans.PriceBook{
			Currency: money.Currency(b.Currency), Rounding: b.Rounding,
			DiscountPercent: a.optional(at+".discount_percent", b.DiscountPercent), Minimum: a.optional(at+".minimum", b.Minimum),
		}
		if b.BaseFee != nil {
			book.BaseFee = plans.BaseFee{Amount: a.read(at+".base_fee.amount", b.BaseFee.Amount), Prorate: b.BaseFee.Prorate}
		}
		for j, p := range b.Prices {
			book.Prices = append(book.Prices, a.price(fmt.Sprintf("%s.prices[%d]", at, j), p))
		}
		out = append(out, book)
	}
	return out, a.err
}

func (a *amounts) price(at string, p gen.Price) plans.Price {
	price := plans.Price{
		Meter: p.Meter, Model: p.Model, Basis: p.Basis, Per: p.Per, PackageSize: p.PackageSize, Included: p.Included, Prorate: p.Prorate,
		UnitPrice: a.optional(at+".unit_price", p.UnitPrice), FlatFee: a.optional(at+".flat_fee", p.FlatFee),
		PackagePrice: a.optional(at+".package_price", p.PackagePrice), Minimum: a.optional(at+".minimum", p.Minimum),
		DiscountPercent: a.optional(at+".discount_percent", p.DiscountPercent),
	}
	for i, t := range p.Tiers {
		tier := fmt.Sprintf("%s.tiers[%d]", at, i)
		price.Tiers = append(price.Tiers, plans.Tier{
			UpTo: t.UpTo, UnitPrice: a.read(tier+".unit_price", t.UnitPrice), FlatFee: a.optional(tier+".flat_fee", t.FlatFee),
		})
	}
	return price
}

func priceBooksAnswer(books []plans.PriceBook) []gen.PriceBook {
	out := []gen.PriceBook{}
	for _, b := range books {
		book := gen.PriceBook{
			Currency: string(b.Currency), Rounding: b.Rounding, DiscountPercent: amountAnswer(b.DiscountPercent), Minimum: amountAnswer(b.Minimum),
		}
		if b.BaseFee != (plans.BaseFee{}) {
			book.BaseFee = &gen.BaseFee{Amount: b.BaseFee.Amount.String(), Prorate: b.BaseFee.Prorate}
		}
		for _, p := range b.Prices {
			price := gen.Price{
				Meter: p.Meter, Model: p.Model, Basis: p.Basis, Per: p.Per, PackageSize: p.PackageSize, Included: p.Included, Prorate: p.Prorate,
				UnitPrice: amountAnswer(p.UnitPrice), FlatFee: amountAnswer(p.FlatFee), PackagePrice: amountAnswer(p.PackagePrice),
				Minimum: amountAnswer(p.Minimum), DiscountPercent: amountAnswer(p.DiscountPercent),
			}
			for _, t := range p.Tiers {
				price.Tiers = append(price.Tiers, gen.PriceTier{UpTo: t.UpTo, UnitPrice: t.UnitPrice.String(), FlatFee: amountAnswer(t.FlatFee)})
			}
			book.Prices = append(book.Prices, price)
		}
		out = append(out, book)
	}
	return out
}

// amountAnswer writes an amount; zero is left out.
func amountAnswer(d decimal.Decimal) string {
	if d.IsZero() {
		return ""
	}
	return d.String()
}

// samePrices compares what books say: 1.50 is 1.5.
func samePrices(a, b []plans.PriceBook) bool {
	ofA, errA := json.Marshal(priceBooksAnswer(a))
	ofB, errB := json.Marshal(priceBooksAnswer(b))
	return errors.Join(errA, errB) == nil && bytes.Equal(ofA, ofB)
}
