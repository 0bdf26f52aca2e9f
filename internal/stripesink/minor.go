package stripesink

import (
	"fmt"

	"github.com/shopspring/decimal"

	"github.com/riverline/tollgate/money"
)

// Stripe's own decimals, which aren't always those of ISO 4217:
// https://docs.stripe.com/currencies#minor-units
var (
	// zeroDecimal are given in whole units.
	zeroDecimal = set("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF")
	// threeDecimal are given in thousandths, of which the last digit must be 0.
	threeDecimal = set("BHD", "JOD", "KWD", "OMR", "TND")
	// wholeOnly are given in hundredths as if they had any, for compatibility: the last
	// two digits must be 0.
	wholeOnly = set("ISK", "UGX")
)

func set(codes ...money.Currency) map[money.Currency]bool {
	out := map[money.Currency]bool{}
	for _, code := range codes {
		out[code] = true
	}
	return out
}

// minorUnits returns an amount in Stripe's minor units. An amount that they can't
// express is an error, never rounded: the invoice must be what the statement says.
func minorUnits(amount decimal.Decimal, c money.Currency) (int64, error) {
	digits, step := int32(2), int64(1)
	switch {
	case zeroDecimal[c]:
		digits = 0
	case threeDecimal[c]:
		digits, step = 3, 10
	case wholeOnly[c]:
		step = 100
	}
	minor := amount.Shift(digits)
	if !minor.IsInteger() || !minor.BigInt().IsInt64() || minor.IntPart()%step != 0 {
		return 0, fmt.Errorf("stripe has no such amount of %s: %s", c, amount)
	}
	return minor.IntPart(), nil
}
