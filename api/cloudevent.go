package api

import (
	"encoding/base64"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/meter"
)

// eventNames are those of the JSON format, binaryNames those of the binary mode; where the
// data doesn't name the meter, the type does.
var (
	eventNames       = itemNames{meter: "data.meter", quantity: "data.quantity", key: "id", timestamp: "time", subject: "subject"}
	typedEventNames  = itemNames{meter: "type", quantity: "data.quantity", key: "id", timestamp: "time", subject: "subject", typed: true}
	binaryNames      = itemNames{meter: "data.meter", quantity: "data.quantity", key: "ce-id", timestamp: "ce-time", subject: "ce-subject"}
	typedBinaryNames = itemNames{meter: "ce-type", quantity: "data.quantity", key: "ce-id", timestamp: "ce-time", subject: "ce-subject", typed: true}
)

// cloudEvent is what counts of a CloudEvent (CloudEvents 1.0.2).
type cloudEvent struct {
	specversion, id, source, kind, time, contentType, subject, base64 string
	// data is JSON without white space. Nil: none.
	data []byte
}

// attributeOf returns where an attribute that is a text, and counts, is kept; nil: it means nothing here.
func (e *cloudEvent) attributeOf(name string) *string {
	switch name {
	case "specversion":
		return &e.specversion
	case "id":
		return &e.id
	case "source":
		return &e.source
	case "type":
		return &e.kind
	case "time":
		return &e.time
	case "datacontenttype":
		return &e.contentType
	case "subject":
		return &e.subject
	case "data_base64":
		return &e.base64
	default:
		return nil
	}
}

// parseCloudEvent reads a CloudEvent in the JSON format. Its meter is the one in its data, or
// the last segment of its type. Attributes that mean nothing here are passed over; so are
// members of the data, but for the fingerprint.
func parseCloudEvent(raw []byte) (usageItem, error) {
	var e cloudEvent
	if err := parseObject(raw, "", e.attribute); err != nil {
		return usageItem{}, err
	}
	if err := e.check("", "datacontenttype"); err != nil {
		return usageItem{}, err
	}
	if err := e.unpackData(); err != nil {
		return usageItem{}, err
	}
	return e.item(&eventNames, &typedEventNames)
}

// attribute reads one attribute. Null means that it isn't there.
func (e *cloudEvent) attribute(d *json.Decoder, name string) error {
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return jsonError(err)
	}
	if string(raw) == "null" {
		return nil
	}
	if name == "data" {
		var err error
		e.data, err = compactObject(raw, name)
		return err
	}
	into := e.attributeOf(name)
	if into == nil {
		return checkAttribute(name)
	}
	if raw[0] != '"' {
		return invalid(name, "must be a string")
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return jsonError(err)
	}
	if *into == "" {
		return invalid(name, "must not be empty")
	}
	return checkText(name, *into)
}

// checkAttribute checks the name of an attribute that means nothing here (section 3).
func checkAttribute(name string) error {
	odd := func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9') }
	if name == "" || strings.ContainsFunc(name, odd) {
		return invalid(nameOf(fault.Shown(name)), "is not the name of a CloudEvent's attribute: those are lower-case letters and digits")
	}
	return nil
}

// check holds the attributes against the rules. Prefix is put before their names, and
// typeName is what the data's type is called.
func (e *cloudEvent) check(prefix, typeName string) error {
	for _, required := range []struct{ name, value string }{
		{"specversion", e.specversion}, {"id", e.id}, {"source", e.source}, {"type", e.kind},
	} {
		if required.value == "" {
			return invalid(prefix+required.name, "must be given")
		}
	}
	if e.specversion != "1.0" {
		return invalid(prefix+"specversion", "must be 1.0, %q is not", fault.Shown(e.specversion))
	}
	if e.contentType == "" {
		return nil
	}
	mediaType, _, err := mime.ParseMediaType(e.contentType)
	if err != nil || mediaType != "application/json" && mediaType != "text/json" && !strings.HasSuffix(mediaType, "+json") {
		return invalid(typeName, "must be application/json, %q is not", fault.Shown(e.contentType))
	}
	return nil
}

// unpackData reads data that was given as bytes (JSON format, section 3.1.1).
func (e *cloudEvent) unpackData() error {
	const name = "data_base64"
	if e.base64 == "" {
		return nil
	}
	if e.data != nil {
		return invalid(name, "must not be given beside data")
	}
	raw, err := base64.StdEncoding.DecodeString(e.base64)
	if err != nil {
		return invalid(name, "must be base64 (RFC 4648, section 4)")
	}
	e.data, err = eventData(raw, name)
	return err
}

// eventData reads data that came as bytes.
func eventData(raw []byte, name string) ([]byte, error) {
	if !json.Valid(raw) {
		return nil, invalid(name, "must be a JSON object")
	}
	return compactObject(raw, name)
}

