package pgstore_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// event is a report of a quantity under a key, some hours into today.
func event(key string, quantity int64, hours int) meter.Event {
	return meter.Event{
		Identity:    meter.KeyIdentity(key),
		Fingerprint: meter.FingerprintOf(key, fmt.Sprint(quantity)),
		Quantity:    quantity,
		At:          today.Start().Add(time.Duration(hours) * time.Hour),
		Receipt:     meter.Receipt{Plan: "free", Mode: plans.Hard, Current: quantity, Max: 1000, Window: plans.WindowDay},
	}
}

// eventRow is a row that has events alone.
func eventRow(organization uuid.UUID, meterKey string, events ...meter.Event) meter.Row {
	return meter.Row{
		Organization: organization, Meter: meterKey, Aggregation: aggregations[meterKey], Day: today, EventsOnly: true, Events: events,
	}
}

func (f *fixture) apply(batch meter.Batch) meter.Applied {
	f.t.Helper()
	applied, err := f.ApplyBatch(f.t.Context(), batch)
	require.NoError(f.t, err)
	return applied
}

func TestEventsFoldIntoTheirRow(t *testing.T) {
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	sum := row(o, evaluations, today, 5)
	sum.Events = []meter.Event{event("a", 10, 18), event("b", 20, 1)}
	peak := row(o, entities, today, 7)
	peak.Events = []meter.Event{event("c", 9, 1), event("d", 8, 2)}
	level := row(o, storage, today, 100)
	level.Events = []meter.Event{event("e", 300, 13), event("f", 200, 1)}
	applied := f.apply(w.batch(sum, peak, level, eventRow(o, simulations, event("g", 4, 3))))
	require.Equal(t, meter.Applied{Stored: []int64{35, 9, 300, 4}}, applied)
	record, err := f.CurrentUsage(t.Context(), o, evaluations, today)
	require.NoError(t, err)
	require.Equal(t, today.Start().Add(18*time.Hour), record.LastAt)
	require.EqualValues(t, 7, f.count(`SELECT count(*) FROM usage_events`))
	require.EqualValues(t, 3, f.count(`SELECT extract(hour FROM at AT TIME ZONE 'UTC')::int FROM usage_batch_rows WHERE meter = 'simulations'`))
}

func TestEventsAreCountedOnce(t *testing.T) {
	f := newFixture(t)
	o, other := f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID
	w, v := f.instance(), f.instance()
	first := w.batch(eventRow(o, evaluations, event("a", 10, 1), event("b", 1, 2)))
	first.Reports = 2
	require.Equal(t, meter.Applied{Stored: []int64{11}}, f.apply(first))

	mixed := row(o, evaluations, today, 100)
	mixed.Events = []meter.Event{event("b", 1, 2), event("c", 1000, 3), event("c", 1000, 4)}
	journalled := int64(6)
	second := v.batch(
		eventRow(o, simulations, event("a", 10, 1)), // The identity is the organization's, whatever the meter.
		mixed,
		eventRow(other, evaluations, event("a", 10, 1)),
	)
	second.Reports, second.Journalled = 6, &journalled
	want := meter.Applied{
		Stored:   []int64{0, 1111, 10},
		Repeated: []meter.EventPlace{{Row: 0, Event: 0}, {Row: 1, Event: 0}, {Row: 1, Event: 2}},
	}
	require.Equal(t, want, f.apply(second))
	want.Duplicate = true
	for range 2 {
		require.Equal(t, want, f.apply(second), "the answer was lost")
	}
	require.Equal(t, meter.Applied{Duplicate: true, Stored: []int64{1111}}, f.apply(first))
	require.EqualValues(t, 3, f.count(`SELECT count(*) FROM usage_batch_rows`))
	require.EqualValues(t, 1, f.count(`
		SELECT count(*) FROM usage_batches WHERE row_count = 2 AND reports = 6 AND journalled = 6 AND repeated = 3`))

	nothing := v.batch(eventRow(o, evaluations, event("a", 10, 1)))
	require.Equal(t, meter.Applied{Stored: []int64{1111}, Repeated: []meter.EventPlace{{}}}, f.apply(nothing))
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM usage_batches WHERE row_count = 0 AND journalled IS NULL`))
}

func TestEventsRaced(t *testing.T) {
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	writers := []*writer{f.instance(), f.instance(), f.instance()}
	const keys = 60
	var mu sync.Mutex
	repeated := 0
	var group errgroup.Group
	for n, w := range writers {
		group.Go(func() error {
			for b := range 10 {
				var events []meter.Event
				for i := range keys {
					events = append(events, event(fmt.Sprint((i*7+n*20+b)%keys, b), 1, 1))
				}
				batch := w.batch(eventRow(o, evaluations, events...))
				applied, err := f.ApplyBatch(t.Context(), batch)
				if err != nil {
					return err
				}
				again, err := f.ApplyBatch(t.Context(), batch)
				if err != nil {
					return err
				}
				mu.Lock()
				repeated += len(applied.Repeated)
				mu.Unlock()
				require.Equal(t, applied.Repeated, again.Repeated)
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	require.EqualValues(t, 10*keys, f.value(o, evaluations, today))
	require.Equal(t, 2*10*keys, repeated, "each is counted by one of three")
}

func TestEventsBringTheirLease(t *testing.T) {
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := window(o, plans.WindowDay)
	l, other := f.lessee(w), f.lessee(w)
	l.ask(100, 100)
	other.ask(100, 100)
	leased := event("a", 30, 1)
	leased.Leased.Day = 30
	require.Equal(t, meter.Applied{Stored: []int64{30}}, f.apply(l.batch(eventRow(o, evaluations, leased))))
	require.Equal(t, meter.Applied{Stored: []int64{30}, Repeated: []meter.EventPlace{{}}}, f.apply(other.batch(eventRow(o, evaluations, leased))))
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Consumed: 30, Leased: 170}, f.quota(w), "what was counted before is still the other's to give back")
}

func TestKnownEvents(t *testing.T) {
	f := newFixture(t)
	o, other := f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID
	e := event("a", 10, 1)
	e.Leased = meter.Leased{Day: 10}
	e.Receipt.OverLimit = true
	f.instance().flush(eventRow(o, evaluations, e))
	known, err := f.KnownEvents(t.Context(), o, []meter.Identity{e.Identity, meter.KeyIdentity("b")})
	require.NoError(t, err)
	require.Equal(t, []meter.KnownEvent{{Organization: o, Meter: evaluations, Day: today, Event: e}}, known)
	known, err = f.KnownEvents(t.Context(), other, []meter.Identity{e.Identity})
	require.NoError(t, err)
	require.Empty(t, known)
}

// A batch without rows has an identity, too.
func TestBatchWithoutRows(t *testing.T) {
	f := newFixture(t)
	w := f.instance()
	batch := w.batch()
	require.Equal(t, meter.Applied{}, f.apply(batch))
	require.Equal(t, meter.Applied{Duplicate: true}, f.apply(batch))
	require.EqualValues(t, 1, f.instanceNow(w.id).LastSeq)
	require.Equal(t, batch.Watermark, f.instanceNow(w.id).Watermark)
	_, err := f.ApplyBatch(t.Context(), meter.Batch{ID: batch.ID, WatermarkOnly: true, Rows: []meter.Row{row(uuid.Nil, evaluations, today, 1)}})
	require.ErrorContains(t, err, "only moves the watermark")
}
