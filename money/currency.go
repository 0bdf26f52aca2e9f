package money

import (
	"fmt"

	iso "github.com/bojanz/currency"
)

// Currency is a currency's ISO 4217 alphabetic code: "USD". The zero value is none.
//
// What may be chosen is what ISO's list one, of the currencies in force, gives a numeric
// minor unit: funds such as CLF are among them, metals, SDRs and test codes aren't. What
// was withdrawn since stays readable, with the minor unit that it had.
type Currency string

// ParseCurrency reads the code of a currency in force. The error says which rule
// another one breaks, as [Currency.Rule] does.
func ParseCurrency(code string) (Currency, error) {
	if rule := Currency(code).Rule(); rule != "" {
		return "", fmt.Errorf("currency %q %s", code, rule)
	}
	return Currency(code), nil
}

// Rule returns the rule that c breaks, "must be …", or nothing where it is in force:
// where it may be chosen for what is new.
func (c Currency) Rule() string {
	switch {
	case c.Valid():
		return ""
	case c.Withdrawn():
		return "must be a currency that ISO 4217 has not withdrawn"
	default:
		return "must be an ISO 4217 code of three upper-case letters that has a minor unit"
	}
}

// Valid reports whether c is a currency in force.
func (c Currency) Valid() bool {
	_, ok := iso.GetDigits(string(c))
	return ok
}

// Known reports whether c is a currency in force or one that was withdrawn: whether
// documents may bear it.
func (c Currency) Known() bool { return c.Valid() || c.Withdrawn() }

// Digits returns how many decimals the currency's minor unit has, by ISO 4217: 2 for USD
// and RSD, 0 for JPY, 3 for KWD and IQD, 4 for CLF; of a withdrawn one those that it had;
// 2 for what is no currency.
func (c Currency) Digits() int32 {
	if digits, ok := iso.GetDigits(string(c)); ok {
		return int32(digits)
	}
	if withdrawnWithoutMinor[c] {
		return 0
	}
	return 2
}
