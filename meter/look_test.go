package meter_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// Where the store can't say, or not in time, a look shows what is in memory.
func TestALookNeverWaitsLong(t *testing.T) {
	for _, tc := range []struct {
		name       string
		away, slow bool
	}{{"away", true, false}, {"slow", false, true}} {
		t.Run(tc.name, func(t *testing.T) {
			store := metertest.NewStore()
			var slow atomic.Bool
			store.Before = func(ctx context.Context, call metertest.Call) error {
				if call == metertest.CallLoad && slow.Load() {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
			m := meter.New(meter.Config{
				Catalog: plans.Default(), Store: store, Leases: store, Instance: uuid.New(), Now: time.Now, LoadTimeout: time.Minute,
			})
			t.Cleanup(m.Close)
			o, err := m.Organization(t.Context(), store.Add("free"), time.Now())
			require.NoError(t, err)
			i, _ := m.Index("evaluations")
			d, r, err := o.Admit(t.Context(), i, 7, time.Now())
			require.NoError(t, err)
			require.True(t, d.Allowed)
			store.Set(func(s *metertest.Store) { s.Away = tc.away })
			slow.Store(tc.slow)
			began := time.Now()
			o.Look(t.Context(), time.Now())
			require.Less(t, time.Since(began), 30*time.Second)
			u := o.Usage(i, time.Now())
			require.Equal(t, [3]int64{7, 0, 993}, [3]int64{u.Current, u.Held, u.Remaining()})
			r.Commit()
			u = o.Usage(i, time.Now())
			require.Equal(t, [3]int64{7, 0, 993}, [3]int64{u.Current, u.Held, u.Remaining()})
		})
	}
}

// What another instance has admitted and not flushed is found by a look, and costs it nothing
// of what it holds.
func TestALookFindsWhatOthersHaveAdmitted(t *testing.T) {
	store := metertest.NewStore()
	id := store.Add("free")
	var meters []*meter.Meter
	for range 2 {
		m := meter.New(meter.Config{Catalog: plans.Default(), Store: store, Leases: store, Instance: uuid.New(), Now: time.Now})
		t.Cleanup(m.Close)
		meters = append(meters, m)
	}
	i, _ := meters[0].Index("evaluations")
	organization := func(n int) *meter.Organization {
		o, err := meters[n].Organization(t.Context(), id, time.Now())
		require.NoError(t, err)
		return o
	}
	for range 200 {
		d, r, err := organization(0).Admit(t.Context(), i, 1, time.Now())
		require.NoError(t, err)
		require.True(t, d.Allowed)
		r.Commit()
	}
	o := organization(1)
	go func() {
		for {
			select {
			case key := <-store.Looks:
				meters[0].Tell(key)
			case <-t.Context().Done():
				return
			}
		}
	}()
	// A busy machine may take longer to tell than a look waits.
	require.Eventually(t, func() bool {
		o.Look(t.Context(), time.Now())
		return o.Usage(i, time.Now()).Current == 200
	}, 30*time.Second, 50*time.Millisecond)
}

// Who polls costs the store no more than 20 looks a second; after a pause there are some again.
func TestLooksAreBounded(t *testing.T) {
	store := metertest.NewStore()
	var loads atomic.Int64
	store.Before = func(context.Context, metertest.Call) error {
		loads.Add(1)
		return nil
	}
	m := meter.New(meter.Config{Catalog: plans.Default(), Store: store})
	t.Cleanup(m.Close)
	o, err := m.Organization(t.Context(), store.Add("free"), noon)
	require.NoError(t, err)
	for _, step := range []struct {
		at    time.Duration
		loads int64
	}{{0, 21}, {10 * time.Millisecond, 21}, {100 * time.Millisecond, 23}, {time.Hour, 43}} {
		for range 100 {
			o.Look(t.Context(), noon.Add(step.at))
		}
		require.Equal(t, step.loads, loads.Load(), step.at)
	}
}
