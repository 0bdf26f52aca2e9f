package meter_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
)

// rewinder is one instance on a store that goes back in time.
type rewinder struct {
	t       *testing.T
	store   *metertest.Store
	meter   *meter.Meter
	flusher *meter.Flusher
	journal *memoryJournal
	id      uuid.UUID
	of      *meter.Organization
	rewound int
	behind  int
}

func newRewinder(t *testing.T, plan string) *rewinder {
	t.Helper()
	r := &rewinder{t: t, store: metertest.NewStore(), id: uuid.Must(uuid.NewV7())}
	r.journal = newMemoryJournal(r.id)
	r.journal.removed = map[meter.BatchID][]meter.Record{}
	now := func() time.Time { return noon }
	r.meter = meter.New(meter.WithManualLeases(meter.Config{
		Catalog: fleetCatalog(), Store: r.store, Leases: r.store, Instance: r.id, Journal: r.journal, Now: now,
		Behind: func() { r.behind++ }, Logger: slog.New(slog.DiscardHandler),
	}))
	r.flusher = meter.NewFlusher(meter.FlusherConfig{
		Meter: r.meter, Store: r.store, Instance: r.id, Now: now, Logger: slog.New(slog.DiscardHandler),
		Rewinds: r.store, As: meter.Instance{ID: r.id, Host: "test"}, Rewound: func() { r.rewound++ },
	})
	var err error
	r.of, err = r.meter.Organization(t.Context(), r.store.Add(plan), noon)
	require.NoError(t, err)
	return r
}

// use admits and flushes.
func (r *rewinder) use(quantity int64) error {
	r.t.Helper()
	d, held := meter.AdmitManually(r.of, 0, quantity, noon, 3)
	require.True(r.t, d.Allowed)
	held.Commit()
	_, err := r.flusher.Flush(context.Background())
	return err
}

func (r *rewinder) stored() int64 { return r.store.Value(r.of.ID(), "daily", calendar.DayOf(noon)) }

// A store that lost batches gets them again, under their identities, within one flush.
func TestLostBatchesAreSentAgain(t *testing.T) {
	r := newRewinder(t, "pro")
	require.NoError(t, r.use(1))
	backup := r.store.Backup()
	require.NoError(t, r.use(2))
	require.NoError(t, r.use(4))
	r.store.Restore(backup)
	require.EqualValues(t, 1, r.stored())
	require.NoError(t, r.use(8))
	require.EqualValues(t, 15, r.stored())
	require.Equal(t, 1, r.rewound)
	require.Equal(t, meter.Totals{SentAgain: 2}, r.meter.Totals())

	r.store.Restore(backup)
	_, err := r.flusher.Flush(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 15, r.stored(), "also where nothing is to be flushed")
	require.Empty(t, r.store.Missing)
}

// TestWhatIsAdmittedIsWrittenBeforeItsLeaseGoes holds that others are not granted what an instance
// has admitted and not flushed, while it brings the store up to date.
func TestWhatIsAdmittedIsWrittenBeforeItsLeaseGoes(t *testing.T) {
	r := newRewinder(t, "free")
	_, lease := meter.AdmitManually(r.of, 0, 12, noon, 3)
	lease.Release()
	require.NoError(t, r.use(1))
	backup := r.store.Backup()
	require.NoError(t, r.use(2))
	d, pending := meter.AdmitManually(r.of, 0, 5, noon, 0)
	require.True(t, d.Allowed)
	pending.Commit()
	r.store.Restore(backup)

	grab := r.grabber()
	admitted, asking := int64(0), false
	r.store.Set(func(s *metertest.Store) {
		s.Before = func(_ context.Context, call metertest.Call) error {
			if !asking && call != metertest.CallAdjust {
				asking = true
				admitted += grab()
				asking = false
			}
			return nil
		}
	})
	_, err := r.flusher.Flush(t.Context())
	require.NoError(t, err)
	meter.KeepLeases(r.meter)
	admitted += grab()
	require.EqualValues(t, 8, r.stored())
	require.EqualValues(t, 12, admitted)
	d, _ = meter.AdmitManually(r.of, 0, 1, noon, 3)
	require.False(t, d.Allowed)
}

