package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
)

// Media types of batches, besides application/json.
const (
	formType        = "application/x-www-form-urlencoded"
	eventType       = "application/cloudevents+json"
	eventsBatchType = "application/cloudevents-batch+json"
)

// itemParser reads one item of a form.
type itemParser func(raw []byte) (usageItem, error)

// batchForm says how a batch is written.
type batchForm struct {
	parse itemParser
	// array and object say which of them the body may be; neither: it is the data of an event
	// in binary mode.
	array, object bool
}

// batchFormOf says how a batch is written, by the declared type and the headers.
func batchFormOf(h http.Header) (batchForm, error) {
	mediaType, err := "application/json", error(nil)
	if types := h["Content-Type"]; len(types) > 0 {
		mediaType, _, err = mime.ParseMediaType(types[0])
	}
	switch {
	case err == nil && mediaType == eventsBatchType:
		return batchForm{parse: parseCloudEvent, array: true}, nil
	case err == nil && mediaType == eventType:
		return batchForm{parse: parseCloudEvent, object: true}, nil
	case binaryEventHeader(h) != "":
		return batchForm{parse: func(raw []byte) (usageItem, error) { return parseBinaryEvent(h, raw) }}, nil
	case err == nil && (mediaType == "application/json" || mediaType == formType):
		// The second is what curl -d says by default.
		return batchForm{parse: parseEither, array: true, object: true}, nil
	default:
		return batchForm{}, errNotBatch
	}
}

// errEvent says that an item is no report: it has a field that only a CloudEvent has.
var errEvent = errors.New("the item has an attribute of a CloudEvent")

// isEventField reports whether a CloudEvent has an attribute that a report has no field for.
func isEventField(name string) bool {
	switch name {
	case "specversion", "id", "source", "type", "time", "data", "data_base64", "datacontenttype", "dataschema", "subject":
		return true
	default:
		return false
	}
}

// parseEither reads a report or, where it has attributes of one and no meter, a CloudEvent.
func parseEither(raw []byte) (usageItem, error) {
	item, err := parseUsage(raw)
	if !errors.Is(err, errEvent) {
		return item, err
	}
	var probe struct {
		SpecVersion json.RawMessage `json:"specversion"`
		Meter       json.RawMessage `json:"meter"`
	}
	if json.Unmarshal(raw, &probe) == nil && probe.Meter != nil && probe.SpecVersion == nil {
		return item, err
	}
	return parseCloudEvent(raw)
}

// read calls item with each item of a body: an array's elements, as they come in, or the one
// that the body is.
func (f *batchForm) read(body io.Reader, item func(raw []byte) error) error {
	if f.array && !f.object {
		return eachItem(body, item)
	}
	if !f.object {
		raw, err := readItem(body, maxItem)
		if err != nil {
			return err
		}
		return item(raw)
	}
	start, body, err := firstByte(body)
	if err != nil {
		return arrayError(nil, err, "body")
	}
	if f.array && start != '{' {
		return eachItem(body, item)
	}
	raw, err := readItem(body, maxItem)
	if err != nil {
		return err
	}
	if !json.Valid(raw) {
		var value json.RawMessage
		return jsonError(json.Unmarshal(raw, &value))
	}
	if start != '{' {
		return invalid("body", "must be a JSON object: one CloudEvent")
	}
	return item(raw)
}

// firstByte returns the first byte that isn't white space, and a reader of all from it on.
func firstByte(body io.Reader) (byte, io.Reader, error) {
	var one [1]byte
	for range maxItem {
		if _, err := io.ReadFull(body, one[:]); err != nil {
			return 0, nil, err
		}
		switch one[0] {
		case ' ', '\t', '\r', '\n':
		default:
			return one[0], io.MultiReader(bytes.NewReader(one[:]), body), nil
		}
	}
	return 0, nil, errItemTooLarge
}

// readItem reads a body that is one item, of at most limit bytes.
func readItem(body io.Reader, limit int64) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, arrayError(nil, err, "body")
	}
	if int64(len(raw)) > limit {
		return nil, arrayError(nil, errItemTooLarge, "body")
	}
	return raw, nil
}
