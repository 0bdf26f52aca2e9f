package gate

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

// ProxyConfig is what a [Proxy] is made from.
type ProxyConfig struct {
	// Upstream is where requests go: scheme, host and, if need be, a path that is put
	// before each request's own. Required.
	Upstream *url.URL
	// Prefix is cut from each request's path: "/gateway". Zero: nothing is cut.
	Prefix string
	// Organization says whose request it is, for the header [HeaderOrganization].
	// Required.
	Organization func(*gin.Context) uuid.UUID
	// ResponseTimeout bounds the time from the end of the request to the header of the
	// answer; the answer's body may take as long as it likes. Zero: 60 s.
	ResponseTimeout time.Duration
	// BodyTimeout bounds how long a request's body may bring nothing before there is an answer:
	// then it is 408. A body that goes on may take as long as it likes. Zero: 10 s.
	BodyTimeout time.Duration
	// MaxBody is the largest body of a request, in bytes. Zero: any size.
	MaxBody int64
	// MaxUpstreamConns is the most connections to the upstream. Zero: any number.
	MaxUpstreamConns int
	// Transport takes the place of a transport of the proxy's own. ResponseTimeout
	// doesn't apply to it.
	Transport http.RoundTripper
	// Logger takes failures of the upstream. Nil: slog.Default.
	Logger *slog.Logger
}

// Proxy forwards requests to an upstream, streaming both ways. The upstream gets
// the organization's ID in [HeaderOrganization], the X-Forwarded headers and, where the
// answer bears them, the request's IDs. It doesn't get the caller's Authorization, nor a
// header by which the caller would say who or where it is, or which other method or path
// it means ([ownsHeader]). Nothing but a WebSocket is upgraded, since any other protocol
// (h2c) could carry requests that nobody classifies.
//
// A path that two programs could read in two ways is refused with 400 ([OneReading]), so
// that what the upstream serves is what the rules have classified.
//
// Where the upstream breaks an answer off, [Proxy.Serve] panics with
// http.ErrAbortHandler, which must reach net/http, so that the caller sees the break
// too. gin.Recovery swallows it: put one before it that doesn't.
type Proxy struct {
	config  ProxyConfig
	reverse *httputil.ReverseProxy
}

type requestKey struct{}

// requestAbout is what the upstream is told of a request.
type requestAbout struct {
	organization               uuid.UUID
	requestID, callerRequestID []string
}

