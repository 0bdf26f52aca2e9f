package api

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
)

// TestTenantsChangeTheirPlan is what a tenant may by itself, and what it is told otherwise.
func TestTenantsChangeTheirPlan(t *testing.T) {
	r := newRig(t)
	at := "/api/v1/organizations/" + r.organizations["pro"].String()
	require.Equal(t, "plan", r.problem(400, "invalid_request", "pro", "POST", at+"/upgrade", `{"plan":"gold"}`)["field"])
	r.problem(403, "plan_not_self_service", "pro", "POST", at+"/upgrade", `{"plan":"enterprise"}`)
	problem := r.problem(403, "effective_at_not_allowed", "pro", "POST", at+"/upgrade", `{"plan":"free","effective_at":"2026-12-24T00:00:00Z"}`)
	require.Equal(t, "effective_at", problem["field"])
	deal := "/api/v1/organizations/" + r.organizations["enterprise"].String() + "/upgrade"
	r.problem(403, "current_plan_not_self_service", "enterprise", "POST", deal, `{"plan":"free"}`)

	for _, back := range []struct{ method, body string }{{"DELETE", ""}, {"POST", `{"plan":"pro"}`}} {
		pending := r.do("pro", "POST", at+"/upgrade", `{"plan":"free"}`)
		require.Equal(t, http.StatusOK, pending.Code, pending.Body)
		require.Equal(t, "pro", pending.json()["plan"])
		require.Equal(t, "free", pending.json()["pending_plan"])
		require.Equal(t, "2026-12-01T00:00:00Z", pending.json()["pending_from"])
		require.Equal(t, pending.json(), r.do("pro", "GET", at, "").json())
		require.Equal(t, "pro", r.do("pro", "POST", "/api/v1/usage", `{"meter":"evaluations"}`).json()["plan"])
		require.NotContains(t, r.do("pro", back.method, at+"/upgrade", back.body).json(), "pending_plan")
	}

	require.Equal(t, 200, r.do("admin", "POST", at+"/upgrade", `{"plan":"enterprise","effective_at":"2026-12-24T00:00:00+01:00"}`).Code)
	require.Equal(t, "2026-12-23T23:00:00Z", r.do("pro", "GET", at, "").json()["pending_from"])
	r.problem(403, "scheduled_by_administrator", "pro", "DELETE", at+"/upgrade", "")
	r.problem(403, "scheduled_by_administrator", "pro", "POST", at+"/upgrade", `{"plan":"free"}`)
	require.Equal(t, 200, r.do("admin", "DELETE", at+"/upgrade", "").Code)
}

func TestPlanChangesHaveARate(t *testing.T) {
	r := newRig(t)
	at := "/api/v1/organizations/" + r.organizations["pro"].String() + "/upgrade"
	for range accounts.MaxTenantChanges / 2 {
		require.Equal(t, 200, r.do("pro", "POST", at, `{"plan":"free"}`).Code)
		require.Equal(t, 200, r.do("pro", "POST", at, `{"plan":"pro"}`).Code)
	}
	refused := r.do("pro", "POST", at, `{"plan":"free"}`, "Idempotency-Key", "k")
	require.Equal(t, http.StatusTooManyRequests, refused.Code)
	require.Equal(t, "too_many_plan_changes", refused.json()["error"])
	require.Equal(t, "3600", refused.Header().Get("Retry-After"))
	require.Equal(t, 200, r.do("pro", "POST", at, `{"plan":"pro"}`).Code, "no change is none too many")
	require.Equal(t, 200, r.do("admin", "POST", at, `{"plan":"free"}`).Code)

	r.store.changes[r.organizations["pro"]] = nil
	require.Equal(t, 200, r.do("pro", "POST", at, `{"plan":"free"}`, "Idempotency-Key", "k").Code, "the refusal is not kept")
}

