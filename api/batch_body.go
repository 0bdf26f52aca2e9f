package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

const (
	// maxItems is the most items that a batch may have.
	maxItems = 10_000
	// maxItem is the largest item of a batch, in bytes, with the white space before it.
	maxItem = 64 << 10
)

// batchLimitError says that a batch, or an item of it, is too large.
type batchLimitError struct{ rule string }

func (e *batchLimitError) Error() string { return e.rule }

func batchTooLarge(limit int64) error {
	return &batchLimitError{fmt.Sprintf("the batch is larger than %d bytes", limit)}
}

var errItemTooLarge = errors.New("an item is too large")

// boundedReader gives no more than it is allowed.
type boundedReader struct {
	from          io.Reader
	read, allowed int64
}

func (r *boundedReader) Read(p []byte) (int, error) {
	left := r.allowed - r.read
	if left <= 0 {
		return 0, errItemTooLarge
	}
	n, err := r.from.Read(p[:min(int64(len(p)), left)])
	r.read += int64(n)
	return n, err
}

// eachItem calls item with each element of the JSON array in body, as it comes in: no
// more than one is held. What item is given is valid JSON, and its own only until it
// returns. An error of eachItem is about the array as a whole, or item's own.
func eachItem(body io.Reader, item func(raw []byte) error) error {
	plain := newPlainReader(body)
	index, whole, err := plain.each(item)
	if err != nil || whole {
		return err
	}
	rest, shift := plain.rest(index)
	return decodeItems(rest, index, shift, item)
}

// decodeItems is eachItem for items of any form, the first of which has an index. Where that isn't 0, another one
// before it stands for those that were read. Shift is how much further in the body each place is.
func decodeItems(body io.Reader, index int, shift int64, item func(raw []byte) error) error {
	bounded := &boundedReader{from: body, allowed: maxItem}
	d := &arrayDecoder{Decoder: json.NewDecoder(bounded), shift: shift}
	token, err := d.Token()
	if err != nil {
		return arrayError(d, err, "body")
	}
	if token != json.Delim('[') {
		return invalid("body", "must be a JSON array")
	}
	if index > 0 {
		// What stands for those that were read.
		_, _ = d.Token()
	}
	var raw json.RawMessage
	for ; ; index++ {
		// One byte more tells an item that ends at its limit from one that doesn't.
		bounded.allowed = d.InputOffset() + maxItem + 1
		if !d.More() {
			break
		}
		if index == maxItems {
			return &batchLimitError{fmt.Sprintf("the batch has more than %d items", maxItems)}
		}
		if err := d.Decode(&raw); err != nil {
			return arrayError(d, err, itemName(index))
		}
		if err := item(raw); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return arrayError(d, err, itemName(index))
	}
	bounded.allowed = d.InputOffset() + maxItem
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = errTrailing
		}
		return arrayError(d, err, "body")
	}
	return nil
}

// itemName is what errors call an item of the array.
func itemName(index int) string { return "body[" + strconv.Itoa(index) + "]" }

var errTrailing = errors.New("there is more after the array")

// arrayError says in a caller's words why an array could not be read on. Without a decoder the error isn't one of syntax.
func arrayError(d *arrayDecoder, err error, name string) error {
	var syntax *json.SyntaxError
	var tooLarge *http.MaxBytesError
	var unpacked *bodyTooLargeError
	known := unreadable(err)
	switch {
	case errors.As(known, &unpacked):
		return batchTooLarge(unpacked.limit)
	case known != nil:
		return known
	case errors.Is(err, errItemTooLarge):
		return &batchLimitError{fmt.Sprintf("%s is larger than %d bytes", name, maxItem)}
	case errors.As(err, &tooLarge):
		return batchTooLarge(tooLarge.Limit)
	case errors.As(err, &syntax):
		return invalid(name, "must be JSON: %s at byte %d of the body", syntax.Error(), syntaxOffset(d))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return invalid(name, "must be whole, and the array closed: the body ends too early")
	case errors.Is(err, errTrailing):
		return invalid(name, "must end after the array")
	default:
		return invalid("body", "could not be read to its end")
	}
}

// syntaxOffset is the place, counted from 1, of the byte at which the decoder found bad
// syntax. The decoder counts from where it last began to decode; what it began with is
// still in its buffer.
func syntaxOffset(d *arrayDecoder) int64 {
	rest, _ := io.ReadAll(d.Buffered())
	var syntax *json.SyntaxError
	var value json.RawMessage
	if errors.As(json.Unmarshal(rest, &value), &syntax) {
		return d.InputOffset() + d.shift + syntax.Offset
	}
	return d.InputOffset() + d.shift + 1
}

// arrayDecoder decodes a part of a body.
type arrayDecoder struct {
	*json.Decoder
	// shift is what has to be added to a place to have that in the body.
	shift int64
}
