package api

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/gate"
)

// Server answers requests. Make it with [New].
type Server struct {
	config     Config
	keys       *keyCache
	enforcer   *gate.Enforcer
	proxy      *gate.Proxy
	engine     *gin.Engine
	requestIDs *requestIDs
	// scratch has the buffers of POST /usage.
	scratch sync.Pool
	// rooms are for the items of a POST /usage/batch.
	rooms sync.Pool
	// verbose says that each POST /usage is logged.
	verbose bool
	state   atomic.Int32
	parts   partsCache
	batches batchClaims
	// underWay bounds what each caller has under way, costs what its requests cost.
	underWay *underWay
	costs    *costs
	// problems shows problems to people. Nil: nobody does.
	problems ProblemPage
}

var _ gen.StrictServerInterface = (*Server)(nil)

// The states of a server.
const (
	stateStarting int32 = iota
	stateReady
	stateStopping
)

// New makes a server. It panics where a required field of the config is missing.
// /readyz says that it isn't ready until [Server.SetReady] is called.
func New(config Config) *Server {
	config.complete()
	s := &Server{
		config:     config,
		keys:       newKeyCache(config),
		requestIDs: newRequestIDs(),
		underWay:   newUnderWay(config.MaxUnderWay),
		costs:      newCosts(config.TenantCost),
		verbose:    config.Logger.Enabled(context.Background(), slog.LevelDebug),
	}
	s.rooms.New = func() any { return new([]batchItem) }
	s.scratch.New = func() any { return &scratch{in: make([]byte, 0, 512), out: make([]byte, 0, 512)} }
	unclassified := gate.Refuse
	if config.PassUnknown {
		unclassified = gate.PassUncounted
	}
	s.enforcer = gate.NewEnforcer(gate.Config{
		Meter:        config.Meter,
		Limiter:      gate.NewLimiter(),
		Now:          config.Now,
		Logger:       config.Logger,
		Organization: s.gatewayOrganization,
		Classify:     config.Rules.Classify,
		Unclassified: unclassified,
	})
	s.engine = s.routes()
	return s
}

func (s *Server) routes() *gin.Engine {
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.RedirectTrailingSlash = false
	// Nobody's word is taken for where a request comes from. The list is empty, so it
	// can't be a wrong one.
	_ = engine.SetTrustedProxies(nil)
	engine.Use(s.outermost, s.unpack)
	engine.NoRoute(func(c *gin.Context) {
		s.showProblem(c, gate.NewProblem(http.StatusNotFound, codeNotFound, "There is no route "+c.Request.Method+" "+c.Request.URL.EscapedPath()+". See /docs."))
	})
	engine.NoMethod(s.noMethod)

	engine.GET("/openapi.yaml", s.serveDocument)
	docs := docsPage()
	engine.GET(referencePath, docs)
	engine.GET(referencePath+"/*file", docs)

	sampled := make([]gin.HandlerFunc, 0, len(s.config.Middleware)+1)
	for _, middleware := range s.config.Middleware {
		sampled = append(sampled, whereSampled(middleware))
	}
	engine.POST(usagePath, append(sampled, s.recordUsage)...)
	traced := engine.Group("", s.config.Middleware...)
	traced.POST(batchPath, s.recordBatch)
	if s.config.Upstream != nil {
		s.addGateway(traced)
	}
	strict := gen.NewStrictHandlerWithOptions(s, nil, gen.StrictGinServerOptions{
		RequestErrorHandlerFunc:  s.fail,
		HandlerErrorFunc:         s.fail,
		ResponseErrorHandlerFunc: s.fail,
	})
	options := gen.GinServerOptions{ErrorHandler: s.parameterError}
	gen.RegisterHandlersWithOptions(guarded{IRouter: traced, server: s}, strict, options)
	return engine
}

// noMethod adds HEAD to the methods that gin lists: every GET answers it.
func (s *Server) noMethod(c *gin.Context) {
	allowed := c.Writer.Header().Get("Allow")
	if strings.Contains(allowed, http.MethodGet) && !strings.Contains(allowed, http.MethodHead) {
		c.Header("Allow", allowed+", "+http.MethodHead)
	}
	s.showProblem(c, gate.NewProblem(http.StatusMethodNotAllowed, codeMethodNotAllowed, "The route has other methods: "+c.Writer.Header().Get("Allow")+"."))
}

// Handler returns what serves every route.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.config.Shedder.Active() && s.overloaded(w, r) {
			return
		}
		if r.Method == http.MethodHead && !isGateway(r.URL.Path) {
			// net/http keeps the body of an answer to HEAD to itself: it still has the
			// request as it came.
			get := *r
			get.Method = http.MethodGet
			r = &get
		}
		s.engine.ServeHTTP(w, r)
	})
}

// SetReady says whether requests should be sent here, for /readyz. Requests are
// answered all the same.
func (s *Server) SetReady(ready bool) {
	if ready {
		s.state.Store(stateReady)
		return
	}
	s.state.Store(stateStopping)
}

// ForgetKey makes the server look a key up again at its next use: call it when a
// key was changed. [uuid.Nil] is every key; those go on working while the store is
// away.
func (s *Server) ForgetKey(id uuid.UUID) { s.keys.forget(id, s.config.Now()) }

// ConfirmKeys forgets the keys that were revoked since the last call, should no word of it have come,
// and takes all others that are in memory for confirmed: call it several times a minute. An error is the
// store's: keys then go on working up to their bounds ([Config.KeysAway]).
func (s *Server) ConfirmKeys(ctx context.Context) error {
	return s.keys.confirmAll(ctx, s.config.Now())
}

// ForgetOrganization makes the server look the keys of an organization up again at their
// next use: call it when the organization was changed.
func (s *Server) ForgetOrganization(id uuid.UUID) { s.keys.forgetOrganization(id) }

// GateCounts returns what the gate did, POST /usage included, since the process began.
func (s *Server) GateCounts() gate.Counts { return s.enforcer.Counts() }

// Close waits for what runs in the background. Call it after the last request.
func (s *Server) Close() {
	s.keys.close()
	if s.proxy != nil {
		s.proxy.Close()
	}
}