// What nobody has any more is recorded with what is known of it, and the instance goes on.
func TestBatchesThatNobodyHasAreRecorded(t *testing.T) {
	r := newRewinder(t, "pro")
	backup := r.store.Backup()
	for range 4 {
		require.NoError(t, r.use(1))
	}
	delete(r.journal.removed, meter.BatchID{Instance: r.id, Seq: 2})
	delete(r.journal.removed, meter.BatchID{Instance: r.id, Seq: 3})
	r.store.Restore(backup)
	require.NoError(t, r.use(1))
	require.EqualValues(t, 3, r.stored())
	two := int64(2)
	require.Equal(t, []meter.MissingBatches{{Instance: r.id, First: 2, Last: 3, Reports: &two}}, r.store.Missing)
	require.Equal(t, meter.Totals{SentAgain: 2, Missing: 2}, r.meter.Totals())
	require.NoError(t, r.use(1))
	require.EqualValues(t, 4, r.stored())
}

// A store that is away amid it is asked again, and nothing counts twice.
func TestSendingAgainIsCutOff(t *testing.T) {
	for cut := 1; cut <= 7; cut++ {
		r := newRewinder(t, "pro")
		backup := r.store.Backup()
		require.NoError(t, r.use(1))
		require.NoError(t, r.use(2))
		r.store.Restore(backup)
		calls := 0
		r.store.Set(func(s *metertest.Store) {
			s.Before = func(context.Context, metertest.Call) error {
				if calls++; calls == cut {
					return metertest.ErrAway
				}
				return nil
			}
		})
		if _, err := r.flusher.Flush(t.Context()); err != nil {
			require.ErrorIs(t, err, metertest.ErrAway)
			_, err = r.flusher.Flush(t.Context())
			require.NoError(t, err)
		}
		require.EqualValues(t, 3, r.stored(), "cut at call %d", cut)
	}
}

// An instance whose store has lost what it had acknowledged is granted nothing before the store
// has it: no limit opens meanwhile, and none is passed.
func TestAStoreThatIsBehindGrantsNothing(t *testing.T) {
	r := newRewinder(t, "free")
	backup := r.store.Backup()
	require.NoError(t, r.use(15))
	r.store.Restore(backup)
	d, _ := meter.AdmitManually(r.of, 0, 6, noon, 3)
	require.False(t, d.Allowed)
	require.Positive(t, r.behind, "it is to be flushed soon")
	require.Zero(t, r.meter.Totals().Unleased)
	_, err := r.flusher.Flush(t.Context())
	require.NoError(t, err)
	d, _ = meter.AdmitManually(r.of, 0, 6, noon, 3)
	require.False(t, d.Allowed, "15 of 20 are used")
	require.NoError(t, r.use(5))
	require.EqualValues(t, 20, r.stored())
	r.store.Set(func(s *metertest.Store) { require.NoError(t, s.Quota.Check()) })
}

// Who waits for quota of such a store is told by name that it can't be had, and is not refused.
func TestWaitingForAStoreThatIsBehind(t *testing.T) {
	store := metertest.NewStore()
	id := store.Add("free")
	store.Before = func(_ context.Context, call metertest.Call) error {
		if call == metertest.CallAdjust {
			return meter.ErrStoreBehind
		}
		return nil
	}
	m := meter.New(meter.Config{
		Catalog: fleetCatalog(), Store: store, Leases: store, Instance: uuid.Must(uuid.NewV7()), Now: time.Now,
		QuotaWait: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	defer m.Close()
	o, err := m.Organization(t.Context(), id, time.Now())
	require.NoError(t, err)
	_, _, err = o.Admit(t.Context(), 0, 1, time.Now())
	require.ErrorIs(t, err, meter.ErrUnavailable)
}
