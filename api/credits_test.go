package api

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
)

func TestCredits(t *testing.T) {
	r := newRig(t)
	at := "/api/v1/organizations/" + r.organizations["pro"].String() + "/credits"
	require.Empty(t, cmp.Diff(map[string]any{"balances": []any{}, "grants": []any{}}, r.do("pro", "GET", at, "").json()))

	made := r.do("finance", "POST", at, `{"amount":"100.5","currency":"USD","note":"Order 7"}`)
	require.Equal(t, http.StatusCreated, made.Code, made.Body)
	first := made.json()
	id := first["id"].(string)
	require.Empty(t, cmp.Diff(map[string]any{
		"id": id, "organization_id": r.organizations["pro"].String(), "currency": "USD", "amount": "100.50", "remaining": "100.50",
		"priority": 50.0, "effective_at": "2026-11-24T12:00:00Z", "expires_at": nil, "note": "Order 7", "created_at": "2026-11-24T12:00:00Z",
		"expired_at": nil, "voided_at": nil,
	}, first))
	later := r.do("finance", "POST", at,
		`{"amount":"7","currency":"USD","priority":0,"effective_at":"2026-12-01T01:00:00+01:00","expires_at":"2027-01-01T00:00:00Z","note":"x"}`).json()
	require.Equal(t, "2026-12-01T00:00:00Z", later["effective_at"], "times are UTC")
	foreign := r.problem(400, "invalid_request", "finance", "POST", at, `{"amount":"500","currency":"JPY","note":"x"}`)
	require.Equal(t, "currency", foreign["field"])
	require.Equal(t, `currency must be USD, in which the organization is billed, is "JPY": no statement could draw on it`, foreign["message"])

	list := r.do("pro", "GET", at, "").json()
	require.Empty(t, cmp.Diff([]any{
		map[string]any{"currency": "USD", "remaining": "107.50", "usable": "100.50"},
	}, list["balances"]))
	require.Len(t, list["grants"], 2)
	require.Equal(t, later, list["grants"].([]any)[0], "in the order of burning")
	require.Equal(t, list, r.do("admin", "GET", at, "").json())

	voided := r.do("finance", "POST", "/api/v1/credits/"+id+"/void", `{"note":"Granted twice"}`)
	require.Equal(t, http.StatusOK, voided.Code)
	require.Equal(t, "0.00", voided.json()["remaining"])
	require.NotNil(t, voided.json()["voided_at"])
	require.Equal(t, voided.json(), r.do("finance", "POST", "/api/v1/credits/"+id+"/void", `{"note":"Granted twice"}`).json())
	r.store.credits[1].Remaining = decimal.Zero
	problem := r.problem(409, "conflict", "finance", "POST", "/api/v1/credits/"+later["id"].(string)+"/void", `{"note":"x"}`)
	require.Equal(t, "Nothing remains of the credit grant.", problem["message"])

	var kinds []string
	pages := 1
	for after := ""; ; pages++ {
		page := r.do("pro", "GET", at+"/entries?limit=2"+after, "").json()
		for _, e := range page["entries"].([]any) {
			kinds = append(kinds, e.(map[string]any)["kind"].(string))
		}
		if page["next"] == nil {
			break
		}
		after = "&after=" + page["next"].(string)
	}
	require.Equal(t, []string{"grant", "grant", "void"}, kinds)
	last := &r.store.creditEntries[len(r.store.creditEntries)-1]
	last.Kind, last.Export, last.Period, last.Revision = billing.CreditBurned, uuid.Must(uuid.NewV7()), calendar.PeriodOf(noon).Previous(), 2
	burned := r.do("pro", "GET", at+"/entries", "").json()["entries"].([]any)[2].(map[string]any)
	require.Equal(t, []any{"2026-10", 2.0}, []any{burned["period"], burned["revision"]}, "which statement it paid")
	require.Equal(t, 2, pages)
}

// Bad input names the field and the rule; a tenant neither sees others' credits nor gives itself any.
func TestCreditsRefuse(t *testing.T) {
	r := newRig(t)
	at := "/api/v1/organizations/" + r.organizations["pro"].String() + "/credits"
	for _, tt := range []struct{ method, path, body, field string }{
		{"POST", at, `{"currency":"USD","note":"x"}`, "amount"},
		{"POST", at, `{"amount":"ten","currency":"USD","note":"x"}`, "amount"},
		{"POST", at, `{"amount":"1e3","currency":"USD","note":"x"}`, "amount"},
		{"POST", at, `{"amount":10,"currency":"USD","note":"x"}`, "amount"},
		{"POST", at, `{"amount":"10","currency":"USD"}`, "note"},
		{"POST", at, `{"amount":"10","currency":"USD","note":"x","priority":"low"}`, "priority"},
		{"POST", at, `{"amount":"10","currency":"USD","note":"x","expires_at":"2026-11-24T12:00:00Z"}`, "expires_at"},
		{"POST", at, `{"amount":"10","currency":"USD","note":"x","expires_at":"tomorrow"}`, "expires_at"},
		{"POST", at, `{"amount":"10","currency":"USD","note":"x","for":"y"}`, "for"},
		{"POST", "/api/v1/credits/x/void", `{"note":"x"}`, "grant"},
		{"POST", "/api/v1/credits/" + uuid.NewString() + "/void", `{}`, "note"},
		{"GET", at + "/entries?limit=0", "", "limit"},
		{"GET", at + "/entries?after=x", "", "after"},
	} {
		problem := r.problem(400, "invalid_request", "finance", tt.method, tt.path, tt.body)
		require.Equal(t, tt.field, problem["field"], "%s %s %s", tt.method, tt.path, tt.body)
		require.Contains(t, problem["message"], tt.field)
	}
	const body = `{"amount":"10","currency":"USD","note":"x"}`
	nobody := "/api/v1/organizations/" + uuid.NewString() + "/credits"
	r.problem(404, "not_found", "finance", "POST", nobody, body)
	r.problem(404, "not_found", "finance", "GET", nobody, "")
	r.problem(404, "not_found", "finance", "GET", nobody+"/entries", "")
	r.problem(404, "not_found", "finance", "POST", "/api/v1/credits/"+uuid.NewString()+"/void", `{"note":"x"}`)
	for _, who := range []string{"pro", "admin"} {
		r.problem(403, "forbidden", who, "POST", at, body)
		r.problem(403, "forbidden", who, "POST", "/api/v1/credits/"+uuid.NewString()+"/void", `{"note":"x"}`)
	}
	r.problem(403, "forbidden", "free", "GET", at, "")
	r.problem(403, "forbidden", "free", "GET", at+"/entries", "")
	require.Empty(t, r.store.credits)
}
