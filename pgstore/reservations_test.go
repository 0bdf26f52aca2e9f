package pgstore_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/plans"
)

// draft is a reservation, made now, that wasn't stored yet: Postgres's clock decides
// whether it has expired.
func draft(organization uuid.UUID, quantity int64) meter.StoredReservation {
	now := time.Now().UTC().Truncate(time.Microsecond)
	return meter.StoredReservation{
		ID: uuid.Must(uuid.NewV7()), Organization: organization, Meter: evaluations, Quantity: quantity,
		CreatedAt: now, ExpiresAt: now.Add(time.Hour), Plan: "free", PlanVersion: 1, Mode: plans.Hard, Window: calendar.WindowDay, Max: 1000,
	}
}

// windowOf is the window that a reservation counts in.
func windowOf(r meter.StoredReservation) meter.QuotaWindow {
	return meter.QuotaWindow{Organization: r.Organization, Meter: r.Meter, Kind: r.Window, Start: calendar.DayOf(r.Window.At(r.CreatedAt).Start)}
}

func (f *fixture) hold(r meter.StoredReservation) meter.StoredReservation {
	f.t.Helper()
	held, err := f.HoldReservation(f.t.Context(), r, 1)
	require.NoError(f.t, err)
	return held
}

// heldOn is hold on an earlier day, as if Postgres's clock had been there.
func (f *fixture) heldOn(r meter.StoredReservation, day calendar.Day) meter.StoredReservation {
	f.t.Helper()
	held := f.hold(r)
	now := calendar.DayOf(held.CreatedAt)
	f.exec(`
		WITH gone AS (
			DELETE FROM quota_window_rows WHERE organization_id = $1 AND meter = $2 AND window_start = $3 RETURNING *
		)
		INSERT INTO quota_window_rows (organization_id, meter, limit_window, window_start, window_end, plan_max, max, held)
		SELECT organization_id, meter, limit_window, $4::date, $4::date + 1, plan_max, max, held FROM gone
		ON CONFLICT (organization_id, meter, limit_window, window_start) DO UPDATE SET held = quota_window_rows.held + excluded.held`,
		r.Organization, r.Meter, now.Start(), day.Start())
	f.exec(`UPDATE reservations SET day = $2, window_start = $2, created_at = created_at - $3 * interval '1 day' WHERE id = $1`,
		r.ID, day.Start(), float64(now-day))
	return held
}

func amount(n int64) *int64 { return &n }

// due lets a reservation's time pass.
func (f *fixture) due(id uuid.UUID) {
	f.t.Helper()
	f.exec(`UPDATE reservations SET created_at = created_at - interval '1 hour', expires_at = now() - interval '1 millisecond' WHERE id = $1`, id)
}

var ignoreSettledAt = cmpopts.IgnoreFields(meter.StoredReservation{}, "SettledAt")

