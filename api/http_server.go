package api

import (
	"net/http"
	"time"

	"github.com/riverline/tollgate/gate"
)

// HTTPConfig is what [NewHTTPServer] makes a server from.
type HTTPConfig struct {
	// Handler answers. Required.
	Handler http.Handler
	// HeaderTimeout bounds the time in which a request's header must have come in. Zero: 5 s.
	HeaderTimeout time.Duration
	// BodyTimeout bounds how long a request's body may bring nothing: then the answer is 408. One
	// that goes on is never cut. Zero: [gate.DefaultBodyTimeout].
	BodyTimeout time.Duration
	// WriteTimeout bounds the time in which a request must be answered, once it has come in. The
	// gateway lifts it for its streams, and downloads have longer. Zero: 60 s.
	WriteTimeout time.Duration
	// IdleTimeout is how long a connection is kept for the next request. Zero: 120 s.
	IdleTimeout time.Duration
}

// NewHTTPServer makes an http.Server whose limits keep slow and large requests from
// using it up.
func NewHTTPServer(config HTTPConfig) *http.Server {
	orElse := func(d, otherwise time.Duration) time.Duration {
		if d == 0 {
			return otherwise
		}
		return d
	}
	write, idle := orElse(config.WriteTimeout, time.Minute), orElse(config.BodyTimeout, gate.DefaultBodyTimeout)
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var ended func(time.Time)
			streams := isGateway(r.URL.Path)
			if !streams {
				ended = func(began time.Time) { renewWrite(w, began, write) }
			}
			if body := gate.TimeBody(w, r, idle, ended); body != nil {
				defer body.Abandon()
				if streams {
					r = body.In(r)
				}
			}
			config.Handler.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: orElse(config.HeaderTimeout, 5*time.Second),
		WriteTimeout:      write,
		IdleTimeout:       orElse(config.IdleTimeout, 2*time.Minute),
		MaxHeaderBytes:    64 << 10,
	}
}

// renewWrite gives an answer its whole time where the request's body took some of it.
func renewWrite(w http.ResponseWriter, began time.Time, whole time.Duration) {
	if now := time.Now(); now.Sub(began) > whole/8 {
		_ = http.NewResponseController(w).SetWriteDeadline(now.Add(whole))
	}
}

// IsProbe reports whether a request asks how the process is: it is answered however much there
// is to do.
func IsProbe(r *http.Request) bool {
	switch r.URL.Path {
	case "/healthz", "/livez", "/readyz":
		return r.Method == http.MethodGet || r.Method == http.MethodHead
	default:
		return false
	}
}
