package pgstore_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/internal/alerts"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// teller is an instance with a meter that tells organizations about their usage.
type teller struct {
	f       *fixture
	meter   *meter.Meter
	flusher *meter.Flusher
	watcher *alerts.Watcher
	// calls are how many events each call had.
	calls []int
}

func (f *fixture) teller(now func() time.Time) *teller {
	f.t.Helper()
	w, quiet := f.instanceSince(now()), slog.New(slog.DiscardHandler)
	m := &teller{f: f}
	m.meter = meter.New(meter.Config{Catalog: plans.Default(), Store: f, Leases: f, Instance: w.id, Now: now, Logger: quiet})
	f.t.Cleanup(m.meter.Close)
	m.watcher = alerts.NewWatcher(alerts.Config{Thresholds: []int{25, 80, 100}, Now: now, Logger: quiet, Publish: func(ctx context.Context, list ...events.Event) error {
		m.calls = append(m.calls, len(list))
		return f.PublishEvents(ctx, list...)
	}})
	m.flusher = meter.NewFlusher(meter.FlusherConfig{
		Meter: m.meter, Store: f, Instance: w.id, Now: now, Watch: m.watcher.Watch, WatchFrom: m.watcher.WatchFrom(), Logger: quiet,
	})
	return m
}

// use uses so much of a meter, and reports whether that is allowed.
func (m *teller) use(id uuid.UUID, key string, quantity int64, now time.Time) bool {
	m.f.t.Helper()
	o, err := m.meter.Organization(m.f.t.Context(), id, now)
	require.NoError(m.f.t, err)
	i, _ := m.meter.Index(key)
	out, err := o.Use(m.f.t.Context(), i, quantity, now, nil)
	require.NoError(m.f.t, err)
	return out.Decision.Allowed
}

func (m *teller) flush() {
	m.f.t.Helper()
	_, err := m.flusher.Flush(m.f.t.Context())
	require.NoError(m.f.t, err)
}

// TestTwoReplicasTellOnce has two replicas share hard and soft limits: the one whose batch crosses publishes at
// once, all in one call; the other one makes sure a minute later. Who refuses says so at once.
func TestTwoReplicasTellOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	now := time.Now().UTC().Truncate(24 * time.Hour).Add(12 * time.Hour)
	clock := func() time.Time { return now }
	free, pro, full := f.organization("Acme", "free").ID, f.organization("Bolt", "pro").ID, f.organization("Cora", "free").ID
	one, two := f.teller(clock), f.teller(clock)
	told := func() int64 {
		return f.count(`SELECT count(*) FROM events WHERE kind IN ('usage.threshold_reached', 'plan.limit_exceeded')`)
	}

	require.True(t, one.use(pro, simulations, 1_200, now))
	require.True(t, two.use(pro, simulations, 40, now))
	one.flush()
	two.flush()
	require.Zero(t, told())
	require.True(t, two.use(free, simulations, 41, now))
	require.True(t, two.use(pro, simulations, 3_000, now))
	require.True(t, two.use(full, simulations, 50, now))
	two.flush()
	require.Equal(t, []int{7}, two.calls, "25 and 80 percent of two, all of the third")
	require.EqualValues(t, 7, told())
	require.True(t, one.use(pro, simulations, 1, now))
	one.flush()
	require.Empty(t, one.calls, "others have crossed")

	require.False(t, two.use(full, simulations, 1, now))
	two.flush()
	require.False(t, one.use(full, simulations, 1, now))
	one.flush()
	require.Equal(t, []int{7, 1}, two.calls)
	require.Equal(t, []int{4}, one.calls, "who refuses says so at once, and what was reached by then")
	require.EqualValues(t, 8, told())

	now = now.Add(2 * time.Minute)
	one.flush()
	two.flush()
	require.Equal(t, []int{4, 2}, one.calls, "it makes sure of all at once")
	require.Equal(t, []int{7, 1}, two.calls)
	require.EqualValues(t, 8, told())
}

// TestAReplicaThatDiesBeforeItTells has the batch of one written, and nobody told: another one makes sure.
func TestAReplicaThatDiesBeforeItTells(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	now := time.Now().UTC().Truncate(24 * time.Hour).Add(12 * time.Hour)
	clock := func() time.Time { return now }
	pro := f.organization("Bolt", "pro").ID
	one, two := f.teller(clock), f.teller(clock)
	require.True(t, one.use(pro, simulations, 4_200, now))
	canceled, cancel := context.WithCancel(t.Context())
	dying := meter.NewFlusher(meter.FlusherConfig{
		Meter: one.meter, Store: f, Instance: f.instanceSince(now).id, Now: clock, WatchFrom: 25,
		Watch: func(_ context.Context, levels []meter.Level) {
			cancel()
			one.watcher.Watch(canceled, levels)
		},
	})
	_, err := dying.Flush(t.Context())
	require.NoError(t, err)
	require.True(t, two.use(pro, simulations, 1, now))
	two.flush()
	require.Empty(t, two.calls)
	two.watcher.Finish(t.Context())
	require.Equal(t, []int{2}, two.calls, "a replica that stops makes sure")
	require.EqualValues(t, 2, f.count(`SELECT count(*) FROM events WHERE kind = 'usage.threshold_reached'`))
}
