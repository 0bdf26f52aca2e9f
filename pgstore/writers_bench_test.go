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
	"github.com/riverline/tollgate/pgstore"
)

// BenchmarkWriters measures instances that flush at once, batches of 10,000 rows over records that exist:
// of the same keys, as where any instance takes any request, and each of its own. It reports what
// they write together, and the slowest batch.
func BenchmarkWriters(b *testing.B) {
	for _, leased := range []bool{false, true} {
		for _, writers := range []int{1, 2, 4, 8} {
			for _, same := range []bool{true, false} {
				if writers == 1 && !same {
					continue
				}
				b.Run(fmt.Sprintf("leased=%t/writers=%d/same=%t", leased, writers, same), func(b *testing.B) {
					benchmarkWriters(b, writers, leased, same)
				})
			}
		}
	}
}

func benchmarkWriters(b *testing.B, writers int, leased, same bool) {
	b.Helper()
	const size = 10_000
	f := newFixture(b)
	var organizations []uuid.UUID
	flushing := make([]*writer, writers)
	rows := make([][]meter.Row, writers)
	stores := make([]*pgstore.Store, writers)
	for n := range flushing {
		flushing[n] = f.instance()
		stores[n] = f.open(pgstore.Config{URL: f.db.APIURL})
		if n == 0 || !same {
			organizations = f.tenants(size)
		}
		rows[n] = make([]meter.Row, size)
		for i, id := range organizations {
			rows[n][i] = row(id, evaluations, today, 3)
			if leased {
				rows[n][i].Leased.Day = 3
			}
		}
		flushing[n].flush(rows[n]...)
	}
	if leased {
		f.leaseAll(flushing)
	}
	f.exec(`VACUUM ANALYZE`)
	var mu sync.Mutex
	var slowest time.Duration
	b.ResetTimer()
	var group errgroup.Group
	for n, w := range flushing {
		group.Go(func() error {
			for range b.N {
				began := time.Now()
				if _, err := stores[n].ApplyBatch(b.Context(), w.batch(rows[n]...)); err != nil {
					return err
				}
				mu.Lock()
				slowest = max(slowest, time.Since(began))
				mu.Unlock()
			}
			return nil
		})
	}
	require.NoError(b, group.Wait())
	b.ReportMetric(float64(size*writers)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(slowest.Milliseconds()), "ms-slowest")
}

// leaseAll gives each instance a lease of a day's window of each record.
func (f *fixture) leaseAll(instances []*writer) {
	f.t.Helper()
	f.exec(`
		INSERT INTO quota_window_rows (organization_id, meter, limit_window, window_start, window_end, plan_max, max, given, uncovered)
		SELECT organization_id, meter, 'day', day, day + 1, 1000000000, 1000000000, 1000000 * $1::bigint, value FROM usage_daily`, len(instances))
	for _, w := range instances {
		f.exec(`
			INSERT INTO quota_leases (organization_id, meter, limit_window, window_start, instance_id, generation, version, issued, granted, spent, adopted, awaited)
			SELECT organization_id, meter, limit_window, window_start, $1, 1, 1, 1000000, 1000000, 1000000, 0, 0 FROM quota_window_rows`, w.id)
	}
}
