package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"

	"github.com/riverline/tollgate/api"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/internal/config"
	"github.com/riverline/tollgate/internal/telemetry"
	"github.com/riverline/tollgate/plans"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

// aBase is one without Postgres and Temporal.
func aBase(t *testing.T) *base {
	t.Helper()
	observed, err := telemetry.Setup(t.Context(), telemetry.Config{Service: "test"})
	require.NoError(t, err)
	b := &base{telemetry: observed, logger: slog.New(slog.DiscardHandler)}
	t.Cleanup(b.close)
	return b
}

// A worker is alive at once, and ready while it takes work.
func TestWorkerSaysWhetherItIsReady(t *testing.T) {
	var working, keeping atomic.Bool
	keeping.Store(true)
	handler := operations(aBase(t), working.Load, &keeping, func(context.Context) error { return nil })
	get := func(path string) (int, string) {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
		return recorder.Code, recorder.Body.String()
	}
	for _, tt := range []struct {
		working bool
		path    string
		status  int
		body    string
	}{
		{false, "/healthz", http.StatusOK, `{"status":"ok"}`},
		{false, "/livez", http.StatusOK, `{"status":"ok"}`},
		{false, "/readyz", http.StatusServiceUnavailable, `{"status":"starting or stopping, or a worker has ended: see the log"}`},
		{true, "/readyz", http.StatusOK, `{"status":"ready"}`},
		{true, "/healthz", http.StatusOK, `{"status":"ok"}`},
		{false, "/readyz", http.StatusServiceUnavailable, `{"status":"starting or stopping, or a worker has ended: see the log"}`},
	} {
		working.Store(tt.working)
		status, body := get(tt.path)
		require.Equal(t, tt.status, status, tt.path)
		require.JSONEq(t, tt.body, body)
	}
	status, body := get("/metrics")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "go_goroutines")
	status, _ = get("/")
	require.Equal(t, http.StatusNotFound, status)
}

// No caller chooses a label: neither by its method, nor by the host, port or version that it names.
func TestLabelsAreBounded(t *testing.T) {
	gin.SetMode(gin.TestMode)
	b := aBase(t)
	engine := gin.New()
	engine.Use(tracing(b))
	engine.NoRoute(func(c *gin.Context) { c.Status(http.StatusNotFound) })
	series := func() (count int) {
		families, err := b.telemetry.Registry.Gather()
		require.NoError(t, err)
		for _, family := range families {
			if strings.HasPrefix(family.GetName(), "http_server_") {
				count += len(family.GetMetric())
			}
		}
		return count
	}
	serve := func(n int) {
		request := httptest.NewRequest("GET", fmt.Sprintf("/%d", n), nil)
		request.Host = fmt.Sprintf("host-%d.example:%d", n, 1000+n)
		request.Method, request.Proto, request.ProtoMinor = fmt.Sprintf("METHOD%d", n), fmt.Sprintf("HTTP/1.%d", n%10), n%10
		request.Header.Set("User-Agent", fmt.Sprintf("agent-%d", n))
		engine.ServeHTTP(httptest.NewRecorder(), request)
	}
	serve(0)
	before := series()
	require.Positive(t, before)
	for n := range 100 {
		serve(n + 1)
	}
	require.Equal(t, before, series())
}

// What is needed at the start and isn't there ends it, and the error names the setting.
func TestStartIsRefused(t *testing.T) {
	catalog := filepath.Join(t.TempDir(), "catalog.yaml")
	require.NoError(t, os.WriteFile(catalog, []byte("meters: []"), 0o600))
	nobody := config.Database{DatabaseURL: "postgres://u:secret@127.0.0.1:1/d?connect_timeout=1", MaxConnections: 2}
	for _, tt := range []struct {
		name   string
		shared Shared
		says   string
	}{
		{"no catalog file", Shared{Database: nobody, Catalog: config.Catalog{Catalog: "/nowhere.yaml"}}, "--catalog: "},
		{"a broken catalog", Shared{Database: nobody, Catalog: config.Catalog{Catalog: catalog}}, "--catalog " + catalog + ": "},
		{"no Postgres", Shared{Database: nobody}, "127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for what, process := range map[string]interface {
				Process
				Readier
			}{"api": NewAPI(APIConfig{Shared: tt.shared}), "worker": NewWorker(WorkerConfig{Shared: tt.shared})} {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				err := process.Run(ctx)
				cancel()
				require.ErrorContains(t, err, tt.says, what)
				require.NotContains(t, err.Error(), "secret")
				select {
				case <-process.Ready():
					t.Fatal(what + " says that it is ready")
				default:
				}
			}
		})
	}
	_, err := (&Shared{Database: nobody, Catalog: config.Catalog{Catalog: catalog}}).open(t.Context(), "test", "")
	require.ErrorIs(t, err, plans.ErrInvalidCatalog)
}

func TestAPortThatIsTakenIsNamed(t *testing.T) {
	taken, err := listen(t.Context(), "--listen", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = taken.Close() }()
	_, err = listen(t.Context(), "--listen", taken.Addr().String())
	require.ErrorContains(t, err, "--listen: ")
	require.ErrorContains(t, err, "address already in use")
}

