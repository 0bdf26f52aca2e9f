package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/riverline/tollgate/fault"
)

const (
	// maxBody is the largest body of a request, in bytes; the gateway's are not bounded.
	maxBody = 64 << 10
	// maxCatalogBody is that of a request that bears a catalog.
	maxCatalogBody = 1 << 20
	// maxDepth is how deep a body's objects and arrays may be nested.
	maxDepth = 16
)

// bodyTooLargeError says that a body is larger than a request's may be.
type bodyTooLargeError struct{ limit int64 }

func (e *bodyTooLargeError) Error() string {
	return fmt.Sprintf("the body is larger than %d bytes", e.limit)
}

// readBody reads a JSON request's body, of at most limit bytes, into buffer. A CloudEvent is
// refused.
func readBody(r *http.Request, buffer []byte, limit int64) ([]byte, error) {
	if err := refuseEvent(r.Header); err != nil {
		return nil, err
	}
	if !isJSON(r.Header["Content-Type"]) {
		return nil, errNotJSON
	}
	if r.ContentLength > limit {
		return nil, &bodyTooLargeError{limit}
	}
	for {
		if len(buffer) == cap(buffer) {
			buffer = append(buffer, 0)[:len(buffer)]
		}
		n, err := r.Body.Read(buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		if int64(len(buffer)) > limit {
			return nil, &bodyTooLargeError{limit}
		}
		if errors.Is(err, io.EOF) {
			return buffer, nil
		}
		if err != nil {
			if known := unreadable(err); known != nil {
				return nil, known
			}
			return nil, &fault.FieldError{Field: "body", Rule: "could not be read to its end"}
		}
	}
}

// isJSON reports whether a body may be taken for JSON: where it is declared as such,
// not declared at all, or declared as what curl -d and simple clients say by default.
func isJSON(contentType []string) bool {
	if len(contentType) == 0 || contentType[0] == "application/json" {
		return true
	}
	mediaType, _, err := mime.ParseMediaType(contentType[0])
	return err == nil && (mediaType == "application/json" || mediaType == "application/x-www-form-urlencoded" ||
		(strings.HasPrefix(mediaType, "application/") && strings.HasSuffix(mediaType, "+json")))
}

// decodeStrict reads a JSON object into the struct that v points to. A field that
// the struct doesn't have (by its exact name), one that is there twice, a wrong type
// and anything after the object are each an [*fault.FieldError].
func decodeStrict(body []byte, v any) error {
	names := json.NewDecoder(bytes.NewReader(body))
	names.UseNumber()
	if err := checkNames(names, reflect.TypeOf(v).Elem(), "", 0); err != nil {
		return err
	}
	if _, err := names.Token(); !errors.Is(err, io.EOF) {
		return invalid("body", "must end after the JSON object")
	}
	if err := json.Unmarshal(body, v); err != nil {
		return jsonError(err)
	}
	return nil
}

// checkNames walks over one JSON value and holds its fields against a type.
func checkNames(d *json.Decoder, t reflect.Type, path string, depth int) error {
	if depth > maxDepth {
		return invalid(orBody(path), "must not be nested more than %d deep", maxDepth)
	}
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	token, err := d.Token()
	if err != nil {
		return jsonError(err)
	}
	if path == "" && token != json.Delim('{') {
		return invalid("body", "must be a JSON object")
	}
	switch token {
	case json.Delim('{'):
		err = checkFields(d, t, path, depth)
	case json.Delim('['):
		for i := 0; d.More() && err == nil; i++ {
			err = checkNames(d, elementOf(t), path+"["+strconv.Itoa(i)+"]", depth+1)
		}
	default:
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := d.Token(); err != nil {
		return jsonError(err)
	}
	return nil
}

func checkFields(d *json.Decoder, t reflect.Type, path string, depth int) error {
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return jsonError(err)
		}
		name, _ := token.(string)
		field := strings.TrimPrefix(path+"."+name, ".")
		inner, ok := fieldOf(t, name)
		if !ok {
			return invalid(nameOf(field), "is not a field of this request")
		}
		if seen[name] {
			return invalid(field, "must not be given twice")
		}
		seen[name] = true
		if err := checkNames(d, inner, field, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// fieldOf returns the type of a struct's field by its JSON name. A type that isn't a
// struct has any field: the decoder says later what is wrong with it.
func fieldOf(t reflect.Type, name string) (reflect.Type, bool) {
	if t == nil || t.Kind() != reflect.Struct {
		return nil, true
	}
	for i := range t.NumField() {
		tag, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if tag == name {
			return t.Field(i).Type, true
		}
	}
	return nil, false
}

func elementOf(t reflect.Type) reflect.Type {
	if t == nil || (t.Kind() != reflect.Slice && t.Kind() != reflect.Array) {
		return nil
	}
	return t.Elem()
}

// jsonError says in a caller's words what encoding/json found.
func jsonError(err error) error {
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		return invalid(orBody(wrong.Field), "must be %s, not %s", typeName(wrong.Type), article(wrong.Value))
	case errors.As(err, &syntax):
		return invalid("body", "must be JSON: %s at byte %d", strings.TrimPrefix(syntax.Error(), "json: "), syntax.Offset)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return invalid("body", "must be a whole JSON object: it ends too early")
	default:
		return invalid("body", "must be a JSON object of the form in the API reference")
	}
}

func orBody(field string) string {
	if field == "" {
		return "body"
	}
	return field
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Slice, reflect.Array:
		return "an array"
	default:
		return "an object"
	}
}

func article(value string) string {
	value, _, _ = strings.Cut(value, " ")
	switch value {
	case "array", "object":
		return "an " + value
	case "bool":
		return "a boolean"
	default:
		return fmt.Sprintf("a %s", value)
	}
}

// nameOf returns what a field at fault is called; one with no name at all is `""`.
func nameOf(field string) string {
	if field == "" || strings.HasSuffix(field, ".") {
		return field + `""`
	}
	return field
}
