package e2e_test

import (
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
)

// kills is how often an API is killed: TOLLGATE_KILLS, or a few.
func kills(t *testing.T) int {
	t.Helper()
	given := os.Getenv("TOLLGATE_KILLS")
	if given == "" {
		return 4
	}
	n, err := strconv.Atoi(given)
	require.NoError(t, err, "TOLLGATE_KILLS")
	return n
}

// account is what the clients of one tenant know: what was acknowledged, and what may or
// may not have been counted.
type account struct{ acknowledged, unknown, keyed, refused atomic.Int64 }

// TestKillsLoseNothingAndCountNothingTwice kills one of two replicas under load, again
// and again. It starts anew on its journal's folder each time. In the end the store
// has all that was acknowledged, and of what nobody was told at most what was sent;
// usage that bore a key is there once, however often it was sent.
func TestKillsLoseNothingAndCountNothingTwice(t *testing.T) {
	t.Parallel()
	for _, durability := range []string{"process", "disk"} {
		t.Run(durability, func(t *testing.T) {
			t.Parallel()
			n := kills(t)
			if durability == "disk" {
				n = max(2, n/5)
			}
			killUnderLoad(t, durability, n)
		})
	}
}

func killUnderLoad(t *testing.T, durability string, n int) {
	t.Helper()
	s := newSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	s.environment = append(s.environment, "TOLLGATE_DURABILITY="+durability)
	s.startWorker()
	survivor, victim := s.startAPI(), s.startAPI()
	address := victim.url[len("http://"):]
	plain, keyed := s.newTenant("Plain", "enterprise"), s.newTenant("Keyed", "enterprise")

	var current atomic.Pointer[process]
	current.Store(victim)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var known account
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: 20 * time.Second}
	for range 6 {
		wg.Go(func() {
			for !closed(stop) {
				switch current.Load().record(t, client, plain.key, 1) {
				case http.StatusOK:
					known.acknowledged.Add(1)
				case 0:
					known.unknown.Add(1)
				case notSent, http.StatusServiceUnavailable:
					// Try again: also where a process that has just begun can't look a key up in time.
					time.Sleep(5 * time.Millisecond)
				default:
					known.refused.Add(1)
				}
			}
		})
	}
	for range 3 {
		wg.Go(func() { sendKeyed(t, stop, client, &known, keyed.key, &current, survivor) })
	}
	for range n {
		time.Sleep(time.Duration(100+rand.IntN(700)) * time.Millisecond)
		victim.kill()
		journal := victim.journal
		victim = s.launch("api", "TOLLGATE_LISTEN", address, "TOLLGATE_JOURNAL_DIR="+journal)
		victim.journal = journal
		victim.awaitReady()
		current.Store(victim)
	}
	close(stop)
	wg.Wait()
	victim.stop()
	survivor.stop()

	recorded, counted := s.recorded(plain), s.recorded(keyed)
	lost := max(0, known.acknowledged.Load()-recorded)
	twice := max(0, recorded-known.acknowledged.Load()-known.unknown.Load()) + max(0, counted-known.keyed.Load())
	t.Logf("%d kills at %s: %d acknowledged, %d unknown, %d keyed; lost %d, counted twice %d",
		n, durability, known.acknowledged.Load(), known.unknown.Load(), known.keyed.Load(), lost, twice)
	require.Positive(t, known.acknowledged.Load())
	require.Zero(t, known.refused.Load())
	require.Zero(t, lost, "what was acknowledged is there")
	require.LessOrEqual(t, recorded, known.acknowledged.Load()+known.unknown.Load(), "nothing is there twice")
	require.Equal(t, known.keyed.Load(), counted, "usage with a key is there once")
	s.requireReconciled()
}

// sendKeyed reports usage with keys, each to the replica that is killed and, where that
// has not answered or at random, to the other one too, until it is acknowledged.
func sendKeyed(t *testing.T, stop chan struct{}, client *http.Client, known *account, key string, current *atomic.Pointer[process], survivor *process) {
	t.Helper()
	for !closed(stop) {
		body := map[string]any{"meter": "evaluations", "idempotency_key": uuid.NewString()}
		acknowledged := false
		for attempt := 0; !acknowledged || (attempt < 2 && rand.IntN(4) == 0); attempt++ {
			at := current.Load()
			if attempt%2 == 1 {
				at = survivor
			}
			acknowledged = send(t, client, at, key, body) == http.StatusOK || acknowledged
		}
		known.keyed.Add(1)
	}
}

func send(t *testing.T, client *http.Client, at *process, key string, body any) int {
	t.Helper()
	status := postUsage(t, client, at.url, key, body)
	// 503: a process that has just begun can't look a key up in time.
	if status > 0 && status != http.StatusOK && status != http.StatusServiceUnavailable {
		t.Errorf("keyed usage was answered with %d", status)
	}
	return status
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
