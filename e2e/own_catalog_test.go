package e2e_test

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
)

const ownCatalog = `
default_plan: free
meters:
  - { key: tokens, name: Tokens, aggregation: sum, unit: token }
  - { key: seats, name: Seats, aggregation: max, unit: seat }
plans:
  - key: free
    version: 1
    name: Ours
    entitlements: [{ meter: tokens, mode: hard, window: day, max: 5 }]
  - { key: admin, version: 1, name: Admins }
`

// TestACatalogOfOnesOwnOnANewInstallation starts from an empty database. The file's free
// plan is version 1, as the built-in one is, and says something else.
func TestACatalogOfOnesOwnOnANewInstallation(t *testing.T) {
	t.Parallel()
	database := pgtest.NewEmptyDatabase(t)
	role, err := url.Parse(database.APIURL)
	require.NoError(t, err)
	password, _ := role.User.Password()
	migrate := &system{t: t, environment: append(os.Environ(), "TOLLGATE_OWNER_DATABASE_URL="+database.URL, "TOLLGATE_API_PASSWORD="+password)}
	migrate.tollgate("migrate", "up")
	s := newPlainSystem(t, database, temporaltest.Register(t))
	// The worker lacks the file: it decides nothing.
	s.startWorker()
	file := filepath.Join(t.TempDir(), "catalog.yaml")
	require.NoError(t, os.WriteFile(file, []byte(ownCatalog), 0o600))
	api := s.startAPI("TOLLGATE_CATALOG=" + file)
	s.financeKey = s.newKey("finance")

	status, plans := api.call(http.MethodGet, "/api/v1/plans", s.adminKey, nil)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "free", plans["default_plan"])
	require.Len(t, plans["plans"], 2)
	require.Len(t, plans["meters"], 2)

	tenant := s.newTenant("Acme", "")
	status, answer := api.call(http.MethodPost, "/api/v1/usage", tenant.key, map[string]any{"meter": "tokens", "quantity": 5})
	require.Equal(t, http.StatusOK, status, answer)
	require.Equal(t, "free", answer["plan"])
	status, answer = api.call(http.MethodPost, "/api/v1/usage", tenant.key, map[string]any{"meter": "tokens"})
	require.Equal(t, http.StatusPaymentRequired, status)
	require.InEpsilon(t, 5, answer["max"], 0)
	status, _ = api.call(http.MethodPost, "/api/v1/usage", tenant.key, map[string]any{"meter": "evaluations"})
	require.Equal(t, http.StatusBadRequest, status, "built-in meters don't exist")
	out, err := s.try("org", "create", "--name", "Beta", "--plan", "pro")
	require.Error(t, err)
	require.Contains(t, out, `plan must be a plan of the catalog (admin, free), "pro" is not`)

	// Another API without the file takes what the tables have.
	bare := s.startAPI()
	require.Contains(t, bare.log.String(), "The installation has a catalog of its own")
	status, plans = bare.call(http.MethodGet, "/api/v1/plans", s.adminKey, nil)
	require.Equal(t, http.StatusOK, status)
	require.Len(t, plans["plans"], 2)
	require.Len(t, plans["meters"], 2)
}
