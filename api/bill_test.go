package api

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
)

// TestBill rates the running month as it is, as it goes on, and on another plan.
func TestBill(t *testing.T) {
	r := newRig(t)
	pro := r.organizations["pro"].String()
	for _, day := range []string{"2026-11-01", "2026-11-20"} {
		d, err := calendar.ParseDay(day)
		require.NoError(t, err)
		r.store.records = append(r.store.records, billing.UsageRecord{
			Organization: r.organizations["pro"], Meter: "evaluations", Day: d, Value: 500_000, LastAt: d.Start(),
		})
	}
	due := func(path, part string) string {
		a := r.do("pro", http.MethodGet, "/api/v1/organizations/"+pro+path, "")
		require.Equal(t, http.StatusOK, a.Code, a.Body)
		return a.json()[part].(map[string]any)["statement"].(map[string]any)["due"].(string)
	}
	// It is the 24th of 30 days: 49 × 24/30, and 0.0002 for what is beyond the 100,000 × 24/30 that are included.
	require.Equal(t, "223.20", due("/bill", "so_far"))
	// 1,276,596 by the end: 49, and beyond the 100,000 that are included 1,000,000 × 0.0002 and 176,596 × 0.00015.
	require.Equal(t, "275.49", due("/bill", "expected"))
	require.Equal(t, "0.00", due("/bill?plan=free", "expected"))
	r.problem(http.StatusBadRequest, "invalid_request", "pro", http.MethodGet, "/api/v1/organizations/"+pro+"/bill?plan=enterprise", "")
	require.Equal(t, http.StatusOK, r.do("finance", http.MethodGet, "/api/v1/organizations/"+pro+"/bill?plan=enterprise", "").Code)

	listed := r.do("pro", http.MethodGet, "/api/v1/organizations/"+pro+"/plans", "").json()["plans"].([]any)
	require.Len(t, listed, 2, "of plans that are by agreement, an organization sees its own alone")
	listed = r.do("enterprise", http.MethodGet, "/api/v1/organizations/"+r.organizations["enterprise"].String()+"/plans", "").json()["plans"].([]any)
	require.Len(t, listed, 3)
	require.Empty(t, r.do("pro", http.MethodGet, "/api/v1/organizations/"+pro+"/statements", "").json()["statements"])
	keys := r.do("pro", http.MethodGet, "/api/v1/organizations/"+pro+"/keys", "").json()["keys"].([]any)
	require.Len(t, keys, 1)
	for _, path := range []string{"/bill", "/plans", "/statements", "/keys"} {
		r.problem(http.StatusForbidden, "forbidden", "free", http.MethodGet, "/api/v1/organizations/"+pro+path, "")
	}
}
