// Package servertest_test runs the programs' wiring on a real Postgres and a real Temporal.
package servertest_test

import (
	"bytes"
	"context"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/cmd/internal/app"
	"github.com/riverline/tollgate/internal/config"
	"github.com/riverline/tollgate/internal/devstack"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
)

func TestMain(m *testing.M) { pgtest.Main(temporaltest.Wrap(m)) }

// TestAPIStopsInOrder holds what a load balancer relies on: an API that is to stop is unready
// first, answers what still comes for its drain delay, and only then closes its port, writes
// all that it has counted, and says farewell.
func TestAPIStopsInOrder(t *testing.T) {
	database, namespace := pgtest.NewDatabase(t), temporaltest.Register(t)
	t.Setenv("TEMPORAL_ADDRESS", namespace.Address)
	t.Setenv("TEMPORAL_NAMESPACE", namespace.Name)
	shared := app.Shared{
		Database: config.Database{DatabaseURL: database.APIURL, MaxConnections: 8},
		Blobs:    config.Blobs{BlobURL: "file://" + t.TempDir()},
	}
	journal, address, workerAddress := t.TempDir(), freeAddress(t), freeAddress(t)
	api := app.NewAPI(app.APIConfig{
		Shared: shared, Listen: address, JournalDir: journal, Durability: "process", JournalFull: "admit", LeasesAway: "allow",
		// So long an interval that only the last flush can have flushed.
		FlushInterval: 5 * time.Minute, DrainDelay: 2 * time.Second, ShutdownTimeout: 10 * time.Second,
	})
	worker := app.NewWorker(app.WorkerConfig{Shared: shared, Listen: workerAddress})
	ctx, stop := context.WithCancel(t.Context())
	workerCtx, stopWorker := context.WithCancel(t.Context())
	ended, workerEnded := make(chan error, 1), make(chan error, 1)
	go func() { ended <- api.Run(ctx) }()
	go func() { workerEnded <- worker.Run(workerCtx) }()
	t.Cleanup(func() { stop(); stopWorker() })
	awaited, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, app.AwaitReady(awaited, api, worker))

	store := database.Open(t, pgstore.Config{})
	acme, err := store.CreateOrganization(t.Context(), accounts.NewOrganization{Name: "Acme", Plan: "free"})
	require.NoError(t, err)
	secret := accounts.NewSecret(accounts.RoleTenant)
	_, err = store.CreateKey(t.Context(), accounts.Key{Role: accounts.RoleTenant, Organization: acme.ID, Name: "test", Prefix: accounts.SecretPrefix(secret)}, accounts.HashSecret(secret))
	require.NoError(t, err)
	ask := func(method, path, body string) int {
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, bytes.NewReader([]byte(body)))
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer "+secret)
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0
		}
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}
	use := func() int { return ask(http.MethodPost, "/api/v1/usage", `{"meter":"evaluations","quantity":3}`) }
	require.Equal(t, http.StatusOK, ask(http.MethodGet, "/readyz", ""))
	require.Equal(t, http.StatusOK, use())

	requireReadyOnItsSchemaAlone(t, database, "http://"+address, "http://"+workerAddress)
	stop()
	require.Eventually(t, func() bool { return ask(http.MethodGet, "/readyz", "") == http.StatusServiceUnavailable }, 30*time.Second, time.Millisecond, "unready first")
	require.Equal(t, http.StatusOK, use(), "what comes meanwhile is served")
	require.NoError(t, <-ended)
	require.Zero(t, use(), "nobody listens")
	today := calendar.DayOf(time.Now())
	records, err := store.UsageRange(t.Context(), acme.ID, today-1, today, "evaluations")
	require.NoError(t, err)
	total := int64(0)
	for _, r := range records {
		total += r.Value
	}
	require.EqualValues(t, 6, total, "all that was counted is written")
	instances, err := store.InstancesSince(t.Context(), time.Time{})
	require.NoError(t, err)
	require.Len(t, instances, 1)
	require.Equal(t, meter.InstanceStopped, instances[0].Status)
	left, err := filepath.Glob(filepath.Join(journal, "*.journal"))
	require.NoError(t, err)
	require.Empty(t, left, "a clean stop leaves no segment")

	stopWorker()
	require.NoError(t, <-workerEnded)
}

// requireReadyOnItsSchemaAlone holds that programs are unready while the schema is one that they don't work with.
func requireReadyOnItsSchemaAlone(t *testing.T, database *pgtest.Database, programs ...string) {
	t.Helper()
	owner, err := pgx.Connect(t.Context(), database.URL)
	require.NoError(t, err)
	defer func() { require.NoError(t, owner.Close(t.Context())) }()
	become := func(want int) {
		t.Helper()
		for _, program := range programs {
			require.Eventually(t, func() bool {
				response, err := http.Get(program + "/readyz")
				return err == nil && response.Body.Close() == nil && response.StatusCode == want
			}, 30*time.Second, 50*time.Millisecond, "%s: %d", program, want)
		}
	}
	for _, change := range [][2]string{
		{`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)`, `DELETE FROM goose_db_version WHERE version_id = 99999`},
		{`UPDATE goose_db_version SET version_id = -version_id WHERE version_id > 8`, `UPDATE goose_db_version SET version_id = -version_id WHERE version_id < 0`},
	} {
		become(http.StatusOK)
		_, err := owner.Exec(t.Context(), change[0])
		require.NoError(t, err)
		become(http.StatusServiceUnavailable)
		_, err = owner.Exec(t.Context(), change[1])
		require.NoError(t, err)
	}
	become(http.StatusOK)
}

// freeAddress returns a loopback address on which nothing listens, and which no
// connection takes as its source meanwhile.
func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := devstack.FreeAddress()
	require.NoError(t, err)
	return address
}
