package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"

	"github.com/riverline/tollgate/plans"
)

// usageReport is the body of POST /usage.
type usageReport struct {
	// meter is the meter's key; it points into the body.
	meter []byte
	// quantity counts where given.
	quantity int64
	given    bool
}

// decodeUsage reads the body of POST /usage. The common form is scanned without
// allocations; everything else, and every error, goes the exact way.
func decodeUsage(body []byte) (usageReport, error) {
	if report, ok := scanUsage(body); ok {
		return report, nil
	}
	return parseUsage(body)
}

// scanUsage reads an object whose fields are "meter", a string without escapes, and
// "quantity", up to 15 digits without a sign; each at most once, in any order. It
// says false where it finds anything else.
func scanUsage(body []byte) (report usageReport, ok bool) {
	s := scanner{rest: body}
	if !s.take('{') {
		return usageReport{}, false
	}
	for {
		name, ok := s.plainString()
		if !ok || !s.take(':') {
			return usageReport{}, false
		}
		switch {
		case string(name) == "meter" && report.meter == nil:
			if report.meter, ok = s.plainString(); !ok || len(report.meter) == 0 {
				return usageReport{}, false
			}
		case string(name) == "quantity" && !report.given:
			if report.quantity, ok = s.digits(); !ok {
				return usageReport{}, false
			}
			report.given = true
		default:
			return usageReport{}, false
		}
		if s.take(',') {
			continue
		}
		if !s.take('}') {
			return usageReport{}, false
		}
		s.space()
		return report, len(s.rest) == 0 && report.meter != nil
	}
}

type scanner struct{ rest []byte }

func (s *scanner) space() {
	for len(s.rest) > 0 && (s.rest[0] == ' ' || s.rest[0] == '\n' || s.rest[0] == '\r' || s.rest[0] == '\t') {
		s.rest = s.rest[1:]
	}
}

// take steps over white space and then c, if it is there.
func (s *scanner) take(c byte) bool {
	s.space()
	if len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// plainString reads a string of printable ASCII without escapes.
func (s *scanner) plainString() ([]byte, bool) {
	if !s.take('"') {
		return nil, false
	}
	for i, c := range s.rest {
		switch {
		case c == '"':
			out := s.rest[:i:i]
			s.rest = s.rest[i+1:]
			return out, true
		case c == '\\' || c < 0x20 || c > 0x7e:
			return nil, false
		}
	}
	return nil, false
}

// digits reads a whole number of at most 15 digits.
func (s *scanner) digits() (n int64, ok bool) {
	s.space()
	i := 0
	for ; i < len(s.rest) && i < 16 && s.rest[i] >= '0' && s.rest[i] <= '9'; i++ {
		n = n*10 + int64(s.rest[i]-'0')
	}
	if i == 0 || i > 15 || (i > 1 && s.rest[0] == '0') {
		return 0, false
	}
	s.rest = s.rest[i:]
	return n, true
}

// parseUsage reads any JSON and says exactly what is wrong with it.
func parseUsage(body []byte) (usageReport, error) {
	var report usageReport
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if token, err := d.Token(); err != nil {
		return report, jsonError(err)
	} else if token != json.Delim('{') {
		return report, invalid("body", "must be a JSON object")
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return report, jsonError(err)
		}
		if err := report.parseField(d, name); err != nil {
			return report, err
		}
	}
	if _, err := d.Token(); err != nil {
		return report, jsonError(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return report, invalid("body", "must end after the JSON object")
	}
	if report.meter == nil {
		return report, invalid("meter", "must be given")
	}
	return report, nil
}

func (r *usageReport) parseField(d *json.Decoder, name json.Token) error {
	field, _ := name.(string)
	switch {
	case field != "meter" && field != "quantity":
		return invalid(nameOf(field), "is not a field of this request; its fields are meter and quantity")
	case field == "meter" && r.meter != nil, field == "quantity" && r.given:
		return invalid(field, "must not be given twice")
	}
	value, err := d.Token()
	if err != nil {
		return jsonError(err)
	}
	if field == "meter" {
		text, ok := value.(string)
		if !ok {
			return invalid("meter", "must be a string: the meter's key")
		}
		r.meter = []byte(text)
		return nil
	}
	number, ok := value.(json.Number)
	if !ok {
		return invalid("quantity", "must be a whole number, 0 to %d", int64(plans.MaxQuantity))
	}
	r.quantity, err = strconv.ParseInt(number.String(), 10, 64)
	if err != nil {
		return invalid("quantity", "must be a whole number, 0 to %d; %s is not", int64(plans.MaxQuantity), number)
	}
	r.given = true
	return nil
}

// quantityFor checks the quantity against the meter's rules, and returns the one
// that counts.
func (r *usageReport) quantityFor(m plans.Meter) (int64, error) {
	least := int64(0)
	if m.Aggregation == plans.Sum {
		least = 1
		if !r.given {
			return 1, nil
		}
	}
	if !r.given {
		return 0, invalid("quantity", "must be given: %s is a level, not a count", m.Key)
	}
	if r.quantity < least || r.quantity > plans.MaxQuantity {
		return 0, invalid("quantity", "must be a whole number, %d to %d", least, int64(plans.MaxQuantity))
	}
	return r.quantity, nil
}
