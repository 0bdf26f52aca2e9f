package meter_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
)

// TestARefusedWindowHoldsUpNoOthers holds that a window that the store refuses to grant
// quota of is handled as if the store were away, and all others as ever.
func TestARefusedWindowHoldsUpNoOthers(t *testing.T) {
	for _, deny := range []bool{false, true} {
		t.Run(fmt.Sprint("deny ", deny), func(t *testing.T) {
			t.Parallel()
			store := metertest.NewStore()
			bad := store.Add("free")
			store.Set(func(s *metertest.Store) { s.Refused = map[uuid.UUID]bool{bad: true} })
			// On a busy machine, too, nobody gives up before the store has answered.
			m := newLessee(t, store, func(c *meter.Config) { c.DenyUnleased, c.QuotaWait = deny, 10*time.Second })
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
				wg.Go(func() {
					err := admit(bad)
					if deny {
						require.ErrorIs(t, err, meter.ErrUnavailable)
					} else {
						require.NoError(t, err)
					}
				})
			}
			wg.Wait()
			if deny {
				require.Zero(t, m.Totals().Unleased)
			} else {
				require.EqualValues(t, 100, m.Totals().Unleased, "of the refused window alone")
			}
			store.Set(func(s *metertest.Store) { s.Refused = nil })
			require.Eventually(t, func() bool {
				leased := false
				_ = admit(bad)
				store.Set(func(s *metertest.Store) {
					for key := range s.Quota.Windows {
						leased = leased || key.Organization == bad
					}
				})
				return leased
			}, 5*time.Second, 10*time.Millisecond, "it is tried again")
			require.NoError(t, admit(bad))
		})
	}
}

// TestARefusedWindowHoldsUpNoTakeover holds that what can't be told of one window keeps the
// instance from taking no change over.
func TestARefusedWindowHoldsUpNoTakeover(t *testing.T) {
	store := metertest.NewStore()
	id := store.Add("pro")
	m := newLessee(t, store, nil)
	instance := uuid.Must(uuid.NewV7())
	store.Set(func(s *metertest.Store) { s.Refused, s.Through[instance] = map[uuid.UUID]bool{id: true}, 0 })
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
