package pgstore_test

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
)

// state is a reservation's state.
// state is a reservation's in the table: one that is past its expiry is shown as expired.
func (f *fixture) state(organization, id uuid.UUID) (state meter.ReservationState) {
	f.t.Helper()
	const query = `SELECT state FROM reservations WHERE organization_id = $1 AND id = $2`
	require.NoError(f.t, f.owner.QueryRow(f.t.Context(), query, organization, id).Scan(&state))
	return state
}

// Reservations that Postgres refuses to end stay held, and hold up no others: they are tried
// again later, and their window goes on without them.
func TestStuckReservationsHoldUpNoOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var logged bytes.Buffer
	store := f.open(pgstore.Config{URL: f.db.APIURL, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	acme, bolt := f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID
	expired := func(o uuid.UUID, n int64) uuid.UUID {
		id := f.hold(draft(o, n)).ID
		f.due(id)
		return id
	}
	broken := expired(bolt, 10)
	f.exec(`UPDATE quota_window_rows SET held = 7 WHERE organization_id = $1`, bolt)
	var good []uuid.UUID
	for range 6 {
		good = append(good, expired(acme, 5))
	}
	raising := expired(acme, 9)
	f.exec(`
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
		CREATE TRIGGER refuse BEFORE UPDATE OF state ON reservations FOR EACH ROW WHEN (OLD.quantity = 9) EXECUTE FUNCTION refuse()`)

	n, err := store.ExpireReservations(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, len(good), n)
	for _, id := range good {
		require.Equal(t, meter.ReservationExpired, f.state(acme, id))
	}
	require.Equal(t, meter.ReservationHeld, f.state(acme, raising))
	require.Equal(t, meter.ReservationHeld, f.state(bolt, broken))
	w := windowOf(draft(acme, 1))
	require.EqualValues(t, 9, f.quota(w).Held)
	require.Contains(t, logged.String(), "reservations=2")
	require.Contains(t, logged.String(), "quota_window_rows_held_check")
	stuck, err := f.StuckReservations(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, stuck)
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM reservations_stuck WHERE id = $1 AND reason LIKE '%not this one%'`, raising))

	logged.Reset()
	n, err = store.ExpireReservations(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	require.Empty(t, logged.String(), "they are tried again in a while")

	// Who is short of quota makes no room of them.
	require.EqualValues(t, 991, f.lessee(w).ask(991, 991).Issued)
	require.EqualValues(t, 993, f.lessee(windowOf(draft(bolt, 1))).ask(993, 993).Issued)
	var short *meter.QuotaShortError
	_, err = f.HoldReservation(t.Context(), draft(acme, 1), 1)
	require.ErrorAs(t, err, &short)

	f.exec(`UPDATE quota_window_rows SET held = 10, max = 1003 WHERE organization_id = $1`, bolt)
	f.exec(`UPDATE reservations_stuck SET tried_at = tried_at - interval '5 minutes'`)
	n, err = store.ExpireReservations(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, n, "what was mended")
	require.Equal(t, meter.ReservationExpired, f.state(bolt, broken))
	stuck, err = f.StuckReservations(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, stuck)
	f.exec(`DROP TRIGGER refuse ON reservations`)
	_, err = f.ReleaseReservation(t.Context(), acme, raising)
	require.NoError(t, err)
	stuck, err = f.StuckReservations(t.Context())
	require.NoError(t, err)
	require.Zero(t, stuck)
	_, err = f.DeleteExpired(t.Context(), time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.Zero(t, f.count(`SELECT count(*) FROM reservations_stuck`))
}

// More of them than one transaction ends don't keep it from the others, which come later.
func TestManyStuckReservations(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	f.hold(draft(o, 1))
	f.exec(`UPDATE reservations SET created_at = created_at - interval '2 hours', expires_at = now() - interval '1 hour'`)
	f.exec(`
		INSERT INTO reservations
		SELECT (jsonb_populate_record(r, jsonb_build_object('id', gen_random_uuid()))).* FROM reservations r, generate_series(1, 1001)`)
	f.exec(`INSERT INTO reservations_stuck SELECT organization_id, id, 'refused', now() FROM reservations`)
	last := f.hold(draft(o, 1)).ID
	f.due(last)
	n, err := f.ExpireReservations(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	require.Equal(t, meter.ReservationExpired, f.state(o, last))
}

// A window that Postgres refuses to change is told apart from a store that is away, and fails
// no other organization's requests.
func TestARefusedWindow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	acme, bolt, carl := f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID, f.organization("Carl", "free").ID
	w := windowOf(draft(acme, 1))
	l, opened := f.lessee(w), f.lessee(windowOf(draft(bolt, 1)))
	opened.ask(10, 10)
	f.exec(`ALTER TABLE quota_window_rows ADD CONSTRAINT broken CHECK (organization_id NOT IN ('` + bolt.String() + `', '` + carl.String() + `')) NOT VALID`)
	good := l.next(10, 10)
	for _, o := range []uuid.UUID{bolt, carl} {
		bad := l.next(20, 20)
		bad.Organization = o
		_, err := f.AdjustLeases(t.Context(), meter.BatchID{Instance: l.id}, []meter.LeaseAsk{good, bad})
		require.ErrorIs(t, err, meter.ErrAskRefused)
		require.ErrorContains(t, err, "broken")
		require.Zero(t, f.count(`SELECT count(*) FROM quota_windows WHERE organization_id = $1`, acme), "nothing was carried out")
	}
	require.EqualValues(t, 10, l.send(good).Issued)
	_, err := f.AdjustLeases(t.Context(), meter.BatchID{Instance: uuid.Must(uuid.NewV7())}, []meter.LeaseAsk{good})
	require.NotErrorIs(t, err, meter.ErrAskRefused, "an instance that isn't there is something else")

	m := f.replica(time.Minute)
	index, _ := m.meter.Index(evaluations)
	refused := func() {
		_, _, err := m.organization(bolt).Admit(t.Context(), index, 1, time.Now())
		require.ErrorIs(t, err, meter.ErrUnavailable)
	}
	refused()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(refused)
		wg.Go(func() {
			for range 10 {
				d, r, err := m.organization(acme).Admit(t.Context(), index, 1, time.Now())
				require.NoError(t, err)
				require.True(t, d.Allowed)
				r.Commit()
			}
		})
	}
	wg.Wait()
}

// An instance whose leases Postgres refuses to release in one window ends all the same, and gives
// the others back.
func TestARefusedWindowHoldsUpNoEnd(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		f := newFixture(t)
		acme, bolt := f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID
		w := f.instance()
		for _, o := range []uuid.UUID{acme, bolt} {
			_, err := f.AdjustLeases(t.Context(), meter.BatchID{Instance: w.id}, []meter.LeaseAsk{{
				QuotaWindow: windowOf(draft(o, 1)), Generation: 1, Version: 1, Issued: 10, Need: 10, Plan: "free", PlanVersion: 1, Max: 1000,
			}})
			require.NoError(t, err)
		}
		f.exec(`ALTER TABLE quota_window_rows ADD CONSTRAINT broken CHECK (organization_id <> '` + bolt.String() + `') NOT VALID`)
		state := "stopped"
		if lost {
			state = "lost"
			w.lose()
			require.EqualValues(t, 10, f.count(`SELECT sum(outstanding) FROM quota_lost_leases WHERE instance_id = $1`, w.id))
		} else {
			require.NoError(t, f.StopInstance(t.Context(), w.id))
		}
		require.EqualValues(t, 1, f.count(`SELECT count(*) FROM instances WHERE id = $1 AND status = $2`, w.id, state))
		leased := func(o uuid.UUID) int64 {
			return f.count(`SELECT leased FROM quota_windows WHERE organization_id = $1`, o)
		}
		require.Equal(t, []int64{0, 10}, []int64{leased(acme), leased(bolt)}, state)
	}
}
