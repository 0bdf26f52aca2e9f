package meter_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/journal"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// benchCatalog is the default one, with a hard limit that nobody reaches.
func benchCatalog() *plans.Catalog {
	catalog := *plans.Default()
	catalog.Plans = append(slices.Clone(catalog.Plans), plans.Plan{Key: "large", Version: 1, Name: "Large", Entitlements: []plans.Entitlement{
		{Meter: "evaluations", Mode: plans.Hard, Window: calendar.WindowDay, Max: plans.MaxQuantity},
	}})
	return &catalog
}

// readNoon costs what a clock does.
func readNoon() time.Time {
	_ = time.Now()
	return noon
}

func filledMeter(b *testing.B, organizations int, plan string, log meter.Journal) (*meter.Meter, []uuid.UUID, []*meter.Organization) {
	b.Helper()
	store := metertest.OnPlan(plan)
	m := meter.New(meter.Config{
		Catalog: benchCatalog(), Store: store, Leases: store, Instance: uuid.New(), Journal: log, Now: readNoon,
	})
	b.Cleanup(m.Close)
	ids := make([]uuid.UUID, organizations)
	handles := make([]*meter.Organization, organizations)
	for i := range ids {
		ids[i] = uuid.Must(uuid.NewV7())
		o, err := m.Organization(context.Background(), ids[i], noon)
		require.NoError(b, err)
		// Enough for the whole run: what is measured is the decision, not the lease.
		_, r, err := o.Admit(context.Background(), 0, 1_000_000_000, noon)
		require.NoError(b, err)
		r.Release()
		o.Consume(0, 1, noon)
		handles[i] = o
	}
	rand.Shuffle(organizations, func(i, j int) {
		ids[i], ids[j] = ids[j], ids[i]
		handles[i], handles[j] = handles[j], handles[i]
	})
	return m, ids, handles
}

// benchJournal opens a journal, or returns none. What would fill its segment is
// rotated away beside the measurement, as flushes do.
func benchJournal(b *testing.B, durability journal.Durability) meter.Journal {
	b.Helper()
	if durability == journal.Memory {
		return nil
	}
	instance := uuid.Must(uuid.NewV7())
	j, err := journal.Open(journal.Config{Dir: b.TempDir(), Instance: instance, Durability: durability})
	require.NoError(b, err)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
			}
			_ = j.Prepare()
			if seq, err := j.Rotate(); err == nil {
				_ = j.Written(journal.SegmentID{Instance: instance, Seq: seq})
			}
		}
	}()
	b.Cleanup(func() {
		close(stop)
		<-stopped
		require.NoError(b, j.Close())
	})
	return j
}

// BenchmarkConsume takes one unit and counts it, over random keys, with the
// organization in hand, as a request has after its key was looked up: without a limit and
// out of a lease, with each durability of the journal. The case "find" finds the
// organization first.
func BenchmarkConsume(b *testing.B) {
	for _, durability := range []journal.Durability{journal.Memory, journal.Process, journal.Disk} {
		for _, plan := range []string{"enterprise", "large"} {
			for _, organizations := range []int{1, 10_000, 1_000_000} {
				if durability == journal.Disk && plan == "large" {
					continue // The device is what it takes.
				}
				b.Run(fmt.Sprintf("journal=%s/plan=%s/keys=%d", durability, plan, organizations), func(b *testing.B) {
					benchConsume(b, organizations, plan, benchJournal(b, durability))
				})
			}
		}
	}
}

func benchConsume(b *testing.B, organizations int, plan string, log meter.Journal) {
	b.Helper()
	m, ids, handles := filledMeter(b, organizations, plan, log)
	ctx := context.Background()
	if log == nil && plan == "enterprise" {
		b.Run("find", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := rand.IntN(organizations); pb.Next(); i++ {
					o, _ := m.Organization(ctx, ids[i%organizations], noon)
					o.Consume(0, 1, noon)
				}
			})
		})
	}
	b.Run("handle", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := rand.IntN(organizations); pb.Next(); i++ {
				_, r, _ := handles[i%organizations].Admit(ctx, 0, 1, noon)
				r.Commit()
			}
		})
	})
}

// BenchmarkDrain drains ten thousand organizations into batches.
func BenchmarkDrain(b *testing.B) {
	m, _, handles := filledMeter(b, 10_000, "enterprise", nil)
	f := meter.NewFlusher(meter.FlusherConfig{Meter: m, Store: metertest.OnPlan("enterprise"), Instance: uuid.New(), Now: (&clock{now: noon}).Now})
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
