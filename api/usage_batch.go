package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/meter"
)

// The statuses of a receipt, in the order in which the answer adds them up.
const (
	statusAccepted    = "accepted"
	statusDuplicate   = "duplicate"
	statusDenied      = "denied"
	statusLate        = "late"
	statusInvalid     = "invalid"
	statusUnavailable = "unavailable"
)

var receiptStatuses = []string{statusAccepted, statusDuplicate, statusDenied, statusLate, statusInvalid, statusUnavailable}

// receipt says what became of one item of a batch.
type receipt struct {
	Index     int    `json:"index"`
	Status    string `json:"status"`
	Meter     string `json:"meter,omitempty"`
	Quantity  *int64 `json:"quantity,omitempty"`
	OverLimit *bool  `json:"over_limit,omitempty"`
	Current   *int64 `json:"current,omitempty"`
	Held      *int64 `json:"held,omitempty"`
	Max       *int64 `json:"max,omitempty"`
	Remaining *int64 `json:"remaining,omitempty"`
	Field     string `json:"field,omitempty"`
	Message   string `json:"message,omitempty"`
}

// batchItem is what is kept of an item between reading it and deciding on it: little,
// and no part of the body.
type batchItem struct {
	report meter.Report
	// err says why it can't be decided on.
	err error
	// names are what the form calls the members.
	names *itemNames
}

// recordBatch is POST /usage/batch. The whole body is read before anything is counted,
// so that one that isn't well-formed counts nothing; of each item only what it counts is
// kept.
func (s *Server) recordBatch(c *gin.Context) {
	now := s.config.Now()
	p, err := s.authenticate(c, now, roleTenant)
	if err == nil {
		setPrincipal(c, p)
		err = checkQuery(c.Request, nil)
	}
	if err == nil {
		err = s.enter(p, costItem)
	}
	if err != nil {
		s.fail(c, err)
		return
	}
	defer s.underWay.leave(p)
	form, err := batchFormOf(c.Request.Header)
	if err != nil {
		s.fail(c, err)
		return
	}
	key, err := headerKey(c.Request.Header)
	if err == nil {
		err = s.config.Meter.Refuses()
	}
	if err != nil {
		s.fail(c, err)
		return
	}
	organization, err := s.organization(c, p, now)
	if err != nil {
		s.fail(c, err)
		return
	}
	// Before the body is read: that is what a rate limit is to keep away.
	if err := s.enforcer.Pace(c.Writer.Header(), organization); err != nil {
		s.fail(c, err)
		return
	}
	room := s.rooms.Get().(*[]batchItem)
	items, fingerprint, err := s.readBatch(c, form, key, p.organization, (*room)[:0])
	defer func() {
		clear(items)
		*room = items
		s.rooms.Put(room)
	}()
	s.charge(p, (len(items)-1)*costItem)
	if err != nil {
		s.fail(c, err)
		return
	}
	if key == "" {
		s.answerBatch(c, organization, items, nil)
		return
	}
	s.recordOnce(c, organization, items, meter.BatchKey{Identity: meter.BatchIdentity(key), Fingerprint: fingerprint})
}

// recordOnce is the rest of recordBatch for a batch that bears a key.
func (s *Server) recordOnce(c *gin.Context, organization *meter.Organization, items []batchItem, key meter.BatchKey) {
	run, answer, err := s.beginBatch(c.Request.Context(), organization.ID(), key)
	if err == nil && answer != nil {
		err = replayBatch(c.Writer, answer)
	}
	if err != nil {
		s.fail(c, err)
		return
	}
	if run == nil {
		return
	}
	defer run.end(c.Request.Context(), false)
	for i := range items {
		items[i].report.Batch = key
	}
	s.answerBatch(c, organization, items, run)
}

// readBatch appends the items to those given, none, and digests what they say. Those of a request with a key that
// bear none of their own are known by that key and their place.
func (s *Server) readBatch(
	c *gin.Context, form batchForm, key string, organization uuid.UUID, items []batchItem,
) ([]batchItem, meter.Fingerprint, error) {
	limit := s.config.MaxBatchBytes
	if c.Request.ContentLength > limit {
		return items, meter.Fingerprint{}, batchTooLarge(limit)
	}
	digest := newBatchDigest()
	err := form.read(http.MaxBytesReader(c.Writer, c.Request.Body, limit), func(raw []byte) error {
		item, err := form.parse(raw)
		if key != "" {
			digest.add(s, &item, organization, raw, err)
		}
		if err == nil && key != "" && item.identity == (meter.Identity{}) {
			// No key that a caller may give has a zero byte.
			item.identity = meter.KeyIdentity(key + "\x00" + strconv.Itoa(len(items)))
		}
		kept := batchItem{err: err}
		if err == nil {
			kept.report, kept.err = s.report(&item, organization)
			kept.names = item.names
		}
		items = append(items, kept)
		return nil
	})
	return items, digest.fingerprint(), err
}

// answerBatch decides on the items in their order, and streams a receipt for each. Run is
// what the batch's key is bound to; nil: it bears none.
func (s *Server) answerBatch(c *gin.Context, organization *meter.Organization, items []batchItem, run *batchRun) {
	allowLongAnswer(c.Writer)
	ctx := c.Request.Context()
	identities := make([]meter.Identity, 0, len(items))
	for i := range items {
		if id := items[i].report.Identity; items[i].err == nil && id != (meter.Identity{}) {
			identities = append(identities, id)
		}
	}
	known := organization.Known(ctx, identities)
	out := newReceiptWriter(c, run)
	var outcome meter.Outcome
	for i := range items {
		if ctx.Err() != nil {
			// The client is gone: it will send again what it has no receipt of.
			s.fail(c, ctx.Err())
			return
		}
		r := receipt{Index: i}
		err := items[i].err
		if err == nil {
			err = s.checkTime(items[i].names, items[i].report.At)
		}
		if err == nil {
			var failed error
			outcome, failed = s.enforcer.Report(ctx, organization, items[i].report, known)
			r.Meter, r.Quantity = s.config.Meter.Catalog().Meters[items[i].report.Index].Key, &items[i].report.Quantity
			err = r.decided(&outcome, failed, items[i].names)
		}
		if errors.Is(err, meter.ErrUnavailable) && out.counts[statusAccepted] == 0 && !out.begun {
			// Nothing is counted: the whole batch can be sent again.
			s.fail(c, err)
			return
		}
		if err != nil {
			r.failed(err)
		}
		out.add(&r)
	}
	out.end(ctx)
}

