package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/instant"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// maxProperties is the most that the properties of a report may have, in bytes without
// white space.
const maxProperties = 4 << 10

// usageItem is a report with all that it may bear.
type usageItem struct {
	usageReport
	// identity makes it countable once; zero: it bears none.
	identity meter.Identity
	// key is the idempotency key of a report that is not a CloudEvent. Empty: none.
	key string
	// timestamp is the time of the usage as the caller wrote it. Empty: now.
	timestamp string
	// properties is a JSON object in its canonical form, for the fingerprint. Nil: none.
	properties []byte
	// subject is whom a CloudEvent is about. Empty: it doesn't say.
	subject string
	names   *itemNames
}

// itemNames is what a form calls the fields that are judged after they are parsed.
type itemNames struct {
	meter, quantity, key, timestamp, subject string
	// typed says that the meter is the last segment of a type.
	typed bool
}

var usageNames = itemNames{meter: "meter", quantity: "quantity", key: "idempotency_key", timestamp: "timestamp"}

// parseUsage reads any JSON and says exactly what is wrong with it.
func parseUsage(body []byte) (usageItem, error) {
	if u, ok := scanUsage(body); ok && len(u.key) <= maxKey {
		item := usageItem{usageReport: u.usageReport, timestamp: string(u.timestamp), names: &usageNames}
		item.setKey(string(u.key))
		return item, nil
	}
	return parseUsageExactly(body)
}

func parseUsageExactly(body []byte) (usageItem, error) {
	item := usageItem{names: &usageNames}
	err := parseObject(body, "", func(d *json.Decoder, name string) (err error) {
		switch name {
		case "meter":
			item.meter, err = meterField(d, name)
		case "quantity":
			item.quantity, err = quantityField(d, name)
			item.given = true
		case "idempotency_key":
			if item.key, err = stringField(d, name); err == nil {
				err = checkKey(name, item.key)
			}
		case "timestamp":
			if item.timestamp, err = stringField(d, name); err == nil && item.timestamp == "" {
				err = invalid(name, instant.Rule)
			}
		case "properties":
			item.properties, err = propertiesField(d, name)
		default:
			err = invalid(nameOf(fault.Shown(name)), "is not a field of this request; its fields are meter, quantity, idempotency_key, timestamp and properties")
			if isEventField(name) {
				err = &eventError{err}
			}
		}
		return err
	})
	if err != nil {
		return usageItem{}, err
	}
	if item.meter == nil {
		return usageItem{}, invalid("meter", "must be given")
	}
	item.setKey(item.key)
	return item, nil
}

// eventError is the error about a field that only a CloudEvent has.
type eventError struct{ rule error }

func (e *eventError) Error() string   { return e.rule.Error() }
func (e *eventError) Unwrap() []error { return []error{e.rule, errEvent} }

func (i *usageItem) setKey(key string) {
	if i.key = key; key != "" {
		i.identity = meter.KeyIdentity(key)
	}
}

// parseObject reads one JSON object, each of whose fields is there once, and calls field
// with the decoder before the value of each. Path is put before the names in errors.
func parseObject(body []byte, path string, field func(d *json.Decoder, name string) error) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if token, err := d.Token(); err != nil {
		return jsonError(err)
	} else if token != json.Delim('{') {
		return invalid("body", "must be a JSON object")
	}
	seen := make(map[string]bool, 8)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return jsonError(err)
		}
		name, _ := token.(string)
		if seen[name] {
			return invalid(path+fault.Shown(name), "must not be given twice")
		}
		seen[name] = true
		if err := field(d, name); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return jsonError(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return invalid("body", "must end after the JSON object")
	}
	return nil
}

func meterField(d *json.Decoder, name string) ([]byte, error) {
	value, err := d.Token()
	if err != nil {
		return nil, jsonError(err)
	}
	text, ok := value.(string)
	if !ok {
		return nil, invalid(name, "must be a string: the meter's key")
	}
	return []byte(text), nil
}

func stringField(d *json.Decoder, name string) (string, error) {
	value, err := d.Token()
	if err != nil {
		return "", jsonError(err)
	}
	text, ok := value.(string)
	if !ok {
		return "", invalid(name, "must be a string")
	}
	return text, nil
}

// quantityField reads a number, or a string that has one, as systems write it whose numbers
// are floats or strings.
func quantityField(d *json.Decoder, name string) (int64, error) {
	value, err := d.Token()
	if err != nil {
		return 0, jsonError(err)
	}
	var text, written string
	switch v := value.(type) {
	case json.Number:
		text = v.String()
		written = fault.Shown(text)
	case string:
		text = v
		written = strconv.Quote(fault.Shown(text))
	default:
		return 0, invalid(name, "%s", plans.ErrQuantity)
	}
	quantity, err := plans.ParseQuantity(text)
	if err != nil {
		return 0, invalid(name, "%s; %s is not", err, written)
	}
	return quantity, nil
}

