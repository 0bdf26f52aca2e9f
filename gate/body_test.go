package gate_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/gate"
)

// upload sends the header of a request and the beginning of its body.
func (r *rig) upload(length int, begin string) net.Conn {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
	require.NoError(r.t, err)
	r.t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "POST /gateway/upload HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", length, begin)
	require.NoError(r.t, err)
	return conn
}

// answerOf reads all that comes on a connection, until it ends.
func answerOf(t *testing.T, conn net.Conn) string {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	return string(answer)
}

func swallow(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err == nil {
		w.WriteHeader(http.StatusOK)
	}
}

// TestAStalledUploadLetsGo holds that an upload which brings nothing any more holds neither its
// connection nor what it had reserved.
func TestAStalledUploadLetsGo(t *testing.T) {
	// Long enough that a busy machine sees what is reserved meanwhile.
	r := newProxyRig(t, "hard", swallow, func(c *gate.ProxyConfig) { c.BodyTimeout = 2 * time.Second })
	conn := r.upload(100, "x")
	r.requireUsage(0, 1)
	answer := answerOf(t, conn)
	require.Contains(t, answer, "HTTP/1.1 408 ")
	require.Contains(t, answer, `"error":"body_stalled"`)
	r.requireUsage(0, 0)
}

// TestAnUploadThatGoesOnIsNotCut holds that the time is one between bytes, not one for all.
func TestAnUploadThatGoesOnIsNotCut(t *testing.T) {
	r := newProxyRig(t, "hard", swallow, func(c *gate.ProxyConfig) { c.BodyTimeout = time.Second })
	conn := r.upload(8, "")
	for range 8 {
		time.Sleep(200 * time.Millisecond)
		_, err := conn.Write([]byte("x"))
		require.NoError(t, err)
	}
	require.Contains(t, answerOf(t, conn), "HTTP/1.1 200 ")
	r.requireUsage(1, 0)
}

// TestAStreamThatIsAnsweredMayBeSilent holds that the time ends with the answer's beginning: a
// stream in both directions says something when there is something to say.
func TestAStreamThatIsAnsweredMayBeSilent(t *testing.T) {
	r := newProxyRig(t, "hard", func(w http.ResponseWriter, request *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		body, err := io.ReadAll(request.Body)
		_, _ = fmt.Fprintf(w, "got %s %v", body, err)
	}, func(c *gate.ProxyConfig) { c.BodyTimeout = time.Second })
	conn := r.upload(2, "a")
	r.requireUsage(1, 0)
	time.Sleep(1500 * time.Millisecond)
	_, err := conn.Write([]byte("b"))
	require.NoError(t, err)
	require.Contains(t, answerOf(t, conn), "got ab <nil>")
}

// TestAnUploadThatIsTooLargeIsRefused holds the limit of a request's size.
func TestAnUploadThatIsTooLargeIsRefused(t *testing.T) {
	r := newProxyRig(t, "hard", swallow, func(c *gate.ProxyConfig) { c.MaxBody = 10 })
	response, err := r.server.Client().Post(r.server.URL+"/gateway/upload", "text/plain", strings.NewReader(strings.Repeat("x", 11)))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusRequestEntityTooLarge, response.StatusCode)
	r.requireUsage(0, 0)
}

// TestAChunkedUploadThatStallsLetsGo holds it for a body whose length nobody knows, and for one that
// is only sent once somebody reads it.
func TestAChunkedUploadThatStallsLetsGo(t *testing.T) {
	for name, rest := range map[string]string{
		"chunked": "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
		"invited": "Expect: 100-continue\r\nContent-Length: 100\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := newProxyRig(t, "hard", swallow, func(c *gate.ProxyConfig) { c.BodyTimeout = 100 * time.Millisecond })
			conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
			require.NoError(t, err)
			t.Cleanup(func() { _ = conn.Close() })
			_, err = io.WriteString(conn, "POST /gateway/upload HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"+rest)
			require.NoError(t, err)
			require.Contains(t, answerOf(t, conn), "HTTP/1.1 408 ")
			r.requireUsage(0, 0)
		})
	}
}