// item makes of an event what it reports.
func (e *cloudEvent) item(names, typed *itemNames) (usageItem, error) {
	item := usageItem{names: names, timestamp: e.time, subject: e.subject, identity: meter.CloudEventIdentity(e.source, e.id)}
	if e.data != nil {
		if err := parseObject(e.data, "data.", item.dataMember); err != nil {
			return usageItem{}, err
		}
		item.properties = canonicalObject(e.data, "meter", "quantity")
	}
	if item.meter == nil {
		item.meter = []byte(e.kind[strings.LastIndexByte(e.kind, '.')+1:])
		item.names = typed
	}
	return item, nil
}

// dataMember reads what counts of an event's data.
func (i *usageItem) dataMember(d *json.Decoder, name string) (err error) {
	switch name {
	case "meter":
		i.meter, err = meterField(d, eventNames.meter)
	case "quantity":
		i.quantity, err = quantityField(d, eventNames.quantity)
		i.given = true
	default:
		var passed json.RawMessage
		if err = d.Decode(&passed); err != nil {
			err = jsonError(err)
		}
	}
	return err
}

// attributePrefix is what headers begin with that are attributes of an event in binary mode,
// as net/http writes them.
const attributePrefix = "Ce-"

// binaryEventHeader returns the header by which a request is a CloudEvent in binary mode (HTTP
// binding, section 3); empty: it is none.
func binaryEventHeader(h http.Header) string {
	for _, name := range []string{"Ce-Id", "Ce-Source", "Ce-Type", "Ce-Specversion"} {
		if len(h[name]) > 0 {
			return strings.ToLower(name)
		}
	}
	return ""
}

// misplacedEventError says that a CloudEvent came to a route that takes none.
type misplacedEventError struct {
	// sign is what makes the request one.
	sign string
}

func (e *misplacedEventError) Error() string {
	return e.sign + " makes the request a CloudEvent, which this route doesn't take: send it to POST " + batchPath
}

// refuseEvent returns a [*misplacedEventError] where a request is a CloudEvent: its identity
// would be passed over.
func refuseEvent(h http.Header) error {
	if name := binaryEventHeader(h); name != "" {
		return &misplacedEventError{"the header " + name}
	}
	types := h["Content-Type"]
	if len(types) == 0 || types[0] == "application/json" {
		return nil
	}
	if mediaType, _, err := mime.ParseMediaType(types[0]); err == nil && strings.HasPrefix(mediaType, "application/cloudevents") {
		return &misplacedEventError{"the Content-Type " + mediaType}
	}
	return nil
}

// parseBinaryEvent reads a CloudEvent in binary mode: its attributes are headers, and the body
// is its data.
func parseBinaryEvent(h http.Header, body []byte) (usageItem, error) {
	var e cloudEvent
	for name, values := range h {
		attribute, ok := strings.CutPrefix(name, attributePrefix)
		if !ok {
			continue
		}
		if err := e.header(strings.ToLower(attribute), values); err != nil {
			return usageItem{}, err
		}
	}
	e.contentType = h.Get("Content-Type")
	if mediaType, _, _ := mime.ParseMediaType(e.contentType); mediaType == formType {
		e.contentType = ""
	}
	if err := e.check("ce-", "Content-Type"); err != nil {
		return usageItem{}, err
	}
	if len(body) > 0 && string(body) != "null" {
		var err error
		if e.data, err = eventData(body, "data"); err != nil {
			return usageItem{}, err
		}
	}
	return e.item(&binaryNames, &typedBinaryNames)
}

// header reads one attribute out of a header.
func (e *cloudEvent) header(attribute string, values []string) error {
	name := "ce-" + attribute
	switch {
	case attribute == "datacontenttype", attribute == "data", attribute == "data_base64":
		return invalid(name, "must not be given: the body is the data, and Content-Type its type")
	case len(values) > 1:
		return invalid(name, "must not be given twice")
	}
	into := e.attributeOf(attribute)
	if into == nil {
		if checkAttribute(attribute) != nil {
			return invalid(fault.Shown(name), "is not the name of a CloudEvent's attribute: those are letters and digits")
		}
		return nil
	}
	value, err := attributeValue(values[0])
	switch {
	case err != nil:
		return invalid(name, "must be UTF-8 whose other than printable ASCII characters are percent-encoded")
	case value == "":
		return invalid(name, "must not be empty")
	}
	*into = value
	return checkText(name, value)
}

// errNotEncoded says that a header's value isn't percent-encoded as it must be.
var errNotEncoded = url.EscapeError("")

// attributeValue decodes the value of a header: one in quotes is unquoted, and what is
// percent-encoded is decoded (HTTP binding, section 3.1.3.2).
func attributeValue(value string) (string, error) {
	if inner, quoted := strings.CutPrefix(value, `"`); quoted {
		if inner, quoted = strings.CutSuffix(inner, `"`); quoted {
			value = unescapeQuoted(inner)
		}
	}
	decoded, err := url.PathUnescape(value)
	if err == nil && !utf8.ValidString(decoded) {
		err = errNotEncoded
	}
	return decoded, err
}

// unescapeQuoted removes the backslashes of a quoted string (RFC 9110, section 5.6.4).
func unescapeQuoted(text string) string {
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(text)
}
