package meter_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

type emptyStore struct{}

func (emptyStore) LoadOrganization(_ context.Context, id uuid.UUID, _ plans.Day) (meter.Snapshot, error) {
	return meter.Snapshot{Organization: id, Plan: "enterprise"}, nil
}

func (emptyStore) ApplyBatch(_ context.Context, b meter.Batch) (meter.Applied, error) {
	return meter.Applied{Stored: make([]int64, len(b.Rows))}, nil
}

func filledMeter(b *testing.B, organizations int) (*meter.Meter, []uuid.UUID, []*meter.Organization) {
	b.Helper()
	m := meter.New(meter.Config{Catalog: plans.Default(), Store: emptyStore{}})
	ids := make([]uuid.UUID, organizations)
	handles := make([]*meter.Organization, organizations)
	for i := range ids {
		ids[i] = uuid.Must(uuid.NewV7())
		o, err := m.Organization(context.Background(), ids[i], noon)
		require.NoError(b, err)
		o.Consume(0, 1, noon)
		handles[i] = o
	}
	rand.Shuffle(organizations, func(i, j int) {
		ids[i], ids[j] = ids[j], ids[i]
		handles[i], handles[j] = handles[j], handles[i]
	})
	return m, ids, handles
}

// BenchmarkConsume finds an organization and takes one unit, over random keys. The
// case "handle" has the organization in hand, as a request has after its key was
// looked up.
func BenchmarkConsume(b *testing.B) {
	for _, organizations := range []int{1, 10_000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", organizations), func(b *testing.B) {
			m, ids, handles := filledMeter(b, organizations)
			ctx := context.Background()
			b.Run("find", func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for i := rand.IntN(organizations); pb.Next(); i++ {
						o, _ := m.Organization(ctx, ids[i%organizations], noon)
						o.Consume(0, 1, noon)
					}
				})
			})
			b.Run("handle", func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for i := rand.IntN(organizations); pb.Next(); i++ {
						handles[i%organizations].Consume(0, 1, noon)
					}
				})
			})
			b.Run("reserve-commit", func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for i := rand.IntN(organizations); pb.Next(); i++ {
						_, r := handles[i%organizations].Reserve(0, 1, noon)
						r.Commit()
					}
				})
			})
		})
	}
}

// BenchmarkDrain drains ten thousand organizations into batches.
func BenchmarkDrain(b *testing.B) {
	m, _, handles := filledMeter(b, 10_000)
	f := meter.NewFlusher(meter.FlusherConfig{Meter: m, Store: emptyStore{}, Instance: uuid.New(), Now: (&clock{now: noon}).Now})
	b.ReportAllocs()
	for b.Loop() {
		for _, o := range handles {
			o.Consume(0, 1, noon)
		}
		_, err := f.Flush(context.Background())
		require.NoError(b, err)
	}
	b.ReportMetric(float64(len(handles)*b.N)/b.Elapsed().Seconds(), "rows/s")
}
