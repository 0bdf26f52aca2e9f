package telemetry_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/telemetry"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/sinks"
	"github.com/riverline/tollgate/webhooks"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// figures are a store's, as a test wants them; err is what all but webhooks come to.
type figures struct{ err error }

// WebhookBacklog has one event that waits.
func (figures) WebhookBacklog(context.Context) (webhooks.Backlog, error) {
	return webhooks.Backlog{Undispatched: 1, UndispatchedSince: noon.Add(-90 * time.Second), Pending: 2, Failing: 3, Exhausted: 4}, nil
}

// OpenExports has two in one stage.
func (f figures) OpenExports(context.Context) ([]billing.Export, error) {
	return []billing.Export{
		{Stage: billing.StageRating, StagedAt: noon.Add(-time.Minute)}, {Stage: billing.StageRating, StagedAt: noon.Add(-time.Hour)},
	}, f.err
}

// UndeliveredStatements has those that a sink refused.
func (f figures) UndeliveredStatements(context.Context) (map[sinks.State]int64, error) {
	return map[sinks.State]int64{sinks.Failed: 5, sinks.NoCustomer: 0}, f.err
}

// CountInstances has one that is lost.
func (f figures) CountInstances(context.Context) (map[meter.InstanceStatus]int64, error) {
	return map[meter.InstanceStatus]int64{meter.InstanceLive: 2, meter.InstanceLost: 1}, f.err
}

// DaysToRollUp has all that it is asked for.
func (f figures) DaysToRollUp(_ context.Context, from, to calendar.Day) (days []calendar.Day, err error) {
	for day := from; day <= to; day++ {
		days = append(days, day)
	}
	return days, f.err
}

func containsAll(text string, parts ...string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}

func newTelemetry(t *testing.T) (*telemetry.Telemetry, func() string) {
	t.Helper()
	tel, err := telemetry.Setup(t.Context(), telemetry.Config{Service: "tollgate-test"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tel.Shutdown(context.WithoutCancel(t.Context()))) })
	return tel, func() string {
		recorder := httptest.NewRecorder()
		tel.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return recorder.Body.String()
	}
}

func TestMetricsSayWhatTheStoreHas(t *testing.T) {
	tel, scrape := newTelemetry(t)
	require.NoError(t, telemetry.ObserveStore(tel.Metrics, figures{}, func() time.Time { return noon }))
	require.NoError(t, telemetry.ObservePool(tel.Metrics, func() telemetry.Pool { return telemetry.Pool{Used: 3, Idle: 1, Most: 16, Waits: 7} }))
	require.NoError(t, telemetry.ObserveParts(tel.Metrics, func(context.Context) map[string]bool { return map[string]bool{"postgres": true, "schema": false} }))
	text := scrape()
	for _, line := range []string{
		`tollgate_undispatched_events 1`,
		`tollgate_undispatched_events_oldest_seconds 90`,
		`tollgate_webhook_deliveries{state="pending"} 2`,
		`tollgate_webhook_deliveries{state="failing"} 3`,
		`tollgate_webhook_deliveries{state="exhausted"} 4`,
		`tollgate_export_stage_seconds{stage="rating"} 3600`,
		`tollgate_export_stage_seconds{stage="awaiting_approval"} 0`,
		`tollgate_undelivered_statements{state="failed"} 5`,
		`tollgate_instances{status="live"} 2`,
		`tollgate_instances{status="lost"} 1`,
		`tollgate_unrolled_days 35`,
		`tollgate_database_connections{state="used"} 3`,
		`tollgate_database_waits_total 7`,
		`tollgate_part_healthy{part="postgres"} 1`,
		`tollgate_part_healthy{part="schema"} 0`,
	} {
		require.Contains(t, text, line+"\n")
	}
	require.NotContains(t, text, `stage="closed"`)
}

// What the store can't say has no value, which is not 0; the rest has.
func TestMetricsOfAStoreThatIsAway(t *testing.T) {
	tel, scrape := newTelemetry(t)
	require.NoError(t, telemetry.ObserveStore(tel.Metrics, figures{err: errors.New("away")}, func() time.Time { return noon }))
	text := scrape()
	require.Contains(t, text, "tollgate_undispatched_events 1\n")
	for _, name := range []string{"tollgate_export_stage_seconds", "tollgate_undelivered_statements", "tollgate_instances", "tollgate_unrolled_days"} {
		require.NotContains(t, text, name)
	}
}

func TestMetricsSayWhatBecameOfRuns(t *testing.T) {
	tel, scrape := newTelemetry(t)
	tell, err := telemetry.ObserveRuns(tel.Metrics)
	require.NoError(t, err)
	require.NotContains(t, scrape(), "tollgate_ended_runs", "nobody has asked Temporal yet")
	tell(telemetry.Runs{
		Ended:     []telemetry.EndedRuns{{Type: "RollUpDay", Status: "failed", Count: 2}},
		Schedules: []telemetry.ScheduleState{{ID: "daily-rollup", Fired: noon, Paused: true}},
	})
	text := scrape()
	require.Contains(t, text, `tollgate_ended_runs{status="failed",workflow_type="RollUpDay"} 2`)
	require.Contains(t, text, `tollgate_schedule_fired_time_seconds{schedule="daily-rollup"} 1.7955216e+09`)
	require.Contains(t, text, `tollgate_schedule_paused{schedule="daily-rollup"} 1`)
}

// The latencies of Temporal's SDK are seconds: OpenTelemetry's buckets begin at five of them.
func TestTemporalLatenciesHaveBucketsOfSeconds(t *testing.T) {
	tel, scrape := newTelemetry(t)
	latency, err := tel.Metrics.Meter("go.temporal.io/sdk").Float64Histogram("temporal_request_latency_attempt")
	require.NoError(t, err)
	latency.Record(t.Context(), 0.02)
	require.Contains(t, scrape(), `temporal_request_latency_attempt_bucket{le="0.025"} 1`)
}
