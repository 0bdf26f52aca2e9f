package money

import (
	"fmt"

	"golang.org/x/text/currency"
)

// Currency is a currency's ISO 4217 alphabetic code: "USD". The zero value is none.
type Currency string

// ParseCurrency reads a code: three upper-case letters that ISO 4217 knows.
func ParseCurrency(code string) (Currency, error) {
	c := Currency(code)
	if !c.Valid() {
		return "", fmt.Errorf("currency %q is not an ISO 4217 code of three upper-case letters", code)
	}
	return c, nil
}

// Valid reports whether c is a code that [ParseCurrency] accepts.
func (c Currency) Valid() bool {
	unit, err := currency.ParseISO(string(c))
	return err == nil && unit.String() == string(c)
}

// Digits returns how many decimals the currency's minor unit has, by ISO 4217: 2 for
// USD, 0 for JPY, 3 for KWD; 2 for what is no currency.
func (c Currency) Digits() int32 {
	unit, err := currency.ParseISO(string(c))
	if err != nil {
		return 2
	}
	scale, _ := currency.Standard.Rounding(unit)
	return int32(scale)
}
