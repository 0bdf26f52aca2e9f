package e2e_test

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/plans"
)

// lateInstance meters on the system's database, by a clock of its own: that of another month.
type lateInstance struct {
	t       *testing.T
	id      uuid.UUID
	meter   *meter.Meter
	flusher *meter.Flusher

	mu  sync.Mutex
	now time.Time
}

func (s *system) startLateInstance(now time.Time) *lateInstance {
	s.t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	store := s.database.Open(s.t, pgstore.Config{Logger: quiet})
	l := &lateInstance{t: s.t, id: uuid.Must(uuid.NewV7()), now: now}
	as := meter.Instance{ID: l.id, Host: "late", Status: meter.InstanceLive, StartedAt: now, SeenAt: now, Watermark: now}
	require.NoError(s.t, store.RegisterInstance(s.t.Context(), as))
	l.meter = meter.New(meter.Config{Catalog: plans.Default(), Store: store, Logger: quiet})
	s.t.Cleanup(l.meter.Close)
	l.flusher = meter.NewFlusher(meter.FlusherConfig{Meter: l.meter, Store: store, Instance: l.id, Now: l.clock, Logger: quiet})
	ctx, stop := context.WithCancel(context.Background())
	var seen sync.WaitGroup
	seen.Go(func() {
		for ctx.Err() == nil {
			_, _ = l.flusher.Flush(ctx)
			time.Sleep(time.Second)
		}
	})
	s.t.Cleanup(func() { stop(); seen.Wait() })
	return l
}

func (l *lateInstance) clock() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

// open admits what a request uses that is under way.
func (l *lateInstance) open(of uuid.UUID, quantity int64) *meter.OpenReservation {
	l.t.Helper()
	organization, err := l.meter.Organization(l.t.Context(), of, l.clock())
	require.NoError(l.t, err)
	index, _ := l.meter.Index("evaluations")
	decision, reservation, err := organization.Admit(l.t.Context(), index, quantity, l.clock())
	require.NoError(l.t, err)
	require.True(l.t, decision.Allowed)
	return l.meter.KeepOpen(reservation, l.clock())
}

// flushAt has it be a time, and flushes.
func (l *lateInstance) flushAt(now time.Time) meter.FlushSummary {
	l.t.Helper()
	l.mu.Lock()
	l.now = now
	l.mu.Unlock()
	summary, err := l.flusher.Flush(l.t.Context())
	require.NoError(l.t, err)
	return summary
}

