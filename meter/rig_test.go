package meter_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

func (c *clock) add(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.now
}

// rig is a meter on a memory store.
type rig struct {
	t       testing.TB
	store   *metertest.Store
	meter   *meter.Meter
	flusher *meter.Flusher
	clock   *clock
}

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func newRig(tb testing.TB) *rig {
	tb.Helper()
	r := &rig{t: tb, store: metertest.NewStore(), clock: &clock{now: noon}}
	r.restart()
	return r
}

// restart makes a new instance on the same store, as after a clean stop.
func (r *rig) restart() {
	r.meter = meter.New(meter.Config{Catalog: plans.Default(), Store: r.store})
	r.flusher = meter.NewFlusher(meter.FlusherConfig{
		Meter: r.meter, Store: r.store, Instance: uuid.Must(uuid.NewV7()), Now: r.clock.Now,
	})
}

func (r *rig) organization(id uuid.UUID) *meter.Organization {
	r.t.Helper()
	o, err := r.meter.Organization(context.Background(), id, r.clock.Now())
	require.NoError(r.t, err)
	return o
}

func (r *rig) index(key string) meter.Index {
	i, ok := r.meter.Index(key)
	require.True(r.t, ok, key)
	return i
}

func (r *rig) flush() meter.FlushSummary {
	r.t.Helper()
	summary, err := r.flusher.Flush(context.Background())
	require.NoError(r.t, err)
	return summary
}
