package api

import (
	"encoding/json"
	"mime"
	"strings"

	"github.com/riverline/tollgate/meter"
)

var eventNames = itemNames{meter: "data.meter", quantity: "data.quantity", key: "id", timestamp: "time"}

// cloudEvent is what counts of a CloudEvent (CloudEvents 1.0.2, JSON format).
type cloudEvent struct {
	specversion, id, source, kind, time, contentType, subject string
	data                                                      []byte
}

// parseCloudEvent reads a CloudEvent. Its meter is the one in its data, or the last
// segment of its type. Attributes that mean nothing here are passed over; so are members
// of the data, but for the fingerprint.
func parseCloudEvent(raw []byte) (usageItem, error) {
	var e cloudEvent
	if err := parseObject(raw, "", e.attribute); err != nil {
		return usageItem{}, err
	}
	if err := e.check(); err != nil {
		return usageItem{}, err
	}
	item := usageItem{names: &eventNames, timestamp: e.time, properties: e.data, identity: meter.CloudEventIdentity(e.source, e.id)}
	if e.data != nil {
		if err := parseObject(e.data, "data.", item.dataMember); err != nil {
			return usageItem{}, err
		}
	}
	if item.meter == nil {
		item.meter = []byte(e.kind[strings.LastIndexByte(e.kind, '.')+1:])
		item.names = &typedEventNames
	}
	return item, nil
}

// typedEventNames are for events whose type says the meter.
var typedEventNames = itemNames{meter: "type", quantity: "data.quantity", key: "id", timestamp: "time"}

// attribute reads one attribute. Null means that it isn't there.
func (e *cloudEvent) attribute(d *json.Decoder, name string) error {
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return jsonError(err)
	}
	if string(raw) == "null" {
		return nil
	}
	var into *string
	switch name {
	case "specversion":
		into = &e.specversion
	case "id":
		into = &e.id
	case "source":
		into = &e.source
	case "type":
		into = &e.kind
	case "time":
		into = &e.time
	case "datacontenttype":
		into = &e.contentType
	case "subject":
		into = &e.subject
	case "data":
		var err error
		e.data, err = compactObject(raw, name)
		return err
	case "data_base64":
		return invalid(name, "must not be given: data must be a JSON object")
	default:
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
	return nil
}

// checkAttribute checks the name of an attribute that means nothing here (section 3).
func checkAttribute(name string) error {
	odd := func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9') }
	if name == "" || strings.ContainsFunc(name, odd) {
		return invalid(nameOf(shown(name)), "is not the name of a CloudEvent's attribute: those are lower-case letters and digits")
	}
	return nil
}

func (e *cloudEvent) check() error {
	if e.specversion != "1.0" {
		return invalid("specversion", "must be 1.0")
	}
	for _, required := range []struct{ name, value string }{{"id", e.id}, {"source", e.source}, {"type", e.kind}} {
		if required.value == "" {
			return invalid(required.name, "must be given")
		}
	}
	if e.contentType == "" {
		return nil
	}
	mediaType, _, err := mime.ParseMediaType(e.contentType)
	if err != nil || mediaType != "application/json" && !strings.HasSuffix(mediaType, "+json") {
		return invalid("datacontenttype", "must be application/json, %q is not", shown(e.contentType))
	}
	return nil
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
