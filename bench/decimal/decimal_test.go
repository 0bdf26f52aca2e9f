// Package decimal_test measures decimal libraries with the arithmetic of rating.
package decimal_test

import (
	"math/big"
	"testing"

	"github.com/cockroachdb/apd/v3"
	"github.com/shopspring/decimal"
)

var prices = []string{"0.0005", "0.00045", "0.000123456789"}

func BenchmarkShopspring(b *testing.B) {
	var each []decimal.Decimal
	for _, p := range prices {
		each = append(each, decimal.RequireFromString(p))
	}
	fee, days, percent := decimal.RequireFromString("10.00"), decimal.NewFromInt(31), decimal.RequireFromString("12.5")
	b.ReportAllocs()
	for b.Loop() {
		sum := fee
		for i, p := range each {
			sum = sum.Add(p.Mul(decimal.NewFromInt(int64(1_000_000 * (i + 1)))))
		}
		share, _ := sum.Mul(decimal.NewFromInt(17)).QuoRem(days, 2)
		discount := share.Mul(percent).Shift(-2).RoundBank(2)
		_ = share.Sub(discount).StringFixed(2)
	}
}

func BenchmarkApd(b *testing.B) {
	parse := func(s string) *apd.Decimal {
		d, _, err := apd.NewFromString(s)
		if err != nil {
			b.Fatal(err)
		}
		return d
	}
	var each []*apd.Decimal
	for _, p := range prices {
		each = append(each, parse(p))
	}
	fee, days, percent := parse("10.00"), apd.New(31, 0), parse("12.5")
	ctx := apd.MakeErrDecimal(apd.BaseContext.WithPrecision(60))
	ctx.Ctx.Rounding = apd.RoundHalfEven
	b.ReportAllocs()
	for b.Loop() {
		var sum, share, discount apd.Decimal
		sum.Set(fee)
		for i, p := range each {
			var product, quantity apd.Decimal
			quantity.SetInt64(int64(1_000_000 * (i + 1)))
			ctx.Mul(&product, p, &quantity)
			ctx.Add(&sum, &sum, &product)
		}
		ctx.Mul(&sum, &sum, apd.New(17, 0))
		ctx.Quo(&share, &sum, days)
		ctx.Quantize(&share, &share, -2)
		ctx.Mul(&discount, &share, percent)
		discount.Exponent -= 2
		ctx.Quantize(&discount, &discount, -2)
		ctx.Sub(&share, &share, &discount)
		_ = share.Text('f')
	}
	if err := ctx.Err(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkRat(b *testing.B) {
	parse := func(s string) *big.Rat {
		r, ok := new(big.Rat).SetString(s)
		if !ok {
			b.Fatal(s)
		}
		return r
	}
	var each []*big.Rat
	for _, p := range prices {
		each = append(each, parse(p))
	}
	fee, percent, share := parse("10.00"), parse("0.125"), big.NewRat(17, 31)
	b.ReportAllocs()
	for b.Loop() {
		sum := new(big.Rat).Set(fee)
		for i, p := range each {
			sum.Add(sum, new(big.Rat).Mul(p, big.NewRat(int64(1_000_000*(i+1)), 1)))
		}
		rounded := parse(sum.Mul(sum, share).FloatString(2))
		discount := parse(new(big.Rat).Mul(rounded, percent).FloatString(2))
		_ = rounded.Sub(rounded, discount).FloatString(2)
	}
}