func TestReservationHeldAndCommitted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	r := draft(o, 100)
	// The clock of who makes it is ten minutes behind, within the day: it is held for an hour all the same.
	behind := min(10*time.Minute, r.CreatedAt.Sub(r.CreatedAt.UTC().Truncate(24*time.Hour)))
	r.CreatedAt, r.ExpiresAt = r.CreatedAt.Add(-behind), r.ExpiresAt.Add(-behind)
	want := r
	want.State, want.Held = meter.ReservationHeld, 100
	got := f.hold(r)
	require.WithinDuration(t, time.Now(), got.CreatedAt, time.Minute)
	require.Equal(t, time.Hour, got.ExpiresAt.Sub(got.CreatedAt))
	want.CreatedAt, want.ExpiresAt = got.CreatedAt, got.ExpiresAt
	require.Empty(t, cmp.Diff(want, got))
	require.Equal(t, got, f.hold(r), "the answer was lost")
	w := windowOf(r)
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Held: 100}, f.quota(w))
	second := f.hold(draft(o, 50))
	require.EqualValues(t, 150, second.Held)

	want.State, want.Committed = meter.ReservationCommitted, 70
	for range 2 {
		done, err := f.CommitReservation(t.Context(), o, r.ID, amount(70))
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(want, done, ignoreSettledAt))
		require.WithinDuration(t, time.Now(), done.SettledAt, time.Minute)
	}
	done, err := f.CommitReservation(t.Context(), o, r.ID, nil)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(want, done, ignoreSettledAt))
	_, err = f.CommitReservation(t.Context(), o, r.ID, amount(71))
	require.ErrorIs(t, err, meter.ErrReservationEnded)
	_, err = f.ReleaseReservation(t.Context(), o, r.ID)
	require.ErrorIs(t, err, meter.ErrReservationEnded)
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Consumed: 70, Held: 50}, f.quota(w))
	require.EqualValues(t, 70, f.value(o, evaluations, calendar.DayOf(r.CreatedAt)))
	require.Equal(t, meter.InstanceStopped, f.instanceNow(pgstore.SettlementInstance(o)).Status)

	done, err = f.CommitReservation(t.Context(), o, second.ID, nil)
	require.NoError(t, err)
	require.EqualValues(t, 50, done.Committed)
	read, err := f.Reservation(t.Context(), o, second.ID)
	require.NoError(t, err)
	require.Equal(t, done, read)
	rollup, err := f.RollUpDay(t.Context(), calendar.DayOf(r.CreatedAt))
	require.NoError(t, err)
	require.Zero(t, rollup.VarianceCount)
}

func TestReservationReleased(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	r := f.hold(draft(o, 100))
	for range 2 {
		got, err := f.ReleaseReservation(t.Context(), o, r.ID)
		require.NoError(t, err)
		require.Equal(t, meter.ReservationReleased, got.State)
		require.Equal(t, quota{PlanMax: 1000, Max: 1000}, f.quota(windowOf(r)))
	}
	_, err := f.CommitReservation(t.Context(), o, r.ID, nil)
	require.ErrorIs(t, err, meter.ErrReservationEnded)

	other := f.organization("Bolt", "free").ID
	for _, id := range []uuid.UUID{r.ID, uuid.Must(uuid.NewV7())} {
		_, err = f.CommitReservation(t.Context(), other, id, nil)
		require.ErrorIs(t, err, meter.ErrReservationNotFound)
		_, err = f.ReleaseReservation(t.Context(), other, id)
		require.ErrorIs(t, err, meter.ErrReservationNotFound)
		_, err = f.Reservation(t.Context(), other, id)
		require.ErrorIs(t, err, meter.ErrReservationNotFound)
	}
}

func TestReservationExpires(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	due, kept := f.hold(draft(o, 100)), f.hold(draft(o, 10))
	soft := draft(o, 7)
	soft.Mode = plans.Soft
	soft = f.hold(soft)
	f.due(due.ID)
	f.due(soft.ID)
	_, err := f.CommitReservation(t.Context(), o, due.ID, nil)
	require.ErrorIs(t, err, meter.ErrReservationEnded, "before anybody swept it")
	shown, err := f.Reservation(t.Context(), o, due.ID)
	require.NoError(t, err)
	require.Equal(t, meter.ReservationExpired, shown.State, "by Postgres's clock, too")
	n, err := f.ExpireReservations(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Held: 10}, f.quota(windowOf(kept)))
	n, err = f.ExpireReservations(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	got, err := f.ReleaseReservation(t.Context(), o, due.ID)
	require.NoError(t, err)
	require.Equal(t, meter.ReservationExpired, got.State)
	_, err = f.CommitReservation(t.Context(), o, due.ID, nil)
	require.ErrorIs(t, err, meter.ErrReservationEnded)
}

