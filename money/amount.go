package money

import (
	"fmt"

	"github.com/shopspring/decimal"
)

// Rounding says how an amount that lies between two minor units is rounded.
type Rounding string

// The roundings.
const (
	// HalfUp rounds a half away from zero, of a negative amount too: it is what invoices
	// have, and the zero value's meaning.
	HalfUp Rounding = "half_up"
	// HalfEven rounds a half to the even neighbour (IEEE 754 roundTiesToEven): over
	// many amounts halves cancel out.
	HalfEven Rounding = "half_even"
)

// OrDefault returns the rounding, or [HalfUp] where it is empty.
func (r Rounding) OrDefault() Rounding {
	if r == "" {
		return HalfUp
	}
	return r
}

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
