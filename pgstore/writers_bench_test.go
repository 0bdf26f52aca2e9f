package pgstore_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
)

// benchRows is how many rows a batch has whose flush is measured.
var benchRows = flag.Int("rows", 10_000, "how many rows a batch has in BenchmarkWriters")

// BenchmarkWriters measures instances that flush at once, batches over records that exist: of the
// same keys, as where any instance takes any request, and each of its own. It reports what they write
// together, and the slowest batch.
func BenchmarkWriters(b *testing.B) {
	for _, leased := range []bool{false, true} {
		for _, writers := range []int{1, 2, 4, 8} {
			for _, keys := range []string{"same", "own"} {
				if writers == 1 && keys == "own" {
					continue
				}
				b.Run(fmt.Sprintf("writers=%d/keys=%s/leased=%t", writers, keys, leased), func(b *testing.B) {
					benchmarkWriters(b, writers, leased, keys == "same")
				})
			}
		}
	}
}

func benchmarkWriters(b *testing.B, writers int, leased, same bool) {
	b.Helper()
	asShipped(b)
	size := *benchRows
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
	writeAtOnce(b, writers, size, func(n int) error {
		_, err := stores[n].ApplyBatch(b.Context(), flushing[n].batch(rows[n]...))
		return err
	})
}

// writeAtOnce has writers write b.N batches each, and reports what they write together and the slowest.
func writeAtOnce(b *testing.B, writers, size int, write func(n int) error) {
	b.Helper()
	var mu sync.Mutex
	var slowest time.Duration
	b.ResetTimer()
	var group errgroup.Group
	for n := range writers {
		group.Go(func() error {
			for range b.N {
				began := time.Now()
				if err := write(n); err != nil {
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
	b.ReportMetric(float64(slowest.Nanoseconds()), "slowest-ns")
}

// BenchmarkWritersBeside measures what one would write instead: the batches' rows by COPY, which folds
// nothing; and each usage as an upsert of its own into the records, as where every request writes.
func BenchmarkWritersBeside(b *testing.B) {
	for _, writers := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprintf("way=copy/writers=%d", writers), func(b *testing.B) { benchmarkCopies(b, writers) })
		b.Run(fmt.Sprintf("way=rows/writers=%d", writers), func(b *testing.B) { benchmarkRows(b, writers) })
	}
}

func benchmarkCopies(b *testing.B, writers int) {
	b.Helper()
	f := newFixture(b)
	organizations := f.tenants(*benchRows)
	conns, instances, sequences := make([]*pgx.Conn, writers), make([]uuid.UUID, writers), make([]int64, writers)
	for n := range writers {
		conns[n], instances[n] = connect(b, f.db.URL), uuid.Must(uuid.NewV7())
	}
	columns := []string{"day", "instance_id", "seq", "organization_id", "meter", "plan", "plan_version", "value", "at"}
	writeAtOnce(b, writers, *benchRows, func(n int) error {
		sequences[n]++
		_, err := conns[n].CopyFrom(b.Context(), pgx.Identifier{"usage_batch_rows"}, columns,
			pgx.CopyFromSlice(len(organizations), func(i int) ([]any, error) {
				return []any{today.Start(), instances[n], sequences[n], organizations[i], evaluations, "free", 1, 3, today.Start()}, nil
			}))
		return err
	})
}

func benchmarkRows(b *testing.B, writers int) {
	b.Helper()
	f := newFixture(b)
	// Each row is a transaction: a tenth of a batch's tells as much.
	organizations := f.tenants(max(1, *benchRows/10))
	conns, places := make([]*pgx.Conn, writers), make([][]int, writers)
	for n := range writers {
		conns[n], places[n] = connect(b, f.db.URL), rand.Perm(len(organizations))
	}
	f.exec(`INSERT INTO usage_daily (organization_id, meter, day, value, last_at) SELECT id, $1, $2::date, 3, $2 FROM organizations`, evaluations, today.Start())
	f.exec(`VACUUM ANALYZE`)
	writeAtOnce(b, writers, len(organizations), func(n int) error {
		for _, i := range places[n] {
			if _, err := conns[n].Exec(b.Context(), `
				INSERT INTO usage_daily (organization_id, meter, day, value, last_at) VALUES ($1, $2, $3, 3, $4)
				ON CONFLICT (organization_id, meter, day) DO UPDATE SET value = usage_daily.value + excluded.value, last_at = excluded.last_at`,
				organizations[i], evaluations, today.Start(), today.Start()); err != nil {
				return err
			}
		}
		return nil
	})
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
