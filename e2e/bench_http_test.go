//go:build bench

package e2e_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/demo"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
)

// bareVariable makes this program a server that does the same work without deciding and counting:
// gin handlers that read the same JSON and answer with the same, and a bare reverse proxy. Its value is
// where it listens, and upstreamVariable where the proxy passes requests on to.
const bareVariable, upstreamVariable = "TOLLGATE_E2E_BARE", "TOLLGATE_E2E_UPSTREAM"

func init() {
	address := os.Getenv(bareVariable)
	if address == "" {
		return
	}
	if err := serveBare(address, os.Getenv(upstreamVariable)); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(1)
}

func serveBare(address, upstream string) error {
	target, err := url.Parse(upstream)
	if err != nil {
		return err
	}
	type item struct {
		Meter    string `binding:"required" json:"meter"`
		Quantity int64  `json:"quantity"`
	}
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.POST("/api/v1/usage", func(c *gin.Context) {
		var in item
		if err := c.ShouldBindJSON(&in); err != nil {
			c.AbortWithStatus(http.StatusBadRequest)
			return
		}
		c.JSON(http.StatusOK, gin.H{
			"allowed": true, "meter": in.Meter, "plan": "enterprise", "mode": "unlimited", "current": in.Quantity, "held": 0,
			"max": nil, "remaining": nil, "window_start": "2026-11-01T00:00:00Z", "window_end": "2026-12-01T00:00:00Z",
		})
	})
	engine.POST("/api/v1/usage/batch", func(c *gin.Context) {
		var in []item
		if err := c.ShouldBindJSON(&in); err != nil {
			c.AbortWithStatus(http.StatusBadRequest)
			return
		}
		receipts := make([]gin.H, len(in))
		for i := range in {
			receipts[i] = gin.H{"index": i, "status": "accepted", "meter": in[i].Meter, "quantity": in[i].Quantity, "over_limit": false}
		}
		c.JSON(http.StatusOK, gin.H{"receipts": receipts, "accepted": len(in)})
	})
	engine.Any("/gateway/*path", gin.WrapH(http.StripPrefix("/gateway", httputil.NewSingleHostReverseProxy(target))))
	server := &http.Server{Addr: address, Handler: engine, ReadHeaderTimeout: time.Minute}
	return server.ListenAndServe()
}

// TestBenchHTTP measures what Tollgate adds to a request: its API beside the bare server, both with the
// generator on the same cores, in turn. First each connection sends as fast as it is answered, which is the
// capacity; then requests come at 70 % of the smaller of the two capacities, answered or not, and times count from
// when each was due.
func TestBenchHTTP(t *testing.T) {
	upstream := httptest.NewServer(demo.Echo())
	t.Cleanup(upstream.Close)
	s := newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	s.startWorker()
	api := s.startAPI("TOLLGATE_UPSTREAM="+upstream.URL, "TOLLGATE_TENANT_COST=1000000000")
	key := s.newTenant("Bench", "enterprise").key
	bare := freeAddress(t)
	program, err := os.Executable()
	require.NoError(t, err)
	command := exec.Command(program)
	command.Env = append(os.Environ(), bareVariable+"="+bare, upstreamVariable+"="+upstream.URL)
	require.NoError(t, command.Start())
	t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	require.Eventually(t, func() bool {
		answer, err := http.Get("http://" + bare)
		if err == nil {
			_ = answer.Body.Close()
		}
		return err == nil
	}, 30*time.Second, 10*time.Millisecond)

	const rounds, connections, long = 3, 16, 3 * time.Second
	addresses := []string{bare, strings.TrimPrefix(api.url, "http://")}
	t.Log("| request | | capacity, requests/s | at 70 %: p50 | p99 | p99.9 |")
	for _, shape := range []struct {
		name   string
		caller floodCaller
	}{
		{"`POST /usage`", floodCaller{Items: 1}},
		{"`POST /usage/batch`, 100", floodCaller{Items: 100}},
		{"`POST /usage/batch`, 1,000", floodCaller{Items: 1_000}},
		{"gateway", floodCaller{Items: 1, Path: "/gateway/simulate"}},
	} {
		shape.caller.Key, shape.caller.Connections = key, connections
		send := func(address string, rate int) floodResult {
			caller := shape.caller
			caller.Rate = rate
			result := flood{address, long, []floodCaller{caller}}.begin(t, -1)()[0]
			require.Zero(t, result.Wrong+result.Unanswered, shape.name)
			return result
		}
		capacities := [2][]float64{}
		for range rounds {
			for i, address := range addresses {
				capacities[i] = append(capacities[i], float64(send(address, 0).Served)/long.Seconds())
			}
		}
		capacity := [2]float64{median(capacities[0]), median(capacities[1])}
		rate := max(1, int(0.7*min(capacity[0], capacity[1])))
		var times [2]quantiles
		for i, address := range addresses {
			times[i] = send(address, rate).ServedIn
		}
		for i, name := range []string{"bare", "Tollgate"} {
			t.Logf("| %s | %s | %.0f | %s | %s | %s |", shape.name, name, capacity[i], micro(times[i].P50), micro(times[i].P99), micro(times[i].P999))
		}
		t.Logf("| | ratio | %.2f | %.2f | %.2f | %.2f |", capacity[1]/capacity[0],
			ratio(times[1].P50, times[0].P50), ratio(times[1].P99, times[0].P99), ratio(times[1].P999, times[0].P999))
	}
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

func micro(d time.Duration) string { return d.Round(time.Microsecond).String() }

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
