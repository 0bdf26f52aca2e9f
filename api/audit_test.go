package api

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/audit"
)

func TestAuditIsListed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range 3 {
		require.Equal(t, 202, r.do("finance", "POST", "/api/v1/billing/exports", `{"period":"2026-10"}`).Code)
	}
	page := r.do("admin", "GET", "/api/v1/audit?limit=2", "").json()
	require.Len(t, page["entries"], 2)
	entry := page["entries"].([]any)[0].(map[string]any)
	require.Equal(t, "POST /api/v1/billing/exports", entry["subject"])
	require.Equal(t, r.keyIDs["finance"].String(), entry["actor_id"])
	require.Equal(t, map[string]any{"period": "2026-10"}, entry["after"])
	require.NotEmpty(t, entry["request_id"])
	require.Nil(t, entry["before"])
	page = r.do("finance", "GET", "/api/v1/audit?limit=2&before="+page["next"].(string), "").json()
	require.Len(t, page["entries"], 1)
	require.NotContains(t, page, "next")

	id := uuid.New()
	require.Equal(t, 200, r.do("admin", "GET", "/api/v1/audit?kind=key&actor="+id.String()+"&organization_id="+id.String()+
		"&since=2026-11-01T01:00:00%2B01:00&until=2026-12-01T00:00:00Z", "").Code)
	require.Equal(t, audit.Filter{
		Actor: id, Organization: id, Kind: "key", From: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), Until: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC),
	}, r.store.audit.asked[2])
	for query, field := range map[string]string{"kind=x": "kind", "since=yesterday": "since", "actor=x": "actor", "until=2026-13-01T00:00:00Z": "until"} {
		require.Equal(t, field, r.problem(400, "invalid_request", "admin", "GET", "/api/v1/audit?"+query, "")["field"])
	}
	r.problem(403, "forbidden", "free", "GET", "/api/v1/audit", "")
}

// What can't be written to the log is not carried out.
func TestWhatIsAskedIsAuditedFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.do("finance", "GET", "/api/v1/plans", "")
	r.store.fail(awayError{})
	r.problem(503, "unavailable", "finance", "POST", "/api/v1/billing/exports", `{"period":"2026-10"}`)
	require.Empty(t, r.workflows.started)
	r.store.fail(nil)
	r.problem(400, "invalid_request", "finance", "POST", "/api/v1/billing/exports", `{"x":1}`)
	require.Empty(t, r.store.audit.entries, "what isn't a request of the route asks for nothing")
}
