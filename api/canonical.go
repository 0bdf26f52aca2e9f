package api

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/riverline/tollgate/instant"
	"github.com/riverline/tollgate/plans"
)

// canonicalJSON writes a JSON value in the one form that all spellings of it have: members
// by name, numbers by value, strings without needless escapes. What isn't JSON stays.
func canonicalJSON(raw []byte) []byte {
	var value any
	if !decodeExact(raw, &value) {
		return raw
	}
	// What was decoded can't fail to be encoded.
	out, _ := json.Marshal(canonicalValue(value))
	return out
}

// canonicalObject is [canonicalJSON] of an object, without some of its members.
func canonicalObject(raw []byte, without ...string) []byte {
	var members map[string]any
	if !decodeExact(raw, &members) {
		return raw
	}
	for _, name := range without {
		delete(members, name)
	}
	out, _ := json.Marshal(canonicalValue(members))
	return out
}

// canonicalBody is [canonicalJSON] of a request's body, in which instants and quantities have one
// form, too. What isn't a JSON object alone stays.
func canonicalBody(body []byte) []byte {
	var members map[string]any
	if !json.Valid(body) || !decodeExact(body, &members) || members == nil {
		return body
	}
	for name, value := range members {
		switch v := value.(type) {
		case string:
			members[name] = canonicalMember(name, v, v)
		case json.Number:
			members[name] = canonicalMember(name, v.String(), v)
		}
	}
	out, _ := json.Marshal(canonicalValue(members))
	return out
}

// canonicalMember returns the one form of a member that is written as text, where it is an
// instant or a quantity; else it is value.
func canonicalMember(name, text string, value any) any {
	switch name {
	case "effective_at", "expires_at":
		return canonicalTime(text)
	case "quantity":
		if quantity, err := plans.ParseQuantity(text); err == nil {
			return json.Number(strconv.FormatInt(quantity, 10))
		}
	}
	return value
}

// decodeExact decodes JSON whose numbers stay as they are written.
func decodeExact(raw []byte, into any) bool {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return d.Decode(into) == nil
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
