package api

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/riverline/tollgate/instant"
)

// canonicalObject writes a JSON object, which is well-formed, in the one form that all
// spellings of it have: members by name, numbers by value, strings without needless escapes.
// Members named in without are left out.
func canonicalObject(raw []byte, without ...string) []byte {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var members map[string]any
	if err := d.Decode(&members); err != nil {
		return raw
	}
	for _, name := range without {
		delete(members, name)
	}
	// What was decoded can't fail to be encoded.
	out, _ := json.Marshal(canonicalValue(members))
	return out
}

func canonicalValue(value any) any {
	switch v := value.(type) {
	case json.Number:
		return json.RawMessage(canonicalNumber(v.String()))
	case map[string]any:
		for name, member := range v {
			v[name] = canonicalValue(member)
		}
	case []any:
		for i := range v {
			v[i] = canonicalValue(v[i])
		}
	}
	return value
}

// canonicalNumber writes a JSON number as its digits without zeros at either end, and the
// power of ten that they are multiplied with. It never goes through a float.
func canonicalNumber(text string) string {
	number, negative := strings.CutPrefix(text, "-")
	mantissa, exponentText := number, "0"
	if at := strings.IndexAny(number, "eE"); at >= 0 {
		mantissa, exponentText = number[:at], number[at+1:]
	}
	exponent, err := strconv.ParseInt(exponentText, 10, 32)
	if err != nil {
		return text
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	trimmed := strings.TrimRight(digits, "0")
	if trimmed == "" {
		return "0"
	}
	out := trimmed
	if exponent += int64(len(digits)-len(trimmed)) - int64(len(fraction)); exponent != 0 {
		out += "e" + strconv.FormatInt(exponent, 10)
	}
	if negative {
		out = "-" + out
	}
	return out
}

// canonicalTime writes a time that a caller wrote as its instant; what is no time stays.
func canonicalTime(text string) string {
	if text == "" {
		return ""
	}
	at, err := instant.Parse(text)
	if err != nil {
		return text
	}
	return at.Format(time.RFC3339Nano)
}
