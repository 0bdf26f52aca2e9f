//go:build pooler

package pgstore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/riverline/tollgate/internal/devstack"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/pgstore"
)

// storeURL is where the stores of the tests connect: to a PgBouncer in transaction mode, with fewer sessions than
// the store has connections.
func storeURL(t testing.TB, database *pgtest.Database) string {
	t.Helper()
	return pgtest.NewPooler(t, database, devstack.PoolTransaction, 4).URL(t, database.APIURL)
}

// A pooler that changes its mode under a running store costs errors that may be tried again, for a moment.
func TestSessionsThatNoLongerStay(t *testing.T) {
	f := newFixture(t)
	pooler := pgtest.NewPooler(t, f.db, devstack.PoolSession, 16)
	store := f.open(pgstore.Config{URL: pooler.URL(t, f.db.APIURL) + "&default_query_exec_mode=cache_statement", MaxConns: 8})
	ask := func() error {
		var group errgroup.Group
		for range 16 {
			group.Go(func() error {
				for range 10 {
					if _, err := store.ListKeys(t.Context(), nil); err != nil {
						require.True(t, pgstore.Retryable(err), err)
						return err
					}
				}
				return nil
			})
		}
		return group.Wait()
	}
	require.NoError(t, ask())
	pooler.SetMode(t, devstack.PoolTransaction)
	// Connections of before keep their sessions until they end.
	pooler.Kill(t)
	pooler.Start(t)
	require.Eventually(t, func() bool { return ask() == nil }, 30*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { return ask() == nil }, 30*time.Second, 10*time.Millisecond, "the connections of before are gone")
	for range 5 {
		require.NoError(t, ask())
	}
}
