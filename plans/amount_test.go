package plans_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/plans"
)

// priced is a catalog with one amount as it is written.
func priced(amount string) []byte {
	return fmt.Appendf(nil, `
meters: [{ key: calls, name: Calls, aggregation: sum, unit: call }]
plans: [{ key: pro, version: 1, name: Pro, price_books: [{ currency: USD, prices: [{ meter: calls, model: per_unit, unit_price: %s }] }] }]
`, amount)
}

// TestParseKeepsEveryDigitOfAnAmount holds that an amount without quotes is no float.
func TestParseKeepsEveryDigitOfAnAmount(t *testing.T) {
	for written, want := range map[string]string{
		`"0.0002"`: "0.0002", `'1.50'`: "1.5", "7": "7", "0.000000000001": "0.000000000001", "0": "0", "null": "0",
		"123456789012345.123456789012": "123456789012345.123456789012",
	} {
		c, err := plans.Parse(priced(written))
		require.NoError(t, err, written)
		require.Equal(t, want, c.Plans[0].PriceBooks[0].Prices[0].UnitPrice.String())
	}
	for _, written := range []string{"1e3", "0x10", "1_000", ".5", "free", `"1,5"`, "[1]", "0.0000000000001"} {
		_, err := plans.Parse(priced(written))
		require.ErrorIs(t, err, plans.ErrInvalidCatalog, written)
		require.ErrorContains(t, err, "plans[0].price_books[0].prices[0].unit_price: ")
		require.ErrorContains(t, err, "must be a decimal number of at most 24 digits and 12 decimals")
	}
	_, err := plans.Parse(priced("-1"))
	require.ErrorContains(t, err, "plans[0].price_books[0].prices[0].unit_price: -1 must be 0 to")
}
