package meter_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// An organization leaves memory once nothing of it was written for the whole time, and comes back with what it has used.
func TestOrganizationsLeaveMemory(t *testing.T) {
	r := newRig(t)
	used, idle, holds := r.store.Add("free"), r.store.Add("free"), r.store.Add("free")
	flusher := meter.NewFlusher(meter.FlusherConfig{
		Meter: r.meter, Store: r.store, Instance: uuid.New(), Now: r.clock.Now, IdleAfter: time.Hour,
	})
	index := r.index("evaluations")
	use := func(id uuid.UUID, quantity int64) { r.organization(id).Consume(index, quantity, r.clock.Now()) }
	flush := func() {
		t.Helper()
		_, err := flusher.Flush(t.Context())
		require.NoError(t, err)
	}
	use(idle, 7)
	use(used, 1)
	_, held := r.organization(holds).Reserve(index, 2, r.clock.Now())
	flush()
	for range 3 {
		r.clock.add(40 * time.Minute)
		use(used, 1)
		flush()
	}
	require.Equal(t, 2, r.meter.Organizations())
	require.EqualValues(t, 1, r.meter.Totals().Forgotten)
	_, there := r.meter.Find(idle)
	require.False(t, there)
	require.EqualValues(t, 7, r.organization(idle).Usage(index, r.clock.Now()).Current)
	require.Equal(t, 3, r.meter.Organizations())

	held.Commit()
	flush()
	for range 3 {
		r.clock.add(time.Hour)
		flush()
	}
	require.Zero(t, r.meter.Organizations(), "none is used, nor held, any more")
	require.EqualValues(t, 2, r.organization(holds).Usage(index, r.clock.Now()).Current)
}

// Who has found an organization decides with the one in its place, which has all that was used: requests and forgetting
// race, and no limit is passed.
func TestForgottenMeanwhile(t *testing.T) {
	store := metertest.NewStore()
	id, instance := store.Add("free"), uuid.New()
	m := meter.New(meter.Config{Catalog: plans.Default(), Store: store, Leases: store, Instance: instance, Now: func() time.Time { return noon }})
	t.Cleanup(m.Close)
	flusher := meter.NewFlusher(meter.FlusherConfig{Meter: m, Store: store, Instance: instance, Now: func() time.Time { return noon }})
	index, ok := m.Index("evaluations")
	require.True(t, ok)
	first, err := m.Organization(t.Context(), id, noon)
	require.NoError(t, err)
	limit := first.Usage(index, noon).Entitlement.Max
	var admitted atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for range 100 {
				// The one that was found at first may be forgotten long since.
				d, r, err := first.Admit(context.Background(), index, limit/300, noon)
				if err == nil && d.Allowed {
					r.Commit()
					admitted.Add(limit / 300)
				}
			}
		})
	}
	var forgetting sync.WaitGroup
	forgetting.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = flusher.Flush(context.Background())
				meter.ForgetIdle(flusher, 1)
			}
		}
	})
	wg.Wait()
	close(stop)
	forgetting.Wait()
	_, err = flusher.Flush(t.Context())
	require.NoError(t, err)
	require.LessOrEqual(t, admitted.Load(), limit)
	require.Positive(t, admitted.Load())
	now, err := m.Organization(t.Context(), id, noon)
	require.NoError(t, err)
	require.Equal(t, admitted.Load(), now.Usage(index, noon).Current)
}

// What is removed isn't found, what stays is, however the table grows and shrinks.
func TestOrganizationsAreFoundAfterOthersLeft(t *testing.T) {
	r := newRig(t)
	var ids []uuid.UUID
	for i := range 2000 {
		id := r.store.Add("free")
		ids = append(ids, id)
		o := r.organization(id)
		if i%100 == 0 {
			_, held := o.Reserve(0, 1, noon)
			require.True(t, held.Held(), fmt.Sprint(i))
		}
	}
	meter.ForgetIdle(r.flusher, 0)
	require.Equal(t, 20, r.meter.Organizations())
	for i, id := range ids {
		_, there := r.meter.Find(id)
		require.Equal(t, i%100 == 0, there)
	}
	for _, id := range ids {
		r.organization(id)
	}
	require.Equal(t, len(ids), r.meter.Organizations())
}
