package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/pgstore"
)

// ledger is what the clients know: their own account of what they were told.
type ledger struct {
	t       *testing.T
	chaos   *chaos
	client  *http.Client
	tenants map[string]tenant
	ending  chan struct{}
	once    sync.Once
	clients sync.WaitGroup

	mu      sync.Mutex
	entries map[ledgerKey]*entry
	// statuses counts the answers by their status; 0 is none.
	statuses map[int]int64
}

type ledgerKey struct{ tenant, meter string }

// entry is one tenant's use of one meter.
type entry struct {
	// acknowledged adds up, or is the highest for a level; unknown adds up what may or may
	// not have been counted, or is the highest of that.
	acknowledged, unknown int64
	// sent are all levels that were sent.
	sent map[int64]bool
}

// isLevel says which meters are not sums.
func isLevel(meter string) bool { return meter == "instances" || meter == "storage" }

func newLedger(t *testing.T, c *chaos) *ledger {
	t.Helper()
	l := &ledger{
		t: t, chaos: c, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: 8 * time.Second},
		tenants: map[string]tenant{}, ending: make(chan struct{}), entries: map[ledgerKey]*entry{}, statuses: map[int]int64{},
	}
	for name, plan := range map[string]string{"limited": "limited", "other": "limited", "soft": "soft", "open": "open", "keyed": "open"} {
		l.tenants[name] = c.system.newTenant(name, plan)
	}
	// Also where the test has failed.
	t.Cleanup(l.end)
	return l
}

// end ends the load and waits for it. A second call does nothing.
func (l *ledger) end() {
	l.once.Do(func() { close(l.ending) })
	l.clients.Wait()
}

func (l *ledger) start() {
	for range 6 {
		l.clients.Go(l.send)
	}
	for range 2 {
		l.clients.Go(l.sendKeyed)
	}
}

// stop ends the load. Keyed usage that is under way goes on until it is acknowledged.
func (l *ledger) stop() {
	l.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t.Logf("answers by status (0: none, -1: refused connections): %v", l.statuses)
	require.Positive(l.t, l.statuses[http.StatusOK])
	for status := range l.statuses {
		require.Contains(l.t, []int{notSent, 0, http.StatusOK, http.StatusPaymentRequired, http.StatusServiceUnavailable}, status)
	}
}

// send reports usage without keys, at whichever replica.
func (l *ledger) send() {
	names := []string{"limited", "other", "soft", "open"}
	meters := []string{"evaluations", "evaluations", "executions", "instances", "storage"}
	for !closed(l.ending) {
		key := ledgerKey{names[rand.IntN(len(names))], meters[rand.IntN(len(meters))]}
		quantity := int64(1 + rand.IntN(5))
		if isLevel(key.meter) {
			quantity = int64(1 + rand.IntN(1_000_000))
		}
		status := l.post(rand.IntN(3), key.tenant, map[string]any{"meter": key.meter, "quantity": quantity})
		l.note(key, quantity, status)
		if status != http.StatusOK {
			time.Sleep(3 * time.Millisecond)
		}
	}
}

// sendKeyed reports usage with keys, at one replica after the other until it is
// acknowledged, and sometimes once more.
func (l *ledger) sendKeyed() {
	key := ledgerKey{"keyed", "evaluations"}
	for !closed(l.ending) {
		body := map[string]any{"meter": key.meter, "quantity": 2, "idempotency_key": uuid.NewString()}
		deadline := time.Now().Add(3 * time.Minute)
		for at := rand.IntN(3); ; at++ {
			if l.post(at%3, key.tenant, body) == http.StatusOK {
				break
			}
			if l.t.Failed() {
				return
			}
			if time.Now().After(deadline) {
				l.t.Error("keyed usage is not acknowledged for minutes")
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		if rand.IntN(3) == 0 {
			_ = l.post(rand.IntN(3), key.tenant, body)
		}
		l.note(key, 2, http.StatusOK)
	}
}

func (l *ledger) post(at int, tenant string, body any) int {
	status := postUsage(l.t, l.client, "http://"+l.chaos.replicas[at].address, l.tenants[tenant].key, body)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.statuses[status]++
	return status
}

func (l *ledger) note(key ledgerKey, quantity int64, status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[key]
	if e == nil {
		e = &entry{sent: map[int64]bool{}}
		l.entries[key] = e
	}
	to := &e.acknowledged
	switch status {
	case http.StatusOK:
	case 0:
		to = &e.unknown
	default:
		return
	}
	if isLevel(key.meter) {
		*to = max(*to, quantity)
		e.sent[quantity] = true
		return
	}
	*to += quantity
}

// check holds the store to the ledger.
func (l *ledger) check() {
	store, err := pgstore.Open(l.t.Context(), pgstore.Config{URL: l.chaos.system.database.APIURL})
	require.NoError(l.t, err)
	defer store.Close()
	today := calendar.DayOf(time.Now())
	for key, e := range l.entries {
		records, err := store.UsageRange(l.t.Context(), l.tenants[key.tenant].id, today-1, today, key.meter)
		require.NoError(l.t, err)
		recorded := int64(0)
		for _, r := range records {
			switch key.meter {
			case "instances":
				recorded = max(recorded, r.Value)
			case "storage":
				recorded = r.Value
			default:
				recorded += r.Value
			}
		}
		what := fmt.Sprintf("%s of %s: recorded %d, acknowledged %d, unknown %d", key.meter, key.tenant, recorded, e.acknowledged, e.unknown)
		l.t.Log(what)
		switch key.meter {
		case "storage":
			require.True(l.t, recorded == 0 && e.acknowledged == 0 || e.sent[recorded], what)
		case "instances":
			require.GreaterOrEqual(l.t, recorded, e.acknowledged, what)
			require.LessOrEqual(l.t, recorded, max(e.acknowledged, e.unknown), what)
		default:
			require.GreaterOrEqual(l.t, recorded, e.acknowledged, "lost: %s", what)
			require.LessOrEqual(l.t, recorded, e.acknowledged+e.unknown, "counted twice: %s", what)
		}
		if limit := map[string]int64{"evaluations": 3000, "executions": 500}[key.meter]; limit > 0 && (key.tenant == "limited" || key.tenant == "other") {
			require.LessOrEqual(l.t, recorded, limit, "a hard limit was passed: %s", what)
		}
	}
	keyed := l.entries[ledgerKey{"keyed", "evaluations"}]
	require.NotNil(l.t, keyed)
	require.Zero(l.t, keyed.unknown, "keyed usage is sent until it is known")
}
