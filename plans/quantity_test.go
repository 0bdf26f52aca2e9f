package plans_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/plans"
)

func TestParseQuantity(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "-0": 0, "0.0": 0, "0e0": 0, "0e-99999999999": 0, "0.000e+5": 0,
		"3": 3, "3.0": 3, "3e0": 3, "3E+0": 3, "3e-0": 3, "30e-1": 3, "0.3e1": 3, "3.000e00": 3, "0.0003e4": 3,
		"1e15": 1e15, "1000000000000000": 1e15, "1000000000000000.000": 1e15, "0.1e16": 1e15, "999999999999999": 999999999999999,
		"9007199254740993e-1": -1, "900719925474099": 900719925474099,
		"1" + strings.Repeat("0", 1000) + "e-1000": 1, "0." + strings.Repeat("0", 1000) + "1e1001": 1,
	} {
		got, err := plans.ParseQuantity(text)
		if want < 0 {
			require.ErrorIs(t, err, plans.ErrQuantity, text)
			continue
		}
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{
		"", " ", " 3", "3 ", "+3", "-1", "-0.5", "1.5", "3.", ".5", "03", "00", "3e", "3e+", "e3", "3e0.5", "0x3", "3_000", "3,0", "1e16", "1e30", "1e999999999999",
		"1e-1", "1000000000000001", "1000000000000000.5", "9223372036854775808", "NaN", "Infinity", "null", "true", "٣", "--1", "3e--1", "1e9223372036854775808",
	} {
		_, err := plans.ParseQuantity(text)
		require.ErrorIs(t, err, plans.ErrQuantity, text)
	}
}

// FuzzParseQuantity holds it against exact rational numbers.
func FuzzParseQuantity(f *testing.F) {
	for _, text := range []string{"3", "3.0", "3e0", "30e-1", "-0", "1e15", "1.5", "0e999", "1000000000000001", "03"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := plans.ParseQuantity(text)
		if err == nil {
			require.True(t, json.Valid([]byte(text)), text)
		}
		var number json.Number
		if len(text) > 40 || json.Unmarshal([]byte(text), &number) != nil || text != string(number) {
			return
		}
		if _, exponent, ok := strings.Cut(strings.ToLower(text), "e"); ok && len(strings.TrimLeft(exponent, "+-0")) > 3 {
			return
		}
		exact, ok := new(big.Rat).SetString(text)
		require.True(t, ok, text)
		whole := exact.IsInt() && exact.Sign() >= 0 && exact.Cmp(big.NewRat(plans.MaxQuantity, 1)) <= 0
		require.Equal(t, whole, err == nil, text)
		if whole {
			require.Equal(t, exact.Num().Int64(), got, text)
		}
	})
}

func ExampleParseQuantity() {
	for _, text := range []string{"3", "3.0", "30e-1", "1.5"} {
		fmt.Println(plans.ParseQuantity(text))
	}
	// Output:
	// 3 <nil>
	// 3 <nil>
	// 3 <nil>
	// 0 must be a whole number, 0 to 1000000000000000
}
