package gate_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/gate"
)

// newProxyRig puts a gate and a proxy in front of an upstream.
func newProxyRig(t *testing.T, plan string, upstream http.HandlerFunc, change func(*gate.ProxyConfig)) *rig {
	t.Helper()
	server := httptest.NewUnstartedServer(upstream)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	server.Start()
	t.Cleanup(server.Close)
	target, err := url.Parse(server.URL + "/base")
	require.NoError(t, err)
	var r *rig
	config := gate.ProxyConfig{
		Upstream: target, Prefix: "/gateway", Logger: slog.New(slog.DiscardHandler),
		Organization: func(*gin.Context) uuid.UUID { return r.organization.ID() },
	}
	if change != nil {
		change(&config)
	}
	proxy := gate.NewProxy(config)
	t.Cleanup(proxy.Close)
	r = newRig(t, plan, nil, func(c *gin.Context) { c.Header("X-Request-Id", "ours"); proxy.Serve(c) })
	return r
}

func TestProxyForwards(t *testing.T) {
	got := make(chan *http.Request, 1)
	r := newProxyRig(t, "hard", func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		request.Body = io.NopCloser(strings.NewReader(string(body)))
		got <- request
		w.Header().Set("X-Upstream", "yes")
		w.Header().Set("X-Request-Id", "theirs")
		w.Header().Set("Tollgate-Over-Limit", "true")
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte("made"))
	}, nil)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.server.URL+"/gateway/a%20b/c?x=1;y=2&z=%zz", strings.NewReader("hello"))
	require.NoError(t, err)
	for name, value := range map[string]string{
		"Authorization": "Bearer secret", "X-Tollgate-Organization": "forged", "X-Tollgate-Scope": "platform",
		"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Host": "forged", "Forwarded": "for=1.2.3.4",
		"Connection": "X-Tollgate-Organization, X-Hop", "X-Hop": "1", "X-Custom": "kept", "Te": "gzip",
	} {
		request.Header.Set(name, value)
	}
	response, err := r.server.Client().Do(request)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusCreated, response.StatusCode)
	require.Equal(t, "made", string(body))
	require.Equal(t, "yes", response.Header.Get("X-Upstream"))
	require.Equal(t, []string{"ours"}, response.Header.Values("X-Request-Id"))
	require.Empty(t, response.Header.Values("Tollgate-Over-Limit"), "only Tollgate may say so")

	seen := <-got
	require.Equal(t, "/base/a%20b/c", seen.URL.EscapedPath())
	require.Equal(t, "x=1;y=2&z=%zz", seen.URL.RawQuery, "the query goes on as it came")
	sent, err := io.ReadAll(seen.Body)
	require.NoError(t, err)
	require.Equal(t, "hello", string(sent))
	require.Equal(t, []string{r.organization.ID().String()}, seen.Header.Values("X-Tollgate-Organization"))
	require.Equal(t, []string{"127.0.0.1"}, seen.Header.Values("X-Forwarded-For"))
	require.Equal(t, []string{r.server.Listener.Addr().String()}, seen.Header.Values("X-Forwarded-Host"))
	require.Equal(t, []string{"http"}, seen.Header.Values("X-Forwarded-Proto"))
	require.Equal(t, []string{"kept"}, seen.Header.Values("X-Custom"))
	for _, name := range []string{"Authorization", "X-Tollgate-Scope", "Forwarded", "X-Hop", "Te", "Connection"} {
		require.Empty(t, seen.Header.Values(name), name)
	}
	r.requireUsage(1, 0)
}

