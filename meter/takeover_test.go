package meter_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// TestWhatIsFreeEndsWithAChange holds that an instance which missed a plan, or a version, that was
// in force in between admits nothing by the lease that it had before: another one may have used
// up the limit meanwhile.
func TestWhatIsFreeEndsWithAChange(t *testing.T) {
	catalogOf := func(version int) *plans.Catalog {
		catalog := fleetCatalog()
		catalog.Plans[0].Version = version
		return catalog
	}
	for _, tc := range []struct {
		name   string
		change func(*metertest.Store, *meter.Meter, uuid.UUID) error
		free   bool
	}{
		{"nothing changes", func(*metertest.Store, *meter.Meter, uuid.UUID) error { return nil }, true},
		{"another plan, and back", func(s *metertest.Store, _ *meter.Meter, id uuid.UUID) error {
			s.Change(id, "pro")
			s.Change(id, "free")
			return nil
		}, false},
		{"another plan, and back before it is read", func(s *metertest.Store, _ *meter.Meter, id uuid.UUID) error {
			s.Change(id, "free")
			return nil
		}, false},
		{"by way of a soft limit to a higher one", func(s *metertest.Store, _ *meter.Meter, id uuid.UUID) error {
			s.Change(id, "pro")
			s.Change(id, "plus")
			return nil
		}, false},
		{"the next version", func(_ *metertest.Store, m *meter.Meter, _ uuid.UUID) error { return m.SetCatalog(catalogOf(2)) }, true},
		{"a version, and the next", func(_ *metertest.Store, m *meter.Meter, _ uuid.UUID) error { return m.SetCatalog(catalogOf(3)) }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			store, instance := metertest.NewStore(), uuid.Must(uuid.NewV7())
			id := store.Add("free")
			now := func() time.Time { return noon }
			m := meter.New(meter.WithManualLeases(meter.Config{
				Catalog: catalogOf(1), Store: store, Leases: store, Instance: instance, Now: now,
			}))
			store.Set(func(s *metertest.Store) { s.Through[instance] = 0 })
			takeover := meter.NewTakeover(meter.TakeoverConfig{
				Refresher: meter.NewTestRefresher(m, now), Flusher: meter.NewFlusher(meter.FlusherConfig{Meter: m, Store: store, Instance: instance, Now: now}),
				Store: store, Instance: instance, Now: now,
			})
			o, err := m.Organization(t.Context(), id, noon)
			require.NoError(t, err)
			d, held := meter.AdmitManually(o, 0, 5, noon, 2)
			require.True(t, d.Allowed)
			held.Release()
			require.NoError(t, tc.change(store, m, id))
			_, err = takeover.Follow(t.Context())
			require.NoError(t, err)
			d, held = o.Reserve(0, 5, noon)
			require.Equal(t, tc.free, d.Allowed)
			held.Release()
		})
	}
}
