package meter_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

func TestUsageOfOtherInstancesArrivesWithTheFlush(t *testing.T) {
	r := newRig(t)
	id := r.store.Add("free")
	i := r.index("evaluations")
	one := r.organization(id)
	one.Consume(i, 10, noon)

	flusherOfOne := r.flusher
	r.restart()
	r.organization(id).Consume(i, 500, noon)
	r.flush()

	_, err := flusherOfOne.Flush(context.Background())
	require.NoError(t, err)
	require.Equal(t, int64(510), one.Usage(i, noon).Current)
}

func TestWatermarkWaitsForIdleOrganizations(t *testing.T) {
	r := newRig(t)
	id := r.store.Add("free")
	i := r.index("simulations")
	_, held := r.organization(id).Reserve(i, 10, noon)
	day := calendar.DayOf(noon)
	r.clock.set(day.End().Add(time.Hour))
	require.True(t, r.flush().Watermark.Before(day.End()), "nobody has touched the slot since")
	held.Release()
	require.Equal(t, r.clock.Now(), r.flush().Watermark)
}

func TestNothingIsCountedTwiceOrLostWhenTheStoreFails(t *testing.T) {
	r := newRig(t)
	id := r.store.Add("enterprise")
	o := r.organization(id)
	i := r.index("evaluations")
	day := calendar.DayOf(noon)

	o.Consume(i, 1, noon)
	r.store.Set(func(s *metertest.Store) { s.LoseAnswer = true })
	_, err := r.flusher.Flush(context.Background())
	require.ErrorIs(t, err, metertest.ErrAway)
	require.Equal(t, int64(1), r.store.Value(id, "evaluations", day), "it was written, but we could not know")

	o.Consume(i, 10, noon)
	r.store.Set(func(s *metertest.Store) { s.Away = true })
	summary, err := r.flusher.Flush(context.Background())
	require.ErrorIs(t, err, metertest.ErrAway)
	require.Equal(t, 2, summary.Retained)

	o.Consume(i, 100, noon)
	r.store.Set(func(s *metertest.Store) { s.Away = false })
	summary = r.flush()
	require.Zero(t, summary.Retained)
	require.Equal(t, int64(3), summary.Seq)
	require.Equal(t, int64(111), r.store.Value(id, "evaluations", day))
	require.Equal(t, int64(111), o.Usage(i, noon).Current)
	require.Zero(t, r.flush().Rows, "a second flush writes nothing")
	require.Equal(t, int64(111), r.store.Value(id, "evaluations", day))
}

func TestOneDrainIsOneBatch(t *testing.T) {
	r := newRig(t)
	i := r.index("evaluations")
	for range 8 {
		r.organization(r.store.Add("enterprise")).Consume(i, 1, noon)
	}
	r.clock.add(time.Second)
	summary := r.flush()
	require.Equal(t, 1, summary.Batches)
	require.Equal(t, 8, summary.Rows)
	require.Len(t, r.store.Batches, 1)
	require.Equal(t, r.clock.Now(), r.store.Batches[0].Watermark)
	require.EqualValues(t, 8, r.store.Batches[0].Reports)
}

func TestRunFlushesWhenNothingElseDoes(t *testing.T) {
	store := metertest.NewStore()
	id := store.Add("enterprise")
	m := meter.New(meter.Config{Catalog: plans.Default(), Store: store})
	var undriven atomic.Int64
	f := meter.NewFlusher(meter.FlusherConfig{
		Meter: m, Store: store, Instance: uuid.New(), Now: time.Now, Interval: 5 * time.Millisecond,
		Undriven: func(context.Context) { undriven.Add(1) },
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f.Run(ctx) })
	now := time.Now()
	o, err := m.Organization(ctx, id, now)
	require.NoError(t, err)
	i, _ := m.Index("evaluations")
	o.Consume(i, 3, now)
	require.Eventually(t, func() bool { return store.Value(id, "evaluations", calendar.DayOf(now)) == 3 }, 30*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return undriven.Load() > 0 }, 30*time.Second, time.Millisecond)
	cancel()
	wg.Wait()
}
