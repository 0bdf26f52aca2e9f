package instant_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/instant"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"2026-11-24T12:00:00Z":                                 "2026-11-24T12:00:00Z",
		"2026-11-24t12:00:00z":                                 "2026-11-24T12:00:00Z",
		"2026-11-24T12:00:00.5z":                               "2026-11-24T12:00:00.5Z",
		"2026-11-24T12:00:00.000000000999999999Z":              "2026-11-24T12:00:00Z",
		"2026-11-24T12:00:00.1234567899Z":                      "2026-11-24T12:00:00.123456789Z",
		"2026-11-24T14:00:00+02:00":                            "2026-11-24T12:00:00Z",
		"2026-11-24T12:00:00-00:00":                            "2026-11-24T12:00:00Z",
		"2026-11-24T00:00:00-23:59":                            "2026-11-24T23:59:00Z",
		"2026-11-24T00:00:00+23:59":                            "2026-11-23T00:01:00Z",
		"2026-11-24T05:45:00+05:45":                            "2026-11-24T00:00:00Z",
		"2024-02-29T00:00:00Z":                                 "2024-02-29T00:00:00Z",
		"0000-01-01T00:00:00Z":                                 "0000-01-01T00:00:00Z",
		"9999-12-31T23:59:59.9Z":                               "9999-12-31T23:59:59.9Z",
		"2016-12-31T23:59:60Z":                                 "2016-12-31T23:59:59.999999999Z",
		"2016-12-31T23:59:60.25Z":                              "2016-12-31T23:59:59.999999999Z",
		"2017-01-01T00:59:60+01:00":                            "2016-12-31T23:59:59.999999999Z",
		"1990-12-31T15:59:60-08:00":                            "1990-12-31T23:59:59.999999999Z",
		"2026-11-24T12:00:00." + strings.Repeat("9", 99) + "Z": "2026-11-24T12:00:00.999999999Z",
	} {
		got, err := instant.Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got.Format(time.RFC3339Nano), text)
		require.Equal(t, time.UTC, got.Location())
	}
}

func TestParseRefuses(t *testing.T) {
	for text, why := range map[string]string{
		"":                               "it ends too early",
		"2026-11-24":                     "it ends too early",
		"2026-11-24T12:00Z":              `byte 17 must be ':'`,
		"2026-11-24 12:00:00Z":           `byte 11 must be 'T'`,
		"2026-11-24_12:00:00Z":           `byte 11 must be 'T'`,
		"2026-11-24T9:00:00Z":            "byte 13 must be a digit",
		"2026-1-24T12:00:00Z":            "byte 7 must be a digit",
		"+2026-11-24T12:00:00Z":          "byte 1 must be a digit",
		" 2026-11-24T12:00:00Z":          "byte 1 must be a digit",
		"12026-11-24T12:00:00Z":          `byte 5 must be '-'`,
		"2026-11-24T12:00:00":            "it must end in Z",
		"2026-11-24T12:00:00 Z":          "it must end in Z",
		"2026-11-24T12:00:00Z ":          "it must end in Z",
		"2026-11-24T12:00:00UTC":         "it must end in Z",
		"2026-11-24T12:00:00+2:00":       "it must end in Z",
		"2026-11-24T12:00:00+0200":       "it must end in Z",
		"2026-11-24T12:00:00+02":         "it must end in Z",
		"2026-11-24T12:00:00\u221202:00": "it must end in Z",
		"2026-11-24T12:00:00+24:00":      "the offset must be at most 23:59",
		"2026-11-24T12:00:00+23:60":      "the offset must be at most 23:59",
		"2026-11-24T12:00:00,5Z":         "it must end in Z",
		"2026-11-24T12:00:00.Z":          "a digit must follow the point",
		"2026-11-24T24:00:00Z":           "the hour must be 00 to 23",
		"2026-11-24T12:60:00Z":           "the minute must be 00 to 59",
		"2026-11-24T12:00:61Z":           "the second must be 00 to 59, or 60 at a leap second",
		"2026-11-24T12:00:60Z":           "only 23:59:60 UTC can be",
		"2016-12-31T23:59:60+01:00":      "only 23:59:60 UTC can be",
		"2026-13-24T12:00:00Z":           "the month must be 01 to 12",
		"2026-00-24T12:00:00Z":           "the month must be 01 to 12",
		"2026-02-29T12:00:00Z":           "the day 29 isn't in month 2 of 2026",
		"2026-11-31T12:00:00Z":           "the day 31 isn't in month 11 of 2026",
		"2026-11-00T12:00:00Z":           "the day 0 isn't in month 11 of 2026",
		"1764000000":                     `byte 5 must be '-'`,
		"２026-11-24T12:00:00Z":           "byte 1 must be a digit",
	} {
		_, err := instant.Parse(text)
		var refused *instant.Error
		require.ErrorAs(t, err, &refused, text)
		require.Contains(t, err.Error(), why, text)
		require.Contains(t, err.Error(), instant.Rule)
	}
	_, err := instant.Parse(strings.Repeat("é", 100))
	require.Less(t, len(err.Error()), 250)
}

// TestEverySpellingIsTheSameInstant writes an instant in any way that the grammar has.
func TestEverySpellingIsTheSameInstant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := time.Unix(rapid.Int64Range(-62135500000, 253402200000).Draw(t, "second"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanos")).UTC()
		offset := rapid.IntRange(-23*60-59, 23*60+59).Draw(t, "offset")
		at := want.In(time.FixedZone("", offset*60))
		text := at.Format("2006-01-02T15:04:05.000000000-07:00")
		if offset == 0 && rapid.Bool().Draw(t, "z") {
			text = at.Format("2006-01-02T15:04:05.000000000") + "Z"
		}
		if rapid.Bool().Draw(t, "lower") {
			text = strings.ToLower(text)
		}
		got, err := instant.Parse(text)
		if err != nil || !got.Equal(want) {
			t.Fatal(fmt.Sprintf("%s is %s, want %s (%v)", text, got, want, err))
		}
	})
}

// FuzzParse holds that what is taken is what time.Parse takes, leap seconds and lower-case
// letters apart.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"2026-11-24T12:00:00Z", "2016-12-31t23:59:60.5z", "2026-11-24T12:00:00.25-07:30", "2026-11-24T9:00:00,5+24:00", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := instant.Parse(text)
		if err != nil {
			return
		}
		if text[17:19] == "60" {
			require.Equal(t, "23:59:59.999999999", got.Format("15:04:05.999999999"))
			return
		}
		want, err := time.Parse(time.RFC3339, strings.ToUpper(text))
		require.NoError(t, err)
		require.True(t, want.Equal(got), text)
	})
}

func ExampleParse() {
	for _, text := range []string{"2026-11-24T14:00:00+02:00", "2026-11-24t12:00:00z", "2016-12-31T23:59:60Z", "2026-11-24 12:00:00Z"} {
		at, err := instant.Parse(text)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(at.Format(time.RFC3339Nano))
	}
	// Output:
	// 2026-11-24T12:00:00Z
	// 2026-11-24T12:00:00Z
	// 2016-12-31T23:59:59.999999999Z
	// must be a time of the form 2006-01-02T15:04:05Z (RFC 3339), "2026-11-24 12:00:00Z" is not: byte 11 must be 'T'
}
