package e2e_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/devstack"
	"github.com/riverline/tollgate/internal/faultproxy"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
)

// setting reads a whole number from the environment.
func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	given := os.Getenv(name)
	if given == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(given, 10, 64)
	require.NoError(t, err, name)
	return n
}

// chaosCatalog has hard limits that are reached within seconds, soft ones, and none. Its
// windows are months, which keeps midnight out of the account.
const chaosCatalog = `
meters:
  - { key: evaluations, name: Evaluations, aggregation: sum, unit: evaluation }
  - { key: executions, name: Executions, aggregation: sum, unit: execution }
  - { key: instances, name: Instances, aggregation: max, unit: instance }
  - { key: storage, name: Storage, aggregation: last, unit: byte }
plans:
  - key: limited
    version: 1
    name: Limited
    entitlements:
      - { meter: evaluations, mode: hard, window: month, max: 3000 }
      - { meter: executions, mode: hard, window: month, max: 500 }
  - key: soft
    version: 1
    name: Soft
    entitlements: [{ meter: evaluations, mode: soft, window: month, max: 100 }]
  - { key: open, version: 1, name: Open, entitlements: [] }
`

// TestChaos runs three replicas under faults that are drawn from a seed, and holds the
// accounts after them. docs/chaos.md has the method. CHAOS_SEED repeats a run; CHAOS_FAULTS,
// CHAOS_ROUNDS and CHAOS_MINUTES, those of a round, make it longer. With CHAOS_WRITE it writes
// docs/guarantees.md.
func TestChaos(t *testing.T) {
	t.Parallel()
	seed, minutes := setting(t, "CHAOS_SEED", uint64(time.Now().UnixNano())), setting(t, "CHAOS_MINUTES", 0)
	found := &figures{rows: map[string]*figure{}}
	for round := range setting(t, "CHAOS_ROUNDS", 1) {
		seed := seed + round
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Logf("repeat with CHAOS_SEED=%d", seed)
			c := newChaos(t, seed)
			c.figures = found
			c.run(int(setting(t, "CHAOS_FAULTS", 6)), time.Duration(minutes)*time.Minute)
			c.settle()
			found.seeds = append(found.seeds, seed)
		})
	}
	found.write(t, int(minutes))
}

// replica is one API, with proxies of its own to Postgres and Temporal.
type replica struct {
	n                  int
	address            string
	journal            string
	environment        []string
	postgres, temporal *faultproxy.Proxy

	mu      sync.Mutex
	process *process
}

// chaos is a system under faults.
type chaos struct {
	t        *testing.T
	draw     *rand.Rand
	system   *system
	postgres *pgtest.Server
	temporal *temporaltest.Server
	worker   *process
	replicas []*replica
	ledger   *ledger
	// heal ends the faults that go on.
	heal    []func()
	figures *figures
	// deck are the faults that are still to be drawn.
	deck []fault
	// told is the account that was held last, before which it was known.
	told stored
}

func newChaos(t *testing.T, seed uint64) *chaos {
	t.Helper()
	c := &chaos{t: t, draw: rand.New(rand.NewPCG(seed, 1)), postgres: pgtest.NewServer(t), temporal: temporaltest.NewServer(t)}
	c.system = newPlainSystem(t, c.postgres.NewDatabase(t), temporaltest.Namespace{Address: c.temporal.Address(), Name: devstack.TemporalNamespace})
	catalog := filepath.Join(t.TempDir(), "catalog.yaml")
	require.NoError(t, os.WriteFile(catalog, []byte(chaosCatalog), 0o600))
	c.system.environment = append(c.system.environment,
		"TOLLGATE_CATALOG="+catalog, "TOLLGATE_LEASES_AWAY=deny", "TOLLGATE_JOURNAL_FULL=refuse",
		"TOLLGATE_LOST_AFTER="+chaosLostAfter.String(), "TOLLGATE_BODY_TIMEOUT=30s", "TOLLGATE_MAX_DELAY=50ms",
		"TOLLGATE_UPSTREAM="+newSink(t))
	c.worker = c.system.startWorker()
	c.system.files = 512
	for n := range 3 {
		c.replicas = append(c.replicas, c.newReplica(n))
	}
	c.system.environment = append(c.system.environment, "TOLLGATE_URL=http://"+c.replicas[0].address)
	c.ledger = newLedger(t, c)
	return c
}

// newSink is an upstream that takes uploads and answers 200.
func newSink(t *testing.T) string {
	t.Helper()
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	t.Cleanup(upstream.Close)
	return upstream.URL
}

