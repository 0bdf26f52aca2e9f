package pgstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
)

// BenchmarkApplyBatch measures a flush over records that exist, as in the steady
// state: identity, batch rows, upsert and commit, as the role that row-level
// security binds.
func BenchmarkApplyBatch(b *testing.B) {
	for _, size := range []int{1, 100, 10_000, 50_000} {
		b.Run(fmt.Sprintf("rows=%d", size), func(b *testing.B) {
			f := newFixture(b)
			w := f.instance()
			rows := make([]meter.Row, size)
			for i := range rows {
				rows[i] = row(uuid.Must(uuid.NewV7()), evaluations, today, 3)
			}
			w.flush(rows...)
			for b.Loop() {
				for i := range rows {
					rows[i].At = rows[i].At.Add(10 * time.Second)
				}
				stored := w.flush(rows...)
				require.Equal(b, 3*w.seq, stored[size-1])
			}
			b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