// Who is short of quota takes what due reservations hold, without waiting for the sweep.
func TestDueReservationsMakeRoom(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	first := f.hold(draft(o, 1000))
	f.due(first.ID)
	second := f.hold(draft(o, 1000))
	require.EqualValues(t, 1000, second.Held)
	f.due(second.ID)
	l := f.lessee(windowOf(second))
	require.EqualValues(t, 900, l.ask(900, 900).Issued)
	third, fourth := f.hold(draft(o, 60)), f.hold(draft(o, 40))
	f.due(fourth.ID)
	done, err := f.CommitReservation(t.Context(), o, third.ID, amount(100))
	require.NoError(t, err)
	require.EqualValues(t, 100, done.Committed)
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Consumed: 100, Leased: 900}, f.quota(windowOf(second)))
}

func TestReservationsBeyondTheQuota(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	r := f.hold(draft(o, 100))
	w := windowOf(r)
	l := f.lessee(w)
	require.EqualValues(t, 800, l.ask(800, 800).Issued)
	require.NoError(t, f.IncrementUsage(t.Context(), o, evaluations, w.Start, 40))
	changes := f.listen(l.id)
	short := &meter.QuotaShortError{Max: 1000, Unleased: 40, Leased: 800, Held: 100, Current: 840, Waiting: true}
	recall := pgstore.Change{Kind: pgstore.ChangeQuota, ID: o.String(), Meter: evaluations, Window: calendar.WindowDay, Start: w.Start}

	refused := draft(o, 61)
	_, err := f.HoldReservation(t.Context(), refused, 1)
	var got *meter.QuotaShortError
	require.ErrorAs(t, err, &got)
	require.Equal(t, short, got)
	require.Equal(t, recall, next(t, changes))
	_, err = f.Reservation(t.Context(), o, refused.ID)
	require.ErrorIs(t, err, meter.ErrReservationNotFound)

	_, err = f.CommitReservation(t.Context(), o, r.ID, amount(161))
	require.ErrorAs(t, err, &got)
	require.Equal(t, short, got)
	require.Equal(t, recall, next(t, changes))
	require.EqualValues(t, 40, f.value(o, evaluations, w.Start), "nothing was counted")
	done, err := f.CommitReservation(t.Context(), o, r.ID, amount(160))
	require.NoError(t, err)
	require.EqualValues(t, 160, done.Committed)
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Consumed: 160, Leased: 800, Unleased: 40}, f.quota(w))
	require.Empty(t, changes)
}

func TestReservationIdentity(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	r := draft(o, 10)
	r.Identity, r.Fingerprint = meter.KeyIdentity("k"), meter.FingerprintOf("10")
	first := f.hold(r)
	require.Equal(t, r.Identity, first.Identity)
	again := r
	again.ID = uuid.Must(uuid.NewV7())
	require.Equal(t, first, f.hold(again))
	ended, err := f.ReleaseReservation(t.Context(), o, r.ID)
	require.NoError(t, err)
	require.Equal(t, ended, f.hold(again), "whatever its state")
	again.Fingerprint = meter.FingerprintOf("11")
	_, err = f.HoldReservation(t.Context(), again, 1)
	require.ErrorIs(t, err, meter.ErrIdentityReused)
	again.Organization = f.organization("Bolt", "free").ID
	require.Equal(t, again.ID, f.hold(again).ID, "another organization's")
}

// Both kinds of window, and limits that aren't hard.
func TestReservationsInOtherWindows(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	month := draft(o, 100)
	month.Window = calendar.WindowMonth
	month = f.hold(month)
	soft := draft(o, 30)
	soft.Mode, soft.Current, soft.Max = plans.Soft, 77, 5
	soft = f.hold(soft)
	require.EqualValues(t, 77, soft.Current)
	require.True(t, soft.OverLimit)
	l := f.lessee(windowOf(soft))
	l.ask(10, 10)
	for _, r := range []meter.StoredReservation{month, soft} {
		_, err := f.CommitReservation(t.Context(), o, r.ID, nil)
		require.NoError(t, err)
	}
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Consumed: 130}, f.quota(windowOf(month)), "whatever the limit was, it was held")
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Consumed: 130, Leased: 10}, f.quota(windowOf(soft)))
}

