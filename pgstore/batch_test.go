package pgstore_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/plans"
)

// instanceNow reads an instance as the store has it.
func (f *fixture) instanceNow(id uuid.UUID) meter.Instance {
	f.t.Helper()
	instances, err := f.InstancesSince(f.t.Context(), time.Time{})
	require.NoError(f.t, err)
	i := slices.IndexFunc(instances, func(i meter.Instance) bool { return i.ID == id })
	require.GreaterOrEqual(f.t, i, 0)
	return instances[i]
}

func TestBatchFoldsByAggregation(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	noon := today.Start().Add(12 * time.Hour)
	a, b := f.instance(), f.instance()

	require.Equal(t, []int64{10, 70, 500}, a.flush(
		row(o, evaluations, today, 10), row(o, entities, today, 70), rowAt(o, storage, today, 500, noon)))
	require.Equal(t, []int64{15, 70, 500}, b.flush(
		row(o, evaluations, today, 5), row(o, entities, today, 40), rowAt(o, storage, today, 900, noon.Add(-time.Second))))
	require.Equal(t, []int64{17, 71, 300}, a.flush(
		row(o, evaluations, today, 2), row(o, entities, today, 71), rowAt(o, storage, today, 300, noon.Add(time.Second))))
	require.EqualValues(t, 3, f.count(`SELECT count(*) FROM usage_batches`))
	require.EqualValues(t, 9, f.count(`SELECT count(*) FROM usage_batch_rows`))
}

// What is stored is answered in the order of the batch, whatever that is.
func TestBatchInAnyOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a, b := f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID
	w := f.instance()
	rows := []meter.Row{
		row(b, evaluations, today, 1), row(a, simulations, today, 2), row(a, evaluations, today, 3), row(a, evaluations, today-1, 4),
	}
	require.Equal(t, []int64{1, 2, 3, 4}, w.flush(rows...))
	require.Equal(t, []int64{2, 4, 6, 8}, w.flush(rows...))
}

func TestBatchIsAppliedOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w, other := f.instance(), f.instance()
	first := w.batch(row(o, evaluations, today, 10), row(o, simulations, today, 1))
	applied, err := f.ApplyBatch(t.Context(), first)
	require.NoError(t, err)
	require.Equal(t, meter.Applied{Stored: []int64{10, 1}}, applied)
	w.flush(row(o, evaluations, today, 5))
	other.flush(row(o, simulations, today, 2))

	for range 3 {
		again, err := f.ApplyBatch(t.Context(), first)
		require.NoError(t, err)
		require.Equal(t, meter.Applied{Duplicate: true, Stored: []int64{15, 3}}, again, "a duplicate is answered with what is stored now")
	}
	require.EqualValues(t, 15, f.value(o, evaluations, today))
	require.EqualValues(t, 2, f.instanceNow(w.id).LastSeq)
}

func TestBatchRaced(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	batch := w.batch(row(o, evaluations, today, 10), row(o, entities, today, 7))
	var mu sync.Mutex
	var firsts int
	var group errgroup.Group
	for range 16 {
		group.Go(func() error {
			applied, err := f.ApplyBatch(t.Context(), batch)
			mu.Lock()
			defer mu.Unlock()
			if !applied.Duplicate {
				firsts++
			}
			if err == nil && !slices.Equal(applied.Stored, []int64{10, 7}) {
				t.Errorf("stored %v", applied.Stored)
			}
			return err
		})
	}
	require.NoError(t, group.Wait())
	require.Equal(t, 1, firsts)
	require.EqualValues(t, 10, f.value(o, evaluations, today))
	require.EqualValues(t, 2, f.count(`SELECT count(*) FROM usage_batch_rows`))
}

func TestBatchSequence(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	w.flush(row(o, evaluations, today, 1))

	skipping := w.batch(row(o, evaluations, today, 100))
	skipping.ID.Seq = 3
	_, err := f.ApplyBatch(t.Context(), skipping)
	require.ErrorIs(t, err, meter.ErrSequenceGap)
	require.False(t, pgstore.Retryable(err))

	skipping.Rows, skipping.WatermarkOnly = nil, true
	_, err = f.ApplyBatch(t.Context(), skipping)
	require.ErrorIs(t, err, meter.ErrSequenceGap, "its watermark would claim that batch 2 was written")

	unknown := meter.Batch{ID: meter.BatchID{Instance: uuid.Must(uuid.NewV7()), Seq: 1}, WatermarkOnly: true}
	_, err = f.ApplyBatch(t.Context(), unknown)
	require.ErrorIs(t, err, meter.ErrUnknownInstance)
	unknown.WatermarkOnly, unknown.Rows = false, []meter.Row{row(o, evaluations, today, 1)}
	_, err = f.ApplyBatch(t.Context(), unknown)
	require.ErrorIs(t, err, meter.ErrUnknownInstance)

	require.EqualValues(t, 1, f.value(o, evaluations, today))
	require.EqualValues(t, 1, f.instanceNow(w.id).LastSeq)
}

