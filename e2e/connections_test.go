package e2e_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
)

// TestConnectionsNeverStarveTheJournal opens more connections than there are file descriptors, each
// of which stalls somewhere, and looks how another tenant fares meanwhile.
func TestConnectionsNeverStarveTheJournal(t *testing.T) {
	t.Parallel()
	s := newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	t.Cleanup(upstream.Close)
	s.files = 512
	api := s.startAPI("TOLLGATE_BODY_TIMEOUT=30s", "TOLLGATE_UPSTREAM="+upstream.URL)
	slow, other := s.newTenant("Slow", "enterprise"), s.newTenant("Other", "enterprise")
	acknowledged := int64(0)
	for _, stalls := range []struct{ where, request string }{
		{"body", "POST /api/v1/usage HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer " + slow.key + "\r\nContent-Length: 100\r\n\r\n{"},
		{"upload", "POST /gateway/simulate HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer " + slow.key + "\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"},
		{"body without a key", "POST /api/v1/usage HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n{"},
		{"nothing", ""},
	} {
		done := make(chan struct{})
		var attack sync.WaitGroup
		for range 4 {
			attack.Go(func() { stall(strings.TrimPrefix(api.url, "http://"), stalls.request, 200, done) })
		}
		took, longest := fare(t, api, other, 2*time.Second)
		require.Equal(t, http.StatusOK, status(t, api.url+"/readyz"))
		metrics := text(t, api.metrics)
		close(done)
		attack.Wait()
		acknowledged += int64(len(took))
		slices.Sort(took)
		t.Logf("stalled %s: %d reports, p99 %s, longest time without one %s; %s of at most %s connections", stalls.where, len(took), took[len(took)*99/100], longest,
			number(metrics, `tollgate_connections{[^}]*state="held"[^}]*}`), number(metrics, `tollgate_connections{[^}]*state="most"[^}]*}`))
		require.Less(t, longest, starved)
		require.Equal(t, "0", number(metrics, `tollgate_unjournalled_total(?:{[^}]*})?`))
	}
	require.Eventually(t, func() bool { return s.recorded(other) == acknowledged }, 20*time.Second, 100*time.Millisecond)
}

// starved is how long nobody may be answered while connections stall, on a machine that is busy with other
// tests, too: journals without descriptors answered nobody for as long as the connections stood.
const starved = 10 * time.Second

// stall opens connections, says the same on each, and keeps them until done is closed.
func stall(address, says string, connections int, done <-chan struct{}) {
	var open []net.Conn
	for range connections {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			continue
		}
		_, _ = io.WriteString(conn, says)
		open = append(open, conn)
	}
	<-done
	for _, conn := range open {
		_ = conn.Close()
	}
}

// fare reports usage for a while, and returns how long each report took that was acknowledged, and
// the longest time without one.
func fare(t *testing.T, api *process, of tenant, long time.Duration) (took []time.Duration, longest time.Duration) {
	t.Helper()
	began := time.Now()
	last := began
	for time.Since(began) < long {
		asked := time.Now()
		status, _, err := api.tryCall(t.Context(), http.MethodPost, "/api/v1/usage", of.key, map[string]any{"meter": "evaluations"})
		if err == nil && status == http.StatusOK {
			took = append(took, time.Since(asked))
			longest = max(longest, time.Since(last))
			last = time.Now()
		}
		time.Sleep(time.Millisecond)
	}
	require.NotEmpty(t, took)
	return took, max(longest, time.Since(last))
}

// number is the value of the first metric that a pattern matches.
func number(metrics, pattern string) string {
	found := regexp.MustCompile(`(?m)^` + pattern + ` (\S+)$`).FindStringSubmatch(metrics)
	if found == nil {
		return "nothing"
	}
	return found[1]
}

// looker asks what must be answered whatever is broken: it doesn't wait for ever.
var looker = http.Client{Timeout: 30 * time.Second}

func status(t *testing.T, url string) int {
	t.Helper()
	response, err := looker.Get(url)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode
}

func text(t *testing.T, url string) string {
	t.Helper()
	response, err := looker.Get(url)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(body)
}
