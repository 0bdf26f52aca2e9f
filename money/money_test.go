package money_test

import (
	"fmt"
	"math/big"
	"testing"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/money"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"0", "7.00", "-1.5", "0.000000000001", "999999999999999999999999.999999999999"} {
		d, err := money.Parse(text)
		require.NoError(t, err)
		want, _ := new(big.Rat).SetString(text)
		require.Zero(t, want.Cmp(d.Rat()), text)
	}
	for _, text := range []string{"", "-", ".5", "5.", "+1", "1e3", "1,000", "1.2.3", "0x10", "NaN", "1.0000000000001", "1000000000000000000000000", " 1"} {
		_, err := money.Parse(text)
		require.ErrorContains(t, err, "must be a decimal number", text)
	}
}

func TestRound(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		numerator   string
		denominator int64
		currency    money.Currency
		how         money.Rounding
		want, rest  string
	}{
		{"0.005", 1, "USD", money.HalfEven, "0.00", "0.005"},
		{"0.015", 1, "USD", money.HalfEven, "0.02", "-0.005"},
		{"0.005", 1, "USD", money.HalfUp, "0.01", "-0.005"},
		{"-0.005", 1, "USD", money.HalfUp, "-0.01", "0.005"},
		{"-0.015", 1, "USD", money.HalfEven, "-0.02", "0.005"},
		{"0.0050000000000000000000001", 1, "USD", money.HalfEven, "0.01", "-0.0049999999999999999999999"},
		{"310", 31, "USD", money.HalfEven, "10.00", "0"},
		{"100", 31, "USD", money.HalfEven, "3.23", "-0.004193548387096774…"},
		{"5", 2, "JPY", money.HalfEven, "2", "0.5"},
		{"7", 2, "JPY", money.HalfEven, "4", "-0.5"},
		{"1.2345", 1, "KWD", money.HalfEven, "1.234", "0.0005"},
		{"1.2345", 1, "KWD", "", "1.235", "-0.0005"},
		{"0.125", 1, "USD", "", "0.13", "-0.005"},
		{"-0.125", 1, "USD", "", "-0.13", "0.005"},
		{"-0.115", 1, "USD", money.HalfEven, "-0.12", "0.005"},
		{"-5", 2, "JPY", "", "-3", "0.5"},
		{"-1", 3, "USD", "", "-0.33", "-0.003333333333333333…"},
		{"12", 1, "USD", "", "12.00", "0"},
	} {
		amount := money.Quotient(decimal.RequireFromString(tc.numerator), decimal.NewFromInt(tc.denominator))
		rounded, rest := amount.Round(tc.currency, tc.how)
		require.Equal(t, tc.want, money.Format(rounded, tc.currency), tc)
		if tc.rest == "-0.0049999999999999999999999" {
			require.Equal(t, tc.rest, rest.Decimal(25).String())
			continue
		}
		require.Equal(t, tc.rest, rest.String(), tc)
	}
}

// Rounded and rest make up the amount, the rest is at most half a minor unit, and a
// tie goes where the rounding says: checked against arithmetic on rationals.
func TestRoundLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		numerator := decimal.New(rapid.Int64().Draw(t, "numerator"), -int32(rapid.IntRange(0, 12).Draw(t, "decimals")))
		denominator := decimal.NewFromInt(rapid.Int64Range(1, 1<<40).Draw(t, "denominator"))
		f := money.Quotient(numerator, denominator)
		c := rapid.SampledFrom([]money.Currency{"USD", "JPY", "KWD"}).Draw(t, "currency")
		how := rapid.SampledFrom([]money.Rounding{money.HalfEven, money.HalfUp, ""}).Draw(t, "rounding")
		rounded, rest := f.Round(c, how)

		amount := new(big.Rat).Quo(numerator.Rat(), denominator.Rat())
		left := new(big.Rat).Sub(amount, rounded.Rat())
		require.True(t, f.Sub(money.Whole(rounded)).Equal(rest))
		require.Equal(t, left.Sign(), rest.Sign())
		minor := rounded.Shift(c.Digits())
		require.True(t, minor.IsInteger())
		half := decimal.New(5, -c.Digits()-1).Rat()
		switch new(big.Rat).Abs(left).Cmp(half) {
		case 1:
			t.Fatalf("the rest of %s is %s", amount, left)
		case 0:
			if how != money.HalfEven {
				require.Equal(t, -amount.Sign(), left.Sign())
			} else {
				require.Zero(t, minor.BigInt().Bit(0))
			}
		}
	})
}

// Arithmetic on fractions is that of rational numbers.
func TestFractionLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) (money.Fraction, *big.Rat) {
			numerator := decimal.New(rapid.Int64().Draw(t, name), -int32(rapid.IntRange(0, 12).Draw(t, "decimals")))
			by := decimal.NewFromInt(rapid.Int64Range(1, 1<<50).Draw(t, "by"))
			return money.Quotient(numerator, by), new(big.Rat).Quo(numerator.Rat(), by.Rat())
		}
		f, x := draw("f")
		g, y := draw("g")
		require.Equal(t, x.Cmp(y), f.Cmp(g))
		require.True(t, f.Add(g).Sub(g).Equal(f))
		require.Equal(t, new(big.Rat).Mul(x, y).Sign(), f.Mul(g).Sign())
		if g.Sign() != 0 {
			require.True(t, f.Quo(g).Mul(g).Equal(f))
		}
		one := money.Whole(decimal.NewFromInt(1))
		require.True(t, f.Floor().IsWhole() && f.Ceil().IsWhole())
		require.LessOrEqual(t, f.Floor().Cmp(f), 0)
		require.Negative(t, f.Cmp(f.Floor().Add(one)))
		require.GreaterOrEqual(t, f.Ceil().Cmp(f), 0)
		require.Positive(t, f.Cmp(f.Ceil().Sub(one)))
		require.True(t, money.Min(f, g).Add(money.Max(f, g)).Equal(f.Add(g)))
	})
	var zero money.Fraction
	require.Equal(t, "0", zero.String())
	require.True(t, zero.Equal(money.Whole(decimal.Zero)))
}

func FuzzParse(f *testing.F) {
	f.Add("12.50")
	f.Add("-0.000000000001")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := money.Parse(text)
		if err != nil {
			return
		}
		again, err := money.Parse(d.String())
		require.NoError(t, err)
		require.True(t, d.Equal(again))
	})
}

func ExampleFraction_Round() {
	// 49.00 a month, for 10 of 31 days.
	fee := money.Quotient(decimal.RequireFromString("490.00"), decimal.NewFromInt(31))
	rounded, rest := fee.Round("USD", money.HalfUp)
	fmt.Println(money.Format(rounded, "USD"), "rest", rest)
	// Output: 15.81 rest -0.003548387096774194…
}
