package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// serveWith serves the rig as the program does.
func (r *rig) serveWith(config HTTPConfig) *httptest.Server {
	r.t.Helper()
	config.Handler = r.server.Handler()
	server := httptest.NewUnstartedServer(nil)
	server.Config = NewHTTPServer(config)
	server.Start()
	r.t.Cleanup(server.Close)
	return server
}

// begin sends the header of a report, and the first bytes of its body.
func (r *rig) begin(server *httptest.Server, key, path string, length int, body string) net.Conn {
	r.t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(r.t, err)
	r.t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: here\r\nConnection: close\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, r.secrets[key], length, body)
	require.NoError(r.t, err)
	return conn
}

// rest reads all that comes until the connection ends.
func rest(t *testing.T, conn net.Conn) string {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	return string(answer)
}

// TestBodiesThatStallAreAnswered holds it for each way in which a body is read.
func TestBodiesThatStallAreAnswered(t *testing.T) {
	r := newRig(t)
	server := r.serveWith(HTTPConfig{BodyTimeout: 100 * time.Millisecond})
	for _, path := range []string{usagePath, batchPath, "/api/v1/reservations"} {
		t.Run(path, func(t *testing.T) {
			answer := rest(t, r.begin(server, "free", path, 100, "[{"))
			require.Contains(t, answer, "HTTP/1.1 408 ")
			require.Contains(t, answer, `"error":"body_stalled"`)
		})
	}
}

// TestABodyThatGoesOnIsRead holds that neither the time for a body nor the one for the answer
// cuts an upload that is slow.
func TestABodyThatGoesOnIsRead(t *testing.T) {
	r := newRig(t)
	server := r.serveWith(HTTPConfig{BodyTimeout: time.Second, WriteTimeout: time.Second})
	report := `{"meter":"evaluations","quantity":3}`
	conn := r.begin(server, "free", usagePath, len(report), "")
	for _, part := range strings.SplitAfter(report, ":") {
		for _, half := range []string{part[:len(part)/2], part[len(part)/2:]} {
			time.Sleep(250 * time.Millisecond)
			_, err := io.WriteString(conn, half)
			require.NoError(t, err)
		}
	}
	require.Contains(t, rest(t, conn), "HTTP/1.1 200 ")
	require.InDelta(t, 3, r.current("free", "evaluations"), 0)
}

// TestARefusalWaitsForNoBody holds that an answer doesn't wait for a body that nobody reads, and
// that the connection isn't held for it.
func TestARefusalWaitsForNoBody(t *testing.T) {
	r := newRig(t)
	server := r.serveWith(HTTPConfig{BodyTimeout: 10 * time.Minute})
	r.secrets["nobody"] = "tg_tenant_nobody"
	began := time.Now()
	require.Contains(t, rest(t, r.begin(server, "nobody", usagePath, 100, "{")), "HTTP/1.1 401 ")
	require.Less(t, time.Since(began), time.Minute)
}

// TestCallersBoundNobodyElse holds that a tenant's stalled requests take no more than its share, and that
// they count for all of its routes.
func TestCallersBoundNobodyElse(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxUnderWay = 2 })
	server := r.serveWith(HTTPConfig{})
	stalled := []net.Conn{r.begin(server, "free", usagePath, 100, "{"), r.begin(server, "free", batchPath, 100, "[")}
	require.Eventually(t, func() bool { return r.server.underWay.count() == len(stalled) }, 30*time.Second, time.Millisecond)
	status, body, header := r.send(server, "free", http.MethodGet, "/api/v1/usage")
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Contains(t, body, `"error":"too_many_under_way"`)
	require.Equal(t, "1", header.Get("Retry-After"))
	status, body, _ = r.send(server, "pro", http.MethodGet, "/api/v1/usage")
	require.Equal(t, http.StatusOK, status, body)
	for _, conn := range stalled {
		require.NoError(t, conn.Close())
	}
	require.Eventually(t, func() bool {
		status, _, _ := r.send(server, "free", http.MethodGet, "/api/v1/usage")
		return status == http.StatusOK
	}, 30*time.Second, time.Millisecond)
	// A request has left a moment after its answer.
	require.Eventually(t, func() bool { return r.server.underWay.callers() == 0 }, 30*time.Second, time.Millisecond)
}

// callers is how many callers are known.
func (u *underWay) callers() (n int) {
	for i := range u.shards {
		u.shards[i].mu.Lock()
		n += len(u.shards[i].counts)
		u.shards[i].mu.Unlock()
	}
	return n
}

// count is how many requests of all callers are under way.
func (u *underWay) count() (n int) {
	for i := range u.shards {
		u.shards[i].mu.Lock()
		for _, count := range u.shards[i].counts {
			n += count
		}
		u.shards[i].mu.Unlock()
	}
	return n
}

// TestARefusalKeepsTheConnection holds that a caller whose whole body is there goes on using its
// connection after an answer that didn't read it.
func TestARefusalKeepsTheConnection(t *testing.T) {
	r := newRig(t)
	server := r.serveWith(HTTPConfig{})
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	from := bufio.NewReader(conn)
	for _, want := range []struct {
		key    string
		status int
	}{{"tg_tenant_nobody", 401}, {r.secrets["free"], 200}, {"tg_tenant_nobody", 401}} {
		_, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 23\r\n\r\n%s",
			usagePath, want.key, `{"meter":"evaluations"}`)
		require.NoError(t, err)
		response, err := http.ReadResponse(from, nil)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, response.Body)
		require.NoError(t, err)
		require.Equal(t, want.status, response.StatusCode)
		require.False(t, response.Close)
	}
}
