package e2e_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
)

// limitOf10000 is a catalog with one hard limit.
const limitOf10000 = `
meters:
  - { key: evaluations, name: Evaluations, aggregation: sum, unit: evaluation }
plans:
  - key: limited
    version: 1
    name: Limited
    entitlements: [{ meter: evaluations, mode: hard, window: month, max: 10000 }]
`

// TestThreeReplicasNeverPassALimit sends 300 clients to three replicas: together they
// admit exactly what the limit is. A window of a month keeps midnight out of it.
func TestThreeReplicasNeverPassALimit(t *testing.T) {
	t.Parallel()
	s := newSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	catalog := filepath.Join(t.TempDir(), "catalog.yaml")
	require.NoError(t, os.WriteFile(catalog, []byte(limitOf10000), 0o600))
	s.environment = append(s.environment, "TOLLGATE_CATALOG="+catalog)
	s.startWorker()
	replicas := []*process{s.startAPI(), s.startAPI(), s.startAPI()}
	limited := s.newTenant("Limited", "limited")

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 300}}
	var admitted, refused atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for n := range 300 {
		wg.Go(func() {
			for k := 0; ; k++ {
				status := replicas[(n+k)%3].use(t, client, limited.key, 1)
				switch status {
				case http.StatusOK:
					admitted.Add(1)
				case http.StatusPaymentRequired:
					refused.Add(1)
					return
				default:
					t.Errorf("status %d", status)
					return
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d admitted and %d refused in %s", admitted.Load(), refused.Load(), time.Since(began).Round(time.Millisecond))
	require.EqualValues(t, 10_000, admitted.Load())
	for _, replica := range replicas {
		replica.stop()
	}
	require.EqualValues(t, 10_000, s.recorded(limited))
	s.requireReconciled()
}

// notSent is the status of a request that reached nobody: its connection was refused.
const notSent = -1

// record reports evaluations, as postUsage does.
func (p *process) record(t *testing.T, client *http.Client, key string, quantity int64) int {
	t.Helper()
	return postUsage(t, client, p.url, key, map[string]any{"meter": "evaluations", "quantity": quantity})
}

// use is record by a client that tries again where it is told to.
func (p *process) use(t *testing.T, client *http.Client, key string, quantity int64) int {
	t.Helper()
	return patiently(func() int { return p.record(t, client, key, quantity) })
}

// postUsage reports usage and returns the status; 0 where there was no answer, so that nobody
// knows whether it was counted.
func postUsage(t *testing.T, client *http.Client, base, key string, body any) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/api/v1/usage", jsonBody(body))
	if err != nil {
		t.Error(err)
		return 0
	}
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return notSent
	case err != nil:
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode
}

// TestTheLastUnitIsFoundAnywhere leaves all that remains leased at one replica, idle;
// another one, asked for the last units, finds them at once (less than a second, where the machine
// isn't busy).
func TestTheLastUnitIsFoundAnywhere(t *testing.T) {
	t.Parallel()
	s := newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	s.startWorker()
	first, second, third := s.startAPI(), s.startAPI(), s.startAPI()
	free := s.newTenant("Free", "free")
	use := func(at *process, quantity int64) (int, time.Duration) {
		began := time.Now()
		status, _ := at.call(http.MethodPost, "/api/v1/usage", free.key, map[string]any{"meter": "evaluations", "quantity": quantity})
		return status, time.Since(began)
	}
	for range 40 { // so fast that its lease is its whole share
		status, _ := use(first, 10)
		require.Equal(t, http.StatusOK, status)
	}
	status, took := use(second, 599)
	require.Equal(t, http.StatusOK, status, "what the first one doesn't use is handed over")
	require.Less(t, took, time.Minute)
	status, took = use(third, 1)
	require.Equal(t, http.StatusOK, status, "the last unit")
	require.Less(t, took, time.Minute)
	for _, replica := range []*process{first, second, third} {
		status, answer := replica.call(http.MethodPost, "/api/v1/usage", free.key, map[string]any{"meter": "evaluations"})
		require.Equal(t, http.StatusPaymentRequired, status)
		require.InDelta(t, 1_000, answer["current"], 0)
	}
}

// requireReconciled holds that all layers agree.
func (s *system) requireReconciled() {
	s.t.Helper()
	today := calendar.DayOf(time.Now())
	found, err := s.store().Reconcile(s.t.Context(), today-1, today)
	require.NoError(s.t, err)
	require.Empty(s.t, found.Differences)
	var again billing.Reconciliation
	s.decode(s.tollgate("reconcile", "--from", (today-1).String(), "--to", today.String()), &again)
	require.Zero(s.t, again.Different())
}
