package e2e_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
)

// recorded returns the evaluations that the store has of a tenant this month.
func (s *system) recorded(of tenant) int64 {
	s.t.Helper()
	today := calendar.DayOf(time.Now())
	var records []billing.UsageRecord
	var err error
	// A server that was restarted is found out by the first call.
	for range 5 {
		if records, err = s.store().UsageRange(s.t.Context(), of.id, today-1, today, "evaluations"); err == nil {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	require.NoError(s.t, err)
	total := int64(0)
	for _, r := range records {
		total += r.Value
	}
	return total
}

// traffic sends evaluations until it is stopped, and counts what was acknowledged.
type traffic struct {
	stop         chan struct{}
	wg           sync.WaitGroup
	acknowledged atomic.Int64
	failed       atomic.Int64
}

func startTraffic(t *testing.T, api *process, of tenant) *traffic {
	t.Helper()
	tr := &traffic{stop: make(chan struct{})}
	for range 8 {
		tr.wg.Go(func() {
			for {
				select {
				case <-tr.stop:
					return
				default:
				}
				status, _, err := api.tryCall(t.Context(), http.MethodPost, "/api/v1/usage", of.key, map[string]any{"meter": "evaluations"})
				if err != nil || status != http.StatusOK {
					tr.failed.Add(1)
					continue
				}
				tr.acknowledged.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	return tr
}

func (tr *traffic) end() int64 {
	close(tr.stop)
	tr.wg.Wait()
	return tr.acknowledged.Load()
}

// TestWorkerIsKilledAmidAnExport kills the worker with an export under way; another
// one finishes the same run.
func TestWorkerIsKilledAmidAnExport(t *testing.T) {
	t.Parallel()
	s := newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	worker := s.startWorker()
	api := s.startAPI()
	s.financeKey = s.newKey("finance")
	tenant := s.newTenant("Enterprise", "enterprise")
	status, _ := api.call(http.MethodPost, "/api/v1/usage", tenant.key, map[string]any{"meter": "evaluations", "quantity": 77})
	require.Equal(t, http.StatusOK, status)

	period := calendar.PeriodOf(time.Now()).String()
	catchesUp := s.fallBehind(calendar.PeriodOf(time.Now()))
	s.tollgate("export", "start", "--no-wait", "--period", period, "--json")
	before := s.awaitStage(period, billing.StageWaiting)
	worker.kill()

	s.startWorker()
	catchesUp()
	after := s.awaitStage(period, billing.StageDone)
	require.Equal(t, before.RunID, after.RunID, "the run that was started is the run that finished")
	require.Equal(t, map[string]int64{tenant.id.String() + " evaluations": 77}, s.download(period))
}

// fallBehind adds an instance that has not flushed since a period's start, so that exports wait
// for it, until it catches up.
func (s *system) fallBehind(period calendar.Period) (catchUp func()) {
	s.t.Helper()
	db := s.owner()
	_, err := db.Exec(s.t.Context(), `INSERT INTO instances (id, host, status, started_at, seen_at, watermark)
		VALUES ('0190b000-0000-7000-8000-000000000002', 'behind', 'live', $1, now() + interval '1 hour', $1)`, period.Start())
	require.NoError(s.t, err)
	return func() {
		s.t.Helper()
		_, err := db.Exec(s.t.Context(), `UPDATE instances SET status = 'stopped' WHERE host = 'behind'`)
		require.NoError(s.t, err)
	}
}

// TestServersRestartAmidTraffic stops and crashes Postgres and Temporal under load.
// Nobody is refused, and what was acknowledged is what is stored and exported.
func TestServersRestartAmidTraffic(t *testing.T) {
	t.Parallel()
	postgres, temporal := pgtest.NewServer(t), temporaltest.NewServer(t)
	s := newSystem(t, postgres.NewDatabase(t), temporal.Register(t))
	s.startWorker()
	api := s.startAPI()
	s.financeKey = s.newKey("finance")
	tenant := s.newTenant("Enterprise", "enterprise")
	load := startTraffic(t, api, tenant)

	pause := func() { time.Sleep(2 * flushInterval) }
	pause()
	postgres.Stop(t)
	pause()
	postgres.Start(t)
	pause()
	temporal.Stop(t)
	pause()
	temporal.Start(t)
	pause()
	postgres.Crash(t)
	temporal.Crash(t)
	pause()
	postgres.Start(t)
	temporal.Start(t)
	pause()

	acknowledged := load.end()
	require.Positive(t, acknowledged)
	require.Zero(t, load.failed.Load(), "neither Postgres nor Temporal is on the hot path")

	period := calendar.PeriodOf(time.Now()).String()
	require.Eventually(t, func() bool {
		_, err := s.try("export", "start", "--period", period, "--json")
		return err == nil
	}, 120*time.Second, time.Second, "the export must work again")
	require.Equal(t, acknowledged, s.recorded(tenant))
	require.Equal(t, acknowledged, s.download(period)[tenant.id.String()+" evaluations"])

	// A clean stop leaves nothing behind, and the flush loop ends.
	api.stop()
	require.Equal(t, acknowledged, s.recorded(tenant))
}

// TestAKilledAPIHoldsUpNoExport kills an API and exports: the dead instance is
// declared lost, and the export has what it had flushed.
func TestAKilledAPIHoldsUpNoExport(t *testing.T) {
	t.Parallel()
	s := newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	s.environment = append(s.environment, "TOLLGATE_LOST_AFTER=10s")
	s.startWorker()
	api := s.startAPI()
	s.financeKey = s.newKey("finance")
	tenant := s.newTenant("Enterprise", "enterprise")
	status, _ := api.call(http.MethodPost, "/api/v1/usage", tenant.key, map[string]any{"meter": "evaluations", "quantity": 5})
	require.Equal(t, http.StatusOK, status)
	require.Eventually(t, func() bool { return s.recorded(tenant) == 5 }, patience, flushInterval/2)
	api.kill()

	second := s.startAPI()
	status, _ = second.call(http.MethodPost, "/api/v1/usage", tenant.key, map[string]any{"meter": "evaluations", "quantity": 2})
	require.Equal(t, http.StatusOK, status)
	period := calendar.PeriodOf(time.Now()).String()
	s.tollgate("export", "start", "--period", period, "--timeout", "4m", "--json")
	require.Equal(t, int64(7), s.download(period)[tenant.id.String()+" evaluations"])
	require.Contains(t, s.instanceStates(second), "lost")
}

// instanceStates returns the state of every instance, as the API lists them.
func (s *system) instanceStates(api *process) []string {
	s.t.Helper()
	_, answer := api.call(http.MethodGet, "/api/v1/instances", s.adminKey, nil)
	var states []string
	for _, one := range answer["instances"].([]any) {
		states = append(states, one.(map[string]any)["status"].(string))
	}
	return states
}
