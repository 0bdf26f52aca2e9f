package telemetry_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/telemetry"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

func TestMetricsSayWhatTheMeterDid(t *testing.T) {
	ctx := context.Background()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	m := meter.New(meter.Config{Catalog: plans.Default(), Store: metertest.OnPlan("free")})
	f := meter.NewFlusher(meter.FlusherConfig{Meter: m, Store: metertest.OnPlan("free"), Instance: uuid.New(), Now: clock})
	tel, err := telemetry.Setup(ctx, telemetry.Config{Service: "tollgate-test"})
	require.NoError(t, err)
	require.NoError(t, telemetry.ObserveMetering(tel.Metrics, m, f, clock))

	o, err := m.Organization(ctx, uuid.New(), now)
	require.NoError(t, err)
	i, _ := m.Index("simulations")
	_, r, err := o.Admit(ctx, i, 50, now)
	require.NoError(t, err)
	r.Commit()
	_, _, err = o.Admit(ctx, i, 1, now)
	require.NoError(t, err)
	_, err = f.Flush(ctx)
	require.NoError(t, err)
	now = now.Add(90 * time.Second)

	recorder := httptest.NewRecorder()
	tel.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, line := range []string{
		`tollgate_decisions_total{decision="admitted",meter="simulations"} 1`,
		`tollgate_decisions_total{decision="refused",meter="simulations"} 1`,
		`tollgate_decisions_total{decision="admitted",meter="evaluations"} 0`,
		`tollgate_organizations 1`,
		`tollgate_flush_sequence 1`,
		`tollgate_flush_retained_batches 0`,
		`tollgate_flush_watermark_lag_seconds 90`,
		`go_goroutines`,
	} {
		require.Contains(t, recorder.Body.String(), line)
	}
	require.NoError(t, tel.Shutdown(ctx))
}

func TestTracesAreExportedWhereTheEnvironmentSays(t *testing.T) {
	received := make(chan string, 1)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case received <- r.URL.Path:
		default:
		}
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	ctx := context.Background()
	tel, err := telemetry.Setup(ctx, telemetry.Config{Service: "tollgate-test"})
	require.NoError(t, err)
	_, span := tel.Traces.Tracer("test").Start(ctx, "work")
	span.End()
	require.NoError(t, tel.Shutdown(ctx))
	require.Equal(t, "/v1/traces", <-received)
}
