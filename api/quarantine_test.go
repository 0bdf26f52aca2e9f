package api

import (
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

func TestQuarantine(t *testing.T) {
	r := newRig(t)
	owner := r.organizations["pro"]
	var ids []string
	for n := range 3 {
		q := meter.Quarantined{
			ID: uuid.Must(uuid.NewV7()), Batch: meter.BatchID{Instance: uuid.New(), Seq: 7}, Organization: owner, Meter: "evaluations",
			Aggregation: plans.Sum, Day: calendar.DayOf(noon), Value: int64(n), At: noon, Reason: "numeric value out of range", SQLState: "22003",
			QuarantinedAt: noon, State: meter.QuarantineWaiting,
		}
		if n == 2 {
			q.Meter, q.SQLState, q.Identity = "gone", "", meter.KeyIdentity("k")
		}
		r.store.quarantine = append(r.store.quarantine, q)
		ids = append(ids, q.ID.String())
	}
	at := "/api/v1/quarantine"
	page := r.do("admin", "GET", at+"?limit=2", "").json()
	require.Len(t, page["quarantined"], 2)
	rest := r.do("admin", "GET", at+"?limit=2&after="+page["next"].(string), "").json()
	require.Len(t, rest["quarantined"], 1)
	require.Nil(t, rest["next"])
	require.Equal(t, meter.KeyIdentity("k").String(), rest["quarantined"].([]any)[0].(map[string]any)["identity"])
	require.Empty(t, r.do("admin", "GET", at+"?organization_id="+uuid.NewString(), "").json()["quarantined"])
	r.problem(400, "invalid_request", "admin", "GET", at+"?state=lost", "")
	r.problem(403, "forbidden", "pro", "GET", at, "")
	require.Equal(t, "22003", r.do("admin", "GET", at+"/"+ids[0], "").json()["sqlstate"])
	r.problem(404, "not_found", "admin", "GET", at+"/"+uuid.NewString(), "")

	applied := r.do("admin", "POST", at+"/"+ids[0]+"/apply", `{"note":"mended"}`)
	require.Equal(t, http.StatusOK, applied.Code, applied.Body)
	require.Equal(t, "applied", applied.json()["state"])
	require.Contains(t, applied.json()["decided_by"], "key ")
	require.Equal(t, applied.json(), r.do("admin", "POST", at+"/"+ids[0]+"/apply", `{"note":"again"}`).json())
	r.problem(409, "conflict", "admin", "POST", at+"/"+ids[0]+"/drop", `{"note":"x"}`)
	require.Equal(t, "dropped", r.do("admin", "POST", at+"/"+ids[1]+"/drop", `{"note":"x"}`).json()["state"])
	r.problem(400, "invalid_request", "admin", "POST", at+"/"+ids[2]+"/drop", `{"note":""}`)
	refused := r.problem(409, "quarantine_refused", "admin", "POST", at+"/"+ids[2]+"/apply", `{"note":"x"}`)
	require.Equal(t, "It is still refused: the meter gone is not in the published catalog.", refused["message"])
	require.Len(t, r.do("admin", "GET", at+"?state=quarantined", "").json()["quarantined"], 1)
}