// TestACloseGoesOnWithoutAnInstance closes a month while two requests of its last minute are under
// way. The close says so, goes on by the decision of somebody else, and each request counts once:
// the one that ends soon as a correction, the one that goes on for long in the month of then.
func TestACloseGoesOnWithoutAnInstance(t *testing.T) {
	t.Parallel()
	s := newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	s.startWorker()
	finance := financeAPI{t: t, api: s.startAPI(), key: s.newKey("finance")}
	s.financeKey = finance.key
	controller := finance.as(s.newKey("finance"))
	soon, long := s.newTenant("Soon", "pro"), s.newTenant("Long", "pro")
	last, _ := lastMonth()
	s.backdate(soon.id, last.Start())
	s.backdate(long.id, last.Start())
	late := s.startLateInstance(last.End().Add(-time.Minute))
	ofSoon := late.open(soon.id, 1_100_000)
	late.flushAt(last.End().Add(-30 * time.Second))
	ofLong := late.open(long.id, 1_200_000)
	late.flushAt(last.End().Add(time.Minute))

	step(t, "the close waits, and names the instance, whose request it is, and since when")
	finance.do(http.StatusAccepted, http.MethodPost, exportsPath, map[string]any{"period": last.String()})
	path := exportsPath + "/" + last.String()
	var waitingFor []any
	require.Eventually(t, func() bool {
		status, export := finance.api.call(http.MethodGet, path, finance.key, nil)
		waitingFor, _ = export["waiting_for"].([]any)
		return status == http.StatusOK && len(waitingFor) == 1
	}, stageWait, 100*time.Millisecond)
	named := waitingFor[0].(map[string]any)
	require.Equal(t, late.id.String(), named["instance"])
	require.EqualValues(t, 2, named["open"])
	require.Equal(t, soon.id.String(), named["open_organization_id"])
	require.Equal(t, "evaluations", named["open_meter"])
	require.Equal(t, last.End().Add(-time.Minute).Format(time.RFC3339), named["open_since"])
	require.Contains(t, s.tollgate("export", "status", "--period", last.String()), soon.id.String())

	step(t, "somebody else decides that it goes on, and it is closed")
	note := map[string]any{"note": "They are uploads of two customers who know."}
	require.Eventually(t, func() bool {
		status, refused := finance.api.call(http.MethodPost, path+"/continue", finance.key, note)
		return status == http.StatusForbidden && refused["error"] == "self_approval"
	}, stageWait, 200*time.Millisecond)
	controller.do(http.StatusOK, http.MethodPost, path+"/continue", note)
	controller.do(http.StatusConflict, http.MethodPost, path+"/continue", note)
	finance.await(path, billing.StageApproving)
	controller.do(http.StatusOK, http.MethodPost, path+"/approve", map[string]any{})
	manifest := finance.download(finance.await(path, billing.StageClosed))
	require.Len(t, manifest.Continued, 1)
	require.Equal(t, late.id, manifest.Continued[0].Without[0].Instance)
	require.Equal(t, "98.00", manifest.Money[0].Due.String(), "twice the base fee: nothing was flushed")
	decisions := finance.do(http.StatusOK, http.MethodGet, path+"/decisions", nil)["decisions"].([]any)
	require.Equal(t, "continued", decisions[1].(map[string]any)["action"])
	require.Len(t, decisions[1].(map[string]any)["without"], 1)

	step(t, "the requests end, and each counts once")
	require.True(t, ofSoon.Commit())
	late.flushAt(last.End().Add(2 * time.Minute))
	summary := late.flushAt(last.End().Add(10 * time.Minute))
	require.Equal(t, last.End().Add(10*time.Minute), summary.Watermark, "what is under way for long holds up nothing")
	require.True(t, ofLong.Commit())
	late.flushAt(last.End().Add(11 * time.Minute))
	late.flushAt(time.Now().UTC().Add(time.Hour))
	s.awaitFlushed(soon.id, "evaluations", 1_100_000)
	s.awaitFlushed(long.id, "evaluations", 1_200_000)
	next := exportsPath + "/" + last.Next().String()
	s.nightly(last.Next())
	finance.do(http.StatusAccepted, http.MethodPost, exportsPath, map[string]any{"period": last.Next().String()})
	finance.await(next, billing.StageDone)
	// 1,000,000 beyond what is included, at 0.0002.
	require.Equal(t, map[string]any{"correction": "200.00"}, finance.billed(next, soon.id))
	require.Equal(t, map[string]any{"usage": "1200000"}, finance.billed(next, long.id))
	s.requireReconciled()
}

// billed are a statement's lines that aren't zero, by their kind, without base fees: of usage the
// quantity, of corrections the amount.
func (f financeAPI) billed(export string, of uuid.UUID) map[string]any {
	out := map[string]any{}
	statement := f.do(http.StatusOK, http.MethodGet, export+"/statements/"+of.String(), nil)["statement"].(map[string]any)
	for _, line := range statement["lines"].([]any) {
		line := line.(map[string]any)
		kind, _ := line["kind"].(string)
		switch {
		case kind == "base_fee" || line["amount"] == "0.00":
		case kind == "usage":
			out[kind] = line["charge"].(map[string]any)["quantity"]
		default:
			out[kind] = line["amount"]
		}
	}
	return out
}