// A server that is shut down has not failed; one whose port is lost has.
func TestServeSaysWhatFailed(t *testing.T) {
	for name, end := range map[string]func(*http.Server, net.Listener) error{
		"shut down": func(s *http.Server, _ net.Listener) error { return s.Shutdown(context.Background()) },
		"lost":      func(_ *http.Server, l net.Listener) error { return l.Close() },
	} {
		listener, err := listen(t.Context(), "--listen", "127.0.0.1:0")
		require.NoError(t, err)
		server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second}
		failed := serve(server, listener)
		response, err := http.Get("http://" + listener.Addr().String())
		require.NoError(t, err, "it serves")
		require.NoError(t, response.Body.Close())
		require.NoError(t, end(server, listener))
		if name == "lost" {
			require.ErrorContains(t, <-failed, "serve HTTP: ")
		}
		require.NoError(t, <-failed, "the channel is closed at the end")
		require.NoError(t, server.Close())
	}
}

func TestAwaitReadyWaitsForAll(t *testing.T) {
	first, second := NewWorker(WorkerConfig{}), NewAPI(APIConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	awaited := make(chan error, 1)
	go func() { awaited <- AwaitReady(ctx, first, second) }()
	second.ready.set()
	select {
	case err := <-awaited:
		t.Fatal("one is not ready", err)
	case <-time.After(10 * time.Millisecond):
	}
	first.ready.set()
	first.ready.set()
	require.NoError(t, <-awaited)
	go func() { awaited <- AwaitReady(ctx, first, NewAPI(APIConfig{})) }()
	cancel()
	require.ErrorIs(t, <-awaited, context.Canceled)
}

// What fails because Temporal is away is tried until it succeeds, or the process is to end.
func TestTemporalIsAwaited(t *testing.T) {
	b := aBase(t)
	calls := 0
	require.NoError(t, untilReached(t.Context(), b, func() error {
		calls++
		if calls == 1 {
			return errors.New("away")
		}
		return nil
	}))
	require.Equal(t, 2, calls)

	ctx, cancel := context.WithCancel(t.Context())
	err := untilReached(ctx, b, func() error { cancel(); return errors.New("away") })
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, ignoreEnd(ctx, err), "who is asked to stop has not failed")
	require.Error(t, ignoreEnd(ctx, errors.New("broken")))
	require.ErrorIs(t, ignoreEnd(t.Context(), context.Canceled), context.Canceled)
}

// Temporal's errors are the API's, and nothing else is.
func TestErrorsOfTemporalAreTranslated(t *testing.T) {
	odd := errors.New("odd")
	for _, tt := range []struct{ given, want error }{
		{nil, nil},
		{fmt.Errorf("flush: %w", starter.ErrNotRunning), api.ErrNotRunning},
		{temporal.NewApplicationError("ends", workflows.TypeDraining), api.ErrNotRunning},
		{temporal.NewApplicationError("gone", workflows.TypeInstanceUnreachable), api.ErrNotRunning},
		{temporal.NewApplicationError("unable to decode", "wrapError"), api.ErrWorkflowsAway},
		{temporal.NewNonRetryableApplicationError("broken", "Permanent", odd), odd},
		{serviceerror.NewUnavailable("no"), api.ErrWorkflowsAway},
		{serviceerror.NewDeadlineExceeded("late"), api.ErrWorkflowsAway},
		{fmt.Errorf("call: %w", context.DeadlineExceeded), api.ErrWorkflowsAway},
		{odd, odd},
		{context.Canceled, context.Canceled},
	} {
		got := translate(tt.given)
		if tt.want == nil {
			require.NoError(t, got)
			continue
		}
		require.ErrorIs(t, got, tt.want)
		require.ErrorIs(t, got, tt.given, "the cause is kept")
		for _, other := range []error{api.ErrNotRunning, api.ErrWorkflowsAway} {
			require.Equal(t, errors.Is(tt.want, other), errors.Is(got, other), "%v", tt.given)
		}
	}
}

// Each stage has words of its own, which are not its name.
func TestEveryStageIsDescribed(t *testing.T) {
	p := workflows.ExportPeriodProgress{Error: "no disk", RequestedBy: "finance", Variances: 3}
	seen := map[string]billing.Stage{}
	for _, stage := range []billing.Stage{
		billing.StageWaiting, billing.StageRollups, billing.StageFreezing, billing.StageRating, billing.StageWriting,
		billing.StageReviewing, billing.StageApproving, billing.StageIssuing, billing.StageDelivering,
	} {
		p.Stage = stage
		note := exportNote(p)
		require.NotEqual(t, string(stage), note)
		require.Empty(t, seen[note], note)
		seen[note] = stage
	}
	require.Contains(t, seen, "waiting for finance to review 3 variances")
	require.Contains(t, seen, "waiting for somebody else than finance to approve")
	for stage, want := range map[billing.Stage]string{
		billing.StageFailed: "no disk", billing.StageCanceled: "no disk", billing.StageRejected: "no disk", billing.StageDone: "done", billing.StageClosed: "closed",
	} {
		p.Stage = stage
		require.Equal(t, want, exportNote(p))
	}
}

// Temporal's SDK logs each step at info: that is debug here. Warnings stay.
func TestTemporalIsQuiet(t *testing.T) {
	var out bytes.Buffer
	logger := quietTemporal(slog.New(slog.NewTextHandler(&out, nil))).With("queue", "tollgate").WithGroup("run")
	logger.Info("a step")
	require.Empty(t, out.String())
	logger.Warn("away", "attempt", 2)
	require.Contains(t, out.String(), `level=WARN msg=away component=temporal queue=tollgate run.attempt=2`)
	out.Reset()
	logger = quietTemporal(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	logger.Info("a step")
	require.Contains(t, out.String(), "level=DEBUG")
}
