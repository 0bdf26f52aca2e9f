package e2e_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
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

// TestConnectionsNeverStarveTheJournal opens more connections than there are file descriptors,
// with a body that doesn't come, and looks how another tenant fares.
func TestConnectionsNeverStarveTheJournal(t *testing.T) {
	t.Parallel()
	s := newSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	s.files = 512
	api := s.startAPI("TOLLGATE_BODY_TIMEOUT=30s")
	slow, other := s.newTenant("Slow", "enterprise"), s.newTenant("Other", "enterprise")
	address := strings.TrimPrefix(api.url, "http://")

	var longest time.Duration
	var took []time.Duration
	var acknowledged int64
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		last := time.Now()
		for {
			select {
			case <-done:
				return
			default:
			}
			began := time.Now()
			status, _, err := api.tryCall(t.Context(), http.MethodPost, "/api/v1/usage", other.key, map[string]any{"meter": "evaluations"})
			if err == nil && status == http.StatusOK {
				acknowledged++
				longest = max(longest, time.Since(last))
				last = time.Now()
				took = append(took, time.Since(began))
			}
			time.Sleep(time.Millisecond)
		}
	})
	request := fmt.Sprintf("POST /api/v1/usage HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\n{", slow.key)
	var mu sync.Mutex
	var open []net.Conn
	for range 6 {
		wg.Go(func() {
			for range 200 {
				conn, err := net.Dial("tcp", address)
				if err != nil {
					continue
				}
				_, _ = io.WriteString(conn, request)
				mu.Lock()
				open = append(open, conn)
				mu.Unlock()
			}
		})
	}
	time.Sleep(4 * time.Second)
	require.Equal(t, http.StatusOK, status(t, api.url+"/readyz"))
	metrics := text(t, api.url+"/metrics")
	close(done)
	wg.Wait()
	for _, conn := range open {
		_ = conn.Close()
	}
	slices.Sort(took)
	t.Logf("%d connections to %s; %d reports, p99 %s, longest wait for an answer %s", len(open), number(metrics, `tollgate_connections{[^}]*state="most"[^}]*}`),
		acknowledged, took[len(took)*99/100], longest)
	require.Less(t, longest, 3*time.Second)
	require.Equal(t, "0", number(metrics, `tollgate_unjournalled_total(?:{[^}]*})?`))
	require.Eventually(t, func() bool { return s.recorded(other) == acknowledged }, 20*time.Second, 100*time.Millisecond)
}

// number is the value of the first metric that a pattern matches.
func number(metrics, pattern string) string {
	found := regexp.MustCompile(`(?m)^` + pattern + ` (\S+)$`).FindStringSubmatch(metrics)
	if found == nil {
		return "nothing"
	}
	return found[1]
}

func status(t *testing.T, url string) int {
	t.Helper()
	response, err := http.Get(url)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode
}

func text(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(body)
}
