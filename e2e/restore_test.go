package e2e_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
)

// TestABackupIsRestoredAmidTraffic takes Postgres back to a base backup under load, with
// replicas that go on, one that is younger than the backup, and one that is killed and starts
// again after it. What was acknowledged is there, once, and no limit is passed.
func TestABackupIsRestoredAmidTraffic(t *testing.T) {
	t.Parallel()
	postgres := pgtest.NewServer(t)
	s := newPlainSystem(t, postgres.NewDatabase(t), temporaltest.Register(t))
	s.startWorker()
	first := s.startAPI()
	plain, keyed, limited := s.newTenant("Plain", "enterprise"), s.newTenant("Keyed", "enterprise"), s.newTenant("Limited", "free")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: 20 * time.Second}
	require.Equal(t, http.StatusOK, first.use(t, client, limited.key, 300))
	require.Eventually(t, func() bool { return s.recorded(limited) == 300 }, patience, flushInterval/2)

	step(t, "a backup is made")
	backup := postgres.BackUp(t)
	second := s.startAPI()
	require.Equal(t, http.StatusOK, second.use(t, client, limited.key, 400))
	victim := s.startAPI()
	require.Equal(t, http.StatusOK, victim.use(t, client, plain.key, 1_000_000))
	require.Eventually(t, func() bool { return s.recorded(limited) == 700 && s.recorded(plain) == 1_000_000 }, patience, flushInterval/2)
	victim.kill()

	// A key that a replica has never seen can't be let in while Postgres is away.
	for _, at := range []*process{first, second} {
		for _, one := range []tenant{plain, keyed} {
			status, _ := at.call(http.MethodGet, "/api/v1/usage", one.key, nil)
			require.Equal(t, http.StatusOK, status)
		}
	}

	step(t, "it is restored under load")
	var known account
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var current atomic.Pointer[process]
	current.Store(second)
	for _, at := range []*process{first, second, first, second} {
		wg.Go(func() {
			for !closed(stop) {
				if status := at.record(t, client, plain.key, 1); status == http.StatusOK {
					known.acknowledged.Add(1)
				} else {
					known.refused.Add(1)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	wg.Go(func() { sendKeyed(t, stop, client, &known, keyed.key, &current, first) })
	time.Sleep(4 * flushInterval)
	postgres.Restore(t, backup)
	time.Sleep(4 * flushInterval)
	close(stop)
	wg.Wait()
	require.Zero(t, known.refused.Load(), "Postgres is not on the hot path")

	step(t, "who was killed starts again")
	again := s.launch("api", "TOLLGATE_LISTEN", victim.url[len("http://"):], "TOLLGATE_JOURNAL_DIR="+victim.journal)
	again.awaitReady()
	require.Eventually(t, func() bool {
		return s.recorded(plain) == 1_000_000+known.acknowledged.Load() && s.recorded(keyed) == known.keyed.Load() && s.recorded(limited) == 700
	}, patience, flushInterval/2, "plain %d of %d, keyed %d of %d, limited %d of 700", s.recorded(plain), 1_000_000+known.acknowledged.Load(),
		s.recorded(keyed), known.keyed.Load(), s.recorded(limited))

	step(t, "the limit holds")
	admitted := 0
	for i := range 400 {
		switch status := []*process{first, second, again}[i%3].use(t, client, limited.key, 1); status {
		case http.StatusOK:
			admitted++
		default:
			require.Equal(t, http.StatusPaymentRequired, status)
		}
	}
	require.Equal(t, 300, admitted)
	for _, p := range []*process{first, second, again} {
		p.stop()
	}
	require.EqualValues(t, 1_000, s.recorded(limited))
	s.requireReconciled()
	require.Zero(t, s.missingBatches(), "everything was sent again")
	t.Logf("%d acknowledged, %d with keys", known.acknowledged.Load(), known.keyed.Load())
}

// missingBatches returns how many batches a reconciliation says to be lost.
func (s *system) missingBatches() int64 {
	s.t.Helper()
	var found struct {
		MissingBatches int64 `json:"missing_batches"`
	}
	s.decode(s.tollgate("reconcile", "--json"), &found)
	return found.MissingBatches
}
