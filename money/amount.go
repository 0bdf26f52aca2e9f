package money

import (
	"fmt"
	"math/big"

	"github.com/shopspring/decimal"
)

// Rounding says how an amount that lies between two minor units is rounded.
type Rounding string

// The roundings.
const (
	// HalfEven rounds a half to the even neighbour (IEEE 754 roundTiesToEven): over
	// many amounts halves cancel out. It is the zero value's meaning.
	HalfEven Rounding = "half_even"
	// HalfUp rounds a half away from zero.
	HalfUp Rounding = "half_up"
)

// Valid reports whether r is one of the roundings, or empty.
func (r Rounding) Valid() bool { return r == "" || r == HalfEven || r == HalfUp }

// MaxDecimals is the most decimals that a price may have.
const MaxDecimals = 12

// maxDigits bounds the digits before the point of what is parsed.
const maxDigits = 24

// Parse reads an amount: an optional minus, digits, and at most [MaxDecimals] decimals
// after a point. There is no exponent, no sign of plus and no separator.
func Parse(text string) (decimal.Decimal, error) {
	if !plain(text) {
		return decimal.Decimal{}, fmt.Errorf("%q must be a decimal number of at most %d digits and %d decimals", text, maxDigits, MaxDecimals)
	}
	d, err := decimal.NewFromString(text)
	if err != nil {
		return decimal.Decimal{}, fmt.Errorf("%q must be a decimal number: %w", text, err)
	}
	return d, nil
}

func plain(text string) bool {
	if len(text) > 0 && text[0] == '-' {
		text = text[1:]
	}
	whole, decimals, point := 0, 0, false
	for _, c := range []byte(text) {
		switch {
		case c == '.' && !point && whole > 0:
			point = true
		case c < '0' || c > '9':
			return false
		case point:
			decimals++
		default:
			whole++
		}
	}
	return whole > 0 && whole <= maxDigits && decimals <= MaxDecimals && point == (decimals > 0)
}

// Fraction is an exact amount: Numerator / Denominator. Prices and quantities are
// decimals, and only a share of a period or a price for many units divides: the
// division is kept until the amount is rounded.
type Fraction struct {
	Numerator decimal.Decimal
	// Denominator is 1 or more. Zero means 1, so the zero value is the amount 0.
	Denominator int64
}

// Whole returns d as a fraction.
func Whole(d decimal.Decimal) Fraction { return Fraction{Numerator: d, Denominator: 1} }

func (f Fraction) denominator() decimal.Decimal { return decimal.NewFromInt(max(f.Denominator, 1)) }

// Round returns the amount in the currency's minor unit, and the rest: what was cut
// off, amount − rounded, negative where it was rounded up. The rest is exact as a
// fraction of the same denominator.
func (f Fraction) Round(c Currency, how Rounding) (rounded decimal.Decimal, rest Fraction) {
	return f.round(c.Digits(), how)
}

// Nearest returns the whole number that is nearest, half to even.
func (f Fraction) Nearest() decimal.Decimal {
	rounded, _ := f.round(0, HalfEven)
	return rounded
}

func (f Fraction) round(digits int32, how Rounding) (decimal.Decimal, Fraction) {
	den := f.denominator()
	quotient, remainder := f.Numerator.QuoRem(den, digits)
	// |remainder| < den·10^-digits; a half is decided on the exact remainder.
	unit := decimal.New(1, -digits)
	twice := remainder.Abs().Add(remainder.Abs()).Cmp(den.Mul(unit))
	if twice > 0 || (twice == 0 && (how == HalfUp || odd(quotient, digits))) {
		if f.Numerator.Sign() < 0 {
			unit = unit.Neg()
		}
		quotient = quotient.Add(unit)
	}
	return quotient, Fraction{Numerator: f.Numerator.Sub(quotient.Mul(den)), Denominator: max(f.Denominator, 1)}
}

func odd(d decimal.Decimal, digits int32) bool {
	return new(big.Int).And(d.Shift(digits).BigInt(), big.NewInt(1)).Sign() != 0
}

// shownDecimals is how many decimals [Fraction.String] shows of a division that
// doesn't come out even.
const shownDecimals = 18

// String writes the amount as a decimal without an exponent. A division that doesn't
// come out even is written with 18 decimals, half to even, and "…" after them.
func (f Fraction) String() string {
	rounded, rest := f.round(shownDecimals, HalfEven)
	if rest.Numerator.IsZero() {
		return rounded.String()
	}
	return rounded.StringFixed(shownDecimals) + "…"
}

// Format writes a rounded amount with all decimals of the currency's minor unit: "7.00".
func Format(amount decimal.Decimal, c Currency) string { return amount.StringFixed(c.Digits()) }

// Amount is a decimal that is written with the decimals it was made with: "7.00" stays
// "7.00". It is what documents hold.
type Amount struct{ decimal.Decimal }

// NewAmount returns a rounded amount, to be written with all decimals of the
// currency's minor unit.
func NewAmount(d decimal.Decimal, c Currency) Amount {
	return Amount{decimal.RequireFromString(Format(d, c))}
}

// String writes the amount with its decimals.
func (a Amount) String() string { return a.StringFixed(max(-a.Exponent(), 0)) }

// Format keeps package fmt from the decimal's own form, which drops zeros.
func (a Amount) Format(state fmt.State, _ rune) { _, _ = state.Write([]byte(a.String())) }

// MarshalText writes the amount as [Amount.String] does.
func (a Amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// MarshalJSON writes the amount as a string, so that no reader takes it for a float.
func (a Amount) MarshalJSON() ([]byte, error) { return []byte(`"` + a.String() + `"`), nil }

// UnmarshalText reads what [Parse] reads.
func (a *Amount) UnmarshalText(text []byte) error {
	d, err := Parse(string(text))
	if err != nil {
		return err
	}
	a.Decimal = d
	return nil
}

// UnmarshalJSON reads a string of the form that [Parse] reads.
func (a *Amount) UnmarshalJSON(document []byte) error {
	if len(document) < 2 || document[0] != '"' || document[len(document)-1] != '"' {
		return fmt.Errorf("amount %s must be a string", document)
	}
	return a.UnmarshalText(document[1 : len(document)-1])
}
