package pgstore_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// writeRecords stands for others that write records, and that fold, until it is released.
func (f *fixture) writeRecords() (release func()) {
	f.t.Helper()
	tx, err := f.owner.Begin(f.t.Context())
	require.NoError(f.t, err)
	for _, statement := range []string{`SELECT pg_advisory_xact_lock(1416588390, 0)`, `LOCK TABLE usage_folded IN SHARE MODE`} {
		_, err = tx.Exec(f.t.Context(), statement)
		require.NoError(f.t, err)
	}
	release = sync.OnceFunc(func() { _ = tx.Rollback(context.WithoutCancel(f.t.Context())) })
	f.t.Cleanup(release)
	return release
}

// recordsThatDiffer counts, within one snapshot, the records that are not what the batches add up to.
const recordsThatDiffer = `
	SELECT count(*) FROM (
		SELECT r.organization_id, r.meter, r.day,
			CASE m.aggregation
				WHEN 'sum' THEN sum(r.value)
				WHEN 'max' THEN max(r.value)
				ELSE (array_agg(r.value ORDER BY r.at DESC))[1]
			END AS value, max(r.at) AS last_at
		FROM usage_batch_rows r JOIN meters m ON m.key = r.meter GROUP BY r.organization_id, r.meter, r.day, m.aggregation
	) AS b
	FULL JOIN usage_daily u USING (organization_id, meter, day)
	WHERE b.value IS DISTINCT FROM u.value OR b.last_at IS DISTINCT FROM u.last_at`

// Instances write the same records at once while they are read: whenever that is, records are what the
// batches add up to, each once.
func TestRecordsAreExactWhileInstancesWrite(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	keys := f.tenants(20)
	const instances, batches = 4, 10
	var group errgroup.Group
	for n := range instances {
		w := f.instance()
		group.Go(func() error {
			for b := range batches {
				var rows []meter.Row
				for _, k := range keys {
					at := today.Start().Add(time.Duration(b*instances+n) * time.Minute)
					rows = append(rows, rowAt(k, evaluations, today-calendar.Day(b%2), int64(n+1), at), rowAt(k, entities, today, int64(b*n), at),
						rowAt(k, storage, today, int64(b*n), at))
				}
				if _, err := f.ApplyBatch(t.Context(), w.batch(rows...)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	done := make(chan error, 1)
	go func() { done <- group.Wait() }()
	for reading := true; reading; {
		require.Zero(t, f.count(recordsThatDiffer))
		require.Zero(t, f.count(`SELECT count(*) - count(DISTINCT (organization_id, meter, day)) FROM usage_daily`))
		select {
		case err := <-done:
			require.NoError(t, err)
			reading = false
		default:
		}
	}
	require.Zero(t, f.count(recordsThatDiffer))
	require.EqualValues(t, len(keys)*batches*(1+2+3+4), f.count(`SELECT sum(value) FROM usage_daily WHERE meter = 'evaluations'`))
	f.exec(`SELECT tollgate_fold_usage(false)`)
	require.Zero(t, f.count(`SELECT count(*) FROM usage_unfolded`))
	require.Zero(t, f.count(recordsThatDiffer))
}

// A flush waits for nobody who writes its records. It counts at once, and who comes next folds it.
func TestBatchesWaitAmidOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	a, b := f.instance(), f.instance()
	noon := today.Start().Add(12 * time.Hour)
	a.flush(row(o, evaluations, today, 1), row(o, entities, today, 7), rowAt(o, storage, today, 50, noon))
	release := f.writeRecords()
	stored := a.flush(row(o, evaluations, today, 10), row(o, entities, today, 5), rowAt(o, storage, today, 60, noon.Add(time.Hour)),
		under(row(o, evaluations, today, 4), "pro", 1), row(o, simulations, today-1, 3))
	require.Equal(t, []int64{11, 7, 60, 15, 3}, stored)
	require.Equal(t, int64(115), a.flush(row(o, evaluations, today, 100))[0], "what an instance wrote before is in what it is told")
	b.flush(row(o, evaluations, today, 1000), rowAt(o, storage, today, 40, noon))
	require.EqualValues(t, 4, f.count(`SELECT count(*) FROM usage_unfolded`), "one a batch and day")
	records := func() [4]int64 {
		return [4]int64{f.value(o, evaluations, today), f.value(o, entities, today), f.value(o, storage, today), f.value(o, simulations, today-1)}
	}
	want := [4]int64{1115, 7, 60, 3}
	require.Equal(t, want, records())
	require.EqualValues(t, 58, f.count(`SELECT sum(value) FROM usage_folded`))
	rollup, err := f.RollUpDay(t.Context(), today)
	require.NoError(t, err)
	require.Zero(t, rollup.VarianceCount)

	release()
	c := f.instance()
	c.flush(row(o, simulations, today, 1))
	require.Zero(t, f.count(`SELECT count(*) FROM usage_unfolded`))
	require.Equal(t, want, records())
	require.EqualValues(t, 1115+7+60+3+1, f.count(`SELECT sum(value) FROM usage_folded`))
}

// What would take a record beyond its bound doesn't wait: it is refused as ever.
func TestSumsStayWithinADayAmidOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	w.flush(row(o, evaluations, today, plans.MaxDaySum-5))
	release := f.writeRecords()
	answered := make(chan meter.Applied, 1)
	go func() {
		applied, err := f.ApplyBatch(t.Context(), w.batch(row(o, evaluations, today, 6), row(o, simulations, today, 2)))
		if err != nil {
			t.Error(err)
		}
		answered <- applied
	}()
	require.Eventually(t, func() bool {
		return f.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0
	}, time.Minute, 10*time.Millisecond)
	release()
	applied := <-answered
	require.Equal(t, []meter.BatchPlace{{Row: 0, Report: meter.WholeRow}}, applied.Quarantined)
	require.Equal(t, []int64{plans.MaxDaySum - 5, 2}, applied.Stored)
	require.Equal(t, int64(plans.MaxDaySum-5), f.value(o, evaluations, today))
}

// A batch that waits is in what a window is opened with, or finds the window.
func TestWindowsAreOpenedAmidBatchesThatWait(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	other := f.organization("Other", "free").ID
	w := f.instance()
	w.flush(row(other, evaluations, today, 1))
	var asks []meter.LeaseAsk
	var askers []*lessee
	const rounds = 6
	for range rounds {
		askers = append(askers, f.lessee(window(f.organization("Acme", "free").ID, calendar.WindowDay)))
		asks = append(asks, askers[len(askers)-1].next(10, 10))
	}
	// Whoever writes the record of the other organization, too, waits to be folded.
	tx, err := f.owner.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), `SELECT FROM usage_folded FOR UPDATE`)
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock(1416588390, 0)`)
	require.NoError(t, err)
	for n, ask := range asks {
		var group errgroup.Group
		group.Go(func() error {
			_, err := f.AdjustLeases(t.Context(), meter.BatchID{Instance: askers[n].id}, []meter.LeaseAsk{ask})
			return err
		})
		batch := w.batch(row(other, evaluations, today, 1), row(ask.Organization, evaluations, today, 7))
		group.Go(func() error {
			_, err := f.ApplyBatch(t.Context(), batch)
			return err
		})
		require.NoError(t, group.Wait())
	}
	require.EqualValues(t, rounds, f.count(`SELECT count(*) FROM usage_unfolded`))
	require.EqualValues(t, rounds, f.count(`SELECT count(*) FROM quota_windows WHERE consumed + unleased = 7`))
}
