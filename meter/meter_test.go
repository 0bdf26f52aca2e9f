package meter_test

import (
	"context"
	"flag"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/journal"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

func TestMain(m *testing.M) {
	// The models' runs are long: make laws does many, without the race detector.
	if err := flag.Set("rapid.checks", "40"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

func TestFreeIsRefusedBeyondItsLimit(t *testing.T) {
	r := newRig(t)
	free := r.organization(r.store.Add("free"))
	i := r.index("simulations")
	for n := range int64(50) {
		d, window := free.Consume(i, 1, noon)
		require.Equal(t, plans.Decision{Allowed: true, Mode: plans.Hard, Current: n + 1, Max: 50, Remaining: 49 - n}, d)
		require.Equal(t, calendar.WindowDay.At(noon), window)
	}
	d, _ := free.Consume(i, 1, noon)
	require.Equal(t, plans.Decision{OverLimit: true, Mode: plans.Hard, Current: 50, Max: 50}, d)
	require.Equal(t, meter.Counts{Admitted: 50, Refused: 1}, r.meter.Counts(i))
}

func TestProIsFlaggedAndEnterpriseIsNot(t *testing.T) {
	r := newRig(t)
	i := r.index("simulations")
	d, _ := r.organization(r.store.Add("pro")).Consume(i, 5_001, noon)
	require.Equal(t, plans.Decision{Allowed: true, OverLimit: true, Mode: plans.Soft, Current: 5_001, Max: 5_000}, d)
	d, _ = r.organization(r.store.Add("enterprise")).Consume(i, 1_000_000, noon)
	require.Equal(t, plans.Decision{Allowed: true, Mode: plans.Unlimited, Current: 1_000_000}, d)
}

func TestReservationsHoldAndGiveBack(t *testing.T) {
	r := newRig(t)
	id := r.store.Add("free")
	free := r.organization(id)
	i := r.index("simulations")

	d, held := free.Reserve(i, 30, noon)
	require.True(t, d.Allowed)
	d, refused := free.Reserve(i, 21, noon)
	require.False(t, d.Allowed, "what is held can't be taken twice")
	require.Equal(t, plans.Decision{OverLimit: true, Mode: plans.Hard, Current: 30, Max: 50, Remaining: 20}, d)
	require.False(t, refused.Held())
	refused.Commit()
	refused.Release()

	held.Release()
	held.Release()
	held.Commit()
	require.Zero(t, free.Usage(i, noon).Current, "settled once: the second and third do nothing")

	_, held = free.Reserve(i, 50, noon)
	require.Zero(t, r.flush().Rows, "what is held is not yet usage")
	held.Commit()
	r.flush()
	require.Equal(t, int64(50), r.store.Value(id, "simulations", calendar.DayOf(noon)))
}

func TestPeaksAndSnapshots(t *testing.T) {
	r := newRig(t)
	id := r.store.Add("free")
	free := r.organization(id)
	instances, storage := r.index("entity_instances"), r.index("storage_bytes")
	for n, level := range []int64{40, 90, 70} {
		now := noon.Add(time.Duration(n) * time.Second)
		d, _ := free.Consume(instances, level, now)
		require.True(t, d.Allowed)
		d, _ = free.Consume(storage, level, now)
		require.True(t, d.Allowed)
	}
	d, _ := free.Consume(instances, 101, noon)
	require.False(t, d.Allowed)
	require.Equal(t, int64(90), d.Current)

	// A report that was overtaken doesn't become the last one, and is counted as a report.
	free.Consume(storage, 5, noon.Add(time.Second))
	require.Equal(t, int64(70), free.Usage(storage, noon).Current)

	r.flush()
	require.EqualValues(t, 3+4, r.store.Batches[0].Reports)
	free.Consume(storage, 5, noon.Add(time.Second))
	r.flush()
	require.EqualValues(t, 1, r.store.Batches[1].Reports, "although it changes nothing")
	require.Equal(t, int64(70), r.store.Value(id, "storage_bytes", calendar.DayOf(noon)))
	free.Consume(instances, 10, noon.Add(time.Minute))
	free.Consume(storage, 6, noon.Add(time.Second))
	r.flush()
	require.Equal(t, int64(90), r.store.Value(id, "entity_instances", calendar.DayOf(noon)))
	require.Equal(t, int64(70), r.store.Value(id, "storage_bytes", calendar.DayOf(noon)))
}

func TestCurrentIsStoredAndPending(t *testing.T) {
	r := newRig(t)
	id := r.store.Add("free")
	i := r.index("evaluations")
	r.organization(id).Consume(i, 600, noon)
	r.flush()
	r.restart()

	free := r.organization(id)
	require.Equal(t, int64(600), free.Usage(i, noon).Current, "stored")
	d, _ := free.Consume(i, 400, noon)
	require.True(t, d.Allowed)
	usage := free.Usage(i, noon)
	require.Equal(t, int64(1_000), usage.Current)
	require.Equal(t, int64(400), usage.Pending)
	d, _ = free.Consume(i, 1, noon)
	require.False(t, d.Allowed)
	r.flush()
	require.Equal(t, int64(1_000), free.Usage(i, noon).Current, "a flush moves usage, and changes no sum")
	require.Zero(t, free.Usage(i, noon).Pending)
}

func TestStoreFailureAllows(t *testing.T) {
	r := newRig(t)
	id := r.store.Add("free")
	i := r.index("evaluations")
	r.organization(id).Consume(i, 900, noon)
	r.flush()
	r.restart()

	r.store.Set(func(s *metertest.Store) { s.Away = true })
	free := r.organization(id)
	require.False(t, free.Loaded())
	d, _ := free.Consume(i, 5_000, noon)
	require.True(t, d.Allowed, "never a false 402 (C5)")
	require.Equal(t, int64(1), r.meter.Counts(i).Unloaded)
	_, err := r.flusher.Flush(context.Background())
	require.ErrorIs(t, err, metertest.ErrAway)

	r.store.Set(func(s *metertest.Store) { s.Away = false })
	r.clock.add(2 * time.Second)
	r.organization(id)
	r.meter.Close()
	require.True(t, free.Loaded())
	require.Equal(t, int64(5_900), free.Usage(i, noon).Current, "stored usage and what was allowed meanwhile")
	d, _ = free.Consume(i, 1, noon)
	require.False(t, d.Allowed)
	r.flush()
	require.Equal(t, int64(5_900), r.store.Value(id, "evaluations", calendar.DayOf(noon)))
	require.Equal(t, int64(5_900), free.Usage(i, noon).Current)
}

func TestUnknownOrganization(t *testing.T) {
	r := newRig(t)
	_, err := r.meter.Organization(context.Background(), uuid.New(), noon)
	require.ErrorIs(t, err, meter.ErrUnknownOrganization)
	require.Zero(t, r.meter.Organizations())
}

func TestUpgradeKeepsUsage(t *testing.T) {
	r := newRig(t)
	id := r.store.Add("free")
	free := r.organization(id)
	i := r.index("evaluations")
	free.Consume(i, 1_000, noon)
	d, _ := free.Consume(i, 1, noon)
	require.False(t, d.Allowed)

	r.store.Set(func(s *metertest.Store) { s.Plans[id] = "pro" })
	require.NoError(t, r.meter.Reload(context.Background(), id, noon))
	d, _ = free.Consume(i, 1, noon)
	require.Equal(t, plans.Decision{Allowed: true, Mode: plans.Soft, Current: 1_001, Max: 100_000, Remaining: 98_999}, d)
	require.Equal(t, "pro", free.Plan().Key)
}

func TestCatalogChangesInPlace(t *testing.T) {
	r := newRig(t)
	id := r.store.Add("free")
	free := r.organization(id)
	i := r.index("evaluations")

	// Yesterday's usage counts in a monthly window only.
	r.store.Set(func(s *metertest.Store) {
		s.Records[metertest.Key{Organization: id, Meter: "evaluations", Day: calendar.DayOf(noon) - 1}] = metertest.Record{Value: 700, At: noon.AddDate(0, 0, -1)}
	})
	free.Consume(i, 200, noon)

	catalog := plans.Default()
	plan, _ := catalog.Plan("free")
	plan.Version = 2
	plan.Entitlements = []plans.Entitlement{{Meter: "evaluations", Mode: plans.Hard, Window: calendar.WindowMonth, Max: 1_000}}
	next := &plans.Catalog{
		Meters: []plans.Meter{{Key: "tokens", Name: "Tokens", Aggregation: plans.Sum, Unit: "token"}},
		Plans:  []plans.Plan{plan},
	}
	require.NoError(t, r.meter.SetCatalog(next))
	require.NoError(t, r.meter.Reload(context.Background(), id, noon))

	usage := free.Usage(i, noon)
	require.Equal(t, int64(900), usage.Current)
	require.Equal(t, calendar.WindowMonth.At(noon), usage.Window)
	d, _ := free.Consume(i, 101, noon)
	require.False(t, d.Allowed)

	tokens := r.index("tokens")
	d, _ = free.Consume(tokens, 7, noon)
	require.Equal(t, plans.Decision{Allowed: true, Mode: plans.Unlimited, Current: 7}, d)
	r.flush()
	require.Equal(t, int64(7), r.store.Value(id, "tokens", calendar.DayOf(noon)))

	next.Meters[0].Aggregation = plans.Max
	require.ErrorIs(t, r.meter.SetCatalog(next), plans.ErrInvalidCatalog)
}

func TestWindowsRollOver(t *testing.T) {
	r := newRig(t)
	id := r.store.Add("free")
	free := r.organization(id)
	i := r.index("simulations")
	today := calendar.DayOf(noon)
	beforeMidnight, afterMidnight := today.End().Add(-time.Millisecond), today.End()

	free.Consume(i, 40, noon)
	_, held := free.Reserve(i, 10, beforeMidnight)
	d, _ := free.Consume(i, 1, beforeMidnight)
	require.False(t, d.Allowed)
	d, window := free.Consume(i, 50, afterMidnight)
	require.True(t, d.Allowed, "a new window")
	require.Equal(t, calendar.WindowDay.On(today+1), window)

	// The reservation belongs to the window it was made in.
	r.clock.set(afterMidnight)
	summary := r.flush()
	require.True(t, summary.Watermark.Before(today.End()), "the day is not complete while a reservation of it is open")
	held.Commit()
	require.Equal(t, int64(50), free.Usage(i, afterMidnight).Current)
	r.clock.add(time.Second)
	summary = r.flush()
	require.Equal(t, afterMidnight.Add(time.Second), summary.Watermark)
	require.Equal(t, int64(50), r.store.Value(id, "simulations", today))
	require.Equal(t, int64(50), r.store.Value(id, "simulations", today+1))
}

func TestConcurrentCallersNeverPassAHardLimit(t *testing.T) {
	r := newRig(t)
	id := r.store.Add("free")
	free := r.organization(id)
	i := r.index("evaluations")
	var admitted atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	flushed := make(chan struct{})
	go func() {
		defer close(flushed)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = r.flusher.Flush(context.Background())
			}
		}
	}()
	for worker := range 200 {
		wg.Go(func() {
			for n := range 50 {
				d, reservation := free.Reserve(i, 1, noon)
				if !d.Allowed {
					continue
				}
				if (worker+n)%3 == 0 {
					reservation.Release()
					continue
				}
				reservation.Commit()
				admitted.Add(1)
			}
		})
	}
	wg.Wait()
	close(stop)
	<-flushed
	r.flush()
	require.LessOrEqual(t, admitted.Load(), int64(1_000))
	for {
		if d, _ := free.Consume(i, 1, noon); !d.Allowed {
			break
		}
		admitted.Add(1)
	}
	r.flush()
	require.Equal(t, int64(1_000), admitted.Load(), "the last unit is found, and no more")
	require.Equal(t, int64(1_000), r.store.Value(id, "evaluations", calendar.DayOf(noon)), "nothing is lost across drains")
}

func TestTheHotPathAllocatesNothing(t *testing.T) {
	r := newRig(t)
	id := r.store.Add("enterprise")
	i := r.index("evaluations")
	ctx := context.Background()
	r.organization(id).Consume(i, 1, noon)
	require.Zero(t, testing.AllocsPerRun(1_000, func() {
		o, _ := r.meter.Organization(ctx, id, noon)
		_, reservation := o.Reserve(i, 1, noon)
		reservation.Commit()
		o.Consume(i, 1, noon)
	}))
}

// TestTheHotPathAllocatesNothingWithLeaseAndJournal holds it for what production does.
func TestTheHotPathAllocatesNothingWithLeaseAndJournal(t *testing.T) {
	instance := uuid.Must(uuid.NewV7())
	j, err := journal.Open(journal.Config{Dir: t.TempDir(), Instance: instance})
	require.NoError(t, err)
	defer func() { require.NoError(t, j.Close()) }()
	store := metertest.OnPlan("large")
	m := meter.New(meter.Config{
		Catalog: benchCatalog(), Store: store, Leases: store, Instance: instance, Journal: j, Now: func() time.Time { return noon },
	})
	defer m.Close()
	o, err := m.Organization(t.Context(), uuid.New(), noon)
	require.NoError(t, err)
	_, held, err := o.Admit(t.Context(), 0, 1_000_000, noon)
	require.NoError(t, err)
	held.Release()
	o.Consume(0, 1, noon)
	require.Zero(t, testing.AllocsPerRun(1_000, func() {
		d, r, err := o.Admit(t.Context(), 0, 1, noon)
		if err != nil || !d.Allowed || r.TryCommit() != nil {
			t.Error("not admitted")
		}
		out, err := o.Use(t.Context(), 0, 1, noon, nil)
		if err != nil || !out.Decision.Allowed {
			t.Error("not admitted")
		}
	}))
}
