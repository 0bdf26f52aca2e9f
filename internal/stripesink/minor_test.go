package stripesink

import (
	"testing"

	iso "github.com/bojanz/currency"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/money"
)

// What is handed to Stripe is the amount, in every currency: where Stripe's decimals are
// others than ISO's, an amount that they can't express is refused and never rounded.
func TestMinorUnitsAreTheAmount(t *testing.T) {
	t.Parallel()
	codes := iso.GetCurrencyCodes()
	rapid.Check(t, func(t *rapid.T) {
		c := money.Currency(rapid.SampledFrom(codes).Draw(t, "currency"))
		amount := decimal.New(rapid.Int64Range(-1e12, 1e12).Draw(t, "minor units"), -c.Digits())
		got, err := minorUnits(amount, c)
		digits := int32(2)
		switch {
		case zeroDecimal[c]:
			digits = 0
		case threeDecimal[c]:
			digits = 3
		}
		if err != nil {
			coarser := amount.Truncate(min(digits, 2))
			require.True(t, wholeOnly[c] && c.Digits() > 0 || !coarser.Equal(amount), "%s %s", amount, c)
			return
		}
		require.True(t, decimal.New(got, -digits).Equal(amount), "%s %s: %d", amount, c, got)
	})
}

// Every currency that Stripe gives other decimals than ISO 4217 does.
func TestStripeDiffersFromISO(t *testing.T) {
	t.Parallel()
	differs := map[money.Currency]bool{}
	for _, code := range iso.GetCurrencyCodes() {
		c := money.Currency(code)
		one, err := minorUnits(decimal.New(1, 0), c)
		require.NoError(t, err, code)
		if one != decimal.New(1, c.Digits()).IntPart() {
			differs[c] = true
		}
	}
	// Stripe has no funds and no IQD or LYD: it refuses their invoices, which is recorded.
	require.Equal(t, set("ISK", "UGX", "MGA", "CLF", "UYI", "UYW", "IQD", "LYD"), differs)
}
