package pgstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
)

// asShipped has the store write as outside of tests, which have small statements.
func asShipped(b *testing.B) {
	b.Helper()
	pgstore.SetChunkRows(pgstore.ShippedChunkRows)
	pgstore.SetFewRows(pgstore.ShippedFewRows)
	b.Cleanup(func() {
		pgstore.SetChunkRows(chunkRows)
		pgstore.SetFewRows(fewRows)
	})
}

// BenchmarkApplyBatch measures a flush over records that exist, as in the steady
// state: identity, batch rows, upsert and commit, as the role that row-level
// security binds. With leases, all of the usage was admitted out of leases of the day.
func BenchmarkApplyBatch(b *testing.B) {
	for _, leased := range []bool{false, true} {
		for _, size := range []int{1, 100, 10_000, 50_000} {
			b.Run(fmt.Sprintf("leased=%t/rows=%d", leased, size), func(b *testing.B) {
				benchmarkApplyBatch(b, size, leased)
			})
		}
	}
}

func benchmarkApplyBatch(b *testing.B, size int, leased bool) {
	b.Helper()
	asShipped(b)
	f := newFixture(b)
	w := f.instance()
	rows := make([]meter.Row, size)
	for i, id := range f.tenants(size) {
		rows[i] = row(id, evaluations, today, 3)
		if leased {
			rows[i].Leased.Day = 3
		}
	}
	w.flush(rows...)
	if leased {
		f.leaseAll([]*writer{w})
	}
	f.exec(`ANALYZE`)
	for b.Loop() {
		for i := range rows {
			rows[i].At = rows[i].At.Add(10 * time.Second)
		}
		stored := w.flush(rows...)
		require.Equal(b, 3*w.seq, stored[size-1])
	}
	b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkAdjustLeases measures asks for windows that are open: each gives back or
// takes half of what it took before.
func BenchmarkAdjustLeases(b *testing.B) {
	for _, size := range []int{1, 100} {
		b.Run(fmt.Sprintf("asks=%d", size), func(b *testing.B) {
			f := newFixture(b)
			id := f.instance().id
			asks := make([]meter.LeaseAsk, size)
			for i := range asks {
				asks[i] = meter.LeaseAsk{
					QuotaWindow: window(f.organization("Acme", "free").ID, calendar.WindowDay), Plan: "free", PlanVersion: 1, Max: 1000,
				}
			}
			for b.Loop() {
				for i := range asks {
					asks[i].Version++
					asks[i].Issued = 100 + 100*(asks[i].Version%2)
				}
				answers, err := f.AdjustLeases(b.Context(), meter.BatchID{Instance: id}, asks)
				require.NoError(b, err)
				require.Equal(b, asks[size-1].Issued, answers.Answers[size-1].Issued)
			}
			b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds(), "asks/s")
		})
	}
}
