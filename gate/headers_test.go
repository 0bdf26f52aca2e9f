package gate_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestIdentityHeadersAreOurs holds that nothing that a caller sends is heard as who it is, where
// it comes from, or what it asks for.
func TestIdentityHeadersAreOurs(t *testing.T) {
	got := make(chan *http.Request, 1)
	r := newProxyRig(t, "soft", func(w http.ResponseWriter, request *http.Request) {
		got <- request
		w.Header().Set("X-Caller-Request-Id", "theirs")
		w.Header().Set("Tollgate-Replayed", "true")
		w.WriteHeader(http.StatusNoContent)
	}, nil)
	send := func(lines ...string) *http.Request {
		t.Helper()
		status, _ := r.raw(t, "POST /gateway/evaluate HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"+strings.Join(lines, "\r\n")+"\r\n\r\n")
		require.Equal(t, http.StatusNoContent, status)
		seen := <-got
		require.Equal(t, []string{r.organization.ID().String()}, seen.Header.Values("X-Tollgate-Organization"))
		require.Equal(t, []string{"ours"}, seen.Header.Values("X-Request-Id"))
		require.Equal(t, []string{"127.0.0.1"}, seen.Header.Values("X-Forwarded-For"))
		return seen
	}
	for _, name := range []string{
		"X_Tollgate_Organization", "X-Tollgate_Organization", "x-tollgate-organization", "X-TOLLGATE-ORGANIZATION", "X.Tollgate.Organization",
		"X!Tollgate!Organization", "X_Forwarded_For", "X_Request_Id", "X-Original-URL", "X-Rewrite-URL", "X-Original-Method", "X-HTTP-Method-Override",
		"X-HTTP-Method", "X-Method-Override", "X-Forwarded-Prefix", "X-Forwarded-Uri", "X-Forwarded-User", "X-Forwarded-Anything", "X-Real-IP",
		"True-Client-IP", "CF-Connecting-IP", "Remote-User", "X-Remote-User", "X-Auth-Request-User", "Forwarded", "Proxy", "Authorization",
		"Client-Cert", "X-SSL-Client-Verify", "X-Envoy-Original-Path", "X-Caller-Request-Id", "Tollgate-Over-Limit", "Upgrade", "Proxy-Authorization",
	} {
		seen := send(name+": forged", name+": twice")
		for header, values := range seen.Header {
			require.NotContains(t, values, "forged", header)
			require.NotContains(t, values, "twice", header)
		}
	}
	seen := send("X-Custom: kept", "Traceparent: kept", "Cookie: kept=1", "Idempotency-Key: kept", "X-User-Id: kept", "Accept: a/b")
	for _, name := range []string{"X-Custom", "Traceparent", "Cookie", "Idempotency-Key", "X-User-Id", "Accept"} {
		require.NotEmpty(t, seen.Header.Get(name), name)
	}
}

// TestConnectionTakesNothingOfOurs holds that a caller can't have our headers dropped as those of
// one hop, nor have a connection of another protocol opened.
func TestConnectionTakesNothingOfOurs(t *testing.T) {
	got := make(chan *http.Request, 1)
	r := newProxyRig(t, "soft", func(w http.ResponseWriter, request *http.Request) {
		got <- request
		w.WriteHeader(http.StatusNoContent)
	}, nil)
	for _, lines := range []string{
		"Connection: close, X-Tollgate-Organization, X-Request-Id, X-Forwarded-For\r\n",
		"Connection: x-tollgate-organization\r\nConnection: X-Request-Id, X-Forwarded-For\r\n",
		"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
		"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
		"Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
		"Connection: Keep-Alive, X-Hop\r\nKeep-Alive: 5\r\nX-Hop: 1\r\nTe: deflate\r\nProxy-Connection: keep-alive\r\n",
	} {
		status, _ := r.raw(t, "GET /gateway/evaluate HTTP/1.1\r\nHost: x\r\n"+lines+"\r\n")
		require.Equal(t, http.StatusNoContent, status, lines)
		seen := <-got
		require.Equal(t, []string{r.organization.ID().String()}, seen.Header.Values("X-Tollgate-Organization"), lines)
		require.Equal(t, []string{"ours"}, seen.Header.Values("X-Request-Id"), lines)
		require.Equal(t, []string{"127.0.0.1"}, seen.Header.Values("X-Forwarded-For"), lines)
		for _, name := range []string{"Connection", "Upgrade", "Http2-Settings", "Keep-Alive", "X-Hop", "Te", "Proxy-Connection"} {
			require.Empty(t, seen.Header.Values(name), lines)
		}
	}
	status, _ := r.raw(t, "POST /gateway/evaluate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Tollgate-Organization\r\n\r\n"+
		"1\r\nx\r\n0\r\nX-Tollgate-Organization: forged\r\n\r\n")
	require.Equal(t, http.StatusNoContent, status)
	seen := <-got
	require.Empty(t, seen.Trailer, "no trailer says what a header mustn't")
}

// TestFramingIsReadOnce holds that what the upstream is asked is what was counted, however the ends of
// requests are said: no request travels in the body of another.
func TestFramingIsReadOnce(t *testing.T) {
	asked := make(chan string, 100)
	r := newProxyRig(t, "soft", func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		asked <- request.Method + " " + strconv.Itoa(len(body))
		w.WriteHeader(http.StatusNoContent)
	}, nil)
	const inner = "GET /gateway/evaluate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	length := "Content-Length: " + strconv.Itoa(len(inner)) + "\r\n"
	counted := int64(0)
	for name, framing := range map[string]struct {
		header string
		// asked is what the upstream is asked for: the body, or the request that follows.
		asked []string
	}{
		"a length":               {length + "\r\n", []string{"POST " + strconv.Itoa(len(inner))}},
		"a nominated length":     {"Connection: Content-Length\r\n" + length + "\r\n", []string{"POST " + strconv.Itoa(len(inner))}},
		"chunks and a length":    {length + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []string{"POST 0", "GET 0"}},
		"no length":              {"\r\n", []string{"POST 0", "GET 0"}},
		"a folded line":          {"X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", []string{"POST 0", "GET 0"}},
		"two lengths":            {"Content-Length: 0\r\n" + length + "\r\n", nil},
		"a list of lengths":      {"Content-Length: 0, 42\r\n\r\n", nil},
		"a signed length":        {"Content-Length: +42\r\n\r\n", nil},
		"another coding":         {"Transfer-Encoding: xchunked\r\n\r\n", nil},
		"two codings":            {"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", nil},
		"a blank before a colon": {"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", nil},
	} {
		conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
		_, err = io.WriteString(conn, "POST /gateway/evaluate HTTP/1.1\r\nHost: x\r\n"+framing.header+inner)
		require.NoError(t, err)
		reader := bufio.NewReader(conn)
		for _, want := range framing.asked {
			response, err := http.ReadResponse(reader, nil)
			require.NoError(t, err, name)
			require.Equal(t, http.StatusNoContent, response.StatusCode, name)
			require.NoError(t, response.Body.Close())
			require.Equal(t, want, <-asked, name)
			counted++
		}
		if len(framing.asked) == 0 {
			response, err := http.ReadResponse(reader, nil)
			require.NoError(t, err, name)
			require.GreaterOrEqual(t, response.StatusCode, http.StatusBadRequest, name)
			require.NoError(t, response.Body.Close())
		}
		require.NoError(t, conn.Close())
	}
	r.requireUsage(counted, 0)
	require.Empty(t, asked)
}
