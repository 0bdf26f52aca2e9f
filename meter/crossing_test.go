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

// beside makes another instance on the rig's store.
func (r *rig) beside() *rig {
	other := &rig{t: r.t, store: r.store, clock: r.clock}
	other.restart()
	return other
}

// on has the rig's meter use a catalog.
func (r *rig) on(catalog *plans.Catalog) {
	require.NoError(r.t, catalog.Validate())
	r.meter = meter.New(meter.Config{Catalog: catalog, Store: r.store})
}

// span is what a row has made of a level.
type span struct{ before, stored int64 }

func spans(levels []meter.Level) (out []span) {
	for _, l := range levels {
		out = append(out, span{l.Before, l.Stored})
	}
	return out
}

func TestALevelIsBeforeAndAfterARow(t *testing.T) {
	one := newRig(t)
	two := one.beside()
	takeOne, takeTwo := one.watched(), two.watched()
	id, i := one.store.Add("pro"), one.index("simulations")
	a, b := one.organization(id), two.organization(id)
	a.Consume(i, 3_990, noon)
	b.Consume(i, 20, noon)
	require.Empty(t, takeOne())
	levels := takeTwo()
	require.Equal(t, []span{{3_990, 4_010}}, spans(levels))
	require.True(t, levels[0].Crossed(80))
	require.False(t, levels[0].Crossed(79), "it was there before")
	require.False(t, levels[0].Crossed(81))
	a.Consume(i, 991, noon)
	levels = takeOne()
	require.Equal(t, []span{{4_010, 5_001}}, spans(levels))
	require.True(t, levels[0].Crossed(100) && levels[0].CrossedLimit())
	require.False(t, levels[0].Crossed(80))
	b.Consume(i, 1, noon)
	for _, l := range takeTwo() {
		require.False(t, l.CrossedLimit(), "%+v", l)
	}
}

func TestALevelOfExactlyTheThreshold(t *testing.T) {
	r := newRig(t)
	take := r.watched()
	free, i := r.organization(r.store.Add("free")), r.index("simulations")
	free.Consume(i, 40, noon)
	levels := take()
	require.True(t, levels[0].Crossed(80))
	free.Consume(i, 10, noon)
	levels = take()
	require.True(t, levels[0].Crossed(100))
	require.False(t, levels[0].Crossed(80), "40 were there before")
}

// The answer to a batch was lost, and others have written since: it is not known which batch has crossed, and
// each that may have says so.
func TestALevelOfABatchThatIsSentAgain(t *testing.T) {
	one := newRig(t)
	two := one.beside()
	takeOne, takeTwo := one.watched(), two.watched()
	id, i := one.store.Add("pro"), one.index("simulations")
	a, b := one.organization(id), two.organization(id)
	a.Consume(i, 1_000, noon)
	require.Empty(t, takeOne())
	a.Consume(i, 3_100, noon)
	one.store.Set(func(s *metertest.Store) { s.LoseAnswer = true })
	_, err := one.flusher.Flush(t.Context())
	require.ErrorIs(t, err, metertest.ErrAway)
	b.Consume(i, 800, noon)
	require.Equal(t, []span{{4_100, 4_900}}, spans(takeTwo()))
	levels := takeOne()
	require.Equal(t, []span{{1_000, 4_900}}, spans(levels))
	require.True(t, levels[0].Crossed(80))
}

// What was used before the end of a window and is flushed after it is of that window, and of its limit.
func TestALevelOfAWindowThatIsOver(t *testing.T) {
	last := time.Date(2026, 11, 30, 23, 59, 55, 0, time.UTC)
	for _, tc := range []struct {
		name, meter string
		window      calendar.WindowKind
		want        span
	}{
		{"a day", "daily", calendar.WindowDay, span{10, 18}},
		{"a month", "monthly", calendar.WindowMonth, span{20, 28}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.clock.set(last)
			r.on(fleetCatalog())
			take := r.watched()
			id := r.store.Add("free")
			r.store.Terms[id] = []meter.Term{{Plan: "free", Version: 1, From: noon}, {Plan: "pro", Version: 1, From: calendar.DayOf(last).End()}}
			free, i := r.organization(id), r.index(tc.meter)
			for range 2 {
				free.Consume(i, tc.want.before/2, last)
				require.Empty(t, take())
			}
			free.Consume(i, 8, last)
			r.clock.set(last.Add(10 * time.Second))
			free.Consume(i, 3, r.clock.Now())
			levels := take()
			require.Equal(t, []span{tc.want}, spans(levels))
			require.Equal(t, tc.window.At(last), levels[0].Window)
			require.Equal(t, "free", levels[0].Plan)
			require.True(t, levels[0].Crossed(80))
			free.Consume(i, 1, r.clock.Now())
			levels = take()
			require.Equal(t, []span{{3, 4}}, spans(levels), "4 of 5")
			require.Equal(t, calendar.WindowDay.At(r.clock.Now()), levels[0].Window)
			require.Equal(t, "pro", levels[0].Plan)
		})
	}
}

