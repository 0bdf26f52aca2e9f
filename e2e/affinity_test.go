//go:build affinity

// The tag is for HAProxy, which has to be installed: make test-affinity.

package e2e_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/devstack"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
)

// startHAProxy puts HAProxy in front of two APIs, by the file that is shipped. It is called as they are.
func (s *system) startHAProxy(first, second *process) *process {
	s.t.Helper()
	address := freeAddress(s.t)
	file, err := filepath.Abs("../ops/haproxy/haproxy.cfg")
	require.NoError(s.t, err)
	proxy, err := devstack.StartHAProxy(s.t.Context(), devstack.HAProxyConfig{
		Folder: s.t.TempDir(), File: file, Address: address, Output: os.Stderr,
		Environment: []string{
			"TOLLGATE_PROXY_LISTEN=" + address,
			"TOLLGATE_API_1=" + strings.TrimPrefix(first.url, "http://"), "TOLLGATE_API_2=" + strings.TrimPrefix(second.url, "http://"),
		},
	})
	require.NoError(s.t, err)
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = proxy.Stop(ctx)
	})
	return &process{t: s.t, name: "haproxy", url: "http://" + address}
}

// affineTenant is a tenant behind the proxy.
type affineTenant struct {
	tenant
	admitted, refused atomic.Int64
}

// use reports one evaluation at a time, each under an identity of its own, until n were answered or one was refused. What
// the proxy could not answer is sent again, as a client would.
func (a *affineTenant) use(t *testing.T, proxy *process, client *http.Client, n int) {
	t.Helper()
	for range n {
		key, status := uuid.NewString(), 0
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			status = postUsage(t, client, proxy.url, a.key, map[string]any{"meter": "evaluations", "quantity": 1, "idempotency_key": key})
			if status == http.StatusOK || status == http.StatusPaymentRequired {
				break
			}
		}
		switch status {
		case http.StatusOK:
			a.admitted.Add(1)
		case http.StatusPaymentRequired:
			a.refused.Add(1)
			return
		default:
			t.Errorf("status %d for a minute", status)
			return
		}
	}
}

// servedBy returns the instances that wrote usage of a tenant, in the order of their starts.
func (s *system) servedBy(of *affineTenant) []uuid.UUID {
	s.t.Helper()
	rows, err := s.owner().Query(s.t.Context(), `
		SELECT i.id FROM instances i WHERE EXISTS (SELECT FROM usage_batch_rows r WHERE r.instance_id = i.id AND r.organization_id = $1)
		ORDER BY i.started_at`, of.id)
	require.NoError(s.t, err)
	found, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	require.NoError(s.t, err)
	return found
}

// TestAffinity has two replicas behind HAProxy: requests with one key are served by one of them, those of a replica that is
// killed by the other, and again by the first once it is back. Limits hold to the unit all along.
func TestAffinity(t *testing.T) {
	t.Parallel()
	s := newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	s.startWorker()
	victim, other := s.startAPI(), s.startAPI()
	proxy := s.startHAProxy(victim, other)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}

	step(t, "one key, one replica")
	const perTenant = 20
	// of[0] are the tenants whose keys the victim serves, of[1] those of the other.
	var of [2][]*affineTenant
	for range 8 {
		var batch []*affineTenant
		for range 4 {
			batch = append(batch, &affineTenant{tenant: s.newTenant("Free", "free")})
		}
		s.atOnce(batch, func(a *affineTenant) { a.use(t, proxy, client, perTenant) })
		for _, a := range batch {
			s.awaitFlushed(a.id, "evaluations", perTenant)
			by := s.servedBy(a)
			require.Len(t, by, 1, "%d requests with one key", perTenant)
			n := 1
			if strings.Contains(victim.log.String(), by[0].String()) {
				n = 0
			}
			of[n] = append(of[n], a)
		}
		if min(len(of[0]), len(of[1])) >= 2 {
			break
		}
	}
	require.GreaterOrEqual(t, min(len(of[0]), len(of[1])), 2, "keys are spread")
	moved, stayed := of[0][:2], of[1][:2]
	all := append(append([]*affineTenant{}, moved...), stayed...)

	step(t, "a replica is killed under load: its keys move, the others' stay")
	var kill sync.Once
	began := time.Now()
	s.atOnce(all, func(a *affineTenant) {
		a.use(t, proxy, client, 50)
		kill.Do(victim.kill)
		a.use(t, proxy, client, 100)
	})
	t.Logf("600 requests, and a kill, in %s", time.Since(began).Round(time.Millisecond))
	for _, a := range all {
		require.EqualValues(t, perTenant+150, a.admitted.Load(), "none was refused")
	}
	require.Eventually(t, func() bool { return len(s.servedBy(moved[0])) == 2 && len(s.servedBy(moved[1])) == 2 }, patience, 100*time.Millisecond)
	for _, a := range stayed {
		require.Len(t, s.servedBy(a), 1)
	}

	step(t, "it comes back on its journal, and its keys to it")
	back := s.launch("api", "TOLLGATE_LISTEN", strings.TrimPrefix(victim.url, "http://"), "TOLLGATE_JOURNAL_DIR="+victim.journal)
	back.awaitReady()
	require.Eventually(t, func() bool {
		moved[0].use(t, proxy, client, 1)
		return len(s.servedBy(moved[0])) == 3
	}, patience, 200*time.Millisecond)

	step(t, "each limit of 1,000 is admitted to the unit")
	s.atOnce(all, func(a *affineTenant) { a.use(t, proxy, client, 2_000) })
	for _, a := range all {
		require.EqualValues(t, 1_000, a.admitted.Load())
		require.EqualValues(t, 1, a.refused.Load())
		for _, api := range []*process{back, other} {
			require.Equal(t, http.StatusPaymentRequired, api.use(t, client, a.key, 1))
		}
	}
	for _, a := range stayed {
		require.Len(t, s.servedBy(a), 1, "the other's keys never left it")
	}
	back.stop()
	other.stop()
	for _, a := range all {
		require.EqualValues(t, 1_000, s.recorded(a.tenant))
	}
	s.requireReconciled()
}

// atOnce runs fn for all tenants, at once.
func (s *system) atOnce(tenants []*affineTenant, fn func(*affineTenant)) {
	s.t.Helper()
	var running sync.WaitGroup
	for _, a := range tenants {
		running.Go(func() { fn(a) })
	}
	running.Wait()
}
