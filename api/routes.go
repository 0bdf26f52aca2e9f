package api

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/audit"
)

// role keeps the tables below short.
type role = accounts.Role

const (
	roleTenant  = accounts.RoleTenant
	roleFinance = accounts.RoleFinance
	roleAdmin   = accounts.RoleAdmin
)

const (
	usagePath     = "/api/v1/usage"
	batchPath     = usagePath + "/batch"
	gatewayPrefix = "/gateway"
	gatewayRoute  = gatewayPrefix + "/*path"
)

// access says who may call a route, and with what. A test holds it against the document.
type access struct {
	// roles may call. None: anybody may.
	roles []role
	// cost is what a tenant's request costs, in tokens of its organization; what it brings is charged on top.
	cost int
	// query lists the parameters; any other is refused.
	query []string
	// body makes what the body is decoded into. Nil: the body is not read.
	body func() any
	// maxBody is the largest body, in bytes. Zero: [maxBody].
	maxBody int64
	// bodyOptional says that there need be no body.
	bodyOptional bool
	// command says that what a request does is no row of its own: the request is an entry of the audit log, before anything
	// is done. What writes rows is one by them.
	command bool
	// keep makes a request that bears an Idempotency-Key happen once; it returns what is
	// kept of the answer. Nil: the header does nothing, or the handler sees to it.
	keep func(accounts.WriteAnswer) (accounts.WriteAnswer, error)
}

func into[T any]() any { return new(T) }

// everyRole is for what each caller has for itself.
var everyRole = []role{roleTenant, roleFinance, roleAdmin}

