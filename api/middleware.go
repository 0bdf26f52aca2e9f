package api

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/riverline/tollgate/gate"
)

// requestIDs makes IDs that no other process makes: random bits of this one, and a
// count.
type requestIDs struct {
	prefix string
	count  atomic.Uint64
}

func newRequestIDs() *requestIDs {
	var random [8]byte
	// crypto/rand.Read never fails (since Go 1.24 it ends the process instead).
	_, _ = rand.Read(random[:])
	return &requestIDs{prefix: hex.EncodeToString(random[:]) + "-"}
}

func (r *requestIDs) next() string {
	var buffer [40]byte
	return string(strconv.AppendUint(append(buffer[:0], r.prefix...), r.count.Add(1), 36))
}

// callerRequestID returns the ID that the request brought, if it is one that may be shown in a
// header and a log; nil: none. It tells no requests apart: callers may choose the same.
func callerRequestID(request *http.Request) []string {
	given := request.Header[gate.HeaderRequestID]
	if len(given) != 1 || given[0] == "" || len(given[0]) > 128 {
		return nil
	}
	odd := func(c rune) bool {
		return !(c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.ContainsRune("-_.:/+=@", c))
	}
	if strings.ContainsFunc(given[0], odd) {
		return nil
	}
	return given
}

// Values of headers that every answer has: shared, so that setting them costs nothing.
var (
	headerNoSniff    = []string{"nosniff"}
	headerNoStore    = []string{"no-store"}
	headerNoContent  = []string{"default-src 'none'; frame-ancestors 'none'"}
	headerNoReferrer = []string{"no-referrer"}
)

// outermost is around every request: its ID, the headers of every answer, the
// recovery of panics, and the log.
func (s *Server) outermost(c *gin.Context) {
	began := time.Now()
	s.setHeaders(c.Writer.Header(), c.Request)
	defer s.recoverPanic(c, began)
	c.Next()
	s.ended(c, began)
}

// setHeaders sets what every answer has.
func (s *Server) setHeaders(header http.Header, r *http.Request) {
	if asked, ok := pageRequestOf(r.Context()); ok {
		header[gate.HeaderRequestID] = []string{asked.id}
	} else {
		header[gate.HeaderRequestID] = []string{s.requestIDs.next()}
	}
	if given := callerRequestID(r); given != nil {
		header[gate.HeaderCallerRequestID] = given
	}
	if !isGateway(r.URL.Path) {
		// What the upstream answers bears the upstream's own.
		header["X-Content-Type-Options"] = headerNoSniff
		header["Cache-Control"] = headerNoStore
		header["Content-Security-Policy"] = headerNoContent
		header["Referrer-Policy"] = headerNoReferrer
	}
}

func isGateway(path string) bool { return strings.HasPrefix(path, gatewayPrefix+"/") }

// recoverPanic answers a panic with 500. One that ends the connection on purpose
// goes on to net/http.
func (s *Server) recoverPanic(c *gin.Context, began time.Time) {
	recovered := recover()
	if recovered == nil {
		return
	}
	err, _ := recovered.(error)
	abort := errors.Is(err, http.ErrAbortHandler)
	if !abort {
		s.config.Logger.ErrorContext(c.Request.Context(), "Handler panicked",
			s.describe(c, "panic", recovered, "stack", string(debug.Stack()))...)
		abort = c.Writer.Written()
	}
	if !abort {
		problemOf(errPanicked).Abort(c)
	}
	s.ended(c, began)
	if abort {
		panic(http.ErrAbortHandler)
	}
}

// ended tells the observer and the log of a request. Requests that come in great
// numbers are logged at the level debug.
func (s *Server) ended(c *gin.Context, began time.Time) {
	elapsed := time.Since(began)
	status, route := c.Writer.Status(), c.FullPath()
	if s.config.Observe != nil {
		s.config.Observe(c.Request.Method, route, status, elapsed)
	}
	level := slog.LevelInfo
	if status < http.StatusInternalServerError && isFrequent(route) {
		level = slog.LevelDebug
	}
	ctx := c.Request.Context()
	if !s.config.Logger.Enabled(ctx, level) {
		return
	}
	s.config.Logger.Log(ctx, level, "Request", s.describe(c, "status", status, "bytes", max(0, c.Writer.Size()), "elapsed", elapsed)...)
}

func isFrequent(route string) bool {
	switch route {
	case usagePath, batchPath, gatewayRoute, "/healthz", "/livez", "/readyz":
		return true
	default:
		return false
	}
}

// describe returns what a log says of a request, and more. It never has a secret:
// the query isn't in it, and neither is any header but the request's IDs.
func (s *Server) describe(c *gin.Context, more ...any) []any {
	out := append([]any{
		"request_id", c.Writer.Header().Get(gate.HeaderRequestID),
		"method", c.Request.Method,
		"path", c.Request.URL.Path,
	}, more...)
	if given := c.Writer.Header().Get(gate.HeaderCallerRequestID); given != "" {
		out = append(out, "caller_request_id", given)
	}
	if p, ok := callerOf(c); ok {
		out = append(out, "key", p.key, "role", p.role)
		if p.role == roleTenant {
			out = append(out, "organization", p.organization)
		}
	}
	return out
}

// whereSampled runs a middleware only for requests whose caller has sampled them.
func whereSampled(middleware gin.HandlerFunc) gin.HandlerFunc {
	return func(c *gin.Context) {
		if isSampled(c.Request.Header["Traceparent"]) {
			middleware(c)
		}
	}
}

// isSampled reads the last bit of a traceparent's flags: "00-<trace>-<span>-01" (W3C
// Trace Context, section 3.2.2).
func isSampled(traceparent []string) bool {
	const length = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if len(traceparent) != 1 || len(traceparent[0]) < length {
		return false
	}
	flags, err := strconv.ParseUint(traceparent[0][length-2:length], 16, 8)
	return err == nil && flags&1 == 1
}
