package money_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	iso "github.com/bojanz/currency"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/money"
)

// TestMinorUnitsAreThoseOfISO names every code of list one whose minor unit isn't 2, and
// those that CLDR, or habit, has otherwise.
func TestMinorUnitsAreThoseOfISO(t *testing.T) {
	t.Parallel()
	digits := map[money.Currency]int32{}
	for n, codes := range map[int32]string{
		0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
		3: "BHD IQD JOD KWD LYD OMR TND",
		4: "CLF UYW",
	} {
		for code := range strings.FieldsSeq(codes) {
			digits[money.Currency(code)] = n
		}
	}
	known := iso.GetCurrencyCodes()
	require.Len(t, known, 165, "codes of list one that have a minor unit, as of 2026-09-17")
	for _, code := range known {
		want, ok := digits[money.Currency(code)]
		if !ok {
			want = 2
		}
		c, err := money.ParseCurrency(code)
		require.NoError(t, err)
		require.Equal(t, want, c.Digits(), code)
	}
	for code := range strings.FieldsSeq("RSD IDR COP PKR LBP ALL AFN IRR LAK MMK KPW MGA SOS SYP YER HUF TWD CRC GYD MNT MUR NOK TZS UZS CZK SEK") {
		require.EqualValues(t, 2, money.Currency(code).Digits(), code)
	}
}

// TestCurrenciesInForce are those that may be chosen on 2026-11-28.
func TestCurrenciesInForce(t *testing.T) {
	t.Parallel()
	for code := range strings.FieldsSeq("USD EUR SLE VES VED MRU STN XCG ZWG UYW UYI CLF COU CHE CHW MXV BOV USN XAD XOF XPF SSP BYN GHS ZMW TRY RON") {
		c, err := money.ParseCurrency(code)
		require.NoError(t, err)
		require.True(t, c.Known())
		require.False(t, c.Withdrawn(), code)
	}
	for code := range strings.FieldsSeq("BGN HRK DEM CUC ZWL SLL STD MRO VEF ANG BYR LTL LVL EEK ZMK TRL ROL ITL XEU") {
		_, err := money.ParseCurrency(code)
		require.EqualError(t, err, fmt.Sprintf("currency %q must be a currency that ISO 4217 has not withdrawn", code))
		require.True(t, money.Currency(code).Known(), code)
	}
	for code := range strings.FieldsSeq("XXX XTS XAU XAG XPT XPD XDR XUA XSU XBA XBB XBC XBD XFO XFU XRE BTC CNH GGP ZZZ usd Usd US USDX U€ ÚSD U\x00D") {
		_, err := money.ParseCurrency(code)
		require.EqualError(t, err, fmt.Sprintf("currency %q must be an ISO 4217 code of three upper-case letters that has a minor unit", code))
		require.False(t, money.Currency(code).Known(), code)
	}
	_, err := money.ParseCurrency("")
	require.Error(t, err)
	require.False(t, money.Currency("").Known())
}

func TestMinorUnitsOfWhatWasWithdrawn(t *testing.T) {
	t.Parallel()
	for code, digits := range map[money.Currency]int32{"BGN": 2, "HRK": 2, "ANG": 2, "SLL": 2, "STD": 2, "ITL": 0, "ESP": 0, "BYR": 0} {
		require.Equal(t, digits, code.Digits(), code)
	}
}

// Each amount that a currency can have is written and read without a change, and rounding
// leaves it as it is.
func TestAmountsRoundTripInEachCurrency(t *testing.T) {
	t.Parallel()
	codes := iso.GetCurrencyCodes()
	rapid.Check(t, func(t *rapid.T) {
		c := money.Currency(rapid.SampledFrom(codes).Draw(t, "currency"))
		minor := rapid.Int64().Draw(t, "minor units")
		amount := decimal.New(minor, -c.Digits())
		text := money.Format(amount, c)
		if c.Digits() > 0 {
			require.Equal(t, int(c.Digits()), len(text)-strings.IndexByte(text, '.')-1, text)
		} else {
			require.NotContains(t, text, ".")
		}
		read, err := money.Parse(text)
		require.NoError(t, err)
		require.True(t, amount.Equal(read))
		for _, how := range []money.Rounding{"", money.HalfEven, money.HalfUp} {
			rounded, rest := money.Whole(amount).Round(c, how)
			require.True(t, rounded.Equal(amount))
			require.True(t, rest.Decimal(12).IsZero())
		}
		document, err := json.Marshal(money.NewAmount(amount, c))
		require.NoError(t, err)
		var again money.Amount
		require.NoError(t, json.Unmarshal(document, &again))
		require.Equal(t, text, again.String())
		require.True(t, again.Shift(c.Digits()).Equal(decimal.NewFromInt(minor)))
	})
}
