package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/pgstore"
)

// The real store is one.
var _ Store = (*pgstore.Store)(nil)

func TestReadiness(t *testing.T) {
	var fail error
	checks, hears := 0, make(chan struct{})
	defer close(hears)
	r := newRig(t, func(c *Config) {
		c.Parts = []Part{
			{Name: "postgres", Check: func(context.Context) error { checks++; return fail }},
			{Name: "temporal", Check: func(context.Context) error { return nil }},
		}
	})
	r.server.state.Store(stateStarting)
	a := r.do("", "GET", "/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, a.Code)
	require.JSONEq(t, `{"status":"starting","parts":{}}`, a.Body.String())

	r.server.SetReady(true)
	a = r.do("", "GET", "/readyz", "")
	require.Equal(t, http.StatusOK, a.Code)
	require.JSONEq(t, `{"status":"ready","parts":{"postgres":"ok","temporal":"ok"}}`, a.Body.String())
	for range 10 {
		r.do("", "GET", "/readyz", "")
	}
	require.Equal(t, 1, checks, "whoever asks often doesn't load the parts")

	fail = errDefect
	r.server.parts.at = time.Time{}
	a = r.do("", "GET", "/readyz", "")
	require.Equal(t, http.StatusOK, a.Code, "the hot path does without the store")
	require.JSONEq(t, `{"status":"degraded","parts":{"postgres":"away","temporal":"ok"}}`, a.Body.String())

	for _, state := range []PartState{PartTooOld, PartTooNew} {
		fail = state
		r.server.parts.at = time.Time{}
		a = r.do("", "GET", "/readyz", "")
		require.Equal(t, http.StatusServiceUnavailable, a.Code, "the program doesn't work with it")
		require.JSONEq(t, `{"status":"unready","parts":{"postgres":"`+string(state)+`","temporal":"ok"}}`, a.Body.String())
	}

	r.server.config.Parts = append(r.server.config.Parts, Part{Name: "deaf", Check: func(context.Context) error { <-hears; return nil }})
	fail, r.server.parts.at = nil, time.Time{}
	a = r.do("", "GET", "/readyz", "")
	require.JSONEq(t, `{"status":"degraded","parts":{"postgres":"ok","temporal":"ok","deaf":"away"}}`, a.Body.String(), "who asks is answered")

	r.server.SetReady(false)
	a = r.do("", "GET", "/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, a.Code)
	require.Equal(t, "stopping", a.json()["status"])
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`).Code, "what still comes is answered")
	require.Equal(t, 200, r.do("", "GET", "/healthz", "").Code)
}

// TestFailuresShowNoDetails holds that a defect is logged once, under the ID that
// the answer shows, and that the answer shows nothing else of it.
func TestFailuresShowNoDetails(t *testing.T) {
	r := newRig(t)
	require.Equal(t, 200, r.do("admin", "GET", "/api/v1/instances", "").Code)
	r.store.fail(errDefect)
	problem := r.problem(500, "internal_error", "admin", "GET", "/api/v1/instances", "", "X-Request-Id", "trace-me:1")
	require.Regexp(t, `^[0-9a-f]{16}-`, problem["request_id"])
	require.NotContains(t, problem["message"], "secret")
	require.Equal(t, 1, strings.Count(r.log.String(), errDefect.Error()))
	require.Regexp(t, `level=ERROR msg="Request failed" request_id=`+problem["request_id"].(string)+` .*caller_request_id=trace-me:1`, r.log.String())

	r.store.fail(awayError{})
	a := r.do("admin", "GET", "/api/v1/instances", "")
	require.Equal(t, http.StatusServiceUnavailable, a.Code)
	require.Equal(t, "1", a.Header().Get("Retry-After"))
}

func TestRequestIDs(t *testing.T) {
	r := newRig(t)
	seen := map[string]bool{}
	for range 100 {
		id := r.do("", "GET", "/healthz", "").Header().Get("X-Request-Id")
		require.False(t, seen[id])
		seen[id] = true
	}
	given := func(id string) http.Header { return r.do("", "GET", "/healthz", "", "X-Request-Id", id).Header() }
	for range 2 {
		header := given("0af7-651916cd.43dd")
		require.Equal(t, "0af7-651916cd.43dd", header.Get("X-Caller-Request-Id"))
		require.False(t, seen[header.Get("X-Request-Id")], "ours is always a new one")
		seen[header.Get("X-Request-Id")] = true
	}
	require.NotContains(t, seen, "0af7-651916cd.43dd")
	for _, odd := range []string{"", "a b", "new\nline", "ünïcode", `"quoted"`, strings.Repeat("x", 129)} {
		require.Empty(t, given(odd).Values("X-Caller-Request-Id"))
		require.Regexp(t, `^[0-9a-f]{16}-`, given(odd).Get("X-Request-Id"))
	}
}

func TestMethodsAndRoutes(t *testing.T) {
	r := newRig(t)
	r.problem(404, "not_found", "free", "GET", "/api/v1/nothing", "")
	r.problem(404, "not_found", "free", "GET", "/api/v1/usage/", "")
	r.problem(404, "not_found", "free", "POST", "/gateway/evaluate", "")
	a := r.do("free", "DELETE", "/api/v1/usage", "")
	require.Equal(t, http.StatusMethodNotAllowed, a.Code)
	require.Equal(t, "method_not_allowed", a.json()["error"])
	require.Equal(t, "GET, HEAD, POST", sorted(a.Header().Get("Allow")))
	require.Equal(t, http.StatusMethodNotAllowed, r.do("admin", "HEAD", "/api/v1/keys/x", "").Code)

	server := httptest.NewServer(r.server.Handler())
	defer server.Close()
	for _, path := range []string{"/healthz", "/openapi.yaml"} {
		get, err := http.Get(server.URL + path)
		require.NoError(t, err)
		body, err := io.ReadAll(get.Body)
		require.NoError(t, err)
		require.NoError(t, get.Body.Close())
		head, err := http.Head(server.URL + path)
		require.NoError(t, err)
		nothing, err := io.ReadAll(head.Body)
		require.NoError(t, err)
		require.NoError(t, head.Body.Close())
		require.Equal(t, 200, head.StatusCode)
		require.Empty(t, nothing)
		require.NotEmpty(t, body)
		require.Equal(t, get.Header.Get("Content-Type"), head.Header.Get("Content-Type"))
	}
}

func sorted(list string) string {
	parts := strings.Split(list, ", ")
	for i := range parts {
		for j := i + 1; j < len(parts); j++ {
			if parts[j] < parts[i] {
				parts[i], parts[j] = parts[j], parts[i]
			}
		}
	}
	return strings.Join(parts, ", ")
}

func TestPanics(t *testing.T) {
	r := newRig(t)
	r.server.engine.GET("/panic", func(*gin.Context) { panic("bad day") })
	r.server.engine.GET("/half", func(c *gin.Context) {
		_, _ = c.Writer.WriteString("half")
		c.Writer.Flush()
		panic("bad day")
	})
	recorder := httptest.NewRecorder()
	r.server.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/panic", nil))
	require.Equal(t, http.StatusInternalServerError, recorder.Code)
	require.Contains(t, recorder.Body.String(), `"error":"internal_error"`)
	require.NotContains(t, recorder.Body.String(), "bad day")
	require.Contains(t, r.log.String(), "bad day")
	require.Contains(t, r.log.String(), "server_test.go", "the log has the stack")

	server := httptest.NewServer(r.server.Handler())
	defer server.Close()
	response, err := http.Get(server.URL + "/half")
	require.NoError(t, err)
	_, err = io.ReadAll(response.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF, "half an answer must not look whole")
	require.NoError(t, response.Body.Close())
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	r := newRig(t)
	for _, a := range []answer{r.do("free", "GET", "/api/v1/usage", ""), r.do("", "GET", "/nothing", ""), r.do("", "POST", "/api/v1/usage", "{}")} {
		require.Equal(t, "nosniff", a.Header().Get("X-Content-Type-Options"))
		require.Equal(t, "no-store", a.Header().Get("Cache-Control"))
		require.Equal(t, "default-src 'none'; frame-ancestors 'none'", a.Header().Get("Content-Security-Policy"))
		require.Equal(t, "no-referrer", a.Header().Get("Referrer-Policy"))
	}
}

// TestDocsNeedNothingFromOutside holds that the page, under its policy, runs from
// what the program holds alone.
func TestDocsNeedNothingFromOutside(t *testing.T) {
	r := newRig(t)
	for _, path := range []string{"/docs/api", "/docs/api/"} {
		recorder := httptest.NewRecorder()
		r.server.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
		require.Equal(t, http.StatusOK, recorder.Code)
		policy, page := recorder.Header().Get("Content-Security-Policy"), recorder.Body.String()
		require.NotContains(t, policy, "http")
		require.NotContains(t, policy, "unsafe-eval")
		require.NotRegexp(t, `script-src[^;]*unsafe-inline`, policy)
		inline := regexp.MustCompile(`(?s)<script>(.*?)</script>`).FindAllStringSubmatch(page, -1)
		require.NotEmpty(t, inline)
		for _, script := range inline {
			digest := sha256.Sum256([]byte(script[1]))
			require.Contains(t, policy, "'sha256-"+base64.StdEncoding.EncodeToString(digest[:])+"'", "each inline script is allowed by its digest")
		}
		require.Contains(t, page, `"/openapi.yaml"`)
		require.NotRegexp(t, `<[^>]+\son\w+=`, page, "no inline event handlers")
		assets := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(page, -1)
		require.GreaterOrEqual(t, len(assets), 4)
		for _, asset := range assets {
			require.True(t, strings.HasPrefix(asset[1], "/docs/api/"), asset[1])
			got := httptest.NewRecorder()
			request := httptest.NewRequest(http.MethodGet, asset[1], nil)
			request.Header.Set("Accept-Encoding", "gzip")
			r.server.Handler().ServeHTTP(got, request)
			require.Equal(t, http.StatusOK, got.Code, asset[1])
			require.Greater(t, got.Body.Len(), 100, asset[1])
		}
	}
	spec := r.do("", "GET", "/openapi.yaml", "")
	require.Equal(t, string(document), spec.Body.String())
}

func newGatewayRig(t *testing.T, upstream http.HandlerFunc, changes ...func(*Config)) (*rig, *httptest.Server) {
	t.Helper()
	behind := httptest.NewServer(upstream)
	t.Cleanup(behind.Close)
	target, err := url.Parse(behind.URL)
	require.NoError(t, err)
	r := newRig(t, append([]func(*Config){func(c *Config) { c.Upstream = target }}, changes...)...)
	server := httptest.NewServer(nil)
	server.Config.Handler = r.server.Handler()
	t.Cleanup(server.Close)
	return r, server
}

func (r *rig) send(server *httptest.Server, key, method, path string) (int, string, http.Header) {
	r.t.Helper()
	request, err := http.NewRequest(method, server.URL+path, strings.NewReader("{}"))
	require.NoError(r.t, err)
	request.Header.Set("Authorization", "Bearer "+r.secrets[key])
	response, err := server.Client().Do(request)
	require.NoError(r.t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(r.t, err)
	require.NoError(r.t, response.Body.Close())
	return response.StatusCode, string(body), response.Header
}

func (r *rig) current(key, meterKey string) float64 {
	for _, m := range r.do(key, "GET", "/api/v1/usage", "").json()["meters"].([]any) {
		if m.(map[string]any)["meter"] == meterKey {
			return m.(map[string]any)["current"].(float64)
		}
	}
	r.t.Fatal("no meter", meterKey)
	return 0
}

func TestGateway(t *testing.T) {
	r, server := newGatewayRig(t, func(w http.ResponseWriter, request *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'")
		switch request.URL.Path {
		case "/simulate/fail":
			w.WriteHeader(http.StatusTeapot)
		default:
			_, _ = io.WriteString(w, request.Header.Get("X-Tollgate-Organization")+" "+request.Header.Get("Authorization")+" "+request.Header.Get("X-Request-Id"))
		}
	})
	status, body, header := r.send(server, "free", "POST", "/gateway/simulate")
	require.Equal(t, 200, status)
	require.Equal(t, r.organizations["free"].String()+"  "+header.Get("X-Request-Id"), body, "the key stays here, the request's ID goes on")
	require.Equal(t, []string{"default-src 'self'"}, header.Values("Content-Security-Policy"), "the upstream's pages have the upstream's policy")
	require.NotEmpty(t, header.Get("RateLimit"))
	for range 3 {
		status, _, _ = r.send(server, "free", "POST", "/gateway/simulate/fail")
		require.Equal(t, http.StatusTeapot, status)
	}
	status, _, _ = r.send(server, "free", "GET", "/gateway/simulate")
	require.Equal(t, 404, status)
	require.InDelta(t, 1, r.current("free", "simulations"), 0, "only a 2xx of a request that a rule knows counts")

	for range 49 {
		status, _, _ = r.send(server, "free", "POST", "/gateway/simulations/run")
		require.Equal(t, 200, status)
	}
	status, body, _ = r.send(server, "free", "POST", "/gateway/simulate")
	require.Equal(t, http.StatusPaymentRequired, status)
	require.Contains(t, body, `"error":"plan_limit_exceeded","plan":"free","limit":"simulations","current":50,"held":0,"max":50`)
	r.problem(402, "plan_limit_exceeded", "free", "POST", "/api/v1/usage", `{"meter":"simulations"}`)

	for _, key := range []string{"finance", "admin"} {
		status, body, _ = r.send(server, key, "POST", "/gateway/simulate")
		require.Equal(t, http.StatusForbidden, status)
		require.Contains(t, body, `"error":"forbidden"`)
	}
	status, body, header = r.send(server, "", "POST", "/gateway/simulate")
	require.Equal(t, http.StatusUnauthorized, status)
	require.Contains(t, body, `"error":"unauthorized"`)
	require.NotEmpty(t, header.Get("WWW-Authenticate"))
	status, _, _ = r.send(server, "free", "PROPFIND", "/gateway/simulate")
	require.Equal(t, http.StatusMethodNotAllowed, status)
}

func TestGatewayRefusesWhatNoRuleKnows(t *testing.T) {
	r, server := newGatewayRig(t, func(_ http.ResponseWriter, request *http.Request) {
		t.Errorf("the upstream must not be asked for %s %s", request.Method, request.URL)
	})
	for path, code := range map[string]string{
		"/gateway/anything": "not_metered", "/gateway/SIMULATE": "not_metered", "/gateway/%EF%BD%93imulate": "not_metered", "/gateway/": "not_metered",
		"/gateway/;/simulate": "invalid_path", "/gateway/x/..;/simulate": "invalid_path", "/gateway/simulate%253b": "invalid_path",
		"/gateway/simulate/%2e%2e/other": "invalid_path", "/%67ateway/..%2fother": "invalid_path",
	} {
		for _, method := range []string{"GET", "POST"} {
			status, body, _ := r.send(server, "free", method, path)
			require.Equal(t, map[string]int{"not_metered": 404, "invalid_path": 400}[code], status, path)
			require.Contains(t, body, `"error":"`+code+`"`, path)
		}
	}
	require.InDelta(t, 0, r.current("free", "simulations"), 0)

	r, server = newGatewayRig(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "passed") },
		func(c *Config) { c.PassUnknown = true })
	status, body, _ := r.send(server, "free", "GET", "/gateway/anything")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "passed", body)
	status, _, _ = r.send(server, "free", "GET", "/gateway/x/..;/anything")
	require.Equal(t, http.StatusBadRequest, status, "of what passes there is one reading, too")
}

// TestGatewayStreamsOutlastTheTimeouts holds that a stream may take longer than the
// server gives to plain requests.
func TestGatewayStreamsOutlastTheTimeouts(t *testing.T) {
	r, server := newGatewayRig(t, func(w http.ResponseWriter, _ *http.Request) {
		for range 4 {
			_, _ = io.WriteString(w, "tick ")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(300 * time.Millisecond)
		}
	})
	server.Close()
	limited := httptest.NewUnstartedServer(nil)
	limited.Config = NewHTTPServer(HTTPConfig{Handler: r.server.Handler(), BodyTimeout: time.Second, WriteTimeout: time.Second})
	limited.Start()
	defer limited.Close()
	status, body, _ := r.send(limited, "free", "POST", "/gateway/simulate")
	require.Equal(t, 200, status)
	require.Equal(t, "tick tick tick tick ", body)
}

func TestHTTPServerIsLimited(t *testing.T) {
	s := NewHTTPServer(HTTPConfig{})
	require.Positive(t, s.ReadHeaderTimeout)
	require.Positive(t, s.WriteTimeout)
	require.Positive(t, s.IdleTimeout)
	require.Equal(t, 64<<10, s.MaxHeaderBytes)
	require.Panics(t, func() { New(Config{}) })
}

func TestObserverIsTold(t *testing.T) {
	var seen []string
	r := newRig(t, func(c *Config) {
		c.Observe = func(method, route string, status int, elapsed time.Duration) {
			require.Positive(t, elapsed)
			seen = append(seen, method+" "+route+" "+http.StatusText(status))
		}
	})
	r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`)
	r.do("admin", "GET", "/api/v1/organizations/"+r.organizations["free"].String(), "")
	r.do("", "GET", "/nothing", "")
	r.server.engine.GET("/panic", func(*gin.Context) { panic("bad day") })
	recorder := httptest.NewRecorder()
	r.server.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/panic", nil))
	require.Equal(t, []string{
		"POST /api/v1/usage OK", "GET /api/v1/organizations/:id OK", "GET  Not Found", "GET /panic Internal Server Error",
	}, seen)
}

// TestErrorsOfEveryKindAreMapped holds the one place where errors become HTTP.
func TestErrorsOfEveryKindAreMapped(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
	}{
		{errors.Join(errors.New("op"), invalid("name", "must be good")), 400},
		{context.DeadlineExceeded, 503},
		{&pgstore.Error{Op: "x", Err: context.DeadlineExceeded}, 503},
		{&pgstore.Error{Op: "x", Err: errDefect}, 500},
		{errDefect, 500},
	} {
		require.Equal(t, tt.status, problemOf(tt.err).Status, tt.err)
	}
}

func TestMiddlewareRunsBeforeUsageWhereSampled(t *testing.T) {
	ran := 0
	r := newRig(t, func(c *Config) { c.Middleware = []gin.HandlerFunc{func(*gin.Context) { ran++ }} })
	require.Equal(t, 200, r.do("free", "GET", "/api/v1/usage", "").Code)
	require.Equal(t, 1, ran)
	for traceparent, want := range map[string]int{
		"": 0, "00": 0,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00": 0,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-zz": 0,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01": 1,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03": 1,
	} {
		ran = 0
		require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`, "Traceparent", traceparent).Code)
		require.Equal(t, want, ran, traceparent)
	}
}
