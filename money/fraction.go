package money

import (
	"math/big"

	"github.com/shopspring/decimal"
)

// Fraction is an exact amount or quantity. Prices and quantities are decimals, and only a
// share of a period, an average or a price for many units divides: the division is kept
// until the amount is rounded. A Fraction never changes; the zero value is 0.
type Fraction struct{ rat *big.Rat }

// Whole returns d as a fraction.
func Whole(d decimal.Decimal) Fraction { return Fraction{d.Rat()} }

// Quotient returns d / by. by must not be zero.
func Quotient(d, by decimal.Decimal) Fraction { return Fraction{new(big.Rat).Quo(d.Rat(), by.Rat())} }

func (f Fraction) value() *big.Rat {
	if f.rat == nil {
		return new(big.Rat)
	}
	return f.rat
}

// Add returns f + g.
func (f Fraction) Add(g Fraction) Fraction { return Fraction{new(big.Rat).Add(f.value(), g.value())} }

// Sub returns f − g.
func (f Fraction) Sub(g Fraction) Fraction { return Fraction{new(big.Rat).Sub(f.value(), g.value())} }

// Mul returns f × g.
func (f Fraction) Mul(g Fraction) Fraction { return Fraction{new(big.Rat).Mul(f.value(), g.value())} }

// Quo returns f / g. g must not be zero.
func (f Fraction) Quo(g Fraction) Fraction { return Fraction{new(big.Rat).Quo(f.value(), g.value())} }

// Cmp is negative where f < g, zero where they are equal, and positive where f > g.
func (f Fraction) Cmp(g Fraction) int { return f.value().Cmp(g.value()) }

// Equal reports whether f and g are the same number.
func (f Fraction) Equal(g Fraction) bool { return f.Cmp(g) == 0 }

// Sign is -1, 0 or 1.
func (f Fraction) Sign() int { return f.value().Sign() }

// IsWhole reports whether f has no decimals.
func (f Fraction) IsWhole() bool { return f.value().IsInt() }

// Floor returns the greatest whole number that is at most f.
func (f Fraction) Floor() Fraction {
	// DivMod divides as Euclid does: the denominator is positive, so that is the floor.
	floor, _ := new(big.Int).DivMod(f.value().Num(), f.value().Denom(), new(big.Int))
	return Fraction{new(big.Rat).SetInt(floor)}
}

// Ceil returns the least whole number that is at least f.
func (f Fraction) Ceil() Fraction { return Fraction{}.Sub(Fraction{}.Sub(f).Floor()) }

// Min returns the lesser of two.
func Min(f, g Fraction) Fraction {
	if g.Cmp(f) < 0 {
		return g
	}
	return f
}

// Max returns the greater of two.
func Max(f, g Fraction) Fraction {
	if g.Cmp(f) > 0 {
		return g
	}
	return f
}

// Rat returns the number as a rational number of its own.
func (f Fraction) Rat() *big.Rat { return new(big.Rat).Set(f.value()) }

// Round returns the amount in the currency's minor unit, and the rest: what was cut
// off, amount − rounded, negative where it was rounded up.
func (f Fraction) Round(c Currency, how Rounding) (rounded decimal.Decimal, rest Fraction) {
	rounded = f.round(c.Digits(), how)
	return rounded, f.Sub(Whole(rounded))
}

// Decimal returns the number with at most so many decimals, a half away from zero.
func (f Fraction) Decimal(digits int32) decimal.Decimal { return f.round(digits, HalfUp) }

func (f Fraction) round(digits int32, how Rounding) decimal.Decimal {
	scaled := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(digits)), nil)
	scaled.Mul(scaled, f.value().Num())
	quotient, remainder := scaled.QuoRem(scaled, f.value().Denom(), new(big.Int))
	twice := remainder.Lsh(remainder.Abs(remainder), 1).Cmp(f.value().Denom())
	if twice > 0 || (twice == 0 && (how != HalfEven || quotient.Bit(0) == 1)) {
		quotient.Add(quotient, big.NewInt(int64(f.Sign())))
	}
	return decimal.NewFromBigInt(quotient, -digits)
}

// shownDecimals is how many decimals [Fraction.String] shows of a division that
// doesn't come out even.
const shownDecimals = 18

// String writes the number as a decimal without an exponent. A division that doesn't
// come out even is written with 18 decimals and "…" after them.
func (f Fraction) String() string {
	rounded := f.round(shownDecimals, HalfUp)
	if Whole(rounded).Equal(f) {
		return rounded.String()
	}
	return rounded.StringFixed(shownDecimals) + "…"
}