func TestUpstreamFailures(t *testing.T) {
	for _, tt := range []struct {
		name     string
		upstream http.HandlerFunc
		status   int
		code     string
	}{
		{"closes the connection", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 502, "upstream_unavailable"},
		{"does not answer", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 504, "upstream_timeout"},
		{"fails", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"error":"theirs"}`, http.StatusServiceUnavailable)
		}, 503, "theirs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newProxyRig(t, "hard", tt.upstream, func(c *gate.ProxyConfig) { c.ResponseTimeout = 100 * time.Millisecond })
			response, err := r.server.Client().Post(r.server.URL+"/gateway/x", "text/plain", nil)
			require.NoError(t, err)
			var problem map[string]any
			require.NoError(t, json.NewDecoder(response.Body).Decode(&problem))
			require.NoError(t, response.Body.Close())
			require.Equal(t, tt.status, response.StatusCode)
			require.Equal(t, tt.code, problem["error"])
			if tt.code != "theirs" {
				require.Equal(t, "application/problem+json", response.Header.Get("Content-Type"))
				require.Equal(t, "ours", problem["request_id"])
			}
			r.requireUsage(0, 0)
		})
	}
}

func TestProxyStreamsBothWays(t *testing.T) {
	r := newProxyRig(t, "hard", func(w http.ResponseWriter, request *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		lines := bufio.NewScanner(request.Body)
		for lines.Scan() {
			_, _ = fmt.Fprintf(w, "echo %s\n", lines.Text())
			_ = http.NewResponseController(w).Flush()
		}
	}, nil)
	reader, writer := io.Pipe()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.server.URL+"/gateway/x", reader)
	require.NoError(t, err)
	go func() { _, _ = io.WriteString(writer, "one\n") }()
	response, err := r.server.Client().Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	answer := bufio.NewReader(response.Body)
	line, err := answer.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "echo one\n", line, "nothing is buffered")
	r.requireUsage(1, 0)
	_, err = io.WriteString(writer, "two\n")
	require.NoError(t, err)
	line, err = answer.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "echo two\n", line)
	require.NoError(t, writer.Close())
}

// TestUpstreamThatBreaksOffAStream holds that a cut answer is cut for the caller
// too, and stays counted: its status was a 2xx.
func TestUpstreamThatBreaksOffAStream(t *testing.T) {
	r := newProxyRig(t, "hard", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("half"))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}, nil)
	response, err := r.server.Client().Get(r.server.URL + "/gateway/x")
	require.NoError(t, err)
	_, err = io.ReadAll(response.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NoError(t, response.Body.Close())
	r.requireUsage(1, 0)
}

func TestCallerGoesAwayBeforeTheUpstreamAnswers(t *testing.T) {
	started := make(chan struct{})
	r := newProxyRig(t, "hard", func(_ http.ResponseWriter, request *http.Request) {
		close(started)
		<-request.Context().Done()
	}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.server.URL+"/gateway/x", nil)
	require.NoError(t, err)
	go func() { <-started; cancel() }()
	_, err = r.server.Client().Do(request)
	require.ErrorIs(t, err, context.Canceled)
	r.server.Close()
	r.requireUsage(0, 0)
	require.Equal(t, int64(1), r.enforcer.Counts().Released)
}

func TestUpgradesPassAndHoldNothing(t *testing.T) {
	r := newProxyRig(t, "hard", func(w http.ResponseWriter, request *http.Request) {
		if request.Header.Get("Upgrade") != "websocket" {
			t.Error("the upgrade did not come through")
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = buffered.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = buffered.Flush()
		_, _ = io.Copy(conn, buffered)
	}, nil)
	conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
	require.NoError(t, err)
	_, err = fmt.Fprintf(conn, "GET /gateway/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	require.NoError(t, err)
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
	r.requireUsage(0, 0)
	_, err = conn.Write([]byte("ping"))
	require.NoError(t, err)
	echoed := make([]byte, 4)
	_, err = io.ReadFull(reader, echoed)
	require.NoError(t, err)
	require.Equal(t, "ping", string(echoed))
	require.NoError(t, conn.Close())
}

// TestOwnHeadersSurviveInformationalAnswers guards against the reverse proxy, which
// clears every header after a 1xx of the upstream.
func TestOwnHeadersSurviveInformationalAnswers(t *testing.T) {
	for _, classified := range []bool{true, false} {
		t.Run(fmt.Sprintf("classified: %t", classified), func(t *testing.T) { testInformational(t, classified) })
	}
}

func testInformational(t *testing.T, classified bool) {
	t.Helper()
	r := newProxyRig(t, "slow", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.WriteHeader(http.StatusOK)
	}, nil)
	path, counted := "/gateway/unknown", int64(0)
	if classified {
		path, counted = "/gateway/x", 1
	}
	hints := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			hints++
			require.Equal(t, http.StatusEarlyHints, code)
			require.Equal(t, "</a.css>; rel=preload", header.Get("Link"))
			return nil
		},
	})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.server.URL+path, nil)
	require.NoError(t, err)
	response, err := r.server.Client().Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, 1, hints)
	require.Equal(t, 200, response.StatusCode)
	require.Empty(t, response.Header.Get("Link"))
	require.Equal(t, "ours", response.Header.Get("X-Request-Id"))
	require.Equal(t, `"requests";q=2;w=2`, response.Header.Get("RateLimit-Policy"))
	r.requireUsage(counted, 0)
}
