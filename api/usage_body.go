package api

import "github.com/riverline/tollgate/plans"

// usageReport is what every report says.
type usageReport struct {
	// meter is the meter's key; it points into the body.
	meter []byte
	// quantity counts where given.
	quantity int64
	given    bool
}

// scannedUsage is a body in its common form. What it has points into the body.
type scannedUsage struct {
	usageReport
	// key and timestamp are nil where they aren't given.
	key, timestamp []byte
}

// plain reports whether there is nothing but a meter and a quantity.
func (u *scannedUsage) plain() bool { return u.key == nil && u.timestamp == nil }

// scanUsage reads the common form of a report without allocations: an object whose fields are
// "meter", "idempotency_key" and "timestamp", strings without escapes that aren't empty, and
// "quantity", up to 15 digits without a sign; each at most once, in any order. It says false where
// it finds anything else, which is for [parseUsageExactly] then.
func scanUsage(body []byte) (u scannedUsage, ok bool) {
	s := scanner{rest: body}
	u, ok = s.usage()
	s.space()
	return u, ok && len(s.rest) == 0
}

// usage reads one report in its common form, up to its end.
func (s *scanner) usage() (u scannedUsage, ok bool) {
	if !s.take('{') {
		return scannedUsage{}, false
	}
	for {
		name, ok := s.plainString()
		if !ok || !s.take(':') {
			return scannedUsage{}, false
		}
		var text *[]byte
		switch {
		case string(name) == "meter":
			text = &u.meter
		case string(name) == "idempotency_key":
			text = &u.key
		case string(name) == "timestamp":
			text = &u.timestamp
		case string(name) == "quantity" && !u.given:
			if u.quantity, u.given = s.digits(); !u.given {
				return scannedUsage{}, false
			}
		default:
			return scannedUsage{}, false
		}
		if text != nil {
			if *text != nil {
				return scannedUsage{}, false
			}
			if *text, ok = s.plainString(); !ok || len(*text) == 0 {
				return scannedUsage{}, false
			}
		}
		if s.take(',') {
			continue
		}
		if !s.take('}') {
			return scannedUsage{}, false
		}
		return u, u.meter != nil
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

// quantityFor returns the quantity that counts: 1 for a sum where none is given. Field is
// what the caller calls it.
func (r *usageReport) quantityFor(m *plans.Meter, field string) (int64, error) {
	if !r.given && m.Aggregation == plans.Sum {
		return 1, nil
	}
	if !r.given {
		return 0, invalid(field, "must be given: %s is a level, not a count", m.Key)
	}
	return r.quantity, nil
}