func TestBatchThatOnlyMovesTheWatermark(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	empty := meter.Batch{ID: meter.BatchID{Instance: w.id}, WatermarkOnly: true, Watermark: today.Start().Add(time.Minute)}
	applied, err := f.ApplyBatch(t.Context(), empty)
	require.NoError(t, err)
	require.Equal(t, meter.Applied{}, applied)
	require.Equal(t, empty.Watermark, f.instanceNow(w.id).Watermark)

	w.flush(row(o, evaluations, today, 1))
	require.Equal(t, empty.Watermark, f.instanceNow(w.id).Watermark, "a watermark never goes back")

	late, err := f.ApplyBatch(t.Context(), meter.Batch{ID: empty.ID, WatermarkOnly: true, Watermark: today.End()})
	require.NoError(t, err)
	require.True(t, late.Duplicate, "a later batch has been applied: this one is out of date")
	require.Equal(t, empty.Watermark, f.instanceNow(w.id).Watermark)

	_, err = f.ApplyBatch(t.Context(), meter.Batch{ID: meter.BatchID{Instance: w.id, Seq: 1}, WatermarkOnly: true, Watermark: today.End()})
	require.NoError(t, err)
	require.Equal(t, today.End(), f.instanceNow(w.id).Watermark)
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM usage_batches`), "it has no identity of its own")
}

// What can't be counted uses up its batch's sequence number, and is set aside.
func TestBatchThatCannotBeCounted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	wrong := row(o, evaluations, today, 1)
	wrong.Aggregation = plans.Max
	cases := []struct {
		name, reason string
		rows         []meter.Row
	}{
		{"an unknown meter", "unknown meter: clicks", []meter.Row{{Organization: o, Meter: "clicks", Aggregation: plans.Sum, Day: today, Value: 1, At: today.Start()}}},
		{"another aggregation", "unknown meter: evaluations (max)", []meter.Row{wrong}},
		{"a key twice", "twice", []meter.Row{row(o, evaluations, today, 0), row(o, evaluations, today, 2)}},
		{"less than 0", "usage_batch_rows_value_check", []meter.Row{row(o, evaluations, today, -1)}},
	}
	for n, c := range cases {
		applied, err := f.ApplyBatch(t.Context(), w.batch(c.rows...))
		require.NoError(t, err, c.name)
		require.Equal(t, []meter.BatchPlace{{Row: len(c.rows) - 1, Report: meter.WholeRow}}, applied.Quarantined, c.name)
		waiting, err := f.Quarantine(t.Context(), meter.QuarantineWaiting, o, uuid.Nil, 10)
		require.NoError(t, err)
		require.Len(t, waiting, n+1)
		require.Contains(t, waiting[n].Reason, c.reason, c.name)
	}
	require.EqualValues(t, 0, f.value(o, evaluations, today))
	require.EqualValues(t, len(cases), f.instanceNow(w.id).LastSeq)
}

func TestLostInstanceIsLiveAgainWhenItFlushes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()

	w.lose()
	w.flush(row(o, evaluations, today, 1))
	require.Equal(t, meter.InstanceLive, f.instanceNow(w.id).Status)

	require.NoError(t, f.StopInstance(t.Context(), w.id))
	_, err := f.ApplyBatch(t.Context(), meter.Batch{ID: meter.BatchID{Instance: w.id, Seq: 1}, WatermarkOnly: true, Watermark: today.End()})
	require.NoError(t, err)
	require.Equal(t, meter.InstanceLive, f.instanceNow(w.id).Status)
}

// Instances write the same records in the same order: none waits for another in a ring.
func TestInstancesNeverDeadlock(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	keys := f.tenants(200)
	const instances, batches = 4, 12
	var group errgroup.Group
	for n := range instances {
		w := f.instance()
		group.Go(func() error {
			for b := range batches {
				var rows []meter.Row
				for i := range keys {
					// Each in an order of its own (7 is coprime to 200), over two days.
					k := keys[(i*7+n*50+b)%len(keys)]
					rows = append(rows, row(k, evaluations, today-calendar.Day(i%2), 1), row(k, entities, today, int64(b)))
				}
				if _, err := f.ApplyBatch(t.Context(), w.batch(rows...)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	require.EqualValues(t, instances*batches*len(keys), f.count(`SELECT sum(value) FROM usage_daily WHERE meter = 'evaluations'`))
	require.EqualValues(t, (batches-1)*len(keys), f.count(`SELECT sum(value) FROM usage_daily WHERE meter = 'entity_instances'`))
}

// A batch of many statements' rows, twice.
func TestLargeBatch(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := f.instance()
	rows := make([]meter.Row, 10*chunkRows)
	for i, id := range f.tenants(len(rows)) {
		rows[i] = row(id, evaluations, today, int64(i))
	}
	w.flush(rows...)
	stored := w.flush(rows...)
	for i, value := range stored {
		require.EqualValues(t, 2*i, value)
	}
	require.EqualValues(t, 20*chunkRows, f.count(`SELECT count(*) FROM usage_batch_rows`))
	rollup, err := f.RollUpDay(t.Context(), today)
	require.NoError(t, err)
	require.EqualValues(t, 10*chunkRows, rollup.Rows)
	require.EqualValues(t, 2, rollup.Batches)
	require.Zero(t, rollup.VarianceCount)
}
