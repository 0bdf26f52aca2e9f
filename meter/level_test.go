package meter_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// watched makes a flusher of the rig's meter whose levels are kept until they are taken.
func (r *rig) watched() (take func() []meter.Level) {
	var seen []meter.Level
	r.flusher = meter.NewFlusher(meter.FlusherConfig{
		Meter: r.meter, Store: r.store, Instance: uuid.Must(uuid.NewV7()), Now: r.clock.Now, WatchFrom: 80,
		Watch: func(_ context.Context, levels []meter.Level) { seen = append(seen, levels...) },
	})
	return func() []meter.Level {
		r.t.Helper()
		r.flush()
		taken := seen
		seen = nil
		return taken
	}
}

func TestAFlushShowsLevels(t *testing.T) {
	r := newRig(t)
	take := r.watched()
	id := r.store.Add("free")
	free, i := r.organization(id), r.index("simulations") // 50 a day, hard
	free.Consume(i, 39, noon)
	require.Empty(t, take(), "below the least percentage")
	free.Consume(i, 1, noon)
	want := meter.Level{
		Organization: id, Plan: "free", Entitlement: free.Usage(i, noon).Entitlement, Window: calendar.WindowDay.At(noon), Before: 39, Stored: 40, Current: 40,
	}
	require.Equal(t, []meter.Level{want}, take())
	require.Empty(t, take(), "nothing was flushed")

	for range 3 {
		d, _ := free.Consume(i, 11, noon)
		require.False(t, d.Allowed)
	}
	want.Exceeded, want.Before, want.Stored = true, 0, 0
	require.Equal(t, []meter.Level{want}, take(), "refused, although nothing was written: once a flush")
	require.Empty(t, take())

	r.organization(r.store.Add("enterprise")).Consume(i, 1_000_000, noon)
	require.Empty(t, take(), "there is no limit")
}

func TestAFlushShowsSoftLimitsThatArePassed(t *testing.T) {
	r := newRig(t)
	take := r.watched()
	pro, i := r.organization(r.store.Add("pro")), r.index("simulations") // 5,000, soft
	pro.Consume(i, 5_000, noon)
	levels := take()
	require.Len(t, levels, 1)
	require.False(t, levels[0].Exceeded)
	pro.Consume(i, 1, noon)
	levels = take()
	require.Len(t, levels, 2)
	require.ElementsMatch(t, []bool{true, false}, []bool{levels[0].Exceeded, levels[1].Exceeded})
	require.EqualValues(t, 5_001, levels[0].Current)
}

// A refusal just before the end of a window belongs to it, though the flush comes later.
func TestARefusalBelongsToItsWindow(t *testing.T) {
	r := newRig(t)
	take := r.watched()
	free, i := r.organization(r.store.Add("free")), r.index("simulations")
	late := calendar.DayOf(noon).End().Add(-time.Second)
	d, _ := free.Consume(i, 51, late)
	require.False(t, d.Allowed)
	r.clock.set(late.Add(time.Minute))
	free.Consume(i, 1, late.Add(time.Minute))
	levels := take()
	require.Len(t, levels, 1)
	require.Equal(t, calendar.WindowDay.At(noon), levels[0].Window)
}

func TestWhatIsExceededWaitsForAStore(t *testing.T) {
	r := newRig(t)
	take := r.watched()
	free, i := r.organization(r.store.Add("free")), r.index("simulations")
	free.Consume(i, 1, noon)
	free.Consume(i, 51, noon)
	r.store.Set(func(s *metertest.Store) { s.Away = true })
	_, err := r.flusher.Flush(t.Context())
	require.ErrorIs(t, err, metertest.ErrAway)
	r.store.Set(func(s *metertest.Store) { s.Away = false })
	require.Len(t, take(), 1)
}

func TestRefusingAllocatesNothing(t *testing.T) {
	r := newRig(t)
	free, i := r.organization(r.store.Add("free")), r.index("simulations")
	free.Consume(i, 50, noon)
	free.Consume(i, 1, noon)
	require.Zero(t, testing.AllocsPerRun(1_000, func() { free.Consume(i, 1, noon) }))
}

func TestReached(t *testing.T) {
	t.Parallel()
	level := func(mode plans.Mode, limit, used int64) meter.Level {
		return meter.Level{Entitlement: plans.Entitlement{Mode: mode, Max: limit}, Stored: used}
	}
	for _, tc := range []struct {
		level   meter.Level
		percent int
		reached bool
	}{
		{level(plans.Hard, 10, 8), 80, true},
		{level(plans.Hard, 10, 7), 80, false},
		{level(plans.Hard, 3, 2), 80, false}, // 2.4
		{level(plans.Soft, 3, 3), 80, true},
		{level(plans.Soft, 3, 3), 100, true},
		{level(plans.Hard, 0, 5), 1, false},
		{level(plans.Unlimited, 0, 5), 1, false},
		{level(plans.Hard, plans.MaxQuantity, plans.MaxQuantity), 100, true},
		{level(plans.Hard, plans.MaxQuantity, plans.MaxQuantity-1), 100, false},
	} {
		require.Equal(t, tc.reached, tc.level.Reached(tc.percent), "%+v at %d", tc.level, tc.percent)
	}
}