// append writes a receipt as encoding/json would, which takes three times as long.
func (r *receipt) append(b []byte) []byte {
	text := func(name, value string) {
		if value != "" {
			b = append(append(append(b, `,"`...), name...), `":`...)
			b = appendText(b, value)
		}
	}
	number := func(name string, value *int64) {
		if value != nil {
			b = append(append(append(b, `,"`...), name...), `":`...)
			b = strconv.AppendInt(b, *value, 10)
		}
	}
	b = strconv.AppendInt(append(b, `{"index":`...), int64(r.Index), 10)
	text("status", r.Status)
	text("meter", r.Meter)
	number("quantity", r.Quantity)
	if r.OverLimit != nil {
		b = strconv.AppendBool(append(b, `,"over_limit":`...), *r.OverLimit)
	}
	number("current", r.Current)
	number("held", r.Held)
	number("max", r.Max)
	number("remaining", r.Remaining)
	text("field", r.Field)
	text("message", r.Message)
	return append(b, '}')
}

// appendText appends a text as JSON.
func appendText(b []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			// A string can't fail to be encoded.
			encoded, _ := json.Marshal(text)
			return append(b, encoded...)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}

// decided fills the receipt of an item that was decided on. An error says why it was not.
func (r *receipt) decided(o *meter.Outcome, failed error, names *itemNames) error {
	d := &o.Decision
	switch {
	case errors.Is(failed, meter.ErrIdentityReused):
		return invalid(names.key, "must not be used again: %s", meter.ErrIdentityReused)
	case errors.Is(failed, meter.ErrQuantityOverflow):
		return invalid(names.quantity, "%s", meter.ErrQuantityOverflow)
	case errors.Is(failed, meter.ErrContractEnded):
		return invalid(names.timestamp, "must be of a time with a contract: %s", meter.ErrContractEnded)
	case failed != nil:
		return failed
	case !d.Allowed:
		r.Status, r.Current, r.Held, r.Max, r.Remaining = statusDenied, &d.Current, &d.Held, &d.Max, &d.Remaining
		r.Message = "The plan's limit of " + r.Meter + " is reached."
	case o.Duplicate:
		r.Status, r.OverLimit = statusDuplicate, &d.OverLimit
	default:
		r.Status, r.OverLimit = statusAccepted, &d.OverLimit
	}
	return nil
}

// failed fills the receipt of an item that was not decided on.
func (r *receipt) failed(err error) {
	var field *fault.FieldError
	if !errors.As(err, &field) {
		r.Status, r.Message = statusUnavailable, "It can't be counted safely at the moment, and wasn't: send it again."
		return
	}
	if field.Field == "body" {
		field = &fault.FieldError{Field: "item", Rule: field.Rule}
	}
	r.Status, r.Field, r.Message = statusInvalid, field.Field, field.Error()
	if errors.Is(err, errLate) {
		r.Status = statusLate
	}
}

// receiptWriter streams the answer to a batch.
type receiptWriter struct {
	w      gin.ResponseWriter
	buffer []byte
	counts map[string]int
	// run keeps what is sent; nil: nothing does.
	run *batchRun
	// begun says that a part of the answer is out.
	begun bool
}

// receiptBuffer is how much of the answer is gathered before it is sent, in bytes.
const receiptBuffer = 32 << 10

func newReceiptWriter(c *gin.Context, run *batchRun) *receiptWriter {
	return &receiptWriter{w: c.Writer, run: run, buffer: append(make([]byte, 0, receiptBuffer+1024), `{"receipts":[`...), counts: map[string]int{}}
}

func (w *receiptWriter) add(r *receipt) {
	if r.Index > 0 {
		w.buffer = append(w.buffer, ',')
	}
	w.buffer = r.append(w.buffer)
	w.counts[r.Status]++
	if len(w.buffer) >= receiptBuffer {
		w.run.keep(w.buffer)
		w.flush()
	}
}

// end sends the rest, once the store has been told how the batch ended: who has the whole
// answer may send the batch again. What was denied may be allowed then, and is decided anew.
func (w *receiptWriter) end(ctx context.Context) {
	w.buffer = append(w.buffer, ']')
	for _, status := range receiptStatuses {
		w.buffer = append(append(append(w.buffer, `,"`...), status...), `":`...)
		w.buffer = strconv.AppendInt(w.buffer, int64(w.counts[status]), 10)
	}
	w.buffer = append(w.buffer, '}')
	w.run.keep(w.buffer)
	w.run.end(ctx, w.counts[statusDenied] == 0 && w.counts[statusUnavailable] == 0)
	w.flush()
}

func (w *receiptWriter) flush() {
	if !w.begun {
		w.begun = true
		w.w.Header()["Content-Type"] = headerJSON
		w.w.WriteHeader(http.StatusOK)
	}
	// The client may be gone; that is found at the next item.
	_, _ = w.w.Write(w.buffer)
	w.buffer = w.buffer[:0]
}
