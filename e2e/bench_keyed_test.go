//go:build bench

package e2e_test

import (
	"context"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/benchline"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
)

// benchInterval is the interval of flushes whose lag is measured: the one that Tollgate ships with, or a
// shorter one where the measurement is short.
func benchInterval() time.Duration { return min(10*time.Second, *benchLong/3) }

// TestBenchKeyed measures reports with an identity from the request to their rows in Postgres, and how
// far the watermark lags meanwhile: batches of 1,000, as many as are answered. Beside it, Postgres alone
// inserts rows of the same shape into the same table, from as many connections as there are cores. Generator,
// API and Postgres are on the same cores.
func TestBenchKeyed(t *testing.T) {
	s := newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	s.startWorker()
	api := s.startAPI("TOLLGATE_TENANT_COST=1000000000", "TOLLGATE_FLUSH_INTERVAL="+benchInterval().String())
	key := s.newTenant("Bench", "enterprise").key
	db, err := pgxpool.New(t.Context(), s.database.URL)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	for range *benchRounds {
		_, err := db.Exec(t.Context(), `TRUNCATE usage_events`)
		require.NoError(t, err)
		measureKeyed(t, s, db, api, key)
		_, err = db.Exec(t.Context(), `TRUNCATE usage_events`)
		require.NoError(t, err)
		insertAlone(t, db)
	}
}

// measureKeyed sends for as long as is measured, and has the rest flushed, until all that was accepted is in Postgres.
func measureKeyed(t *testing.T, s *system, db *pgxpool.Pool, api *process, key string) {
	t.Helper()
	const items = 1_000
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	var lag time.Duration
	watching.Go(func() { lag = mostLag(ctx, db) })
	began := time.Now()
	result := flood{strings.TrimPrefix(api.url, "http://"), *benchLong, []floodCaller{{Key: key, Connections: 8, Items: items, Keyed: true}}}.begin(t, -1).wait()[0]
	require.Zero(t, result.Wrong+result.Unanswered)
	require.NotZero(t, result.Served)
	var instance uuid.UUID
	require.NoError(t, db.QueryRow(t.Context(), `SELECT id FROM instances WHERE status = 'live'`).Scan(&instance))
	status, answer := api.call(http.MethodPost, "/api/v1/instances/"+instance.String()+"/flush", s.adminKey, nil)
	require.Equal(t, http.StatusOK, status, answer)
	accepted, stored := result.Served*items, int64(0)
	require.Eventually(t, func() bool {
		return db.QueryRow(t.Context(), `SELECT count(*) FROM usage_events`).Scan(&stored) == nil && stored == accepted
	}, 5*time.Minute+10*benchInterval(), 100*time.Millisecond, "all that was accepted is in Postgres")
	took := time.Since(began)
	stop()
	watching.Wait()
	require.NoError(t, benchline.Write(os.Stdout, "Keyed/by=tollgate", int(accepted), benchline.Figures{
		"rows/s": float64(accepted) / took.Seconds(), "accepted/s": float64(accepted) / benchLong.Seconds(),
		"refused/s":     float64(result.Refused*items) / benchLong.Seconds(),
		"intervals-lag": lag.Seconds() / benchInterval().Seconds(),
	}))
}

// mostLag looks until ctx ends how far the watermark is behind the clock, and returns the most.
func mostLag(ctx context.Context, db *pgxpool.Pool) (most time.Duration) {
	for ctx.Err() == nil {
		var seconds float64
		err := db.QueryRow(ctx, `SELECT extract(epoch FROM max(clock_timestamp() - watermark)) FROM instances WHERE status = 'live'`).Scan(&seconds)
		if err == nil {
			most = max(most, time.Duration(seconds*float64(time.Second)))
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return most
}

// insertAlone has Postgres make and insert rows of reports by itself, for a third of the time: random identities
// of one organization, 10,000 a transaction.
func insertAlone(t *testing.T, db *pgxpool.Pool) {
	t.Helper()
	const cores, chunk = 2, 10_000
	organization, instance := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	var inserting sync.WaitGroup
	var inserted [cores]int
	var failed [cores]error
	began := time.Now()
	for n := range cores {
		inserting.Go(func() {
			for time.Since(began) < *benchLong/3 && failed[n] == nil {
				failed[n] = pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
					_, err := tx.Exec(t.Context(), `
						INSERT INTO usage_events (organization_id, identity, fingerprint, meter, day, quantity, at, instance_id, seq,
							leased_day, leased_month, plan, mode, over_limit, current, held, max, limit_window)
						SELECT $1, uuid_send(gen_random_uuid()), int8send(n), 'evaluations', current_date, 1, now(), $2, 1,
							0, 0, 'enterprise', 'unlimited', false, n, 0, 0, 'month'
						FROM generate_series(1, $3::int) AS n
						ON CONFLICT (organization_id, identity) DO NOTHING`, organization, instance, chunk)
					return err
				})
				inserted[n] += chunk
			}
		})
	}
	inserting.Wait()
	took := time.Since(began)
	all := 0
	for n := range cores {
		require.NoError(t, failed[n])
		all += inserted[n]
	}
	require.NoError(t, benchline.Write(os.Stdout, "Keyed/by=postgres", all, benchline.Figures{"rows/s": float64(all) / took.Seconds()}))
}
