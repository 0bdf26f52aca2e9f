package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/internal/connections"
)

// anOverloadedRig is one whose shedder is told that the process is slow. It ends with the test.
func anOverloadedRig(t *testing.T) *rig {
	t.Helper()
	shedder := gate.NewShedder(gate.ShedderConfig{Delay: func() time.Duration { return time.Second }})
	r := newRig(t, func(c *Config) { c.Shedder = shedder })
	r.run(shedder)
	require.Eventually(t, shedder.Active, 30*time.Second, time.Millisecond)
	return r
}

// run runs a shedder until the test ends.
func (r *rig) run(shedder *gate.Shedder) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { shedder.Run(ctx) })
	r.t.Cleanup(func() { cancel(); running.Wait() })
}

// TestWhatIsShedIsAnsweredSo holds it for each way in which a tenant's usage comes, and that probes,
// administration and finance are served meanwhile.
func TestWhatIsShedIsAnsweredSo(t *testing.T) {
	r := anOverloadedRig(t)
	for _, path := range []string{usagePath, batchPath, "/api/v1/reservations", "/gateway/anything"} {
		var recorder *httptest.ResponseRecorder
		require.Eventually(t, func() bool {
			recorder = httptest.NewRecorder()
			request := httptest.NewRequest(http.MethodPost, path, strings.NewReader(`{"meter":"evaluations"}`))
			request.Header.Set("Authorization", "Bearer "+r.secrets["enterprise"])
			request.Header.Set("Content-Type", "application/json")
			r.server.Handler().ServeHTTP(recorder, request)
			return recorder.Code == http.StatusServiceUnavailable
		}, 30*time.Second, time.Microsecond)
		require.Equal(t, "1", recorder.Header().Get("Retry-After"))
		require.NotEmpty(t, recorder.Header().Get("X-Request-Id"))
		require.Contains(t, recorder.Body.String(), `"error":"overloaded"`)
	}
	for range 100 {
		for _, path := range []string{"/healthz", "/livez", "/readyz"} {
			require.Equal(t, http.StatusOK, r.do("", http.MethodGet, path, "").Code, path)
		}
		require.Equal(t, http.StatusOK, r.do("admin", http.MethodGet, "/api/v1/instances", "").Code)
		require.Equal(t, http.StatusOK, r.do("finance", http.MethodGet, "/api/v1/plans", "").Code)
	}
	ready := r.do("", http.MethodGet, "/readyz", "").json()
	require.Equal(t, "degraded", ready["status"])
	require.Equal(t, "overloaded", ready["parts"].(map[string]any)["load"])
}

// TestCallersWhomNobodyKnowsAreOne holds that made-up keys take no share of their own each.
func TestCallersWhomNobodyKnowsAreOne(t *testing.T) {
	r := anOverloadedRig(t)
	// From its first use on a key is known.
	_, err := r.server.keys.principal(t.Context(), r.secrets["pro"], "", r.Now())
	require.NoError(t, err)
	made := 0
	require.Eventually(t, func() bool {
		made++
		request := httptest.NewRequest(http.MethodGet, "/api/v1/usage", http.NoBody)
		request.Header.Set("Authorization", fmt.Sprintf("Bearer tg_tenant_%d", made))
		recorder := httptest.NewRecorder()
		r.server.Handler().ServeHTTP(recorder, request)
		return recorder.Code == http.StatusServiceUnavailable
	}, 30*time.Second, time.Microsecond)
	require.Equal(t, http.StatusOK, r.do("pro", http.MethodGet, "/api/v1/usage", "").Code)
}

// flood is a caller that sends one request after another on each of its connections.
type flood struct {
	served, shed, failed atomic.Int64
	mu                   sync.Mutex
	// times are how long the answers took, by status.
	times map[int][]time.Duration
}

// send sends until the time is over, with a pause after each answer.
func (f *flood) send(t *testing.T, server *httptest.Server, secret string, until time.Time, pause time.Duration) {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		f.failed.Add(1)
		return
	}
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	const body = `{"meter":"evaluations","quantity":1}`
	request := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", usagePath, secret, len(body), body)
	reader := bufio.NewReader(conn)
	times := map[int][]time.Duration{}
	for time.Now().Before(until) {
		began := time.Now()
		if _, err = io.WriteString(conn, request); err != nil {
			f.failed.Add(1)
			break
		}
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			f.failed.Add(1)
			break
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if response.Close {
			_ = conn.Close()
			if conn, err = net.Dial("tcp", server.Listener.Addr().String()); err != nil {
				f.failed.Add(1)
				return
			}
			reader.Reset(conn)
		}
		times[response.StatusCode] = append(times[response.StatusCode], time.Since(began))
		switch response.StatusCode {
		case http.StatusOK:
			f.served.Add(1)
		case http.StatusServiceUnavailable:
			f.shed.Add(1)
		default:
			f.failed.Add(1)
		}
		time.Sleep(pause)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for status, some := range times {
		f.times[status] = append(f.times[status], some...)
	}
}

// quantile returns how long so much of the answers with a status took at most.
func (f *flood) quantile(status int, share float64) time.Duration {
	some := f.times[status]
	if len(some) == 0 {
		return 0
	}
	slices.Sort(some)
	return some[int(share*float64(len(some)-1))]
}

// TestAFloodIsShedAndCountedExactly holds on the real server that a tenant which floods it is shed, that
// another one hardly is, and that what was acknowledged is what counts.
func TestAFloodIsShedAndCountedExactly(t *testing.T) {
	probe, err := connections.OpenProbe()
	require.NoError(t, err)
	t.Cleanup(probe.Close)
	// However fast the machine is, this is slow.
	shedder := gate.NewShedder(gate.ShedderConfig{MaxDelay: time.Nanosecond, Delay: probe.Delay})
	r := newRig(t, func(c *Config) { c.Shedder, c.Logger = shedder, slog.New(slog.DiscardHandler) })
	r.run(shedder)
	server := r.serveWith(HTTPConfig{})
	flooding, polite := &flood{times: map[int][]time.Duration{}}, &flood{times: map[int][]time.Duration{}}
	until := time.Now().Add(2 * time.Second)
	var sending sync.WaitGroup
	for range 300 {
		sending.Go(func() { flooding.send(t, server, r.secrets["enterprise"], until, 0) })
	}
	sending.Go(func() { polite.send(t, server, r.secrets["free"], until, 25*time.Millisecond) })
	sending.Wait()
	for name, f := range map[string]*flood{"flooding": flooding, "polite": polite} {
		t.Log(name, "served", f.served.Load(), "p99", f.quantile(http.StatusOK, 0.99), "shed", f.shed.Load(), "p50", f.quantile(http.StatusServiceUnavailable, 0.5))
		require.Zero(t, f.failed.Load(), name)
		require.Positive(t, f.served.Load(), name)
	}
	require.Positive(t, flooding.shed.Load())
	require.LessOrEqual(t, polite.shed.Load(), polite.served.Load()/10)
	for name, f := range map[string]*flood{"enterprise": flooding, "free": polite} {
		i, ok := r.meter.Index("evaluations")
		require.True(t, ok)
		organization, err := r.meter.Organization(t.Context(), r.organizations[name], r.Now())
		require.NoError(t, err)
		require.Equal(t, f.served.Load(), organization.Usage(i, r.Now()).Current, name)
	}
}