// accessTo has every route that is generated, by method and path.
var accessTo = map[string]access{
	"GET /api/v1/usage":         {roles: []role{roleTenant, roleFinance, roleAdmin}, cost: costMemory, query: []string{"organization_id"}},
	"GET /api/v1/usage/history": {roles: []role{roleTenant, roleFinance, roleAdmin}, cost: costRead, query: []string{"organization_id", "meter", "from", "to", "granularity"}},

	"POST /api/v1/reservations":            {roles: []role{roleTenant}, cost: costWrite, body: into[gen.CreateReservationJSONRequestBody]},
	"GET /api/v1/reservations/:id":         {roles: []role{roleTenant}, cost: costRead},
	"DELETE /api/v1/reservations/:id":      {roles: []role{roleTenant}, cost: costWrite, keep: keepAll},
	"POST /api/v1/reservations/:id/commit": {roles: []role{roleTenant}, cost: costWrite, body: into[gen.CommitReservationJSONRequestBody], bodyOptional: true, keep: keepAll},

	"POST /api/v1/organizations":               {roles: []role{roleAdmin}, body: into[gen.CreateOrganizationJSONRequestBody], keep: keepAll},
	"GET /api/v1/organizations":                {roles: []role{roleFinance, roleAdmin}, query: []string{"search", "after", "limit"}},
	"GET /api/v1/organizations/:id":            {roles: []role{roleTenant, roleFinance, roleAdmin}, cost: costRead},
	"PATCH /api/v1/organizations/:id":          {roles: []role{roleAdmin}, body: into[gen.UpdateOrganizationJSONRequestBody], keep: keepAll},
	"POST /api/v1/organizations/:id/upgrade":   {roles: []role{roleTenant, roleAdmin}, cost: costUpgrade, body: into[gen.UpgradeOrganizationJSONRequestBody], keep: keepAll},
	"DELETE /api/v1/organizations/:id/upgrade": {roles: []role{roleTenant, roleAdmin}, cost: costUpgrade, keep: keepAll},
	"POST /api/v1/organizations/:id/end":       {roles: []role{roleAdmin}, body: into[gen.EndContractJSONRequestBody], bodyOptional: true, keep: keepAll},
	"DELETE /api/v1/organizations/:id/end":     {roles: []role{roleAdmin}, keep: keepAll},
	"PUT /api/v1/organizations/:id/customers/:sink": {
		roles: []role{roleFinance, roleAdmin}, body: into[gen.PutCustomerJSONRequestBody], keep: keepAll,
	},
	"POST /api/v1/organizations/:id/keys":           {roles: []role{roleAdmin}, body: into[gen.CreateOrganizationKeyJSONRequestBody], keep: keepNoSecret},
	"GET /api/v1/organizations/:id/keys":            {roles: []role{roleTenant, roleAdmin}, cost: costRead},
	"GET /api/v1/organizations/:id/bill":            {roles: everyRole, cost: costBill, query: []string{"plan"}},
	"GET /api/v1/organizations/:id/plans":           {roles: everyRole, cost: costRead},
	"GET /api/v1/organizations/:id/statements":      {roles: everyRole, cost: costRead, query: []string{"limit"}},
	"GET /api/v1/organizations/:id/credits":         {roles: everyRole, cost: costRead},
	"POST /api/v1/organizations/:id/credits":        {roles: []role{roleFinance}, body: into[gen.GrantCreditJSONRequestBody], keep: keepAll},
	"GET /api/v1/organizations/:id/credits/entries": {roles: everyRole, cost: costRead, query: []string{"after", "limit"}},
	"POST /api/v1/credits/:grant/void":              {roles: []role{roleFinance}, body: into[gen.VoidCreditJSONRequestBody], keep: keepAll},

	"GET /api/v1/audit": {roles: []role{roleFinance, roleAdmin}, query: []string{"actor", "organization_id", "kind", "since", "until", "before", "limit"}},

	"GET /api/v1/quarantine":            {roles: []role{roleAdmin}, query: []string{"state", "organization_id", "after", "limit"}},
	"GET /api/v1/quarantine/:id":        {roles: []role{roleAdmin}},
	"POST /api/v1/quarantine/:id/apply": {roles: []role{roleAdmin}, body: into[gen.ApplyQuarantinedJSONRequestBody], keep: keepAll},
	"POST /api/v1/quarantine/:id/drop":  {roles: []role{roleAdmin}, body: into[gen.DropQuarantinedJSONRequestBody], keep: keepAll},

	"GET /api/v1/proposals":              {roles: []role{roleFinance, roleAdmin}, query: []string{"state", "after", "limit"}},
	"GET /api/v1/proposals/:id":          {roles: []role{roleFinance, roleAdmin}},
	"POST /api/v1/proposals/:id/approve": {roles: []role{roleFinance, roleAdmin}, body: into[gen.ApproveProposalJSONRequestBody], bodyOptional: true, keep: keepAll},
	"POST /api/v1/proposals/:id/reject":  {roles: []role{roleFinance, roleAdmin}, body: into[gen.RejectProposalJSONRequestBody], keep: keepAll},

	"POST /api/v1/keys":       {roles: []role{roleAdmin}, body: into[gen.CreateKeyJSONRequestBody], keep: keepNoSecret},
	"GET /api/v1/keys":        {roles: []role{roleAdmin}},
	"DELETE /api/v1/keys/:id": {roles: []role{roleAdmin}, keep: keepAll},

	"GET /api/v1/plans":               {roles: []role{roleFinance, roleAdmin}},
	"GET /api/v1/plans/:key/versions": {roles: []role{roleFinance, roleAdmin}},
	"PUT /api/v1/plans":               {roles: []role{roleAdmin}, body: into[gen.PutPlanJSONRequestBody], keep: keepAll},
	"POST /api/v1/plans":              {roles: []role{roleAdmin}, body: into[gen.PublishPlansJSONRequestBody], maxBody: maxCatalogBody, keep: keepAll},

	"GET /api/v1/billing/export":                      {roles: []role{roleFinance, roleAdmin}, query: []string{"from", "to", "format"}},
	"POST /api/v1/billing/exports":                    {roles: []role{roleFinance}, command: true, body: into[gen.StartExportJSONRequestBody], keep: keepAll},
	"GET /api/v1/billing/exports":                     {roles: []role{roleFinance}, query: []string{"before", "limit"}},
	"GET /api/v1/billing/exports/:period":             {roles: []role{roleFinance}, query: []string{"revision"}},
	"GET /api/v1/billing/exports/:period/files/:name": {roles: []role{roleFinance}, query: []string{"revision"}},

	"POST /api/v1/billing/exports/:period/review":   {roles: []role{roleFinance}, command: true, body: into[gen.ReviewExportJSONRequestBody], keep: keepAll},
	"POST /api/v1/billing/exports/:period/approve":  {roles: []role{roleFinance}, command: true, body: into[gen.ApproveExportJSONRequestBody], keep: keepAll},
	"POST /api/v1/billing/exports/:period/cancel":   {roles: []role{roleFinance}, command: true, body: into[gen.CancelExportJSONRequestBody], keep: keepAll},
	"POST /api/v1/billing/exports/:period/continue": {roles: []role{roleFinance}, command: true, body: into[gen.ContinueExportJSONRequestBody], keep: keepAll},
	"POST /api/v1/billing/exports/:period/reject":   {roles: []role{roleFinance}, command: true, body: into[gen.RejectExportJSONRequestBody], keep: keepAll},
	"POST /api/v1/billing/exports/:period/retry":    {roles: []role{roleFinance}, command: true, body: into[gen.RetryExportJSONRequestBody], keep: keepAll},
	"POST /api/v1/billing/exports/:period/reopen":   {roles: []role{roleFinance}, command: true, body: into[gen.ReopenExportJSONRequestBody], keep: keepAll},

	"POST /api/v1/billing/exports/:period/dry-run": {
		roles: []role{roleFinance, roleAdmin}, query: []string{"revision", "organization_id", "after", "limit"},
		body: into[gen.DryRunCatalogJSONRequestBody], maxBody: maxCatalogBody,
	},
	"POST /api/v1/billing/exports/:period/deliver":   {roles: []role{roleFinance}, command: true, keep: keepAll},
	"GET /api/v1/billing/exports/:period/deliveries": {roles: []role{roleFinance}, query: []string{"revision", "sink", "state", "after", "limit"}},

	"GET /api/v1/billing/exports/:period/variances":                {roles: []role{roleFinance}, query: []string{"revision", "after", "limit"}},
	"GET /api/v1/billing/exports/:period/parked":                   {roles: []role{roleFinance}, query: []string{"revision", "after", "limit"}},
	"GET /api/v1/billing/exports/:period/corrections":              {roles: []role{roleFinance}, query: []string{"revision", "after", "limit"}},
	"GET /api/v1/billing/exports/:period/decisions":                {roles: []role{roleFinance}, query: []string{"revision"}},
	"GET /api/v1/billing/exports/:period/control-totals":           {roles: []role{roleFinance}, query: []string{"revision"}},
	"GET /api/v1/billing/exports/:period/statements/:organization": {roles: []role{roleFinance}, query: []string{"revision"}},

	"POST /api/v1/webhooks":                                 {roles: everyRole, cost: costWrite, body: into[gen.CreateWebhookJSONRequestBody], keep: keepNoWebhookSecret},
	"GET /api/v1/webhooks":                                  {roles: everyRole, cost: costRead},
	"GET /api/v1/webhooks/:id":                              {roles: everyRole, cost: costRead},
	"PATCH /api/v1/webhooks/:id":                            {roles: everyRole, cost: costWrite, body: into[gen.UpdateWebhookJSONRequestBody], keep: keepAll},
	"DELETE /api/v1/webhooks/:id":                           {roles: everyRole, cost: costWrite, keep: keepAll},
	"POST /api/v1/webhooks/:id/rotate":                      {roles: everyRole, cost: costWrite, keep: keepNoWebhookSecret},
	"GET /api/v1/webhooks/:id/deliveries":                   {roles: everyRole, cost: costRead, query: []string{"before", "limit"}},
	"POST /api/v1/webhooks/:id/deliveries/:event/redeliver": {roles: everyRole, command: true, cost: costRedelivery, keep: keepAll},
	"GET /api/v1/events":                                    {roles: everyRole, cost: costRead, query: []string{"kind", "before", "limit"}},

	"GET /api/v1/operations":           {roles: []role{roleAdmin}},
	"GET /api/v1/reconciliation":       {roles: []role{roleAdmin}, query: []string{"from", "to"}},
	"GET /api/v1/instances":            {roles: []role{roleAdmin}},
	"POST /api/v1/instances/:id/flush": {roles: []role{roleAdmin}, command: true, keep: keepAll},

	"GET /healthz": {},
	"GET /livez":   {},
	"GET /readyz":  {},
}

