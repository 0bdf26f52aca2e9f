package api

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/webhooks"
)

func TestOperationsAreShown(t *testing.T) {
	r := newRig(t)
	live, lost := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	r.store.instances = []meter.Instance{{ID: lost, Status: meter.InstanceLost}, {ID: live, Status: meter.InstanceLive}}
	r.store.stand = fakeStand{backlog: webhooks.Backlog{Undispatched: 3, UndispatchedSince: noon, Failing: 2, Exhausted: 1}, Stand: meter.Stand{Quarantined: 4, MissingBatches: 5, BatchConflicts: 6, StuckReservations: 7}}
	r.store.exports = []billing.Export{{ID: uuid.New(), Period: calendar.PeriodOf(noon).Previous(), Revision: 1, Stage: billing.StageRating, StagedAt: noon, WorkflowID: "export/2026-10", RunID: "run"}}
	r.server.config.Backlog = func() Backlog {
		return Backlog{Instance: live, Retained: 8, Segments: 9, Bytes: 10, Journal: errors.New("the disk is full")}
	}
	a := r.do("admin", "GET", "/api/v1/operations", "")
	require.Equal(t, http.StatusOK, a.Code, a.Body)
	require.JSONEq(t, `{"undispatched_events":3,"undispatched_since":"2026-11-24T12:00:00Z","failing_deliveries":2,"exhausted_deliveries":1,
		"quarantined":4,"missing_batches":5,"batch_conflicts":6,"stuck_reservations":7,
		"instance":{"id":"`+live.String()+`","retained_batches":8,"journal_segments":9,"journal_bytes":10,"journal_error":"the disk is full"},
		"open_exports":[{"period":"2026-10","revision":1,"stage":"rating","since":"2026-11-24T12:00:00Z","temporal_url":"http://temporal/export/2026-10/run"}]}`, a.Body.String())
}

func TestReconciliationIsShown(t *testing.T) {
	r := newRig(t)
	id := r.organizations["pro"]
	day := calendar.DayOf(noon)
	compared := billing.Comparison{Left: billing.LayerBatches, Right: billing.LayerRecords}
	r.store.stand.reconciliation = billing.Reconciliation{
		Compared:    []billing.Compared{{Comparison: compared, Compared: 2, Different: 1}},
		Differences: []billing.Difference{{Comparison: compared, Organization: id, Meter: "evaluations", Day: day, LeftValue: 5, RightValue: 6}},
	}
	found := r.do("admin", "GET", "/api/v1/reconciliation?from=2026-11-01&to=2026-11-30", "").json()
	require.Equal(t, "2026-11-30", found["to"])
	require.InDelta(t, 6, found["differences"].([]any)[0].(map[string]any)["right_value"], 0)
	for query, field := range map[string]string{
		"from=x&to=2026-11-30": "from", "from=2026-11-01&to=y": "to", "from=2026-11-02&to=2026-11-01": "to", "from=2026-11-01&to=2026-12-02": "to",
	} {
		require.Equal(t, field, r.problem(400, "invalid_request", "admin", "GET", "/api/v1/reconciliation?"+query, "")["field"], query)
	}
}

func TestOrganizationsAreSought(t *testing.T) {
	r := newRig(t)
	found := r.do("admin", "GET", "/api/v1/organizations?search=pRo&limit=5", "").json()
	require.Len(t, found["organizations"], 1)
	require.Nil(t, found["next"])
	require.Equal(t, "after", r.problem(400, "invalid_request", "admin", "GET", "/api/v1/organizations?search=pro&after="+uuid.NewString(), "")["field"])
}

func TestPlanVersionsAreListed(t *testing.T) {
	r := newRig(t)
	first := r.do("admin", "GET", "/api/v1/plans/pro/versions", "").json()["versions"].([]any)
	require.Len(t, first, 1)
	require.Equal(t, http.StatusOK, r.do("admin", "PUT", "/api/v1/plans", `{"key":"pro","name":"Pro, dearer","entitlements":[]}`).Code)
	both := r.do("finance", "GET", "/api/v1/plans/pro/versions", "").json()["versions"].([]any)
	require.Len(t, both, 2)
	require.InDelta(t, 2, both[0].(map[string]any)["version"], 0, "the newest first")
	r.problem(404, "not_found", "admin", "GET", "/api/v1/plans/none/versions", "")
}

// An instance says how long it may be silent, and one that has long ended isn't listed.
func TestInstancesAreListed(t *testing.T) {
	r := newRig(t)
	patient, gone, old := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	r.store.instances = []meter.Instance{
		{ID: patient, Status: meter.InstanceLive, LostAfter: 90 * time.Second},
		{ID: gone, Status: meter.InstanceLost, SeenAt: noon.Add(-23 * time.Hour)},
		{ID: old, Status: meter.InstanceStopped, SeenAt: noon.Add(-25 * time.Hour)},
	}
	listed := r.do("admin", "GET", "/api/v1/instances", "").json()["instances"].([]any)
	require.Len(t, listed, 2)
	first, second := listed[0].(map[string]any), listed[1].(map[string]any)
	require.InDelta(t, 90, first["lost_after_seconds"], 0)
	require.Equal(t, "http://temporal/flush/"+patient.String()+"/", first["temporal_url"])
	require.InDelta(t, meter.DefaultLostAfter.Seconds(), second["lost_after_seconds"], 0)
	require.Nil(t, second["temporal_url"])
}
