package journal_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter/journal"
)

// BenchmarkAppend appends from many goroutines: one for each core, or 64. Use
// -cpu 1,2. In bench/journal the same is compared with other libraries.
func BenchmarkAppend(b *testing.B) {
	for _, p := range append([]path{{name: "memory", durability: journal.Memory}}, paths...) {
		for _, each := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/goroutines=%d", p.name, each), func(b *testing.B) {
				j := open(b, p.config(b.TempDir()))
				b.ReportAllocs()
				b.SetParallelism(each)
				b.RunParallel(func(pb *testing.PB) {
					r := journal.Record{Organization: uuid.New(), Meter: "evaluations", Quantity: 1, At: 1_764_000_000_000_000_000}
					for pb.Next() {
						if _, err := j.Append(r); err != nil {
							panic(err)
						}
					}
				})
				b.StopTimer()
				if stats := j.Stats(); stats.Writes > 0 {
					b.ReportMetric(float64(stats.Appended)/float64(stats.Writes), "appends/write")
				}
			})
		}
	}
}

// BenchmarkRotate is a drain: Prepare, an append, Rotate, Remove. Rotate alone,
// which holds requests up, is reported apart.
func BenchmarkRotate(b *testing.B) {
	c := paths[0].config(b.TempDir())
	j := open(b, c)
	var rotating time.Duration
	for b.Loop() {
		require.NoError(b, j.Prepare())
		_, err := j.Append(record(0))
		require.NoError(b, err)
		start := time.Now()
		seq, err := j.Rotate()
		rotating += time.Since(start)
		require.NoError(b, err)
		require.NoError(b, j.Written(journal.SegmentID{Instance: c.Instance, Seq: seq}))
	}
	b.ReportMetric(float64(rotating.Nanoseconds())/float64(b.N), "rotate-ns/op")
}

// BenchmarkRead replays a segment of 100,000 records.
func BenchmarkRead(b *testing.B) {
	const n = 100_000
	dir := b.TempDir()
	j := open(b, paths[0].config(dir))
	appendAll(b, j, records(0, n))
	s := segments(b, dir)[0]
	b.ReportAllocs()
	for b.Loop() {
		got := 0
		for _, err := range journal.Read(s, nil) {
			require.NoError(b, err)
			got++
		}
		require.Equal(b, n, got)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/record")
}