func TestEffectiveAt(t *testing.T) {
	r := newRig(t)
	at := "/api/v1/organizations/" + r.organizations["free"].String()
	for _, tt := range []struct{ body, field string }{
		{`{"plan":"pro","effective_at":"tomorrow"}`, "effective_at"},
		{`{"plan":"pro","effective_at":"2026-12-24"}`, "effective_at"},
		{`{"plan":"pro","effective_at":"0001-01-01T00:00:00Z"}`, "effective_at"},
		{`{"plan":"pro","effective_at":7}`, "effective_at"},
		{`{"name":"x","effective_at":"2026-12-24T00:00:00Z"}`, "effective_at"},
	} {
		require.Equal(t, tt.field, r.problem(400, "invalid_request", "admin", "PATCH", at, tt.body)["field"], tt.body)
	}
	problem := r.problem(422, "effective_at_in_the_past", "admin", "PATCH", at, `{"plan":"pro","effective_at":"2026-11-24T11:59:59Z"}`)
	require.Equal(t, "effective_at", problem["field"])
	require.Contains(t, problem["message"], "must not be past")

	made := r.do("admin", "POST", "/api/v1/organizations", `{"name":"Old","plan":"pro","effective_at":"2026-10-01T00:00:00Z"}`)
	require.Equal(t, http.StatusCreated, made.Code, made.Body)
	require.Equal(t, "pro", made.json()["plan"])
	made = r.do("admin", "POST", "/api/v1/organizations", `{"name":"New","plan":"pro","effective_at":"2026-12-01T00:00:00Z"}`)
	require.Equal(t, http.StatusCreated, made.Code, made.Body)
	require.Empty(t, made.json()["plan"])
	require.Equal(t, "pro", made.json()["pending_plan"])
}

// TestKeysStopWithTheContract holds that the end of a contract stops its keys, at the time
// that was set for it and whatever the store does then.
func TestKeysStopWithTheContract(t *testing.T) {
	r := newRig(t)
	at := "/api/v1/organizations/" + r.organizations["pro"].String()
	require.Equal(t, 200, r.do("pro", "GET", at, "").Code)
	ending := r.do("admin", "POST", at+"/end", `{"effective_at":"2026-11-24T12:30:00Z","note":"by letter"}`)
	require.Equal(t, "2026-11-24T12:30:00Z", ending.json()["ends_at"])
	require.Equal(t, 200, r.do("pro", "GET", at, "").Code)
	require.Equal(t, 200, r.do("admin", "DELETE", at+"/end", "").Code)
	require.Equal(t, 200, r.do("admin", "POST", at+"/end", `{"effective_at":"2026-11-24T12:30:00Z"}`).Code)
	require.Equal(t, 200, r.do("pro", "GET", at, "").Code)

	r.store.fail(awayError{})
	r.advance(30 * time.Minute)
	for _, path := range []string{"/api/v1/usage", "/api/v1/webhooks", at} {
		r.problem(403, "contract_ended", "pro", "GET", path, "")
	}
	r.problem(403, "contract_ended", "pro", "POST", "/api/v1/usage", `{"meter":"evaluations"}`)
	r.store.fail(nil)
	ended := r.do("admin", "POST", at+"/end", "")
	require.Equal(t, 200, ended.Code)
	require.Equal(t, "2026-11-24T12:30:00Z", ended.json()["ends_at"], "it has ended already")
	require.Empty(t, ended.json()["plan"])
	r.problem(409, "contract_ended", "admin", "DELETE", at+"/end", "")
	r.problem(422, "effective_at_in_the_past", "admin", "POST", at+"/end", `{"effective_at":"2026-11-24T12:00:00Z"}`)
	r.problem(404, "not_found", "admin", "POST", "/api/v1/organizations/"+uuid.NewString()+"/end", "")

	require.Equal(t, "free", r.do("admin", "POST", at+"/upgrade", `{"plan":"free"}`).json()["plan"])
	require.Equal(t, 200, r.do("pro", "GET", at, "").Code, "a new contract has begun")
}