// NewProxy makes a proxy. It panics where a required field of the config is missing.
func NewProxy(config ProxyConfig) *Proxy {
	if config.Upstream == nil || config.Organization == nil {
		panic("gate: ProxyConfig.Upstream and ProxyConfig.Organization are required")
	}
	if config.ResponseTimeout == 0 {
		config.ResponseTimeout = time.Minute
	}
	if config.BodyTimeout == 0 {
		config.BodyTimeout = DefaultBodyTimeout
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.Transport == nil {
		config.Transport = &http.Transport{
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: config.ResponseTimeout,
			ExpectContinueTimeout: time.Second,
			MaxIdleConnsPerHost:   256,
			MaxConnsPerHost:       config.MaxUpstreamConns,
			IdleConnTimeout:       90 * time.Second,
			ForceAttemptHTTP2:     true,
			// What the upstream compressed reaches the caller as it is.
			DisableCompression: true,
		}
	}
	p := &Proxy{config: config}
	p.reverse = &httputil.ReverseProxy{
		Rewrite:        p.rewrite,
		Transport:      config.Transport,
		FlushInterval:  -1,
		ErrorLog:       slog.NewLogLogger(config.Logger.Handler(), slog.LevelWarn),
		ModifyResponse: ownHeaders,
		ErrorHandler:   p.fail,
	}
	return p
}

// Close lets go of idle connections to the upstream.
func (p *Proxy) Close() {
	if t, ok := p.config.Transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Serve forwards the request and answers with what the upstream says.
func (p *Proxy) Serve(c *gin.Context) {
	if OneReading(c); c.IsAborted() {
		return
	}
	// A stream lives longer than the server's timeouts for plain requests. A writer
	// that has no deadlines needs none lifted.
	controller := http.NewResponseController(c.Writer)
	_ = controller.SetReadDeadline(time.Time{})
	_ = controller.SetWriteDeadline(time.Time{})
	header := c.Writer.Header()
	ctx := context.WithValue(c.Request.Context(), requestKey{}, requestAbout{
		p.config.Organization(c), header[HeaderRequestID], header[HeaderCallerRequestID],
	})
	request := c.Request.WithContext(ctx)
	writer := &headerKeeper{ResponseWriter: c.Writer, kept: maps.Clone(header)}
	if request.ContentLength != 0 {
		// Without it net/http reads the whole request before it sends the header of the
		// answer: a stream in both directions would wait for ever.
		_ = controller.EnableFullDuplex()
		if timed, ok := ctx.Value(timedBodyKey{}).(*TimedBody); ok {
			writer.body = timed
		} else if writer.body = TimeBody(c.Writer, request, p.config.BodyTimeout, nil); writer.body != nil {
			defer writer.body.Abandon()
		}
		if p.config.MaxBody > 0 {
			request.Body = http.MaxBytesReader(c.Writer, request.Body, p.config.MaxBody)
		}
	}
	p.reverse.ServeHTTP(writer, request)
}

// DefaultBodyTimeout is how long a request's body may bring nothing, where nothing else says so.
const DefaultBodyTimeout = 10 * time.Second

func (p *Proxy) rewrite(r *httputil.ProxyRequest) {
	r.Out.URL.Path = strings.TrimPrefix(r.Out.URL.Path, p.config.Prefix)
	r.Out.URL.RawPath = strings.TrimPrefix(r.Out.URL.RawPath, p.config.Prefix)
	// The query goes on as it came: nothing here reads it.
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	r.SetURL(p.config.Upstream)
	about, _ := r.In.Context().Value(requestKey{}).(requestAbout)
	cleanHeaders(r.Out.Header)
	// A trailer would come after what is set here, and some programs read it as a header.
	r.Out.Trailer = nil
	r.SetXForwarded()
	r.Out.Header[HeaderOrganization] = []string{about.organization.String()}
	if len(about.requestID) > 0 {
		r.Out.Header[HeaderRequestID] = about.requestID
	}
	if len(about.callerRequestID) > 0 {
		r.Out.Header[HeaderCallerRequestID] = about.callerRequestID
	}
}

// ownHeaders takes from the upstream's answer what only Tollgate may say.
func ownHeaders(response *http.Response) error {
	for name := range response.Header {
		if strings.HasPrefix(name, "Tollgate-") || name == HeaderRequestID || name == HeaderCallerRequestID {
			delete(response.Header, name)
		}
	}
	return nil
}

func (p *Proxy) fail(w http.ResponseWriter, request *http.Request, err error) {
	var timeout net.Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, ErrBodyStalled), hasStalled(w):
		// First: net/http takes a caller who has stalled for one who is gone.
		w.Header().Set("Connection", "close")
		StalledProblem().Write(w)
	case request.Context().Err() != nil:
		// The caller is gone. The status is for the log; it isn't a 2xx, so nothing counts.
		w.WriteHeader(StatusClientClosedRequest)
	case errors.As(err, &tooLarge):
		bodyTooLarge().Write(w)
	case errors.As(err, &timeout) && timeout.Timeout():
		p.config.Logger.Warn("Upstream did not answer in time", "path", request.URL.Path, "error", err)
		NewProblem(http.StatusGatewayTimeout, CodeUpstreamTimeout, "The upstream did not answer in time. Nothing was charged.").Write(w)
	default:
		p.config.Logger.Warn("Upstream could not be reached", "path", request.URL.Path, "error", err)
		NewProblem(http.StatusBadGateway, CodeUpstreamUnavailable, "The upstream could not be reached. Nothing was charged.").Write(w)
	}
}

func bodyTooLarge() *Problem {
	return NewProblem(http.StatusRequestEntityTooLarge, CodeBodyTooLarge, "The request's body is too large. Nothing was charged.")
}

// hasStalled reports whether the body of a request that w answers has stalled.
func hasStalled(w http.ResponseWriter) bool {
	keeper, ok := w.(*headerKeeper)
	return ok && keeper.body != nil && keeper.body.stalled()
}

// StatusClientClosedRequest is what nginx logs where the client went away; no client sees it.
const StatusClientClosedRequest = 499

// headerKeeper puts back the headers that were set before the proxy ran:
// httputil.ReverseProxy clears all headers after each informational answer.
type headerKeeper struct {
	gin.ResponseWriter
	kept http.Header
	// body is let go once there is an answer; nil: the request has none.
	body *TimedBody
}

// Unwrap lets http.ResponseController reach what is below.
func (w *headerKeeper) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader sends an informational header on at once, and restores what is missing
// before any other.
func (w *headerKeeper) WriteHeader(status int) {
	if informational(status) {
		inform(w.ResponseWriter, status)
		return
	}
	if w.body != nil {
		w.body.letGo()
	}
	header := w.Header()
	for name, values := range w.kept {
		if _, there := header[name]; !there {
			header[name] = values
		}
	}
	w.ResponseWriter.WriteHeader(status)
}