// guarded registers generated routes, each behind its own guard.
type guarded struct {
	gin.IRouter
	server *Server
}

func (g guarded) add(method, path string, handlers []gin.HandlerFunc) gin.IRoutes {
	a, ok := accessTo[method+" "+path]
	if !ok {
		panic(fmt.Sprintf("api: nobody has said who may call %s %s", method, path))
	}
	return g.Handle(method, path, append([]gin.HandlerFunc{g.server.guard(a)}, handlers...)...)
}

// GET registers a route of that method; so do the others.
func (g guarded) GET(path string, handlers ...gin.HandlerFunc) gin.IRoutes {
	return g.add(http.MethodGet, path, handlers)
}

// POST registers a route of that method.
func (g guarded) POST(path string, handlers ...gin.HandlerFunc) gin.IRoutes {
	return g.add(http.MethodPost, path, handlers)
}

// PUT registers a route of that method.
func (g guarded) PUT(path string, handlers ...gin.HandlerFunc) gin.IRoutes {
	return g.add(http.MethodPut, path, handlers)
}

// PATCH registers a route of that method.
func (g guarded) PATCH(path string, handlers ...gin.HandlerFunc) gin.IRoutes {
	return g.add(http.MethodPatch, path, handlers)
}

// DELETE registers a route of that method.
func (g guarded) DELETE(path string, handlers ...gin.HandlerFunc) gin.IRoutes {
	return g.add(http.MethodDelete, path, handlers)
}

