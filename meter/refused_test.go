package meter_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
)

// TestARefusedWindowHoldsUpNoOthers holds that a window of which the store refuses to grant quota,
// for good or for now, is refused by name, also where usage is let in without the store, and that all
// others go on as ever.
func TestARefusedWindowHoldsUpNoOthers(t *testing.T) {
	for _, why := range []error{meter.ErrAskRefused, meter.ErrAskContested} {
		t.Run(why.Error(), func(t *testing.T) {
			t.Parallel()
			store := metertest.NewStore()
			bad := store.Add("free")
			store.Set(func(s *metertest.Store) { s.Refuse(bad, why) })
			m := newLessee(t, store, nil)
			admit := func(id uuid.UUID) error {
				o, err := m.Organization(context.Background(), id, noon)
				require.NoError(t, err)
				d, r, err := o.Admit(context.Background(), 0, 5, noon.Add(time.Since(started)))
				require.Equal(t, err == nil, d.Allowed)
				r.Commit()
				return err
			}
			var wg sync.WaitGroup
			for range 20 {
				id := store.Add("free")
				wg.Go(func() {
					for range 20 {
						require.NoError(t, admit(id))
					}
				})
				wg.Go(func() { require.ErrorIs(t, admit(bad), meter.ErrQuotaRefused) })
			}
			wg.Wait()
			require.Zero(t, m.Totals().Unleased)
			store.Set(func(s *metertest.Store) { s.Refused = nil })
			require.Eventually(t, func() bool { return admit(bad) == nil }, 30*time.Second, 10*time.Millisecond, "it is tried again")
			require.Zero(t, m.Totals().Unleased)
		})
	}
}

// TestAnOrganizationThatCanNotBeReadIsRefused holds that a store that answers, and doesn't say what an
// organization may use, lets nothing in: nor does it after a time in which it was away.
func TestAnOrganizationThatCanNotBeReadIsRefused(t *testing.T) {
	store := metertest.NewStore()
	id := store.Add("free")
	m := newLessee(t, store, func(c *meter.Config) { c.LoadRetry = time.Nanosecond })
	store.Set(func(s *metertest.Store) { s.Unreadable = meter.ErrAskRefused })
	_, err := m.Organization(t.Context(), id, noon)
	require.ErrorIs(t, err, meter.ErrQuotaRefused)
	store.Set(func(s *metertest.Store) { s.Away = true })
	o, err := m.Organization(t.Context(), id, noon)
	require.NoError(t, err)
	d, r := o.Reserve(0, 5, noon)
	require.True(t, d.Allowed, "a store that is away is another matter")
	r.Commit()
	meter.WaitForLoads(m)
	store.Set(func(s *metertest.Store) { s.Away = false })
	found := func(hours int) error {
		_, err := m.Organization(t.Context(), id, noon.Add(time.Duration(hours)*time.Hour))
		meter.WaitForLoads(m)
		return err
	}
	if err := found(1); err != nil {
		// The keeper may have found out before.
		require.ErrorIs(t, err, meter.ErrQuotaRefused)
	}
	require.ErrorIs(t, found(2), meter.ErrQuotaRefused)
	store.Set(func(s *metertest.Store) { s.Unreadable = nil })
	_ = found(3)
	require.NoError(t, found(4))
}

// TestARefusedWindowHoldsUpNoTakeover holds that what can't be told of one window keeps the
// instance from taking no change over.
func TestARefusedWindowHoldsUpNoTakeover(t *testing.T) {
	store := metertest.NewStore()
	id := store.Add("pro")
	m := newLessee(t, store, nil)
	instance := uuid.Must(uuid.NewV7())
	store.Set(func(s *metertest.Store) {
		s.Refuse(id, meter.ErrAskRefused)
		s.Through[instance] = 0
	})
	now := func() time.Time { return noon.Add(time.Since(started)) }
	takeover := meter.NewTakeover(meter.TakeoverConfig{
		Refresher: meter.NewTestRefresher(m, now), Flusher: meter.NewFlusher(meter.FlusherConfig{Meter: m, Store: store, Instance: instance, Now: now}),
		Store: store, Instance: instance, Now: now,
	})
	o, err := m.Organization(context.Background(), id, noon)
	require.NoError(t, err)
	d, held := o.Reserve(0, 7, now())
	require.True(t, d.Allowed)
	store.Change(id, "free")
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_, err = takeover.Follow(ctx)
	require.NoError(t, err)
	held.Commit()
}
