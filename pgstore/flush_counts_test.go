package pgstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
)

// flushCosts is what a flush costs: round trips and statements but for those that begin and end its transaction,
// and the rows that are written of each table.
type flushCosts struct {
	asks, statements int
	rows             map[string]written
}

// TestWhatAFlushCosts counts. None of the numbers depends on the machine, so one that changes is a decision: say
// here what it is.
func TestWhatAFlushCosts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.counter()
	tenants := f.tenants(5)
	free := []uuid.UUID{f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID, f.organization("Cora", "free").ID}
	w := f.instance()
	sums := func(n, from int) (rows []meter.Row) {
		for i := range n {
			rows = append(rows, row(tenants[i%len(tenants)], evaluations, today+calendar.Day(from+i/len(tenants)), 1))
		}
		return rows
	}
	leased := func(n int64) (rows []meter.Row) {
		for _, id := range free {
			one := row(id, evaluations, today, n)
			one.Leased = leasedOf(calendar.WindowDay, n)
			rows = append(rows, one)
		}
		return rows
	}
	reports := func(n int) (list []meter.IdentifiedReport) {
		for i := range n {
			list = append(list, keyed(fmt.Sprint(i), 1, 1))
		}
		return list
	}
	flush := func(rows ...meter.Row) func(*pgstore.Store) {
		return func(s *pgstore.Store) {
			_, err := s.ApplyBatch(t.Context(), w.batch(rows...))
			require.NoError(t, err)
		}
	}
	ask := func(s *pgstore.Store) {
		for _, id := range free {
			answers, err := s.AdjustLeases(t.Context(), meter.BatchID{Instance: w.id, Seq: w.seq}, []meter.LeaseAsk{{
				QuotaWindow: window(id, calendar.WindowDay), Version: 1, Issued: 100, Need: 100, Plan: "free", PlanVersion: 1, Max: 1000,
			}})
			require.NoError(t, err)
			require.EqualValues(t, 100, answers.Answers[0].Issued)
		}
	}
	// inTurn has a flush meet another writer first, so that the one that is counted takes its turn.
	inTurn := func(s *pgstore.Store) {
		rows := sums(fewRows+1, 0)
		hold, err := connect(t, f.db.URL).Begin(t.Context())
		require.NoError(t, err)
		_, err = hold.Exec(t.Context(), `SELECT FROM usage_daily WHERE organization_id = $1 FOR UPDATE`, rows[fewRows].Organization)
		require.NoError(t, err)
		done := w.flushing(s, rows...)
		require.Eventually(t, func() bool {
			// Through the session that no count ends.
			var waiting int
			err := c.owns.QueryRow(t.Context(), countWaiting, "transactionid").Scan(&waiting)
			return err == nil && waiting == 1
		}, 30*time.Second, time.Millisecond)
		require.NoError(t, hold.Rollback(t.Context()))
		require.NoError(t, <-done)
		c.reset()
		flush(rows...)(s)
	}
	type tables map[string]written
	const (
		one      = "instances"
		batches  = "usage_batches"
		batch    = "usage_batch_rows"
		records  = "usage_daily"
		leases   = "quota_leases"
		identity = "usage_events"
	)
	in, up := func(n int64) written { return written{inserted: n} }, func(n int64) written { return written{updated: n} }
	for _, tc := range []struct {
		name string
		// before is not counted.
		before, flush func(*pgstore.Store)
		want          flushCosts
	}{
		{"nothing, so that the watermark moves", nil, func(s *pgstore.Store) {
			_, err := s.ApplyBatch(t.Context(), meter.Batch{ID: meter.BatchID{Instance: w.id, Seq: w.seq}, WatermarkOnly: true, Watermark: today.Start()})
			require.NoError(t, err)
		}, flushCosts{1, 1, tables{one: up(1)}}},
		{"one sum", nil, flush(sums(1, 0)...), flushCosts{2, 9, tables{one: up(1), batches: in(1), batch: in(1), records: in(1)}}},
		{"one sum, whose record is there", nil, flush(sums(1, 0)...), flushCosts{2, 9, tables{one: up(1), batches: in(1), batch: in(1), records: up(1)}}},
		{
			"200 sums of 40 days", nil, flush(sums(200, 0)...),
			flushCosts{2, 9, tables{one: up(1), batches: in(1), batch: in(200), records: {inserted: 199, updated: 1}}},
		},
		{"200 sums, whose records are there", nil, flush(sums(200, 0)...), flushCosts{2, 9, tables{one: up(1), batches: in(1), batch: in(200), records: up(200)}}},
		// The rows are of both flushes: of the one that met another writer, which wrote two records anew, and of the one in turn.
		{"three sums in turn", nil, inTurn, flushCosts{2, 10, tables{one: up(2), batches: in(2), batch: in(6), records: up(8)}}},
		{
			"a peak and a level", nil, flush(row(tenants[0], entities, today, 3), row(tenants[0], storage, today, 3)),
			flushCosts{2, 8, tables{one: up(1), batches: in(1), batch: in(2), records: in(2)}},
		},
		// Its record says when it was last used.
		{"a peak that is lower", nil, flush(row(tenants[0], entities, today, 1)), flushCosts{2, 8, tables{one: up(1), batches: in(1), batch: in(1), records: up(1)}}},
		{"a batch again", nil, func(s *pgstore.Store) { w.seq--; flush(row(tenants[0], entities, today, 1))(s) }, flushCosts{5, 8, tables{}}},
		{
			"10 reports with an identity", nil, flush(identifiedRow(tenants[1], evaluations, reports(10)...)),
			flushCosts{3, 10, tables{one: up(1), batches: in(1), batch: in(1), records: up(1), identity: in(10)}},
		},
		{"10 reports that are known", nil, flush(identifiedRow(tenants[1], evaluations, reports(10)...)), flushCosts{5, 8, tables{one: up(1), batches: in(1)}}},
		{
			"12 reports, 10 of them known", nil, flush(identifiedRow(tenants[1], evaluations, reports(12)...)),
			flushCosts{5, 12, tables{one: up(1), batches: in(1), batch: in(1), records: up(1), identity: in(2)}},
		},
		{"three sums under a hard limit", ask, flush(leased(10)...), flushCosts{3, 10, tables{one: up(1), batches: in(1), batch: in(3), records: in(3), leases: up(3)}}},
		{"three more under a hard limit", nil, flush(leased(10)...), flushCosts{3, 10, tables{one: up(1), batches: in(1), batch: in(3), records: up(3), leases: up(3)}}},
		{
			"as many rows as two statements take", nil, flush(sums(2*chunkRows, 100)...),
			flushCosts{3, 11, tables{one: up(1), batches: in(1), batch: in(2 * chunkRows), records: in(2 * chunkRows)}},
		},
	} {
		// In order: what one leaves is what the next one finds.
		t.Run(tc.name, func(t *testing.T) {
			if tc.before != nil {
				c.of(tc.before)
			}
			before := c.read()
			c.of(tc.flush)
			require.Equal(t, tc.want, flushCosts{c.asks, c.statements, c.since(before)})
		})
	}
}
