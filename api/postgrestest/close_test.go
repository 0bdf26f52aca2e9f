package postgrestest_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/pgtest"
)

// TestPricesArePublishedOnEveryReplica holds that prices come back as they were put, and
// that the same again is no new version.
func TestPricesArePublishedOnEveryReplica(t *testing.T) {
	database := pgtest.NewDatabase(t)
	one, two := newReplica(t, database), newReplica(t, database)
	admin := one.adminKey()
	const body = `{"key":"team","name":"Team","entitlements":[],"price_books":[{"currency":"EUR","base_fee":{"amount":"49.90","prorate":"day"},
		"prices":[{"meter":"evaluations","model":"graduated","tiers":[{"up_to":1000,"unit_price":"0.000000000001"},{"unit_price":"0.2","flat_fee":"3"}]}]}]}`
	status, put := one.call(admin, http.MethodPut, "/api/v1/plans", body)
	require.Equal(t, http.StatusOK, status, put)
	require.Equal(t, []any{map[string]any{
		"currency": "EUR", "base_fee": map[string]any{"amount": "49.9", "prorate": "day"},
		"prices": []any{map[string]any{"meter": "evaluations", "model": "graduated", "tiers": []any{
			map[string]any{"up_to": 1000.0, "unit_price": "0.000000000001"}, map[string]any{"unit_price": "0.2", "flat_fee": "3"},
		}}},
	}}, put["price_books"])
	for _, again := range []string{body, `{"key":"team","name":"Team","entitlements":[]}`} {
		status, put = two.call(admin, http.MethodPut, "/api/v1/plans", again)
		require.Equal(t, http.StatusOK, status, put)
		require.InDelta(t, 1, put["version"], 0)
	}
	_, listed := two.call(admin, http.MethodGet, "/api/v1/plans", "")
	require.Contains(t, listed["plans"], put)
}

// TestAnExportOfNothingCanBeReviewed reads what a run has before anything was rated.
func TestAnExportOfNothingCanBeReviewed(t *testing.T) {
	r := newReplica(t, pgtest.NewDatabase(t))
	finance := accounts.NewSecret(accounts.RoleFinance)
	key, err := r.store.CreateKey(t.Context(), accounts.Key{Role: accounts.RoleFinance, Name: "month-end", Owner: "month-end"}, accounts.HashSecret(finance))
	require.NoError(t, err)
	period, err := calendar.ParsePeriod("2026-01")
	require.NoError(t, err)
	const path = "/api/v1/billing/exports/2026-01"
	routes := map[string]map[string]any{
		"/variances":   {"variances": []any{}},
		"/parked":      {"parked": []any{}},
		"/decisions":   {"decisions": []any{}},
		"/corrections": {"statements": []any{}},
		"/deliveries": {"sink": "stripe", "deliveries": []any{}, "counts": map[string]any{
			"delivered": 0.0, "no_customer": 0.0, "nothing_due": 0.0, "unchanged": 0.0, "failed": 0.0, "pending": 0.0,
		}},
		"/control-totals": {"control_totals": []any{}, "money_totals": []any{}},
	}
	for route := range routes {
		status, _ := r.call(finance, http.MethodGet, path+route, "")
		require.Equal(t, http.StatusNotFound, status, route)
	}
	requested := now().Truncate(time.Microsecond)
	_, _, err = r.store.BeginExport(t.Context(), billing.Export{
		ID: uuid.Must(uuid.NewV7()), Period: period, WorkflowID: "export/2026-01", RunID: "run", Cut: period.End(),
		RequestedBy: "month-end", RequestedByID: key.ID, RequestedAt: requested,
	})
	require.NoError(t, err)
	routes["/decisions"] = map[string]any{"decisions": []any{map[string]any{
		"action": "requested", "actor": map[string]any{"id": key.ID.String(), "name": "month-end", "owner": "month-end"}, "at": requested.Format(time.RFC3339Nano),
	}}}
	for route, want := range routes {
		for _, revision := range []string{"", "?revision=1"} {
			status, got := r.call(finance, http.MethodGet, path+route+revision, "")
			require.Equal(t, http.StatusOK, status, got)
			require.Equal(t, want, got, route)
		}
		status, _ := r.call(finance, http.MethodGet, path+route+"?revision=2", "")
		require.Equal(t, http.StatusNotFound, status, route)
	}
	status, _ := r.call(finance, http.MethodGet, path+"/statements/"+uuid.NewString(), "")
	require.Equal(t, http.StatusNotFound, status)
	status, got := r.call(finance, http.MethodGet, path, "")
	require.Equal(t, http.StatusOK, status, got)
	require.Equal(t, map[string]any{"organizations": 0.0, "statements": 0.0, "parked": 0.0, "variances": 0.0}, got["counts"])
	status, got = r.call(finance, http.MethodPost, path+"/reopen", `{"note":"n"}`)
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, "not_awaiting_decision", got["error"])
	status, _, _, err = r.send(finance, http.MethodPost, path+"/approve", `{}`, "")
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, status, "Temporal is away")
}

// TestAnExportOfNothingIsNotRated holds that a catalog is tried on what was rated alone,
// and that the prices that are published are known.
func TestAnExportOfNothingIsNotRated(t *testing.T) {
	r := newReplica(t, pgtest.NewDatabase(t))
	finance := accounts.NewSecret(accounts.RoleFinance)
	_, err := r.store.CreateKey(t.Context(), accounts.Key{Role: accounts.RoleFinance, Name: "month-end", Owner: "month-end"}, accounts.HashSecret(finance))
	require.NoError(t, err)
	period, err := calendar.ParsePeriod("2026-01")
	require.NoError(t, err)
	_, _, err = r.store.BeginExport(t.Context(), billing.Export{
		ID: uuid.Must(uuid.NewV7()), Period: period, WorkflowID: "export/2026-01", RunID: "run", Cut: period.End(), RequestedBy: "month-end", RequestedAt: now(),
	})
	require.NoError(t, err)
	const path = "/api/v1/billing/exports/2026-01/dry-run"
	status, published := r.call(finance, http.MethodGet, "/api/v1/plans", "")
	require.Equal(t, http.StatusOK, status)
	catalog, err := json.Marshal(published)
	require.NoError(t, err)
	status, refused := r.call(finance, http.MethodPost, path, string(catalog))
	require.Equal(t, http.StatusConflict, status, refused)
	require.Contains(t, refused["message"], "not rated")
	status, refused = r.call(finance, http.MethodPost, path, `{"plans":[{"key":"pro","version":2,"name":"Pro","price_books":[{"currency":"USD","prices":[{"meter":"other","model":"flat"}]}]}]}`)
	require.Equal(t, http.StatusBadRequest, status, refused)
	require.Contains(t, refused["message"], `plans[0].price_books[0].prices[0].meter: "other" is not a meter of the catalog`)
}