// Under a plan that is out of date the published limit counts.
func TestReservationUnderAnOldPlan(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	f.exec(`INSERT INTO plans (key, version, name, requests_per_second, burst) VALUES ('free', 2, 'Free', 0, 0)`)
	f.exec(`INSERT INTO plan_limits VALUES ('free', 2, 'evaluations', 'hard', 'day', 50)`)
	_, err := f.HoldReservation(t.Context(), draft(o, 51), 1)
	var short *meter.QuotaShortError
	require.ErrorAs(t, err, &short)
	require.EqualValues(t, 50, short.Max)
	require.EqualValues(t, 50, f.hold(draft(o, 50)).Max)
}

func TestReservationsThatCannotBeStored(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	cases := map[string]func(*meter.StoredReservation){
		"quantity":   func(r *meter.StoredReservation) { r.Quantity = 0 },
		"meter":      func(r *meter.StoredReservation) { r.Meter = storage },
		"window":     func(r *meter.StoredReservation) { r.Window = "week" },
		"mode":       func(r *meter.StoredReservation) { r.Mode = "" },
		"expires_at": func(r *meter.StoredReservation) { r.ExpiresAt = r.CreatedAt },
	}
	for field, spoil := range cases {
		r := draft(o, 1)
		spoil(&r)
		_, err := f.HoldReservation(t.Context(), r, 1)
		var wrong *fault.FieldError
		require.ErrorAs(t, err, &wrong, field)
		require.Equal(t, field, wrong.Field)
	}
	_, err := f.HoldReservation(t.Context(), draft(uuid.Must(uuid.NewV7()), 1), 1)
	require.ErrorIs(t, err, meter.ErrUnknownOrganization)
	r := f.hold(draft(o, 1))
	_, err = f.CommitReservation(t.Context(), o, r.ID, amount(-1))
	var wrong *fault.FieldError
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, "quantity", wrong.Field)
}

// Two processes commit, release and hold the same reservation: it counts once.
func TestReservationsRaced(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	stores := []*pgstore.Store{f.Store, f.open(pgstore.Config{URL: f.db.APIURL})}
	r := draft(o, 10)
	r.Identity, r.Fingerprint = meter.KeyIdentity("k"), meter.FingerprintOf("10")
	var mu sync.Mutex
	committed := 0
	var group errgroup.Group
	for i := range 12 {
		store := stores[i%2]
		group.Go(func() error {
			same := r
			same.ID = uuid.Must(uuid.NewV7())
			held, err := store.HoldReservation(t.Context(), same, 1)
			if err != nil {
				return err
			}
			if _, err = store.CommitReservation(t.Context(), o, held.ID, nil); err == nil {
				mu.Lock()
				committed++
				mu.Unlock()
			}
			return err
		})
	}
	require.NoError(t, group.Wait())
	require.Equal(t, 12, committed, "each is told that it is committed")
	require.EqualValues(t, 10, f.value(o, evaluations, calendar.DayOf(r.CreatedAt)))
	require.Equal(t, quota{PlanMax: 1000, Max: 1000, Consumed: 10}, f.quota(windowOf(r)))
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM reservations`))
}

// A commit that finds too little looks for reservations that have expired. Its own is
// none of them, though its time may come while the commit waits for the window.
func TestACommitDoesNotExpireItsOwnReservation(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	d := draft(o, 2)
	w := windowOf(d)
	f.lessee(w).ask(998, 998)
	d.ExpiresAt = time.Now().Add(500 * time.Millisecond)
	held := f.hold(d)

	tx := f.begin()
	_, err := tx.Exec(t.Context(), `SELECT FROM quota_window_rows FOR UPDATE`)
	require.NoError(t, err)
	committed := make(chan error)
	go func() {
		_, err := f.CommitReservation(t.Context(), o, held.ID, amount(4))
		committed <- err
	}()
	time.Sleep(time.Until(d.ExpiresAt) + 100*time.Millisecond)
	require.NoError(t, tx.Rollback(t.Context()))
	var short *meter.QuotaShortError
	require.ErrorAs(t, <-committed, &short)
	require.EqualValues(t, 2, f.quota(w).Held)
}
