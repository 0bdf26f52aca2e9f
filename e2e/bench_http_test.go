//go:build bench

package e2e_test

import (
	"flag"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/benchline"
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

var (
	benchRounds = flag.Int("rounds", 3, "how often each thing is measured")
	benchLong   = flag.Duration("long", 3*time.Second, "for how long")
)

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
	b := &benched{t: t, key: s.newTenant("Bench", "enterprise").key, servers: []benchedServer{
		{"bare", startBare(t, upstream.URL)}, {"tollgate", strings.TrimPrefix(api.url, "http://")},
	}}
	b.measure("usage", floodCaller{Items: 1})
	b.measure("batch-of-100", floodCaller{Items: 100})
	b.measure("batch-of-1000", floodCaller{Items: 1_000})
	b.measure("gateway", floodCaller{Items: 1, Path: "/gateway/simulate"})
}

// startBare starts the bare server as a process, and returns where it listens.
func startBare(t *testing.T, upstream string) string {
	t.Helper()
	bare := freeAddress(t)
	program, err := os.Executable()
	require.NoError(t, err)
	command := exec.Command(program)
	command.Env = append(os.Environ(), bareVariable+"="+bare, upstreamVariable+"="+upstream)
	require.NoError(t, command.Start())
	t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	require.Eventually(t, func() bool {
		answer, err := http.Get("http://" + bare)
		if err == nil {
			_ = answer.Body.Close()
		}
		return err == nil
	}, 30*time.Second, 10*time.Millisecond)
	return bare
}

// benched are servers that are measured beside each other.
type benched struct {
	t       *testing.T
	key     string
	servers []benchedServer
}

type benchedServer struct{ name, address string }

// measure measures one kind of request at each server in turn, round after round.
func (b *benched) measure(request string, caller floodCaller) {
	b.t.Helper()
	caller.Key, caller.Connections = b.key, 16
	capacity := math.Inf(1)
	for _, server := range b.servers {
		b.send(server, caller) // Connections, caches and heaps are warm then.
	}
	for round := range *benchRounds {
		for i := range b.servers {
			server := b.servers[(i+round)%len(b.servers)]
			served := float64(b.send(server, caller).Served) / benchLong.Seconds()
			capacity = min(capacity, served)
			b.report(request, "closed", server, int(served), benchline.Figures{"req/s": served, "items/s": served * float64(caller.Items)})
		}
	}
	caller.Rate = max(1, int(0.7*capacity))
	for round := range *benchRounds {
		for i := range b.servers {
			server := b.servers[(i+round)%len(b.servers)]
			got := b.send(server, caller)
			b.report(request, "open", server, int(got.Served), benchline.Figures{
				"p50-ns": float64(got.ServedIn.P50), "p99-ns": float64(got.ServedIn.P99), "p999-ns": float64(got.ServedIn.P999),
			})
		}
	}
}

func (b *benched) send(server benchedServer, caller floodCaller) floodResult {
	b.t.Helper()
	result := flood{server.address, *benchLong, []floodCaller{caller}}.begin(b.t, -1).wait()[0]
	require.Zero(b.t, result.Wrong+result.Unanswered, server.name)
	require.NotZero(b.t, result.Served, server.name)
	return result
}

func (b *benched) report(request, load string, server benchedServer, n int, figures benchline.Figures) {
	b.t.Helper()
	require.NoError(b.t, benchline.Write(os.Stdout, "HTTP/request="+request+"/load="+load+"/server="+server.name, n, figures))
}
