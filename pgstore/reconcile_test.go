package pgstore_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
)

func (f *fixture) reconcile(from, to calendar.Day) billing.Reconciliation {
	f.t.Helper()
	found, err := f.Reconcile(f.t.Context(), from, to)
	require.NoError(f.t, err)
	require.Len(f.t, found.Compared, len(billing.Comparisons()))
	for i, c := range billing.Comparisons() {
		require.Equal(f.t, c, found.Compared[i].Comparison)
	}
	return found
}

// reconciled is usage in every layer: two rolled days and a third, of every aggregation,
// with a window, leases and a reservation.
func reconciled(t *testing.T) (f *fixture, o uuid.UUID, l *lessee) {
	t.Helper()
	f = newFixture(t)
	o = f.organization("Acme", "free").ID
	first := today.Month()
	l = f.lessee(meter.QuotaWindow{Organization: o, Meter: evaluations, Kind: calendar.WindowDay, Start: today})
	for day := first; day <= first+1; day++ {
		l.flush(row(o, evaluations, day, 10), row(o, entities, day, 7), row(o, storage, day, 500))
		_, err := f.RollUpDay(t.Context(), day)
		require.NoError(t, err)
	}
	l.ask(100, 100)
	l.spend(40)
	journalled := int64(1)
	batch := l.batch(row(o, simulations, today, 3), row(o, "flow_executions", today, -1))
	batch.Reports, batch.Journalled = 1, &journalled
	_, err := f.ApplyBatch(t.Context(), batch)
	require.NoError(t, err)
	f.heldOn(draft(o, 5), today)
	return f, o, l
}

func TestReconcileAgrees(t *testing.T) {
	t.Parallel()
	f, _, _ := reconciled(t)
	found := f.reconcile(today.Month(), today)
	require.Zero(t, found.Different(), "%+v", found.Differences)
	require.Empty(t, found.Differences)
	require.EqualValues(t, 1, found.Quarantined)
	for _, c := range found.Compared {
		require.Positive(t, c.Compared, "%s was compared with nothing", c.Comparison)
	}
}

// What is changed behind the system's back is found: where, and by how much.
func TestReconcileFindsADifferenceInEachLayer(t *testing.T) {
	t.Parallel()
	first := today.Month()
	for _, one := range []struct {
		name, statement string
		left, right     billing.Layer
		meter           string
		day             calendar.Day
		values          [2]int64
	}{
		{"a batch that was not journalled", `UPDATE usage_batches SET reports = 4 WHERE reports = 1`, billing.LayerAcknowledged, billing.LayerJournalled, "", 0, [2]int64{4, 1}},
		{"a record", `UPDATE usage_daily SET value = 41 WHERE value = 40`, billing.LayerBatches, billing.LayerRecords, evaluations, today, [2]int64{40, 41}},
		{"a record that is gone", `DELETE FROM usage_daily WHERE meter = 'simulations'`, billing.LayerBatches, billing.LayerRecords, simulations, today, [2]int64{3, 0}},
		{"a record without a batch", `DELETE FROM usage_batch_rows WHERE meter = 'simulations'`, billing.LayerBatches, billing.LayerRecords, simulations, today, [2]int64{0, 3}},
		{"a peak", `UPDATE usage_daily SET value = 6 WHERE meter = 'entity_instances' AND day = '2026-10-01'`, billing.LayerRecords, billing.LayerRolled, entities, first, [2]int64{6, 7}},
		{"a rolled day", `UPDATE usage_rolled SET value = 9 WHERE meter = 'evaluations' AND day = '2026-10-02'`, billing.LayerRecords, billing.LayerRolled, evaluations, first + 1, [2]int64{10, 9}},
		{"a total", `UPDATE usage_rolled SET month_to_date = 21 WHERE meter = 'evaluations' AND day = '2026-10-02'`, billing.LayerRolled, billing.LayerTotals, evaluations, first + 1, [2]int64{20, 21}},
		{"a window", `UPDATE quota_leases SET consumed = 39`, billing.LayerQuota, billing.LayerRecords, evaluations, today, [2]int64{39, 40}},
		{"what is leased", `UPDATE quota_window_rows SET given = given + 1`, billing.LayerLeased, billing.LayerLeases, evaluations, today, [2]int64{61, 60}},
		{"what was set aside", `UPDATE usage_batches SET quarantined = 2 WHERE quarantined = 1`, billing.LayerSetAside, billing.LayerQuarantine, "", 0, [2]int64{2, 1}},
		{"what is held", `UPDATE quota_window_rows SET held = 4`, billing.LayerHeld, billing.LayerReservations, evaluations, today, [2]int64{4, 5}},
	} {
		t.Run(one.name, func(t *testing.T) {
			f, o, l := reconciled(t)
			f.exec(one.statement)
			found := f.reconcile(first, today)
			require.NotEmpty(t, found.Differences)
			want := billing.Difference{
				Comparison: billing.Comparison{Left: one.left, Right: one.right}, Organization: o, Meter: one.meter, Day: one.day,
				LeftValue: one.values[0], RightValue: one.values[1],
			}
			if one.meter == "" {
				want.Organization, want.Instance, want.Seq = uuid.Nil, l.id, l.seq
			}
			require.Contains(t, found.Differences, want)
			require.Equal(t, one.values[1]-one.values[0], want.By())
			require.EqualValues(t, len(found.Differences), found.Different())
		})
	}
}

