package api

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// scratch is what one POST /usage reads into and answers from.
type scratch struct{ in, out []byte }

var headerJSON = []string{"application/json; charset=utf-8"}

// recordUsage is POST /usage: check and count in one step. It is the hot path, and
// written by hand for that: it allocates next to nothing and touches memory only.
func (s *Server) recordUsage(c *gin.Context) {
	now := s.config.Now()
	p, err := s.authenticate(c, now, roleTenant)
	if err != nil {
		s.fail(c, err)
		return
	}
	if s.verbose {
		setPrincipal(c, p)
	}
	if err := s.underWay.enter(p); err != nil {
		s.fail(c, err)
		return
	}
	defer s.underWay.leave(p)
	if err := checkQuery(c.Request, nil); err != nil {
		s.fail(c, err)
		return
	}
	buffers := s.scratch.Get().(*scratch)
	defer s.scratch.Put(buffers)
	buffers.in, err = readBody(c.Request, buffers.in[:0], maxBody)
	if err != nil {
		s.fail(c, err)
		return
	}
	scanned, ok := scanUsage(buffers.in)
	report := scanned.usageReport
	if !ok || !scanned.plain() || len(c.Request.Header[headerIdempotencyKey]) > 0 {
		item, err := readUsage(c.Request.Header, buffers.in)
		more := item.key != "" || item.timestamp != ""
		if err == nil && more {
			err = s.recordItem(c, p, buffers, &item, now)
		}
		if err != nil {
			s.refuse(c, p, err)
		}
		if err != nil || more {
			return
		}
		report = item.usageReport
	}
	out, m, err := s.consume(c, p, &report, now)
	if err != nil {
		s.refuse(c, p, err)
		return
	}
	buffers.answer(c, m.Key, out.Plan, &out.Decision, out.Window)
}

// refuse answers with an error. A refusal by the plan or the rate limit is no more than an
// answer: the log needs no caller.
func (s *Server) refuse(c *gin.Context, p *principal, err error) {
	if problem, ok := errors.AsType[*gate.Problem](err); ok {
		problem.Abort(c)
		return
	}
	setPrincipal(c, p)
	s.fail(c, err)
}

// answer writes a decision.
func (b *scratch) answer(c *gin.Context, meterKey, plan string, d *plans.Decision, w calendar.Window) {
	b.out = appendDecision(b.out[:0], meterKey, plan, d, w)
	c.Writer.Header()["Content-Type"] = headerJSON
	c.Writer.WriteHeader(http.StatusOK)
	// The client may be gone; what it used is counted all the same.
	_, _ = c.Writer.Write(b.out)
}

// consume decides on a report, and counts it.
func (s *Server) consume(c *gin.Context, p *principal, report *usageReport, now time.Time) (out meter.Outcome, m *plans.Meter, err error) {
	index, ok := s.config.Meter.Index(string(report.meter))
	if !ok {
		return out, nil, s.unknownMeter(&usageNames)
	}
	m = &s.config.Meter.Catalog().Meters[index]
	quantity, err := report.quantityFor(m, "quantity")
	if err != nil {
		return out, nil, err
	}
	organization, err := s.organization(c, p, now)
	if err != nil {
		return out, nil, err
	}
	out, err = s.enforcer.Use(c.Request.Context(), c.Writer.Header(), organization, index, quantity, now)
	return out, m, err
}

// readUsage reads a body that isn't plain, and the key in the header.
func readUsage(h http.Header, body []byte) (usageItem, error) {
	item, err := parseUsage(body)
	var field *fault.FieldError
	if errors.Is(err, errEvent) && errors.As(err, &field) {
		err = invalid(field.Field, "%s; a CloudEvent goes to POST %s", field.Rule, batchPath)
	}
	if err != nil {
		return usageItem{}, err
	}
	key, err := requestKey(h, item.key)
	item.setKey(key)
	return item, err
}

// recordItem is the rest of POST /usage for a report that bears a key, or a time of its
// own. Where it returns an error it hasn't answered.
func (s *Server) recordItem(c *gin.Context, p *principal, buffers *scratch, item *usageItem, now time.Time) error {
	report, err := s.report(item, p.organization)
	if err == nil {
		err = s.checkTime(item.names, report.At)
	}
	if err != nil {
		return err
	}
	organization, err := s.organization(c, p, now)
	if err != nil {
		return err
	}
	ctx, header := c.Request.Context(), c.Writer.Header()
	var known meter.KnownSet
	if item.key != "" {
		known = organization.Known(ctx, []meter.Identity{report.Identity})
	}
	out, err := s.enforcer.AdmitReport(ctx, header, organization, report, known)
	if err != nil {
		return err
	}
	if out.Duplicate {
		header[headerIdempotencyReplayed] = replayed
	}
	buffers.answer(c, s.config.Meter.Catalog().Meters[report.Index].Key, out.Plan, &out.Decision, out.Window)
	return nil
}

var replayed = []string{"true"}

// organization finds the usage of a tenant: once a request. It asks the meter every
// time, a look-up in memory, because that is what makes the meter load an
// organization whose plan or usage it could not read.
func (s *Server) organization(c *gin.Context, p *principal, now time.Time) (*meter.Organization, error) {
	return s.config.Meter.Organization(c.Request.Context(), p.organization, now)
}

// appendDecision appends the answer as JSON. Keys of meters and plans are plain
// ASCII by the catalog's rules and need no escapes.
func appendDecision(b []byte, meterKey, plan string, d *plans.Decision, w calendar.Window) []byte {
	b = append(b, `{"allowed":true,"meter":"`...)
	b = append(b, meterKey...)
	b = append(b, `","plan":"`...)
	b = append(b, plan...)
	b = append(b, `","mode":"`...)
	b = append(b, d.Mode...)
	b = append(b, `","current":`...)
	b = strconv.AppendInt(b, d.Current, 10)
	b = append(b, `,"held":`...)
	b = strconv.AppendInt(b, d.Held, 10)
	if d.Mode == plans.Unlimited {
		b = append(b, `,"max":null,"remaining":null`...)
	} else {
		b = append(b, `,"max":`...)
		b = strconv.AppendInt(b, d.Max, 10)
		b = append(b, `,"remaining":`...)
		b = strconv.AppendInt(b, d.Remaining, 10)
	}
	b = append(b, `,"over_limit":`...)
	b = strconv.AppendBool(b, d.OverLimit)
	b = append(b, `,"window":{"start":"`...)
	b = w.Start.AppendFormat(b, time.RFC3339)
	b = append(b, `","end":"`...)
	b = w.End.AppendFormat(b, time.RFC3339)
	return append(b, `"}}`...)
}
