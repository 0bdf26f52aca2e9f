package api

import (
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
)

// TestLargeCreditsTakeTwo holds that a grant above the amount that is set is none until a second
// person approves it, and that any other is one at once.
func TestLargeCreditsTakeTwo(t *testing.T) {
	above := decimal.NewFromInt(1000)
	r := newRig(t, func(c *Config) { c.CreditsTakeTwo = &above })
	r.addKey("controller", accounts.Key{Role: roleFinance, Name: "controller", Owner: "controller"})
	at := "/api/v1/organizations/" + r.organizations["pro"].String() + "/credits"
	require.Equal(t, http.StatusCreated, r.do("finance", "POST", at, `{"amount":"400.00","currency":"USD","note":"n"}`).Code)
	require.Equal(t, http.StatusCreated, r.do("finance", "POST", at, `{"amount":"600.00","currency":"USD","note":"n"}`).Code)
	waits := r.do("finance", "POST", at, `{"amount":"0.01","currency":"USD","note":"n"}`)
	require.Equal(t, http.StatusAccepted, waits.Code)
	require.Len(t, r.store.credits, 2)
	one := waits.json()
	require.Equal(t, "pending", one["state"])
	require.Equal(t, "month-end", one["proposed_by"].(map[string]any)["owner"])

	listed := r.do("admin", "GET", "/api/v1/proposals?state=pending", "").json()["proposals"].([]any)
	require.Equal(t, []any{one}, listed)
	of := "/api/v1/proposals/" + one["id"].(string)
	require.Equal(t, one, r.do("finance", "GET", of, "").json())
	r.problem(403, "self_approval", "finance", "POST", of+"/approve", "")
	r.problem(403, "forbidden", "admin", "POST", of+"/approve", "")
	require.Equal(t, "note", r.problem(400, "invalid_request", "finance", "POST", of+"/reject", `{"note":" "}`)["field"])
	approved := r.do("controller", "POST", of+"/approve", `{"note":"agreed"}`)
	require.Equal(t, http.StatusOK, approved.Code)
	require.Equal(t, "controller", approved.json()["decided_by"].(map[string]any)["owner"])
	require.Equal(t, "agreed", approved.json()["note"])
	r.problem(409, "conflict", "finance", "POST", of+"/reject", `{"note":"no"}`)
	require.Empty(t, r.do("finance", "GET", "/api/v1/proposals?state=pending", "").json()["proposals"])

	nobody := "/api/v1/proposals/" + uuid.NewString()
	r.problem(404, "not_found", "finance", "GET", nobody, "")
	r.problem(404, "not_found", "finance", "POST", nobody+"/approve", "")
	require.Equal(t, "state", r.problem(400, "invalid_request", "finance", "GET", "/api/v1/proposals?state=x", "")["field"])
}

func TestPlansTakeTwo(t *testing.T) {
	r := newRig(t, func(c *Config) { c.PlansTakeTwo = true })
	const team = `{"key":"team","name":"Team","entitlements":[]}`
	waits := r.do("admin", "PUT", "/api/v1/plans", team)
	require.Equal(t, http.StatusAccepted, waits.Code)
	require.Equal(t, "plan", waits.json()["kind"])
	require.NotContains(t, r.do("admin", "GET", "/api/v1/plans", "").Body.String(), `"team"`)
	r.problem(400, "invalid_request", "admin", "PUT", "/api/v1/plans", `{"key":"Team!","name":"Team","entitlements":[]}`)
	both := r.do("admin", "POST", "/api/v1/plans", `{"plans":[`+team+`,{"key":"club","name":"Club","entitlements":[]}]}`)
	require.Equal(t, http.StatusAccepted, both.Code)
	require.Len(t, both.json()["proposals"], 2, "each waits on its own")
	of := "/api/v1/proposals/" + waits.json()["id"].(string)
	r.problem(403, "forbidden", "finance", "POST", of+"/approve", "")
	require.Equal(t, "rejected", r.do("admin", "POST", of+"/reject", `{"note":"a typing error"}`).json()["state"], "who proposed it takes it back")
}
