package telemetry_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/internal/telemetry"
)

func TestMetricsSayWhatTheAPIDid(t *testing.T) {
	tel, err := telemetry.Setup(context.Background(), telemetry.Config{Service: "tollgate-test"})
	require.NoError(t, err)
	observe, err := telemetry.ObserveRequests(tel.Metrics)
	require.NoError(t, err)
	observe(http.MethodPost, "/api/v1/usage", http.StatusOK, 300*time.Microsecond)
	for _, method := range []string{"get", "PROPFIND", "X1", "X2"} {
		observe(method, "", http.StatusMethodNotAllowed, time.Millisecond)
	}
	for _, status := range []int{499, 497, 498, 600, 999} {
		observe(http.MethodPut, "/gateway/*path", status, time.Millisecond)
	}
	require.NoError(t, telemetry.ObserveGate(tel.Metrics, func() gate.Counts {
		return gate.Counts{RateLimited: 1, Released: 2, Unclassified: 3}
	}))

	recorder := httptest.NewRecorder()
	tel.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, line := range []string{
		`tollgate_request_duration_seconds_bucket{method="POST",route="/api/v1/usage",status="200",le="0.00025"} 0`,
		`tollgate_request_duration_seconds_bucket{method="POST",route="/api/v1/usage",status="200",le="0.0005"} 1`,
		`tollgate_request_duration_seconds_count{method="other",route="",status="405"} 4`,
		`tollgate_request_duration_seconds_count{method="PUT",route="/gateway/*path",status="499"} 1`,
		`tollgate_request_duration_seconds_count{method="PUT",route="/gateway/*path",status="4xx"} 2`,
		`tollgate_request_duration_seconds_count{method="PUT",route="/gateway/*path",status="9xx"} 1`,
		`tollgate_rate_limited_total 1`,
		`tollgate_released_total 2`,
		`tollgate_unclassified_total 3`,
	} {
		require.Contains(t, recorder.Body.String(), line)
	}
}
