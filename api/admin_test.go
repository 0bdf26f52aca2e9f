package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

func TestOrganizations(t *testing.T) {
	r := newRig(t)
	made := r.do("admin", "POST", "/api/v1/organizations", `{"name":"Ærø Analytics","plan":"pro"}`)
	require.Equal(t, http.StatusCreated, made.Code)
	at := "/api/v1/organizations/" + made.json()["id"].(string)
	require.Equal(t, made.json(), r.do("admin", "GET", at, "").json())

	changed := r.do("admin", "PATCH", at, `{"name":"Ærø"}`).json()
	require.Equal(t, "Ærø", changed["name"])
	require.Equal(t, "pro", changed["plan"])
	require.Equal(t, "enterprise", r.do("admin", "PATCH", at, `{"plan":"enterprise"}`).json()["plan"])

	for _, tt := range []struct{ method, path, body, field string }{
		{"POST", "/api/v1/organizations", `{"name":"","plan":"free"}`, "name"},
		{"POST", "/api/v1/organizations", `{"plan":"free"}`, "name"},
		{"POST", "/api/v1/organizations", `{"name":"x","plan":"gold"}`, "plan"},
		{"POST", "/api/v1/organizations", `{"name":"x","plan":""}`, "plan"},
		{"POST", "/api/v1/organizations", `{"name":"x","plan":"free","Plan":"pro"}`, "Plan"},
		{"POST", "/api/v1/organizations", `{"name":7,"plan":"free"}`, "name"},
		{"POST", "/api/v1/organizations", `{"name":"x","name":"y","plan":"free"}`, "name"},
		{"POST", "/api/v1/organizations", `{"name":"x","plan":"free"}]`, "body"},
		{"POST", "/api/v1/organizations", ``, "body"},
		{"PATCH", at, `{}`, "body"},
		{"PATCH", at, `{"id":"x"}`, "id"},
		{"GET", "/api/v1/organizations/x", "", "id"},
		{"GET", "/api/v1/organizations?limit=0", "", "limit"},
		{"GET", "/api/v1/organizations?limit=1001", "", "limit"},
		{"GET", "/api/v1/organizations?limit=many", "", "limit"},
		{"GET", "/api/v1/organizations?after=x", "", "after"},
		{"GET", "/api/v1/organizations?page=2", "", "page"},
	} {
		problem := r.problem(400, "invalid_request", "admin", tt.method, tt.path, tt.body)
		require.Equal(t, tt.field, problem["field"], "%s %s %s", tt.method, tt.path, tt.body)
		require.Contains(t, problem["message"], tt.field)
	}
	require.Equal(t, "free", r.do("admin", "POST", "/api/v1/organizations", `{"name":"x"}`).json()["plan"], "the catalog's default_plan")
	require.Equal(t, "free", r.do("admin", "GET", "/api/v1/plans", "").json()["default_plan"])
	r.problem(404, "not_found", "admin", "GET", "/api/v1/organizations/"+uuid.NewString(), "")
	r.store.err = fmt.Errorf("update: %w: it is USD", accounts.ErrCurrencyFixed)
	fixed := r.problem(409, "conflict", "admin", "PATCH", at, `{"currency":"EUR"}`)
	require.Contains(t, fixed["message"], "The organization's currency is fixed")
	r.store.err = nil
	r.problem(404, "not_found", "admin", "PATCH", "/api/v1/organizations/"+uuid.NewString(), `{"name":"x"}`)
	r.problem(403, "forbidden", "free", "GET", at, "")
}

func TestOrganizationsComePageByPage(t *testing.T) {
	r := newRig(t)
	for range 4 {
		r.do("admin", "POST", "/api/v1/organizations", `{"name":"x","plan":"free"}`)
	}
	var seen []string
	pages := 0
	for after := ""; ; pages++ {
		page := r.do("admin", "GET", "/api/v1/organizations?limit=3"+after, "").json()
		for _, o := range page["organizations"].([]any) {
			seen = append(seen, o.(map[string]any)["id"].(string))
		}
		if page["next"] == nil {
			break
		}
		after = "&after=" + page["next"].(string)
	}
	require.Equal(t, 2, pages, "7 organizations: 3, 3 and 1")
	require.Len(t, seen, 7)
	require.IsIncreasing(t, seen)
}