// A batch that was drained before the end of its window, and is written long after it.
func TestALevelOfABatchThatWaitedOverTheEndOfItsWindow(t *testing.T) {
	r := newRig(t)
	take := r.watched()
	free, i := r.organization(r.store.Add("free")), r.index("simulations")
	late := calendar.DayOf(noon).End().Add(-time.Second)
	free.Consume(i, 45, late)
	r.store.Set(func(s *metertest.Store) { s.Away = true })
	_, err := r.flusher.Flush(t.Context())
	require.ErrorIs(t, err, metertest.ErrAway)
	r.store.Set(func(s *metertest.Store) { s.Away = false })
	r.clock.set(late.Add(time.Hour))
	free.Consume(i, 1, r.clock.Now())
	levels := take()
	require.Equal(t, []span{{0, 45}}, spans(levels))
	require.Equal(t, calendar.WindowDay.At(late), levels[0].Window)
}

// A peak that another instance has set is that one's, and a level that falls is told as what it is.
func TestLevelsOfPeaksAndSnapshots(t *testing.T) {
	one := newRig(t)
	two := one.beside()
	takeOne, takeTwo := one.watched(), two.watched()
	id := one.store.Add("free")
	a, b := one.organization(id), two.organization(id)
	peak, last := one.index("entity_instances"), one.index("storage_bytes")
	a.Consume(peak, 85, noon)
	require.Equal(t, []span{{0, 85}}, spans(takeOne()))
	b.Consume(peak, 84, noon)
	require.Equal(t, []span{{85, 85}}, spans(takeTwo()))
	b.Consume(peak, 86, noon)
	require.Equal(t, []span{{85, 86}}, spans(takeTwo()))
	a.Consume(peak, 10, noon)
	require.Equal(t, []span{{86, 86}}, spans(takeOne()))

	const full = 1 << 30
	for n, level := range []int64{full, 10, full} {
		a.Consume(last, level, noon.Add(time.Duration(n)*time.Second))
		levels := takeOne()
		if level != full {
			require.Empty(t, levels)
			continue
		}
		require.Len(t, levels, 1)
		require.True(t, levels[0].Crossed(80), "again: whoever tells knows that it is told")
	}
}

// A soft limit of 0 is passed by the first use of it.
func TestALevelBeyondALimitOfNothing(t *testing.T) {
	r := newRig(t)
	catalog := fleetCatalog()
	catalog.Plans[2].Entitlements[0].Max = 0
	r.on(catalog)
	take := r.watched()
	o, i := r.organization(r.store.Add("pro")), r.index("daily")
	o.Consume(i, 1, noon)
	levels := take()
	require.Len(t, levels, 2)
	require.True(t, levels[0].CrossedLimit() && !levels[0].Reached(1))
	require.True(t, levels[1].Exceeded)
	o.Consume(i, 1, noon)
	levels = take()
	require.False(t, levels[0].CrossedLimit())
}

// What was quarantined stays used, and has its part in crossing.
func TestALevelOfWhatIsSetAside(t *testing.T) {
	r := newRig(t)
	var levels []meter.Level
	store := quarantining{r.store}
	r.flusher = meter.NewFlusher(meter.FlusherConfig{
		Meter: r.meter, Store: store, Instance: uuid.Must(uuid.NewV7()), Now: r.clock.Now, WatchFrom: 80,
		Watch: func(_ context.Context, l []meter.Level) { levels = l },
	})
	free, i := r.organization(r.store.Add("free")), r.index("simulations")
	free.Consume(i, 45, noon)
	r.flush()
	require.Equal(t, []span{{0, 45}}, spans(levels))
	free.Consume(i, 1, noon)
	r.flush()
	require.Equal(t, []span{{45, 46}}, spans(levels))
}

// quarantining sets aside all rows.
type quarantining struct{ *metertest.Store }

func (quarantining) ApplyBatch(_ context.Context, b meter.Batch) (meter.Applied, error) {
	applied := meter.Applied{Stored: make([]int64, len(b.Rows))}
	for i := range b.Rows {
		applied.Quarantined = append(applied.Quarantined, meter.BatchPlace{Row: i, Report: meter.WholeRow})
	}
	return applied, nil
}