// propertiesField reads the properties of a report, and returns their canonical form.
func propertiesField(d *json.Decoder, name string) ([]byte, error) {
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return nil, jsonError(err)
	}
	compact, err := compactObject(raw, name)
	if err != nil {
		return nil, err
	}
	if len(compact) > maxProperties {
		return nil, invalid(name, "must have at most %d bytes, has %d", maxProperties, len(compact))
	}
	return canonicalObject(compact), nil
}

func compactObject(raw []byte, name string) ([]byte, error) {
	if raw[0] != '{' {
		return nil, invalid(name, "must be an object")
	}
	if tooDeep(raw, maxDepth) {
		return nil, invalid(name, "must not be nested more than %d deep", maxDepth)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, raw); err != nil {
		return nil, jsonError(err)
	}
	return out.Bytes(), nil
}

// tooDeep reports whether valid JSON has objects and arrays nested deeper than depth.
func tooDeep(raw []byte, depth int) bool {
	level, quoted := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if level++; level > depth {
				return true
			}
		case c == '}' || c == ']':
			level--
		}
	}
	return false
}

// errLate is in the error about a report that is older than [Config.MaxLate].
var errLate = errors.New("the usage is too old to be counted")

// lateError is the broken rule, for those who answer it as any other.
type lateError struct{ rule error }

func (e *lateError) Error() string   { return e.rule.Error() }
func (e *lateError) Unwrap() []error { return []error{e.rule, errLate} }

// report makes of an item what the meter decides on, for an organization. What breaks a
// rule is an [*fault.FieldError]. Whether its time is acceptable is for [Server.checkTime] to say.
func (s *Server) report(i *usageItem, organization uuid.UUID) (meter.Report, error) {
	if i.subject != "" && !strings.EqualFold(i.subject, organization.String()) {
		return meter.Report{}, invalid(i.names.subject, "must be the key's organization, %s, %q is not", organization, fault.Shown(i.subject))
	}
	index, ok := s.config.Meter.Index(string(i.meter))
	if !ok {
		return meter.Report{}, s.unknownMeter(i.names)
	}
	m := &s.config.Meter.Catalog().Meters[index]
	quantity, err := i.quantityFor(m, i.names.quantity)
	if err != nil {
		return meter.Report{}, err
	}
	r := meter.Report{Index: index, Quantity: quantity, Identity: i.identity}
	if i.timestamp != "" {
		if r.At, err = parseTime(i.names.timestamp, i.timestamp); err != nil {
			return meter.Report{}, err
		}
	}
	if i.identity != (meter.Identity{}) {
		r.Fingerprint = i.fingerprint(m.Key, quantity)
	}
	return r, nil
}

// fingerprint digests what an item says, however it is written.
func (i *usageItem) fingerprint(meterKey string, quantity int64) meter.Fingerprint {
	return meter.FingerprintOf(meterKey, strconv.FormatInt(quantity, 10), canonicalTime(i.timestamp), string(i.properties))
}

// checkTime holds the time that a report bears, if any, to what is acceptable when it is
// decided on: all of its request has been read. One that is too old matches [errLate].
func (s *Server) checkTime(names *itemNames, at time.Time) error {
	if at.IsZero() {
		return nil
	}
	now := s.config.Now()
	switch {
	case at.After(now.Add(s.config.MaxAhead)):
		return invalid(names.timestamp, "must be at most %s after now", inWords(s.config.MaxAhead))
	case at.Before(now.Add(-s.config.MaxLate)):
		return &lateError{invalid(names.timestamp, "must be at most %s before now", inWords(s.config.MaxLate))}
	}
	return nil
}

// parseTime reads a time that a caller has written in a field.
func parseTime(field, text string) (time.Time, error) {
	at, err := instant.Parse(text)
	if err != nil {
		return time.Time{}, invalid(field, "%s", err)
	}
	return at, nil
}

// inWords writes a duration in the largest unit that it is a whole number of.
func inWords(d time.Duration) string {
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "days"}, {time.Hour, "hours"}, {time.Minute, "minutes"}, {time.Second, "seconds"}} {
		if d >= unit.of && d%unit.of == 0 {
			return strconv.FormatInt(int64(d/unit.of), 10) + " " + unit.name
		}
	}
	return d.String()
}

// unknownMeter says which meters there are. Names is what the caller's form calls the
// field that named another.
func (s *Server) unknownMeter(names *itemNames) error {
	var keys []string
	for _, m := range s.config.Meter.Catalog().Meters {
		keys = append(keys, m.Key)
	}
	if names.typed {
		return invalid(names.meter, "must end in a meter's key where data.meter isn't given: %s", strings.Join(keys, ", "))
	}
	return invalid(names.meter, "must be one of the catalog's: %s", strings.Join(keys, ", "))
}