func (c *chaos) newReplica(n int) *replica {
	c.t.Helper()
	database, err := url.Parse(c.system.database.APIURL)
	require.NoError(c.t, err)
	r := &replica{n: n, address: freeAddress(c.t), journal: c.t.TempDir()}
	r.postgres, err = faultproxy.New(database.Host)
	require.NoError(c.t, err)
	c.t.Cleanup(func() { _ = r.postgres.Close() })
	r.temporal, err = faultproxy.New(c.temporal.Address())
	require.NoError(c.t, err)
	c.t.Cleanup(func() { _ = r.temporal.Close() })
	database.Host = r.postgres.Address()
	r.environment = []string{
		"TOLLGATE_JOURNAL_DIR=" + r.journal, "TOLLGATE_DATABASE_URL=" + database.String(), "TEMPORAL_ADDRESS=" + r.temporal.Address(),
	}
	r.process = c.launch(r)
	r.process.awaitReady()
	return r
}

func (c *chaos) launch(r *replica) *process {
	return c.system.launch("api", "TOLLGATE_LISTEN", r.address, r.environment...)
}

// restart starts a replica anew on its journal's folder, as often as it takes: it needs
// Postgres to start.
func (c *chaos) restart(r *replica) {
	c.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	deadline := time.Now().Add(90 * time.Second)
	for {
		r.process.kill()
		r.process = c.launch(r)
		if r.process.becomesReady(20 * time.Second) {
			return
		}
		require.True(c.t, time.Now().Before(deadline), "replica %d does not start: %s", r.n, r.process.log.tail(10))
	}
}

// becomesReady waits until a process is ready, or ends, or for a time.
func (p *process) becomesReady(within time.Duration) bool {
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		select {
		case <-p.ended:
			return false
		default:
		}
		response, err := http.Get(p.url + "/readyz")
		if err != nil {
			continue
		}
		_ = response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return true
		}
	}
	return false
}

// run draws faults until there were so many and the time is over, in stretches of up to three at
// once, and holds the accounts after each stretch.
func (c *chaos) run(faults int, long time.Duration) {
	c.ledger.start()
	began := time.Now()
	for drawn := 0; drawn < faults || time.Since(began) < long; {
		drawn += c.stretch(long > 0)
	}
	c.pause(500, 1000)
}

// stretch draws up to three faults; about half of them go on beside the next. In the end all are
// healed, the time until all is well is taken, and the accounts are held.
func (c *chaos) stretch(long bool) int {
	var drawn []fault
	for range 1 + c.draw.IntN(3) {
		fault := c.next(long)
		target := c.replicas[c.draw.IntN(len(c.replicas))]
		if fault.healthy {
			c.healAll()
		}
		c.t.Logf("%s at replica %d", fault.name, target.n)
		drawn = append(drawn, fault)
		heal := fault.begin(target)
		c.pause(300, 1500)
		if heal == nil {
			continue
		}
		if c.draw.IntN(2) == 0 && !fault.alone {
			c.heal = append(c.heal, heal)
			continue
		}
		if fault.alone && len(drawn) > 1 || c.draw.IntN(2) == 0 {
			heal()
			continue
		}
		c.heal = append(c.heal, heal)
		break
	}
	began := time.Now()
	c.healAll()
	c.recover(began)
	c.account(drawn, time.Since(began))
	return len(drawn)
}

// next draws a fault that was not drawn since all of them were.
func (c *chaos) next(long bool) fault {
	if len(c.deck) == 0 {
		c.deck = c.faults(long)
		c.draw.Shuffle(len(c.deck), func(i, k int) { c.deck[i], c.deck[k] = c.deck[k], c.deck[i] })
	}
	drawn := c.deck[0]
	c.deck = c.deck[1:]
	return drawn
}

func (c *chaos) healAll() {
	for _, heal := range c.heal {
		heal()
	}
	c.heal = nil
}

func (c *chaos) pause(least, most int) {
	time.Sleep(time.Duration(least+c.draw.IntN(most-least)) * time.Millisecond)
}

// settle lets everything come to rest, and holds the accounts.
func (c *chaos) settle() {
	for _, r := range c.replicas {
		if !r.process.becomesReady(20 * time.Second) {
			c.restart(r)
		}
	}
	c.ledger.stop()
	for _, r := range c.replicas {
		r.process.stop()
		left, err := filepath.Glob(filepath.Join(r.journal, "*.journal"))
		require.NoError(c.t, err)
		require.Empty(c.t, left, "a clean stop leaves no segment")
	}
	c.account(nil, 0)
	c.system.requireReconciled()
}
