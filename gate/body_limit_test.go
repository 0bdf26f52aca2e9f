package gate_test

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/gate"
)

// TestBodiesAreBoundByRouteAndPlan holds that an upload larger than its rule, or its tenant's plan,
// allows is answered with 413 and charged nothing, whether it says how long it is or not.
func TestBodiesAreBoundByRouteAndPlan(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.HandlerFunc(swallow))
	t.Cleanup(upstream.Close)
	target, err := url.Parse(upstream.URL)
	require.NoError(t, err)
	rules, err := gate.ParseRules([]byte(`{rules: [
		{method: POST, path: /bounded, meter: evaluations, max_body_mib: 2},
		{method: POST, path: /planned, meter: evaluations, max_body_mib: 2, plan_body_mib: {free_for_all: 1}},
		{method: POST, path: /others, meter: evaluations, max_body_mib: 2, plan_body_mib: {soft: 1}},
		{method: POST, path: /open, meter: evaluations}]}`))
	require.NoError(t, err)
	proxy := gate.NewProxy(gate.ProxyConfig{
		Upstream: target, Logger: slog.New(slog.DiscardHandler), Organization: func(*gin.Context) uuid.UUID { return uuid.UUID{} },
	})
	t.Cleanup(proxy.Close)
	r := newRig(t, "free_for_all", func(c *gate.Config) { c.Classify = rules.Classify }, proxy.Serve)
	const mib = 1 << 20
	counted := int64(0)
	for _, tt := range []struct {
		path   string
		length int
		status int
	}{
		{"/bounded", 2 * mib, 200},
		{"/bounded", 2*mib + 1, 413},
		{"/planned", mib, 200},
		{"/planned", mib + 1, 413},
		{"/others", mib + 1, 200},
		{"/others", 2*mib + 1, 413},
		{"/open", 3 * mib, 200},
	} {
		for _, chunked := range []bool{false, true} {
			var body io.Reader = strings.NewReader(strings.Repeat("x", tt.length))
			if chunked {
				body = io.MultiReader(body)
			}
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.server.URL+tt.path, body)
			require.NoError(t, err)
			response, err := r.server.Client().Do(request)
			require.NoError(t, err)
			_, _ = io.Copy(io.Discard, response.Body)
			require.NoError(t, response.Body.Close())
			require.Equal(t, tt.status, response.StatusCode, "%s: %d bytes, chunked %t", tt.path, tt.length, chunked)
			if tt.status == 200 {
				counted++
			}
			r.requireUsage(counted, 0)
		}
	}
}

// TestATooLargeBodyIsRefusedBeforeItIsSent holds that a caller who waits to be asked for the body is
// answered 413 instead.
func TestATooLargeBodyIsRefusedBeforeItIsSent(t *testing.T) {
	t.Parallel()
	r := newRig(t, "hard", func(c *gate.Config) {
		c.Classify = func(*http.Request) (gate.Charge, bool) {
			return gate.Charge{Meter: "evaluations", MaxBody: 4}, true
		}
	})
	conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "POST /a HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusRequestEntityTooLarge, response.StatusCode)
	r.requireUsage(0, 0)
}
