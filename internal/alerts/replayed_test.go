package alerts_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/alerts"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/journal"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// replaying is a store for replays; nothing but batches comes.
type replaying struct {
	journal.ReplayStore
	usage *metertest.Store
}

func (s replaying) ApplyBatch(ctx context.Context, b meter.Batch) (meter.Applied, error) {
	return s.usage.ApplyBatch(ctx, b)
}

// What a process that was killed had journalled, and nobody uses after that, is told of by the next one.
func TestWhatIsReplayedIsToldOf(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1)
	pro, idle := f.store.Add("pro"), f.store.Add("pro")
	store := alerts.NewReplayed(replaying{usage: f.store})
	batch := meter.Batch{ID: meter.BatchID{Instance: uuid.Must(uuid.NewV7()), Seq: 1}}
	for id, value := range map[uuid.UUID]int64{pro: 4_100, idle: 3} {
		batch.Rows = append(batch.Rows, meter.Row{
			Organization: id, Meter: "simulations", Aggregation: plans.Sum, Day: calendar.DayOf(noon), Plan: "pro", PlanVersion: 1, Value: value, At: noon,
		})
	}
	_, err := store.ApplyBatch(t.Context(), batch)
	require.NoError(t, err)
	ids := store.Take()
	require.ElementsMatch(t, []uuid.UUID{pro, idle}, ids)
	require.Empty(t, store.Take())
	r := f.replicas[0]
	for _, id := range ids {
		levels, err := r.meter.LevelsOf(t.Context(), id, r.watcher.WatchFrom(), f.now)
		require.NoError(t, err)
		r.watch(t.Context(), levels)
	}
	require.Zero(t, f.kept.calls)
	for range 7 {
		f.round()
	}
	require.Equal(t, 1, f.kept.calls)
	require.Len(t, f.kept.keys, 2)
	_, err = r.meter.LevelsOf(t.Context(), uuid.Max, 1, f.now)
	require.ErrorIs(t, err, meter.ErrUnknownOrganization)

	batch.ID.Seq = 5
	_, err = store.ApplyBatch(t.Context(), batch)
	require.ErrorIs(t, err, meter.ErrSequenceGap)
	require.Empty(t, store.Take())
}
