package api

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Who gives a name where an ID belongs is told what the ID is of, and where to find it.
func TestNamesAreNoIDs(t *testing.T) {
	r := newRig(t)
	const organization = "must be an organization's ID, a UUID: GET /api/v1/organizations?search= finds it by the begin of the name"
	for _, tt := range []struct{ who, line, body, field, says string }{
		{"admin", "GET organizations/acme", "", "id", organization},
		{"admin", "PATCH organizations/acme", `{"name":"x"}`, "id", organization},
		{"free", "GET organizations/acme/bill", "", "id", organization},
		{"finance", "POST organizations/acme/credits", `{"amount":"5","currency":"USD","note":"x"}`, "id", organization},
		{"admin", "GET usage?organization_id=acme", "", "organization_id", organization},
		{"finance", "GET billing/exports/2026-10/statements/acme", "", "organization", organization},
		{"finance", "GET audit?organization_id=acme", "", "organization_id", organization},
		{"admin", "DELETE keys/root", "", "id", "must be an API key's ID, a UUID: GET /api/v1/keys"},
		{"finance", "POST credits/first/void", `{"note":"x"}`, "grant", "must be a credit grant's ID, a UUID: GET /api/v1/organizations/{id}/credits"},
		{"finance", "GET proposals/last", "", "id", "must be a proposal's ID, a UUID: GET /api/v1/proposals"},
		{"admin", "GET quarantine/1", "", "id", "must be the ID of quarantined usage, a UUID: GET /api/v1/quarantine"},
		{"admin", "POST instances/host/flush", "", "id", "must be an instance's ID, a UUID: GET /api/v1/instances"},
		{"free", "GET webhooks/mine", "", "id", "must be an endpoint's ID, a UUID: GET /api/v1/webhooks"},
		{"free", "GET reservations/mine", "", "id", "must be a reservation's ID, a UUID"},
	} {
		method, path, _ := strings.Cut(tt.line, " ")
		problem := r.problem(400, "invalid_request", tt.who, method, "/api/v1/"+path, tt.body)
		require.Equal(t, tt.field, problem["field"], tt.line)
		require.Contains(t, problem["message"], tt.field+" "+tt.says, tt.line)
	}
}
