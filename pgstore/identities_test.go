package pgstore_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// keyed is a report of a quantity under a key, some hours into today.
func keyed(key string, quantity int64, hours int) meter.IdentifiedReport {
	return meter.IdentifiedReport{
		Identity:    meter.KeyIdentity(key),
		Fingerprint: meter.FingerprintOf(key, fmt.Sprint(quantity)),
		Quantity:    quantity,
		At:          today.Start().Add(time.Duration(hours) * time.Hour),
		Receipt:     meter.Receipt{Plan: "free", Mode: plans.Hard, Current: quantity, Max: 1000, Window: calendar.WindowDay},
	}
}

// identifiedRow is a row that has identified reports alone.
func identifiedRow(organization uuid.UUID, meterKey string, identified ...meter.IdentifiedReport) meter.Row {
	return meter.Row{
		Organization: organization, Meter: meterKey, Aggregation: aggregations[meterKey], Day: today, IdentifiedOnly: true, Identified: identified,
	}
}

func (f *fixture) apply(batch meter.Batch) meter.Applied {
	f.t.Helper()
	applied, err := f.ApplyBatch(f.t.Context(), batch)
	require.NoError(f.t, err)
	return applied
}

func TestIdentifiedReportsFoldIntoTheirRow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	sum := row(o, evaluations, today, 5)
	sum.Identified = []meter.IdentifiedReport{keyed("a", 10, 18), keyed("b", 20, 1)}
	peak := row(o, entities, today, 7)
	peak.Identified = []meter.IdentifiedReport{keyed("c", 9, 1), keyed("d", 8, 2)}
	level := row(o, storage, today, 100)
	level.Identified = []meter.IdentifiedReport{keyed("e", 300, 13), keyed("f", 200, 1)}
	applied := f.apply(w.batch(sum, peak, level, identifiedRow(o, simulations, keyed("g", 4, 3))))
	require.Equal(t, meter.Applied{Stored: []int64{35, 9, 300, 4}}, applied)
	record, err := f.CurrentUsage(t.Context(), o, evaluations, today)
	require.NoError(t, err)
	require.Equal(t, today.Start().Add(18*time.Hour), record.LastAt)
	require.EqualValues(t, 7, f.count(`SELECT count(*) FROM usage_events`))
	require.EqualValues(t, 3, f.count(`SELECT extract(hour FROM at AT TIME ZONE 'UTC')::int FROM usage_batch_rows WHERE meter = 'simulations'`))
}

func TestIdentifiedReportsAreCountedOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o, other := f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID
	w, v := f.instance(), f.instance()
	first := w.batch(identifiedRow(o, evaluations, keyed("a", 10, 1), keyed("b", 1, 2)))
	first.Reports = 2
	require.Equal(t, meter.Applied{Stored: []int64{11}}, f.apply(first))

	mixed := row(o, evaluations, today, 100)
	mixed.Identified = []meter.IdentifiedReport{keyed("b", 1, 2), keyed("c", 1000, 3), keyed("c", 1000, 4)}
	journalled := int64(6)
	second := v.batch(
		identifiedRow(o, simulations, keyed("a", 10, 1)), // The identity is the organization's, whatever the meter.
		mixed,
		identifiedRow(other, evaluations, keyed("a", 10, 1)),
	)
	second.Reports, second.Journalled = 6, &journalled
	want := meter.Applied{
		Stored:   []int64{0, 1111, 10},
		Repeated: []meter.BatchPlace{{Row: 0, Report: 0}, {Row: 1, Report: 0}, {Row: 1, Report: 2}},
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

	nothing := v.batch(identifiedRow(o, evaluations, keyed("a", 10, 1)))
	require.Equal(t, meter.Applied{Stored: []int64{1111}, Repeated: []meter.BatchPlace{{}}}, f.apply(nothing))
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM usage_batches WHERE row_count = 0 AND journalled IS NULL`))
}

func TestIdentifiedReportsRaced(t *testing.T) {
	t.Parallel()
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
				var identified []meter.IdentifiedReport
				for i := range keys {
					identified = append(identified, keyed(fmt.Sprint((i*7+n*20+b)%keys, b), 1, 1))
				}
				batch := w.batch(identifiedRow(o, evaluations, identified...))
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

func TestIdentifiedReportsBringTheirLease(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := window(o, calendar.WindowDay)
	l, other := f.lessee(w), f.lessee(w)
	l.ask(100, 100)
	other.ask(100, 100)
	leased := keyed("a", 30, 1)
	leased.Leased.Day = 30
	require.Equal(t, meter.Applied{Stored: []int64{30}}, f.apply(l.batch(identifiedRow(o, evaluations, leased))))
	require.Equal(t, meter.Applied{Stored: []int64{30}, Repeated: []meter.BatchPlace{{}}}, f.apply(other.batch(identifiedRow(o, evaluations, leased))))
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Consumed: 30, Leased: 170}, f.quota(w), "what was counted before is still the other's to give back")
}

func TestKnownReports(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o, other := f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID
	e := keyed("a", 10, 1)
	e.Leased = meter.Leased{Day: 10}
	e.Receipt.OverLimit = true
	f.instance().flush(identifiedRow(o, evaluations, e))
	known, err := f.KnownReports(t.Context(), o, []meter.Identity{e.Identity, meter.KeyIdentity("b")})
	require.NoError(t, err)
	require.Equal(t, []meter.KnownReport{{Organization: o, Meter: evaluations, Day: today, Report: e}}, known)
	known, err = f.KnownReports(t.Context(), other, []meter.Identity{e.Identity})
	require.NoError(t, err)
	require.Empty(t, known)
}

// A batch without rows has an identity, too.
func TestBatchWithoutRows(t *testing.T) {
	t.Parallel()
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

// ofBatch is an identified report of a request with a key, whose items were those of the fingerprint.
func ofBatch(e meter.IdentifiedReport, key, items string) meter.IdentifiedReport {
	e.Batch = meter.BatchKey{Identity: meter.BatchIdentity(key), Fingerprint: meter.FingerprintOf(items)}
	return e
}

// TestConflictsAreKeptAndNeverCounted flushes two instances that took different reports under
// one key: single ones, and batches of which one has items at places that the other doesn't have.
func TestConflictsAreKeptAndNeverCounted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w, v := f.instance(), f.instance()
	require.Equal(t, meter.Applied{Stored: []int64{112}}, f.apply(w.batch(identifiedRow(o, evaluations,
		keyed("single", 100, 1), ofBatch(keyed("b0", 5, 1), "b", "5 -1 7"), ofBatch(keyed("b2", 7, 1), "b", "5 -1 7")))))
	other := keyed("single", 101, 1)
	second := v.batch(identifiedRow(o, evaluations,
		other, ofBatch(keyed("b0", 5, 1), "b", "5 7"), ofBatch(keyed("b1", 7, 1), "b", "5 7"), ofBatch(keyed("own", 9, 1), "b", "5 7"), keyed("free", 1, 1)))
	want := meter.Applied{
		Stored: []int64{113}, Conflicts: 3,
		Repeated: []meter.BatchPlace{{Report: 0}, {Report: 1}, {Report: 2}, {Report: 3}},
	}
	require.Equal(t, want, f.apply(second))
	want.Duplicate, want.Conflicts = true, 0
	require.Equal(t, want, f.apply(second), "the answer was lost")
	require.EqualValues(t, 3, f.count(`SELECT count(*) FROM usage_conflicts`))
	require.EqualValues(t, 117, f.count(`SELECT sum(quantity)::bigint FROM usage_conflicts`))
	require.Equal(t, meter.Applied{Stored: []int64{122}}, f.apply(v.batch(identifiedRow(o, evaluations, keyed("own", 9, 1)))), "in another request it counts")

	deleted, err := f.DeleteExpired(t.Context(), time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.EqualValues(t, 1, deleted.Keys)
	require.EqualValues(t, 3, deleted.Conflicts)
}

// TestBatchKeysRaced flushes batches of two bodies under each key at once: of each key only
// one body's items count, whichever it is.
func TestBatchKeysRaced(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	a, b := f.instance(), f.instance()
	const keys = 40
	var group errgroup.Group
	for n, w := range []*writer{a, b} {
		group.Go(func() error {
			for k := range keys {
				key := fmt.Sprint((k*(n+1)*7 + n) % keys)
				// The two bodies have no place in common.
				batch := w.batch(identifiedRow(o, evaluations, ofBatch(keyed(key+"/"+fmt.Sprint(n), 1, 1), key, fmt.Sprint(n))))
				if _, err := f.ApplyBatch(t.Context(), batch); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	require.Equal(t, f.count(`SELECT count(*) FROM usage_keys`), f.count(`SELECT count(*) FROM usage_events`))
	require.Positive(t, f.count(`SELECT count(*) FROM usage_conflicts`))
}

func TestUsageKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o, other := f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID
	key := meter.BatchKey{Identity: meter.BatchIdentity("b"), Fingerprint: meter.FingerprintOf("1")}
	reused := meter.BatchKey{Identity: key.Identity, Fingerprint: meter.FingerprintOf("2")}
	begin := func(o uuid.UUID, key meter.BatchKey) ([]byte, error) { return f.BeginUsageKey(t.Context(), o, key) }
	answer, err := begin(o, key)
	require.NoError(t, err)
	require.Nil(t, answer)
	_, err = begin(o, key)
	require.ErrorIs(t, err, accounts.ErrWriteUnderWay)
	_, err = begin(o, reused)
	require.ErrorIs(t, err, meter.ErrIdentityReused)
	_, err = begin(other, reused)
	require.NoError(t, err, "a key is its organization's")

	f.exec(`UPDATE usage_keys SET begun_at = begun_at - interval '61 seconds'`)
	_, err = begin(o, key)
	require.NoError(t, err, "its process has ended")
	require.NoError(t, f.EndUsageKey(t.Context(), o, key, nil))
	_, err = begin(o, reused)
	require.ErrorIs(t, err, meter.ErrIdentityReused, "it stays bound")
	answer, err = begin(o, key)
	require.NoError(t, err)
	require.Nil(t, answer, "not all of it was decided")
	require.NoError(t, f.EndUsageKey(t.Context(), o, key, []byte("receipts")))
	for range 2 {
		answer, err = begin(o, key)
		require.NoError(t, err)
		require.Equal(t, "receipts", string(answer))
		require.NoError(t, f.EndUsageKey(t.Context(), o, key, nil), "what ends late changes nothing")
	}
}
