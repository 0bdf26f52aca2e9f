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

// openRig is a meter with one reservation of the 28th, and a flusher.
type openRig struct {
	store        *metertest.Store
	id           uuid.UUID
	now          time.Time
	meter        *meter.Meter
	organization *meter.Organization
	flusher      *meter.Flusher
}

func newOpenRig(t *testing.T, at time.Time) *openRig {
	t.Helper()
	store := metertest.NewStore()
	r := &openRig{store: store, id: store.Add("free"), now: at}
	r.meter = meter.New(meter.Config{Catalog: modelCatalog(), Store: metertest.OnPlan("free"), RedateAfter: 5 * time.Minute, Logger: slog.New(slog.DiscardHandler)})
	r.flusher = meter.NewFlusher(meter.FlusherConfig{Meter: r.meter, Store: store, Instance: uuid.New(), Now: func() time.Time { return r.now }})
	var err error
	r.organization, err = r.meter.Organization(t.Context(), r.id, at)
	require.NoError(t, err)
	return r
}

func (r *openRig) open(t *testing.T, index int) *meter.OpenReservation {
	t.Helper()
	d, reservation := r.organization.Reserve(meter.Index(index), 7, r.now)
	require.True(t, d.Allowed)
	return r.meter.KeepOpen(reservation, r.now)
}

func (r *openRig) flush(t *testing.T, at time.Time) time.Time {
	t.Helper()
	r.now = at
	summary, err := r.flusher.Flush(t.Context())
	require.NoError(t, err)
	return summary.Watermark
}

// TestAnOpenReservationHoldsUpNoMonth holds that the watermark goes on after minutes, whatever
// window the reservation counts in, and that what is committed in the end counts, once.
func TestAnOpenReservationHoldsUpNoMonth(t *testing.T) {
	last := time.Date(2026, 11, 30, 23, 58, 0, 0, time.UTC)
	midnight := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for index, name := range []string{"daily", "monthly", "soft"} {
		t.Run(name, func(t *testing.T) {
			r := newOpenRig(t, last)
			open := r.open(t, index)
			soon := midnight.Add(time.Minute)
			require.Equal(t, midnight.Add(-time.Microsecond), r.flush(t, soon), "it may be settled soon")
			later := last.Add(6 * time.Minute)
			require.Equal(t, later, r.flush(t, later))
			require.Equal(t, int64(1), r.meter.Totals().Redated)
			require.Equal(t, int64(7), r.organization.Usage(meter.Index(index), later).Current, "it is held in the window of then")
			held := r.meter.Open()
			since, count := held.Since, held.Count
			require.Equal(t, last, since)
			require.Equal(t, 1, count)

			require.True(t, open.Held())
			require.True(t, open.Commit())
			require.False(t, open.Release())
			r.flush(t, later.Add(time.Second))
			require.Len(t, r.store.Records, 1)
			record := r.store.Records[metertest.Key{Organization: r.id, Meter: name, Day: calendar.DayOf(later)}]
			require.Equal(t, int64(7), record.Value)
			count = r.meter.Open().Count
			require.Zero(t, count)
		})
	}
}

// TestAnOpenReservationOfManyDays holds that it moves with each day, and gives back what it
// held where it is released.
func TestAnOpenReservationOfManyDays(t *testing.T) {
	r := newOpenRig(t, time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC))
	open := r.open(t, 0)
	for range 5 {
		at := r.now.AddDate(0, 0, 1)
		require.Equal(t, at, r.flush(t, at))
		require.Equal(t, int64(7), r.organization.Usage(0, at).Current)
	}
	require.Equal(t, int64(5), r.meter.Totals().Redated)
	require.True(t, open.Release())
	require.Zero(t, r.organization.Usage(0, r.now).Current)
	r.flush(t, r.now.Add(time.Second))
	require.Empty(t, r.store.Records)
}

// TestAnOpenReservationOfTodayStays holds that length alone moves nothing.
func TestAnOpenReservationOfTodayStays(t *testing.T) {
	r := newOpenRig(t, time.Date(2026, 11, 28, 1, 0, 0, 0, time.UTC))
	open := r.open(t, 0)
	at := r.now.Add(20 * time.Hour)
	require.Equal(t, at, r.flush(t, at))
	require.Zero(t, r.meter.Totals().Redated)
	require.True(t, open.Commit())
}