// guard runs before a generated handler: who calls, then the parameters' names, then
// the body, then whether the request has been answered before.
func (s *Server) guard(a access) gin.HandlerFunc {
	return func(c *gin.Context) {
		if len(a.roles) > 0 {
			p, err := s.authenticate(c, s.config.Now(), a.roles...)
			if err == nil {
				setPrincipal(c, p)
				err = s.enter(p, a.cost)
			}
			if err != nil {
				s.fail(c, err)
				return
			}
			defer s.underWay.leave(p)
		}
		s.checkRequest(c, a)
		c.Next()
	}
}

// enter lets a caller's request begin, which must leave.
func (s *Server) enter(p *principal, cost int) error {
	if err := s.underWay.enter(p); err != nil {
		return err
	}
	if p.role != roleTenant {
		return nil
	}
	err := s.costs.take(p.organization, cost, s.config.Now())
	if err != nil {
		s.underWay.leave(p)
	}
	return err
}

// checkRequest answers a request that isn't one of its route, or that was answered before.
func (s *Server) checkRequest(c *gin.Context, a access) {
	if err := checkQuery(c.Request, a.query); err != nil {
		s.fail(c, err)
		return
	}
	var body []byte
	if a.body != nil {
		var err error
		if body, err = checkBody(c.Request, a); err != nil {
			s.fail(c, err)
			return
		}
	}
	if a.command {
		if err := s.recordRequest(c, body); err != nil {
			s.fail(c, err)
			return
		}
	}
	if a.keep != nil {
		s.once(c, body, a.keep)
	}
}

