package meter_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
)

// window is that of the limit.
func (r *rewinder) window() meter.QuotaWindow {
	return meter.QuotaWindow{Organization: r.of.ID(), Meter: "daily", Kind: calendar.WindowDay, Start: calendar.DayOf(noon)}
}

// requireOf holds the limit's window to what is flushed and what is leased of it.
func (r *rewinder) requireOf(flushed, leased int64) {
	r.t.Helper()
	r.store.Set(func(s *metertest.Store) {
		w := s.Quota.Windows[r.window()]
		require.Equal(r.t, flushed, w.Consumed+w.Unleased)
		require.Equal(r.t, leased, w.Leased)
		require.NoError(r.t, s.Quota.Check())
	})
}

// grabber is another instance, which uses up what it is granted; it returns how much that was.
func (r *rewinder) grabber() func() int64 {
	r.t.Helper()
	other := meter.New(meter.WithManualLeases(meter.Config{
		Catalog: fleetCatalog(), Store: r.store, Leases: r.store, Instance: uuid.Must(uuid.NewV7()), Now: func() time.Time { return noon },
		Logger: slog.New(slog.DiscardHandler),
	}))
	r.t.Cleanup(other.Close)
	theirs, err := other.Organization(r.t.Context(), r.of.ID(), noon)
	require.NoError(r.t, err)
	return func() (admitted int64) {
		for {
			d, held := meter.AdmitManually(theirs, 0, 1, noon, 3)
			if !d.Allowed {
				return admitted
			}
			held.Commit()
			admitted++
		}
	}
}

// leased has the instance hold so much of a meter's limit and use none of it.
func (r *rewinder) leased(index meter.Index, quantity int64) {
	r.t.Helper()
	d, held := meter.AdmitManually(r.of, index, quantity, noon, 3)
	require.True(r.t, d.Allowed)
	held.Release()
}

// TestNothingStaysLeasedAfterARestore holds that a store which has lost an ask, and no batch, is told
// what it granted by it, and keeps none of that for good.
func TestNothingStaysLeasedAfterARestore(t *testing.T) {
	r := newRewinder(t, "free")
	var backup *metertest.Backup
	for range 2 {
		backup = r.store.Backup()
		d, held := meter.AdmitManually(r.of, 0, 1, noon, 3)
		require.True(t, d.Allowed)
		held.Commit()
	}
	r.store.Restore(backup)
	_, err := r.flusher.Flush(t.Context())
	require.NoError(t, err)
	r.meter.Recall(r.window())
	meter.KeepLeases(r.meter)
	r.requireOf(2, 0)
}

// TestWhatIsHeldIsKeptThroughARestore holds that others are not granted what reservations hold that were
// open as a store lost batches.
func TestWhatIsHeldIsKeptThroughARestore(t *testing.T) {
	r := newRewinder(t, "free")
	require.NoError(t, r.use(1))
	backup := r.store.Backup()
	d, open := meter.AdmitManually(r.of, 0, 8, noon, 3)
	require.True(t, d.Allowed)
	require.NoError(t, r.use(2))
	r.store.Restore(backup)
	_, err := r.flusher.Flush(t.Context())
	require.NoError(t, err)
	meter.KeepLeases(r.meter)
	r.requireOf(3, 8)
	require.EqualValues(t, 9, r.grabber()())
	open.Commit()
	_, err = r.flusher.Flush(t.Context())
	require.NoError(t, err)
	r.requireOf(11, 9)
}

// TestWhatAStoreHasReleasedIsKept holds that an instance which was taken for lost tells of what it has
// admitted, as soon as it asks.
func TestWhatAStoreHasReleasedIsKept(t *testing.T) {
	r := newRewinder(t, "free")
	d, open := meter.AdmitManually(r.of, 0, 8, noon, 3)
	require.True(t, d.Allowed)
	r.store.Set(func(s *metertest.Store) { s.Quota.Release(r.id) })
	r.meter.Recall(r.window())
	meter.KeepLeases(r.meter)
	r.requireOf(0, 8)
	require.EqualValues(t, 12, r.grabber()())
	open.Release()
	r.meter.Recall(r.window())
	meter.KeepLeases(r.meter)
	r.requireOf(0, 12)
}

// TestWhatAStoreHasForgottenIsNotAdmitted holds that what a store granted, and doesn't know of any more,
// is not admitted: others may have it.
func TestWhatAStoreHasForgottenIsNotAdmitted(t *testing.T) {
	r := newRewinder(t, "free")
	backup := r.store.Backup()
	r.leased(0, 12)
	require.NoError(t, r.flusher.CompareLeases(t.Context()))
	d, held := r.of.Reserve(0, 5, noon)
	require.True(t, d.Allowed, "nothing is lost")
	held.Release()

	r.store.Restore(backup)
	require.EqualValues(t, 20, r.grabber()())
	require.NoError(t, r.flusher.CompareLeases(t.Context()))
	d, _ = r.of.Reserve(0, 5, noon)
	require.False(t, d.Allowed)
}

// TestAnEarlierLeaseIsNotKept holds that a lease which comes back with a restore, and is from before the
// instance began to account for the window again, holds nothing up.
func TestAnEarlierLeaseIsNotKept(t *testing.T) {
	r := newRewinder(t, "free")
	const monthly = 1
	month := meter.QuotaWindow{Organization: r.of.ID(), Meter: "monthly", Kind: calendar.WindowMonth, Start: calendar.DayOf(noon).Month()}
	r.leased(monthly, 12)
	backup := r.store.Backup()
	// The limit of plus is one of days.
	for _, plan := range []string{"plus", "free"} {
		r.store.Change(r.of.ID(), plan)
		require.NoError(t, r.meter.Reload(t.Context(), r.of.ID(), noon))
		r.leased(monthly, 3)
	}
	r.store.Restore(backup)
	require.NotZero(t, r.store.Quota.Windows[month].Leased)
	r.meter.Recall(month)
	meter.KeepLeases(r.meter)
	require.Zero(t, r.store.Quota.Windows[month].Leased)
}

// TestALeaseOfBeforeAnOrganizationLeftIsGivenBack holds that a lease which the store has again after a
// restore, of an organization that has left memory and come back since, is given back.
func TestALeaseOfBeforeAnOrganizationLeftIsGivenBack(t *testing.T) {
	r := newRewinder(t, "free")
	require.NoError(t, r.use(1))
	backup := r.store.Backup()
	meter.ForgetIdle(r.flusher, 2)
	require.True(t, r.of.Forgotten())
	r.of = meter.InPlace(r.of)
	d, _ := meter.AdmitManually(r.of, 0, 1, noon, 0)
	require.False(t, d.Allowed, "it has heard nothing of its window")
	r.store.Restore(backup)
	r.requireOf(1, 19)
	require.NoError(t, r.flusher.CompareLeases(t.Context()))
	r.requireOf(1, 0)
}