// TestUpgradeIsInForceAtOnce upgrades at the address that the 402 gives.
func TestUpgradeIsInForceAtOnce(t *testing.T) {
	r := newRig(t)
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","quantity":1000}`).Code)
	refused := r.problem(402, "plan_limit_exceeded", "free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`)
	upgraded := r.do("free", "POST", refused["upgrade_url"].(string), `{"plan":"pro"}`)
	require.Equal(t, http.StatusOK, upgraded.Code)
	require.Equal(t, "pro", upgraded.json()["plan"])
	allowed := r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`)
	require.Equal(t, http.StatusOK, allowed.Code)
	require.Equal(t, "pro", allowed.json()["plan"])
	require.InDelta(t, 1001, allowed.json()["current"], 0, "what was used stays used")

	other := "/api/v1/organizations/" + r.organizations["enterprise"].String() + "/upgrade"
	r.problem(403, "forbidden", "free", "POST", other, `{"plan":"free"}`)
	require.Equal(t, "plan", r.problem(400, "invalid_request", "free", "POST", refused["upgrade_url"].(string), `{"plan":"gold"}`)["field"])
	r.problem(404, "not_found", "admin", "POST", "/api/v1/organizations/"+uuid.NewString()+"/upgrade", `{"plan":"pro"}`)
}

func TestStoreHearsWhoAsks(t *testing.T) {
	r := newRig(t)
	made := r.do("admin", "POST", "/api/v1/organizations", `{"name":"Acme","plan":"pro"}`)
	require.Equal(t, http.StatusCreated, made.Code)
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	require.Equal(t, accounts.Actor{
		Key: r.keyIDs["admin"], Name: "root", Owner: "root", Role: roleAdmin, Address: "192.0.2.1", RequestID: made.Header().Get("X-Request-Id"),
	}, r.store.actor)
}

func TestKeys(t *testing.T) {
	r := newRig(t)
	at := "/api/v1/organizations/" + r.organizations["free"].String() + "/keys"
	made := r.do("admin", "POST", at, `{"name":"production"}`)
	require.Equal(t, http.StatusCreated, made.Code)
	secret := made.json()["secret"].(string)
	require.True(t, strings.HasPrefix(secret, made.json()["prefix"].(string)))
	require.Equal(t, "no-store", made.Header().Get("Cache-Control"))
	require.Equal(t, 200, r.do("", "GET", "/api/v1/usage", "", "Authorization", "Bearer "+secret).Code)
	listed := r.do("admin", "GET", at, "")
	require.NotContains(t, listed.Body.String(), secret)
	require.Len(t, listed.json()["keys"], 2)

	finance := r.do("admin", "POST", "/api/v1/keys", `{"name":"month-end","owner":"ada","role":"finance"}`)
	require.Equal(t, http.StatusCreated, finance.Code)
	require.Nil(t, finance.json()["organization_id"])
	require.Equal(t, "ada", finance.json()["owner"])
	require.Equal(t, r.keyIDs["admin"].String(), finance.json()["made_by"])
	var roles []string
	for _, k := range r.do("admin", "GET", "/api/v1/keys", "").json()["keys"].([]any) {
		roles = append(roles, k.(map[string]any)["role"].(string))
	}
	require.Equal(t, []string{"finance", "admin", "finance"}, roles, "tenant keys are listed at their organization")

	require.Equal(t, 204, r.do("admin", "DELETE", "/api/v1/keys/"+made.json()["id"].(string), "").Code)
	require.Equal(t, 401, r.do("", "GET", "/api/v1/usage", "", "Authorization", "Bearer "+secret).Code)
	revoked := r.do("admin", "GET", at, "").json()["keys"].([]any)[1].(map[string]any)
	require.NotNil(t, revoked["revoked_at"])

	require.Equal(t, "role", r.problem(400, "invalid_request", "admin", "POST", "/api/v1/keys", `{"name":"k","role":"tenant"}`)["field"])
	require.Equal(t, "role", r.problem(400, "invalid_request", "admin", "POST", "/api/v1/keys", `{"name":"k","owner":"ada"}`)["field"])
	require.Equal(t, "owner", r.problem(400, "invalid_request", "admin", "POST", "/api/v1/keys", `{"name":"k","role":"admin"}`)["field"])
	require.Equal(t, "owner", r.problem(400, "invalid_request", "admin", "POST", at, `{"name":"k","owner":"\u200b"}`)["field"])
	require.Equal(t, "name", r.problem(400, "invalid_request", "admin", "POST", at, `{"name":" "}`)["field"])
	r.problem(404, "not_found", "admin", "POST", "/api/v1/organizations/"+uuid.NewString()+"/keys", `{"name":"k"}`)
	r.problem(404, "not_found", "admin", "GET", "/api/v1/organizations/"+uuid.NewString()+"/keys", "")
	r.problem(404, "not_found", "admin", "DELETE", "/api/v1/keys/"+uuid.NewString(), "")
	r.problem(400, "invalid_request", "admin", "DELETE", "/api/v1/keys/x", "")
}

func TestPlans(t *testing.T) {
	r := newRig(t)
	catalog := r.do("admin", "GET", "/api/v1/plans", "").json()
	require.Len(t, catalog["meters"], 5)
	free := catalog["plans"].([]any)[0].(map[string]any)
	require.Empty(t, cmp.Diff(map[string]any{"meter": "evaluations", "mode": "hard", "window": "day", "max": 1000.0}, free["entitlements"].([]any)[0]))
	enterprise := catalog["plans"].([]any)[2].(map[string]any)
	require.Nil(t, enterprise["entitlements"].([]any)[0].(map[string]any)["max"])

	// A limit of zero is a limit.
	const none = `{"key":"free","name":"Free","rate_limit":{"requests_per_second":5,"burst":5},"entitlements":[{"meter":"evaluations","mode":"hard","window":"day","max":0}]}`
	put := r.do("admin", "PUT", "/api/v1/plans", none)
	require.Equal(t, http.StatusOK, put.Code, put.Body)
	require.InDelta(t, 2, put.json()["version"], 0)
	require.InDelta(t, 0, put.json()["entitlements"].([]any)[0].(map[string]any)["max"], 0)
	require.Equal(t, "unlimited", put.json()["entitlements"].([]any)[1].(map[string]any)["mode"])
	require.InDelta(t, 2, r.do("admin", "PUT", "/api/v1/plans", none).json()["version"], 0, "the same again changes nothing")
	r.problem(402, "plan_limit_exceeded", "free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`)

	for body, field := range map[string]string{
		`{"key":"Bad Key","name":"x","entitlements":[]}`:                                                                      "plan.key",
		`{"key":"x","name":"","entitlements":[]}`:                                                                             "name",
		`{"key":"x","name":"x","entitlements":[{"meter":"evaluations","mode":"hard","window":"day"}]}`:                        "entitlements[0].max",
		`{"key":"x","name":"x","entitlements":[{"meter":"evaluations","mode":"hard","max":1}]}`:                               "plan.entitlements[0].window",
		`{"key":"x","name":"x","entitlements":[{"meter":"nothing","mode":"unlimited"}]}`:                                      "plan.entitlements[0].meter",
		`{"key":"x","name":"x","entitlements":[{"meter":"evaluations","mode":"firm"}]}`:                                       "plan.entitlements[0].mode",
		`{"key":"x","name":"x","entitlements":[{"meter":"evaluations","mode":"unlimited","max":5}]}`:                          "plan.entitlements[0].max",
		`{"key":"x","name":"x","entitlements":[{"meter":"evaluations","mode":"unlimited","limit":5}]}`:                        "entitlements[0].limit",
		`{"key":"x","name":"x","rate_limit":{"requests_per_second":5,"burst":0},"entitlements":[]}`:                           "plan.rate_limit.burst",
		`{"key":"x","name":"x","rate_limit":{"requests_per_second":-5,"burst":0},"entitlements":[]}`:                          "plan.rate_limit.requests_per_second",
		`{"key":"x","name":"x","entitlements":[{"meter":"evaluations","mode":"hard","window":"day","max":9000000000000000}]}`: "plan.entitlements[0].max",
		`{"key":"x","name":"x","version":3,"entitlements":[]}`:                                                                "version",
		`{"key":"x","name":"x","entitlements":{}}`:                                                                            "entitlements",
	} {
		problem := r.problem(400, "invalid_request", "admin", "PUT", "/api/v1/plans", body)
		require.Contains(t, problem["message"], field, body)
	}
}

