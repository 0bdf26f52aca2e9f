package postgrestest_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/internal/pgtest"
)

// Credit is granted once under its key, and what the store refuses names its field.
func TestCreditsOnPostgres(t *testing.T) {
	r := newReplica(t, pgtest.NewDatabase(t))
	admin := r.adminKey()
	finance := accounts.NewSecret(accounts.RoleFinance)
	_, err := r.store.CreateKey(t.Context(), accounts.Key{Role: accounts.RoleFinance, Name: "finance", Owner: "finance"}, accounts.HashSecret(finance))
	require.NoError(t, err)
	id, tenant := r.tenant(admin, "Acme", "pro")
	at := "/api/v1/organizations/" + id + "/credits"

	const grant = `{"amount":"100.00","currency":"USD","note":"Order 7"}`
	status, _, made, err := r.send(finance, http.MethodPost, at, grant, "grant-1")
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, status, made)
	_, header, again, err := r.send(finance, http.MethodPost, at, grant, "grant-1")
	require.NoError(t, err)
	require.Equal(t, "true", header.Get("Idempotency-Replayed"))
	require.Equal(t, made, again)

	for field, body := range map[string]string{
		"amount":       `{"amount":"0","currency":"USD","note":"x"}`,
		"currency":     `{"amount":"1","currency":"usd","note":"x"}`,
		"priority":     `{"amount":"1","currency":"USD","note":"x","priority":101}`,
		"expires_at":   `{"amount":"1","currency":"USD","note":"x","expires_at":"2020-01-01T00:00:00Z"}`,
		"note":         `{"amount":"1","currency":"USD","note":"a\u0000b"}`,
		"effective_at": `{"amount":"1","currency":"USD","note":"x","effective_at":"0001-01-01T00:00:00Z"}`,
	} {
		status, refused := r.call(finance, http.MethodPost, at, body)
		require.Equal(t, http.StatusBadRequest, status, refused)
		require.Equal(t, field, refused["field"], refused)
	}
	status, list := r.call(tenant, http.MethodGet, at, "")
	require.Equal(t, http.StatusOK, status, list)
	require.Equal(t, []any{map[string]any{"currency": "USD", "remaining": "100.00", "usable": "100.00"}}, list["balances"])
	require.Equal(t, []any{made}, list["grants"])
	status, voided := r.call(finance, http.MethodPost, "/api/v1/credits/"+made["id"].(string)+"/void", `{"note":"twice"}`)
	require.Equal(t, http.StatusOK, status, voided)
	require.Equal(t, "0.00", voided["remaining"])
	status, page := r.call(tenant, http.MethodGet, at+"/entries", "")
	require.Equal(t, http.StatusOK, status, page)
	require.Len(t, page["entries"], 2)
}