func TestDeleteExpired(t *testing.T) {
	t.Parallel()
	f, o, _ := reconciled(t)
	identified := row(o, evaluations, today, 0)
	identified.IdentifiedOnly = true
	identified.Identified = []meter.IdentifiedReport{{Identity: meter.KeyIdentity("k"), Quantity: 1, At: today.Start()}}
	f.instance().flush(identified)
	write := accounts.Write{Caller: uuid.New(), Key: [32]byte{1}}
	_, err := f.BeginWrite(t.Context(), write)
	require.NoError(t, err)
	short := draft(o, 5)
	short.Meter, short.Max = simulations, 50
	held := f.heldOn(short, today)
	_, err = f.ReleaseReservation(t.Context(), o, held.ID)
	require.NoError(t, err)

	deleted, err := f.DeleteExpired(t.Context(), time.Now().Add(-time.Hour))
	require.NoError(t, err)
	require.Equal(t, billing.Expired{Windows: 1}, deleted, "the window in which nothing is held or leased is over")
	deleted, err = f.DeleteExpired(t.Context(), time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, billing.Expired{Identities: 1, Writes: 1, Reservations: 1}, deleted)
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM quota_windows`), "one that somebody holds something of stays")
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM reservations`))
}

func TestWritesAreCarriedOutOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	write := accounts.Write{Caller: uuid.New(), Key: [32]byte{1}, Fingerprint: [32]byte{2}}
	var mine, underWay atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			answer, err := f.BeginWrite(t.Context(), write)
			if err == nil && answer == nil {
				mine.Add(1)
			} else if err != nil {
				require.ErrorIs(t, err, accounts.ErrWriteUnderWay)
				underWay.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, mine.Load())
	require.EqualValues(t, 7, underWay.Load())

	other := write
	other.Fingerprint = [32]byte{3}
	_, err := f.BeginWrite(t.Context(), other)
	require.ErrorIs(t, err, accounts.ErrWriteReused)
	require.NoError(t, f.FinishWrite(t.Context(), write, accounts.WriteAnswer{Status: 201, ContentType: "application/json", Body: []byte(`{}`)}))
	answer, err := f.BeginWrite(t.Context(), write)
	require.NoError(t, err)
	require.Equal(t, &accounts.WriteAnswer{Status: 201, ContentType: "application/json", Body: []byte(`{}`)}, answer)
	_, err = f.BeginWrite(t.Context(), other)
	require.ErrorIs(t, err, accounts.ErrWriteReused)
	require.NoError(t, f.AbandonWrite(t.Context(), write), "a finished one stays")
	answer, err = f.BeginWrite(t.Context(), write)
	require.NoError(t, err)
	require.NotNil(t, answer)

	// Callers don't share keys; what was abandoned may come again; what nobody has
	// finished for long is taken over.
	other = write
	other.Caller = uuid.New()
	answer, err = f.BeginWrite(t.Context(), other)
	require.NoError(t, err)
	require.Nil(t, answer)
	require.NoError(t, f.AbandonWrite(t.Context(), other))
	_, err = f.BeginWrite(t.Context(), other)
	require.NoError(t, err)
	f.exec(`UPDATE idempotent_writes SET begun_at = begun_at - interval '61 seconds' WHERE status IS NULL`)
	answer, err = f.BeginWrite(t.Context(), other)
	require.NoError(t, err)
	require.Nil(t, answer)
}
