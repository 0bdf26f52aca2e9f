package gate

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// New makes middleware that charges requests to organizations. It panics where a
// required field of the config is missing.
func New(config Config) gin.HandlerFunc { return NewEnforcer(config).Middleware() }

// Middleware makes the middleware of [New] on an enforcer that others use too. It
// panics where Config.Organization or Config.Classify is missing.
func (e *Enforcer) Middleware() gin.HandlerFunc {
	if e.config.Organization == nil || e.config.Classify == nil {
		panic("gate: Config.Organization and Config.Classify are required")
	}
	return e.serve
}

func (e *Enforcer) serve(c *gin.Context) {
	organization, ok := e.config.Organization(c)
	if !ok {
		if !c.IsAborted() {
			NewProblem(http.StatusUnauthorized, CodeUnauthorized, "The request bears no key of an organization.").Abort(c)
		}
		return
	}
	if e.config.Shedder.Active() && !e.config.Shedder.Admit(organization.ID(), c.Request.ContentLength) {
		Overloaded(c.Writer.Header()).Abort(c)
		return
	}
	charge, ok := e.config.Classify(c.Request)
	if !ok {
		e.serveUnclassified(c, organization)
		return
	}
	index, quantity, ok := e.resolve(charge)
	if !ok {
		e.config.Logger.Error("Charge is not one that the catalog can count", "meter", charge.Meter, "quantity", charge.Quantity,
			"method", c.Request.Method, "path", c.Request.URL.Path)
		NewProblem(http.StatusInternalServerError, CodeInternal, "The gateway's rules are wrong; nothing was charged.").Abort(c)
		return
	}
	if !boundBody(c, charge.maxBody(organization.Plan().Key)) {
		bodyTooLarge().Abort(c)
		return
	}
	admission, err := e.Admit(c.Request.Context(), c.Writer.Header(), organization, index, quantity, e.config.Now())
	if err != nil {
		abort(c, err)
		return
	}
	e.run(c, admission)
}

// boundBody lets a request's body have so many bytes, 0: any; false: it says that it has more.
func boundBody(c *gin.Context, most int64) bool {
	if most == 0 || c.Request.ContentLength == 0 {
		return true
	}
	if c.Request.ContentLength > most {
		return false
	}
	c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, most)
	return true
}

func (e *Enforcer) serveUnclassified(c *gin.Context, organization *meter.Organization) {
	e.unclassified.Add(1)
	if e.config.Unclassified == Refuse {
		NewProblem(http.StatusNotFound, CodeNotMetered, "The gateway has no rule for "+c.Request.Method+" "+c.Request.URL.EscapedPath()+".").Abort(c)
		return
	}
	if err := e.Pace(c.Writer.Header(), organization); err != nil {
		abort(c, err)
	}
}

// resolve finds what a charge counts, and whether it can be counted.
func (e *Enforcer) resolve(charge Charge) (meter.Index, int64, bool) {
	index, ok := e.config.Meter.Index(charge.Meter)
	if !ok {
		return 0, 0, false
	}
	quantity := charge.Quantity
	if quantity == 0 && e.config.Meter.Catalog().Meters[index].Aggregation == plans.Sum {
		quantity = 1
	}
	return index, quantity, quantity >= 0 && quantity <= plans.MaxQuantity
}

// run lets the handlers that follow answer, and settles by what they answered.
func (e *Enforcer) run(c *gin.Context, admission Admission) {
	outer := c.Writer
	writer := &settlingWriter{ResponseWriter: outer, enforcer: e, reservation: e.config.Meter.KeepOpen(admission.Reservation, e.config.Now())}
	c.Writer = writer
	returned := false
	// Not recover: a panic, or runtime.Goexit, goes on as it was, with its own stack.
	defer func() {
		c.Writer = outer
		writer.finish(returned, c.Request.Context().Err() != nil)
	}()
	c.Next()
	returned = true
}