// recordRequest adds a request to the audit log. Where it can't, the request is not carried out.
func (s *Server) recordRequest(c *gin.Context, body []byte) error {
	p, _ := callerOf(c)
	return s.config.Store.RecordRequest(requestContext(c), audit.Request{
		Route: c.Request.Method + " " + c.Request.URL.Path, Organization: p.organization, Body: body,
	})
}

func checkQuery(r *http.Request, allowed []string) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	for name, values := range r.URL.Query() {
		known := false
		for _, a := range allowed {
			known = known || a == name
		}
		if !known {
			return invalid(name, "is not a parameter of this request")
		}
		if len(values) > 1 {
			return invalid(name, "must not be given twice")
		}
	}
	return nil
}

// checkBody reads a body strictly, and leaves it for the generated code, which
// isn't strict, to read once more. An optional one may be empty.
func checkBody(r *http.Request, a access) ([]byte, error) {
	body, err := readBody(r, make([]byte, 0, 1024), cmp.Or(a.maxBody, maxBody))
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if a.bodyOptional && len(body) == 0 {
		return nil, nil
	}
	return body, decodeStrict(body, a.body())
}

// parameterRules say what a path or query parameter must be; the generated code
// parses them, and its own words are for programmers.
var parameterRules = map[string]string{
	"id":              "must be a UUID",
	"organization_id": organizationRule,
	"organization":    organizationRule,
	"revision":        "must be a whole number of 1 or more",
	"event":           "must be an event's ID, a UUID: GET /api/v1/events has it",
	"grant":           "must be a credit grant's ID, a UUID: GET /api/v1/organizations/{id}/credits has it",
	"actor":           "must be a UUID: that of an API key",
	"before":          "must be a UUID: the next of the page before",
	"after":           "must be a UUID: the next of the page before",
	"limit":           "must be a whole number, 1 to 1000",
	"from":            "must be given: a day of the form YYYY-MM-DD",
	"to":              "must be given: a day of the form YYYY-MM-DD",
	"meter":           "must be given: the meter's key",
}

// organizationRule says where to find an ID, too: who meets an API for the first time gives a name.
const organizationRule = "must be an organization's ID, a UUID: GET /api/v1/organizations?search= finds it by the begin of the name"

// idRule says of what a path's ID is.
func idRule(path string) string {
	for begin, rule := range map[string]string{
		"/api/v1/organizations/": organizationRule,
		"/api/v1/keys/":          "must be an API key's ID, a UUID: GET /api/v1/keys has those of finance and administrators",
		"/api/v1/proposals/":     "must be a proposal's ID, a UUID: GET /api/v1/proposals has it",
		"/api/v1/quarantine/":    "must be the ID of quarantined usage, a UUID: GET /api/v1/quarantine has it",
		"/api/v1/instances/":     "must be an instance's ID, a UUID: GET /api/v1/instances has it",
		"/api/v1/webhooks/":      "must be an endpoint's ID, a UUID: GET /api/v1/webhooks has it",
		"/api/v1/reservations/":  "must be a reservation's ID, a UUID: the answer to POST /api/v1/reservations has it",
	} {
		if strings.HasPrefix(path, begin) {
			return rule
		}
	}
	return parameterRules["id"]
}

var parameterName = regexp.MustCompile(`(?i)parameter '?([a-z_]+)'?`)

// parameterError is what the generated code calls where it can't parse a parameter.
func (s *Server) parameterError(c *gin.Context, err error, _ int) {
	name := "request"
	if found := parameterName.FindStringSubmatch(err.Error()); found != nil {
		name = found[1]
	}
	rule, ok := parameterRules[name]
	if !ok {
		rule = "is not of the form in the API reference"
	}
	if name == "id" {
		rule = idRule(c.FullPath())
	}
	s.fail(c, invalid(name, "%s", rule))
}
