package api

import (
	"context"
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

// of returns the ID that the request brought, if it is one that may be shown in a
// header and a log, or a new one.
func (r *requestIDs) of(request *http.Request) string {
	if given := request.Header["X-Request-Id"]; len(given) == 1 && len(given[0]) >= 1 && len(given[0]) <= 128 {
		odd := func(c rune) bool {
			return !(c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.ContainsRune("-_.:/+=@", c))
		}
		if !strings.ContainsFunc(given[0], odd) {
			return given[0]
		}
	}
	return r.next()
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
	header := c.Writer.Header()
	header[gate.HeaderRequestID] = []string{s.requestIDs.of(c.Request)}
	if !isGateway(c.Request.URL.Path) {
		// What the upstream answers bears the upstream's own.
		header["X-Content-Type-Options"] = headerNoSniff
		header["Cache-Control"] = headerNoStore
		header["Content-Security-Policy"] = headerNoContent
		header["Referrer-Policy"] = headerNoReferrer
	}
	defer s.recoverPanic(c, began)
	c.Next()
	s.ended(c, began)
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
	case usagePath, gatewayRoute, "/healthz", "/readyz", "/metrics":
		return true
	default:
		return false
	}
}

// describe returns what a log says of a request, and more. It never has a secret:
// the query isn't in it, and neither is any header but the request's ID.
func (s *Server) describe(c *gin.Context, more ...any) []any {
	out := append([]any{
		"request_id", c.Writer.Header().Get(gate.HeaderRequestID),
		"method", c.Request.Method,
		"path", c.Request.URL.Path,
	}, more...)
	if p, ok := callerOf(c); ok {
		out = append(out, "key", p.key, "role", p.role)
		if p.role == roleTenant {
			out = append(out, "organization", p.organization)
		}
	}
	return out
}

const principalName = "tollgate.principal"

type principalKey struct{}

// setPrincipal keeps who calls, for the log and the gateway.
func setPrincipal(c *gin.Context, p *principal) { c.Set(principalName, p) }

// callerOf returns who calls, where that was found out.
func callerOf(c *gin.Context) (*principal, bool) {
	found, _ := c.Get(principalName)
	p, ok := found.(*principal)
	return p, ok
}

// requestContext returns the context of a request for a generated handler, which is
// given gin's own: that one is used again for another request, and must not reach
// whoever may keep it.
func requestContext(ctx context.Context) context.Context {
	if c, ok := ctx.(*gin.Context); ok {
		ctx = c.Request.Context()
		if p, ok := callerOf(c); ok {
			ctx = context.WithValue(ctx, principalKey{}, p)
		}
	}
	return ctx
}

// principalOf returns who calls a generated handler. Its guard has found that out.
func principalOf(ctx context.Context) *principal {
	return ctx.Value(principalKey{}).(*principal)
}

// authenticate finds out who calls, and whether that role may.
func (s *Server) authenticate(c *gin.Context, now time.Time, roles ...role) (*principal, error) {
	secret, ok := bearer(c.Request.Header["Authorization"])
	if !ok {
		return nil, errUnauthorized
	}
	p, err := s.keys.principal(c.Request.Context(), secret, now)
	if err != nil {
		return nil, keyError(err)
	}
	for _, r := range roles {
		if p.role == r {
			return p, nil
		}
	}
	setPrincipal(c, p)
	return nil, errWrongRole
}

// bearer returns the token of an Authorization header (RFC 6750, section 2.1).
func bearer(values []string) (string, bool) {
	const scheme = "Bearer "
	if len(values) != 1 || len(values[0]) <= len(scheme) || !strings.EqualFold(values[0][:len(scheme)], scheme) {
		return "", false
	}
	return strings.TrimLeft(values[0][len(scheme):], " "), true
}
