package e2e_test

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
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

	// turn is held by each client while it sends, and by who needs them to be silent.
	turn sync.RWMutex

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
	for name, plan := range map[string]string{"limited": "limited", "other": "limited", "soft": "soft", "open": "open", "keyed": "open", "slow": "open"} {
		l.tenants[name] = c.system.newTenant(name, plan)
	}
	// Also where the test has failed.
	t.Cleanup(l.end)
	return l
}

// tenant returns the tenant that bears a name.
func (l *ledger) tenant(name string) tenant {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tenants[name]
}

// renew puts a tenant with all of its limits left in the place of the limited one, which was
// accounted for. Nobody sends meanwhile.
func (l *ledger) renew() {
	fresh := l.chaos.system.newTenant("limited", "limited")
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tenants["limited"] = fresh
	for key := range l.entries {
		if key.tenant == "limited" {
			delete(l.entries, key)
		}
	}
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
		require.Contains(l.t, []int{notSent, 0, http.StatusOK, http.StatusPaymentRequired, http.StatusTooManyRequests, http.StatusServiceUnavailable}, status)
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
		l.turn.RLock()
		status := l.post(rand.IntN(3), key.tenant, map[string]any{"meter": key.meter, "quantity": quantity})
		l.note(key, quantity, status)
		l.turn.RUnlock()
		if status != http.StatusOK {
			time.Sleep(3 * time.Millisecond)
		}
	}
}

// sendKeyed reports usage with keys, at one replica after the other until it is
// acknowledged, and sometimes once more.
func (l *ledger) sendKeyed() {
	key := ledgerKey{"keyed", "evaluations"}
	going := true
	for going && !closed(l.ending) {
		going = l.sendOneKeyed(key)
	}
}

// sendOneKeyed says whether its usage was acknowledged.
func (l *ledger) sendOneKeyed(key ledgerKey) bool {
	l.turn.RLock()
	defer l.turn.RUnlock()
	body := map[string]any{"meter": key.meter, "quantity": 2, "idempotency_key": uuid.NewString()}
	deadline := time.Now().Add(3 * time.Minute)
	for at := rand.IntN(3); ; at++ {
		if l.post(at%3, key.tenant, body) == http.StatusOK {
			break
		}
		// What was sent must be known, unless nobody accounts for it any more.
		if closed(l.ending) && l.t.Failed() {
			return false
		}
		if time.Now().After(deadline) {
			l.t.Error("keyed usage is not acknowledged for minutes")
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
	if rand.IntN(3) == 0 {
		_ = l.post(rand.IntN(3), key.tenant, body)
	}
	l.note(key, 2, http.StatusOK)
	return true
}

func (l *ledger) post(at int, tenant string, body any) int {
	status := postUsage(l.t, l.client, "http://"+l.chaos.replicas[at].address, l.tenant(tenant).key, body)
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