// TestARedatedReservationCountsInTheWindowInForce holds that a request which has been under way since a
// day that has passed, and that a limit of before goes on holding, counts in the limit in force, too.
func TestARedatedReservationCountsInTheWindowInForce(t *testing.T) {
	store, instance := metertest.NewStore(), uuid.Must(uuid.NewV7())
	id, now := store.Add("pro"), time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	m := meter.New(meter.WithManualLeases(meter.Config{
		Catalog: fleetCatalog(), Store: store, Leases: store, Instance: instance, Now: clock, RedateAfter: 5 * time.Minute, Logger: slog.New(slog.DiscardHandler),
	}))
	flusher := meter.NewFlusher(meter.FlusherConfig{Meter: m, Store: store, Instance: instance, Now: clock})
	o, err := m.Organization(t.Context(), id, now)
	require.NoError(t, err)
	const monthly = 1
	d, r := meter.AdmitManually(o, monthly, 7, now, 0)
	require.True(t, d.Allowed)
	open := m.KeepOpen(r, now)
	// A month's limit of 30, then a day's of 15.
	for _, plan := range []string{"free", "plus"} {
		store.Change(id, plan)
		require.NoError(t, m.Reload(t.Context(), id, now))
		meter.KeepLeases(m)
	}
	was := calendar.DayOf(now)
	now = now.AddDate(0, 0, 1)
	_, err = flusher.Flush(t.Context())
	require.NoError(t, err)
	require.Equal(t, was, meter.DayOfOpen(open), "the store comes first")
	meter.KeepLeases(m)
	_, err = flusher.Flush(t.Context())
	require.NoError(t, err)
	require.Equal(t, calendar.DayOf(now), meter.DayOfOpen(open))
	d, _ = meter.AdmitManually(o, monthly, 9, now, 3)
	require.False(t, d.Allowed, "7 of 15 are held")
	d, r = meter.AdmitManually(o, monthly, 8, now, 3)
	require.True(t, d.Allowed)
	r.Release()
	require.True(t, open.Release())
}

// TestNobodyIsGrantedWhatARedatedReservationTakes holds that the store has taken a reservation out of the
// window of a later day by the time at which it counts there.
func TestNobodyIsGrantedWhatARedatedReservationTakes(t *testing.T) {
	r := newRewinder(t, "free")
	now := noon
	clock := func() time.Time { return now }
	m := meter.New(meter.WithManualLeases(meter.Config{
		Catalog: fleetCatalog(), Store: r.store, Leases: r.store, Instance: uuid.Must(uuid.NewV7()), Now: clock, RedateAfter: 5 * time.Minute, Logger: slog.New(slog.DiscardHandler),
	}))
	flusher := meter.NewFlusher(meter.FlusherConfig{Meter: m, Store: r.store, Instance: uuid.Must(uuid.NewV7()), Now: clock})
	o, err := m.Organization(t.Context(), r.of.ID(), now)
	require.NoError(t, err)
	d, held := meter.AdmitManually(o, 0, 17, now, 3)
	require.True(t, d.Allowed)
	open := m.KeepOpen(held, now)
	now = now.AddDate(0, 0, 1)
	for range 3 {
		_, err = flusher.Flush(t.Context())
		require.NoError(t, err)
		if meter.DayOfOpen(open) == calendar.DayOf(now) {
			break
		}
		meter.KeepLeases(m)
	}
	require.Equal(t, calendar.DayOf(now), meter.DayOfOpen(open))
	d, _ = meter.AdmitManually(r.of, 0, 4, now, 3)
	require.False(t, d.Allowed)
	d, held = meter.AdmitManually(r.of, 0, 3, now, 3)
	require.True(t, d.Allowed)
	held.Release()
	require.True(t, open.Release())
}

// TestWhatWasUnleasedIsGivenBackOnce holds that a reservation which was made of the day without a lease, as the
// store was away, is given back once, though one of the day before is about to be moved beside it.
func TestWhatWasUnleasedIsGivenBackOnce(t *testing.T) {
	store, instance, now := metertest.NewStore(), uuid.Must(uuid.NewV7()), noon
	id, clock := store.Add("free"), func() time.Time { return now }
	m := meter.New(meter.WithManualLeases(meter.Config{
		Catalog: fleetCatalog(), Store: store, Leases: store, Instance: instance, Now: clock, RedateAfter: 5 * time.Minute, Logger: slog.New(slog.DiscardHandler),
	}))
	flusher := meter.NewFlusher(meter.FlusherConfig{Meter: m, Store: store, Instance: instance, Now: clock, Logger: slog.New(slog.DiscardHandler)})
	o, err := m.Organization(t.Context(), id, now)
	require.NoError(t, err)
	var open []*meter.OpenReservation
	for range 2 {
		d, held := meter.AdmitManually(o, 0, 1, now, 3)
		require.True(t, d.Allowed)
		open = append(open, m.KeepOpen(held, now))
		now = now.AddDate(0, 0, 1)
		store.Set(func(s *metertest.Store) { s.Away = true })
		meter.KeepLeases(m)
	}
	now = now.Add(-13 * time.Hour)
	store.Set(func(s *metertest.Store) { s.Away = false })
	meter.KeepLeases(m)
	_, err = flusher.Flush(t.Context())
	require.NoError(t, err)
	require.Equal(t, calendar.DayOf(noon), meter.DayOfOpen(open[0]), "the store is yet to be told")
	for _, one := range open {
		require.True(t, one.Release())
	}
	for admitted := range 21 {
		d, held := meter.AdmitManually(o, 0, 1, now, 3)
		require.Equal(t, admitted < 20, d.Allowed)
		held.Commit()
		meter.KeepLeases(m)
		_, err = flusher.Flush(t.Context())
		require.NoError(t, err)
		store.Set(func(s *metertest.Store) {
			require.NoError(t, s.Quota.Check())
			w := s.Quota.Windows[meter.QuotaWindow{Organization: id, Meter: "daily", Kind: calendar.WindowDay, Start: calendar.DayOf(now)}]
			require.EqualValues(t, min(admitted+1, 20), w.Consumed+w.Unleased)
			require.LessOrEqual(t, w.Consumed+w.Unleased+w.Leased, int64(20))
		})
	}
}