func TestInstances(t *testing.T) {
	r := newRig(t)
	require.JSONEq(t, `{"instances":[]}`, r.do("admin", "GET", "/api/v1/instances", "").Body.String())
	id := uuid.Must(uuid.NewV7())
	r.store.instances = []meter.Instance{{ID: id, Host: "api-1", Status: meter.InstanceLive, StartedAt: noon, SeenAt: noon, LastSeq: 7, Watermark: noon}}
	r.store.instances[0].Open = meter.OpenUsage{Count: 1, Since: noon, Organization: id, Meter: "evaluations"}
	var list struct{ Instances []meter.Instance }
	require.NoError(t, json.Unmarshal(r.do("admin", "GET", "/api/v1/instances", "").Body.Bytes(), &list))
	require.Equal(t, r.store.instances, list.Instances)

	r.workflows.summary = meter.FlushSummary{Seq: 8, Batches: 1, Rows: 3, Watermark: noon}
	var summary meter.FlushSummary
	require.NoError(t, json.Unmarshal(r.do("admin", "POST", "/api/v1/instances/"+id.String()+"/flush", "").Body.Bytes(), &summary))
	require.Equal(t, r.workflows.summary, summary)
	require.Equal(t, []string{"flush " + id.String()}, r.workflows.asked)

	r.problem(404, "not_found", "admin", "POST", "/api/v1/instances/"+uuid.NewString()+"/flush", "")
	r.problem(400, "invalid_request", "admin", "POST", "/api/v1/instances/x/flush", "")
	r.workflows.err = ErrNotRunning
	r.problem(409, "conflict", "admin", "POST", "/api/v1/instances/"+id.String()+"/flush", "")
	r.workflows.err = ErrWorkflowsAway
	r.problem(503, "unavailable", "admin", "POST", "/api/v1/instances/"+id.String()+"/flush", "")
}

// TestPlanAnswersNameEveryMeter guards a plan that is older than a meter.
func TestPlanAnswersNameEveryMeter(t *testing.T) {
	answer := planAnswer(plans.Plan{Key: "x"}, plans.Default().Meters)
	require.Len(t, answer.Entitlements, 5)
	require.Equal(t, plans.Unlimited, answer.Entitlements[4].Mode)
	require.Equal(t, calendar.WindowDay, answer.Entitlements[4].Window)
	require.Nil(t, orAbsent(accounts.Key{Role: roleAdmin}.Organization))
}
