package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

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
	if err := checkQuery(c.Request, nil); err != nil {
		s.fail(c, err)
		return
	}
	buffers := s.scratch.Get().(*scratch)
	defer s.scratch.Put(buffers)
	buffers.in, err = readBody(c.Request, buffers.in[:0])
	if err != nil {
		s.fail(c, err)
		return
	}
	admission, m, problem, err := s.consume(c, p, buffers.in, now)
	if err != nil {
		setPrincipal(c, p)
		s.fail(c, err)
		return
	}
	if problem != nil {
		problem.Abort(c)
		return
	}
	window := admission.Reservation.Window()
	if err := admission.Reservation.TryCommit(); err != nil {
		setPrincipal(c, p)
		s.fail(c, err)
		return
	}
	buffers.out = appendDecision(buffers.out[:0], m.Key, admission, window)
	c.Writer.Header()["Content-Type"] = headerJSON
	c.Writer.WriteHeader(http.StatusOK)
	// The client may be gone; what it used is counted all the same.
	_, _ = c.Writer.Write(buffers.out)
}

// consume decides on a body. What it admits must be committed.
func (s *Server) consume(c *gin.Context, p *principal, body []byte, now time.Time) (gate.Admission, plans.Meter, *gate.Problem, error) {
	report, err := decodeUsage(body)
	if err != nil {
		return gate.Admission{}, plans.Meter{}, nil, err
	}
	index, ok := s.config.Meter.Index(string(report.meter))
	if !ok {
		return gate.Admission{}, plans.Meter{}, nil, s.unknownMeter()
	}
	m := s.config.Meter.Catalog().Meters[index]
	quantity, err := report.quantityFor(m)
	if err != nil {
		return gate.Admission{}, plans.Meter{}, nil, err
	}
	organization, err := s.organization(c, p, now)
	if err != nil {
		return gate.Admission{}, plans.Meter{}, nil, err
	}
	admission, problem := s.enforcer.Admit(c.Request.Context(), c.Writer.Header(), organization, index, quantity, now)
	return admission, m, problem, nil
}

// organization finds the usage of a tenant: once a request. It asks the meter every
// time, a look-up in memory, because that is what makes the meter load an
// organization whose plan or usage it could not read.
func (s *Server) organization(c *gin.Context, p *principal, now time.Time) (*meter.Organization, error) {
	return s.config.Meter.Organization(c.Request.Context(), p.organization, now)
}

func (s *Server) unknownMeter() error {
	var keys []string
	for _, m := range s.config.Meter.Catalog().Meters {
		keys = append(keys, m.Key)
	}
	return invalid("meter", "must be one of the catalog's: %s", strings.Join(keys, ", "))
}

// appendDecision appends the answer as JSON. Keys of meters and plans are plain
// ASCII by the catalog's rules and need no escapes.
func appendDecision(b []byte, meterKey string, a gate.Admission, w plans.Window) []byte {
	d := a.Decision
	b = append(b, `{"allowed":true,"meter":"`...)
	b = append(b, meterKey...)
	b = append(b, `","plan":"`...)
	b = append(b, a.Plan...)
	b = append(b, `","mode":"`...)
	b = append(b, d.Mode...)
	b = append(b, `","current":`...)
	b = strconv.AppendInt(b, d.Current, 10)
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
