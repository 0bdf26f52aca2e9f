package api

import (
	"bytes"
	"encoding/json"
	"io"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCommonBodiesAreScanned(t *testing.T) {
	for body, want := range map[string]usageReport{
		`{"meter":"evaluations"}`:                              {meter: []byte("evaluations")},
		`{"meter":"evaluations","quantity":12}`:                {meter: []byte("evaluations"), quantity: 12, given: true},
		" {\n\t\"quantity\" : 0 ,\r\n \"meter\" : \"m\" }\n":   {meter: []byte("m"), given: true},
		`{"meter":"storage_bytes","quantity":999999999999999}`: {meter: []byte("storage_bytes"), quantity: 999999999999999, given: true},
		`{"meter": "with space and ünïcode"}`:                  {},
		`{"meter":"a\u0062"}`:                                  {},
		`{"meter":"m","timestamp":"t","idempotency_key":"k"}`:  {meter: []byte("m")},
		`{"meter":"m","idempotency_key":"k\u0062"}`:            {},
		`{"meter":"m","idempotency_key":""}`:                   {},
		`{"meter":"m","timestamp":""}`:                         {},
		`{"meter":"m","timestamp":"t","timestamp":"t"}`:        {},
		`{"meter":"m","properties":{}}`:                        {},
		`{"meter":"m","quantity":1,"quantity":1}`:              {},
		`{"meter":"m","quantity":1000000000000000}`:            {},
		`{"meter":"m","quantity":-1}`:                          {},
		`{"meter":"m","quantity":01}`:                          {},
		`{"meter":"m","quantity":1.0}`:                         {},
		`{"meter":"m","meter":"m"}`:                            {},
		`{"meter":"m","other":1}`:                              {},
		`{"meter":"m"}x`:                                       {},
		`{"meter":"m",}`:                                       {},
		`{"quantity":1}`:                                       {},
		`{"meter":""}`:                                         {},
		`{`:                                                    {},
		``:                                                     {},
	} {
		got, ok := scanUsage([]byte(body))
		require.Equal(t, want.meter != nil, ok, body)
		if ok {
			require.Equal(t, want.quantity, got.quantity, body)
			require.Equal(t, want.given, got.given, body)
			require.Equal(t, string(want.meter), string(got.meter), body)
		}
	}
}

// FuzzUsageBody holds the two decoders of POST /usage against each other and
// against encoding/json: what the fast one takes, the exact one takes alike; and what
// the exact one takes is an object of the two fields.
func FuzzUsageBody(f *testing.F) {
	for _, seed := range []string{
		`{"meter":"evaluations"}`, `{"meter":"evaluations","quantity":5}`, ` { "quantity" : 0 , "meter":"m" } `,
		`{"meter":"\u006d","quantity":-1}`, `{"meter":"m","quantity":1e3}`, `{"meter":"m","quantity":"3.0"}`, `{"meter":"m"}{}`, `{"meter":null}`,
		`{"meter":"m","meter":"n"}`, `[{"meter":"m"}]`, `{"meter":"m","quantity":00}`, "{\"meter\":\"\xff\"}", `{"meter":{"a":[1,2]}}`,
		`{"meter":"m","idempotency_key":"k","timestamp":"2026-11-24T12:00:00Z","properties":{"a":[1,{"b":"\u0063"}]}}`,
		`{"meter":"m","properties":[]}`, `{"meter":"m","idempotency_key":""}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		scanned, failed := parseUsage(body)
		parsed, err := parseUsageExactly(body)
		require.Equal(t, err, failed)
		require.Equal(t, parsed, scanned)
		if err != nil {
			require.Equal(t, 400, problemOf(err).Status)
			return
		}
		var want struct {
			Meter      *string         `json:"meter"`
			Quantity   json.RawMessage `json:"quantity"`
			Key        *string         `json:"idempotency_key"`
			Timestamp  *string         `json:"timestamp"`
			Properties json.RawMessage `json:"properties"`
		}
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		require.NoError(t, d.Decode(&want))
		_, err = d.Token()
		require.ErrorIs(t, err, io.EOF)
		require.NotNil(t, want.Meter)
		require.Equal(t, *want.Meter, string(parsed.meter))
		require.Equal(t, want.Quantity != nil, parsed.given)
		if parsed.given {
			exact, ok := new(big.Rat).SetString(strings.Trim(string(want.Quantity), `"`))
			require.True(t, ok && exact.IsInt(), "%s", want.Quantity)
			require.Equal(t, exact.Num().Int64(), parsed.quantity)
		}
		require.Equal(t, want.Key != nil, parsed.key != "")
		require.Equal(t, want.Timestamp != nil, parsed.timestamp != "")
		if want.Properties != nil {
			require.JSONEq(t, string(want.Properties), string(parsed.properties))
		}
	})
}

// FuzzStrictJSON holds that what the strict decoder takes, encoding/json takes, with
// no unknown field.
func FuzzStrictJSON(f *testing.F) {
	type inner struct {
		Max *int64 `json:"max"`
	}
	type target struct {
		Key   string  `json:"key"`
		Items []inner `json:"items"`
	}
	for _, seed := range []string{
		`{"key":"a","items":[{"max":1},{"max":null}]}`, `{"key":1}`, `{"items":[{"maxx":1}]}`, `{"KEY":"a"}`, `[[[[[[[[[[[[[[[[[[[[`, `{"key":"a"} 1`, `{"":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got, want target
		if err := decodeStrict(body, &got); err != nil {
			require.Equal(t, 400, problemOf(err).Status)
			return
		}
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		require.NoError(t, d.Decode(&want))
		require.Equal(t, want, got)
	})
}
