package pgstore_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/plans"
)

// reported is a report of a quantity that bears an identity.
func reported(key string, day calendar.Day, quantity int64) meter.IdentifiedReport {
	return meter.IdentifiedReport{
		Identity: meter.KeyIdentity(key), Fingerprint: meter.FingerprintOf(key), Quantity: quantity, At: day.Start().Add(time.Hour),
		Receipt: meter.Receipt{Plan: "free", Mode: plans.Hard, Window: calendar.WindowDay},
	}
}

// TestPoisonIsSetAside puts a row of each kind that is refused for good among good rows of
// other tenants: those are written once, and what is refused waits with its reason.
func TestPoisonIsSetAside(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	victim := f.organization("Victim", "enterprise").ID
	full := f.organization("Full", "enterprise").ID
	f.exec(`ALTER TABLE usage_daily ADD CONSTRAINT no_thirteen CHECK (value <> 13)`)
	f.exec(`ALTER TABLE usage_events ADD CONSTRAINT no_seventeen CHECK (quantity <> 17)`)
	f.exec(`CREATE FUNCTION no_nineteen() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN IF NEW.value = 19 THEN RAISE EXCEPTION 'nineteen'; END IF; RETURN NEW; END $$`)
	f.exec(`CREATE TRIGGER no_nineteen BEFORE INSERT ON usage_batch_rows FOR EACH ROW EXECUTE FUNCTION no_nineteen()`)
	f.exec(`CREATE FUNCTION no_twenty_three() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN IF NEW.value = 23 THEN RAISE check_violation USING MESSAGE = 'twenty-three'; END IF; RETURN NEW; END $$`)
	f.exec(`CREATE TRIGGER no_twenty_three BEFORE INSERT ON usage_batch_rows FOR EACH ROW EXECUTE FUNCTION no_twenty_three()`)
	w := f.instance()
	w.flush(row(full, evaluations, today, plans.MaxDaySum))

	withIdentified := func(r meter.Row, identified ...meter.IdentifiedReport) meter.Row {
		r.Identified = identified
		return r
	}
	nextDay := today
	fresh := func(value int64) meter.Row {
		nextDay--
		return row(victim, simulations, nextDay, value)
	}
	kinds := map[string]struct {
		row      meter.Row
		sqlstate string
	}{
		"a constraint":                       {fresh(13), "23514"},
		"a trigger":                          {fresh(19), "P0001"},
		"a trigger's constraint":             {fresh(23), "23514"},
		"less than 0":                        {fresh(-5), "23514"},
		"beyond a bigint":                    {row(full, evaluations, today, 1<<63-1), "23514"},
		"beyond a day":                       {row(full, evaluations, today-1, plans.MaxDaySum+1), "23514"},
		"no such organization":               {row(uuid.Must(uuid.NewV7()), evaluations, today, 3), ""},
		"no such meter":                      {meter.Row{Organization: victim, Meter: "gone", Aggregation: plans.Sum, Day: today, Value: 4, At: today.Start()}, ""},
		"another aggregation":                {meter.Row{Organization: victim, Meter: entities, Aggregation: plans.Sum, Day: today, Value: 4, At: today.Start()}, ""},
		"a zero byte":                        {meter.Row{Organization: victim, Meter: "a\x00b", Aggregation: plans.Sum, Day: today, Value: 4, At: today.Start()}, ""},
		"no UTF-8":                           {meter.Row{Organization: victim, Meter: "a\xffb", Aggregation: plans.Sum, Day: today, Value: 4, At: today.Start()}, ""},
		"a day that is no date":              {meter.Row{Organization: victim, Meter: evaluations, Aggregation: plans.Sum, Day: 1<<31 - 1, Value: 4, At: today.Start()}, "22008"},
		"an identified report of a bad kind": {withIdentified(row(victim, evaluations, today-200, 5), reported("seventeen", today-200, 17)), "23514"},
		"an identified report less than 0":   {withIdentified(row(victim, evaluations, today-201, 5), reported("negative", today-201, -1)), ""},
		"the sum with an identified report":  {withIdentified(row(victim, evaluations, today-202, 6), reported("seven", today-202, 7)), "23514"},
	}
	const good = 10_000
	var rows []meter.Row
	organizations := make([]uuid.UUID, 20)
	for i := range organizations {
		organizations[i] = f.organization(fmt.Sprintf("Tenant %d", i), "free").ID
		for n := range good / len(organizations) {
			rows = append(rows, row(organizations[i], evaluations, today-calendar.Day(n), int64(1000+n)))
		}
	}
	places := map[int]string{}
	for kind, k := range kinds {
		places[len(rows)] = kind
		rows = append(rows, k.row)
	}
	batch := w.batch(rows...)
	applied, err := f.ApplyBatch(t.Context(), batch)
	require.NoError(t, err)
	require.False(t, applied.Duplicate)
	require.Empty(t, applied.Repeated)
	require.Len(t, applied.Quarantined, len(kinds))

	waiting, err := f.Quarantine(t.Context(), meter.QuarantineWaiting, uuid.Nil, uuid.Nil, 1000)
	require.NoError(t, err)
	require.Len(t, waiting, len(kinds))
	for i, place := range applied.Quarantined {
		kind := places[place.Row]
		q := waiting[i]
		require.Equal(t, kinds[kind].sqlstate, q.SQLState, "%s: %+v", kind, q)
		require.NotEmpty(t, q.Reason, kind)
		require.Equal(t, batch.ID, q.Batch, kind)
		require.Equal(t, kinds[kind].row.Organization, q.Organization, kind)
	}
	requireGood := func() {
		t.Helper()
		for i, id := range organizations {
			for _, n := range []int{0, i, 499} {
				require.EqualValues(t, 1000+n, f.value(id, evaluations, today-calendar.Day(n)))
			}
		}
		// A row without its bad identified report is good.
		require.EqualValues(t, 5, f.value(victim, evaluations, today-200))
		require.EqualValues(t, 5, f.value(victim, evaluations, today-201))
		require.EqualValues(t, 0, f.value(victim, evaluations, today-202))
		require.EqualValues(t, good+2+1, f.count(`SELECT count(*) FROM usage_batch_rows`))
	}
	requireGood()

	// Again, as after a lost answer or by a replay of the journal: nothing is done, and it is answered alike.
	again, err := f.ApplyBatch(t.Context(), batch)
	require.NoError(t, err)
	require.True(t, again.Duplicate)
	require.Equal(t, applied.Quarantined, again.Quarantined)
	require.Equal(t, applied.Stored[:good], again.Stored[:good])
	require.Empty(t, again.Repeated)
	requireGood()

	// Identities of what is set aside are known, and the sequence goes on.
	repeat := w.batch(withIdentified(meter.Row{Organization: victim, Meter: evaluations, Aggregation: plans.Sum, Day: today, IdentifiedOnly: true},
		reported("seven", today, 7), reported("negative", today, 9), reported("new", today, 9)))
	applied, err = f.ApplyBatch(t.Context(), repeat)
	require.NoError(t, err)
	require.Equal(t, []meter.BatchPlace{{Row: 0, Report: 0}, {Row: 0, Report: 1}}, applied.Repeated)
	require.Equal(t, []int64{9}, applied.Stored)

	found, err := f.Reconcile(t.Context(), today-300, today)
	require.NoError(t, err)
	require.Empty(t, found.Differences)
}

// TestUnavailabilitySetsNothingAside makes a batch fail by what is no fault of its rows.
func TestUnavailabilitySetsNothingAside(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	for name, fault := range map[string][2]string{
		"no privilege": {`REVOKE INSERT ON usage_batch_rows FROM tollgate_api`, `GRANT INSERT ON usage_batch_rows TO tollgate_api`},
		"no table":     {`ALTER TABLE usage_daily RENAME TO elsewhere`, `ALTER TABLE elsewhere RENAME TO usage_daily`},
	} {
		f.exec(fault[0])
		batch := w.batch(row(o, evaluations, today, 1))
		_, err := f.ApplyBatch(t.Context(), batch)
		require.Error(t, err, name)
		f.exec(fault[1])
		require.EqualValues(t, 0, f.count(`SELECT count(*) FROM usage_quarantine`), name)
		_, err = f.ApplyBatch(t.Context(), batch)
		require.NoError(t, err, name)
	}
}

// TestQuarantineIsDecidedOnce applies and drops: twice is once, and the other decision is
// refused.
func TestQuarantineIsDecidedOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	f.exec(`ALTER TABLE usage_daily ADD CONSTRAINT no_thirteen CHECK (value <> 13)`)
	w.flush(row(o, evaluations, today, 13), row(o, evaluations, today-1, 13), row(o, simulations, today, 1))
	waiting, err := f.Quarantine(t.Context(), meter.QuarantineWaiting, o, uuid.Nil, 10)
	require.NoError(t, err)
	require.Len(t, waiting, 2)
	first, second := waiting[0].ID, waiting[1].ID

	_, err = f.ApplyQuarantined(t.Context(), first, "key 1", "try")
	require.ErrorIs(t, err, meter.ErrQuarantineRefused)
	require.ErrorContains(t, err, "no_thirteen")
	f.exec(`ALTER TABLE usage_daily DROP CONSTRAINT no_thirteen`)
	for range 2 {
		applied, err := f.ApplyQuarantined(t.Context(), first, "key 1", "mended")
		require.NoError(t, err)
		require.Equal(t, meter.QuarantineApplied, applied.State)
		require.Equal(t, "key 1", applied.DecidedBy)
		require.Equal(t, "mended", applied.Note)
		require.NotZero(t, applied.DecidedAt)
	}
	_, err = f.DropQuarantined(t.Context(), first, "key 1", "no")
	require.ErrorIs(t, err, meter.ErrQuarantineDecided)
	_, err = f.DropQuarantined(t.Context(), second, "key 1", "")
	require.ErrorContains(t, err, "note")
	for range 2 {
		dropped, err := f.DropQuarantined(t.Context(), second, "key 1", "not theirs")
		require.NoError(t, err)
		require.Equal(t, meter.QuarantineDropped, dropped.State)
	}
	_, err = f.ApplyQuarantined(t.Context(), second, "key 1", "")
	require.ErrorIs(t, err, meter.ErrQuarantineDecided)
	_, err = f.ApplyQuarantined(t.Context(), uuid.Must(uuid.NewV7()), "key 1", "")
	require.ErrorIs(t, err, meter.ErrQuarantineNotFound)
	require.EqualValues(t, 13, f.value(o, evaluations, waiting[0].Day))
	require.EqualValues(t, 0, f.value(o, evaluations, waiting[1].Day))
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM usage_batches WHERE instance_id = $1`, pgstore.DirectInstance))
}

// TestQuarantineDecisionsRaced has many apply and drop the same at once: one decision is
// carried out, once.
func TestQuarantineDecisionsRaced(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	f.exec(`ALTER TABLE usage_daily ADD CONSTRAINT no_thirteen CHECK (value <> 13)`)
	f.instance().flush(row(o, evaluations, today, 13))
	f.exec(`ALTER TABLE usage_daily DROP CONSTRAINT no_thirteen`)
	waiting, err := f.Quarantine(t.Context(), "", o, uuid.Nil, 10)
	require.NoError(t, err)
	var group errgroup.Group
	for n := range 8 {
		group.Go(func() error {
			decide := f.ApplyQuarantined
			if n%2 == 1 {
				decide = f.DropQuarantined
			}
			_, err := decide(t.Context(), waiting[0].ID, "somebody", "raced")
			if errors.Is(err, meter.ErrQuarantineDecided) {
				return nil
			}
			return err
		})
	}
	require.NoError(t, group.Wait())
	decided, err := f.Quarantined(t.Context(), waiting[0].ID)
	require.NoError(t, err)
	want := map[meter.QuarantineState]int64{meter.QuarantineApplied: 13, meter.QuarantineDropped: 0}[decided.State]
	require.Equal(t, want, f.value(o, evaluations, today))
}

// TestQuarantineStaysConsumed sets leased usage aside: its quota is used until it is
// dropped, whether its window was open or opens later, and moves once where it is applied.
func TestQuarantineStaysConsumed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	day := quotaWindow(o, today)
	ask := func(window meter.QuotaWindow, generation, issued int64) meter.LeaseAnswer {
		answers, err := f.AdjustLeases(t.Context(), meter.BatchID{Instance: w.id}, []meter.LeaseAsk{{
			QuotaWindow: window, Generation: generation, Version: 1, Issued: issued, Need: issued, Plan: "free", PlanVersion: 1, Max: 1000,
		}})
		require.NoError(t, err)
		return answers.Answers[0]
	}
	require.EqualValues(t, 300, ask(day, 1, 300).Issued)
	f.exec(`ALTER TABLE usage_daily ADD CONSTRAINT not_200 CHECK (value NOT IN (200, 250))`)
	leased := row(o, evaluations, today, 200)
	leased.Leased.Day = 200
	w.flush(leased, row(o, evaluations, today-1, 250))
	windows := func() [3]int64 {
		return [3]int64{
			f.count(`SELECT consumed FROM quota_windows WHERE window_start = $1`, today.Start()),
			f.count(`SELECT leased FROM quota_windows WHERE window_start = $1`, today.Start()),
			f.count(`SELECT coalesce(sum(unleased), 0)::bigint FROM quota_windows`),
		}
	}
	require.Equal(t, [3]int64{200, 100, 0}, windows())
	// The window of the day before opens later.
	require.EqualValues(t, 250, ask(quotaWindow(o, today-1), 2, 10).Unleased)
	require.Equal(t, [3]int64{200, 100, 250}, windows())
	agree := func(waiting int64) {
		t.Helper()
		found, err := f.Reconcile(t.Context(), today-1, today)
		require.NoError(t, err)
		require.Empty(t, found.Differences)
		require.Equal(t, waiting, found.Quarantined)
	}
	agree(2)
	snapshot, err := f.LoadOrganization(t.Context(), o, today)
	require.NoError(t, err)
	require.Len(t, snapshot.Usage, 1)
	require.EqualValues(t, 200, snapshot.Usage[0].QuarantinedDay)
	require.EqualValues(t, 450, snapshot.Usage[0].QuarantinedMonth)

	waiting, err := f.Quarantine(t.Context(), meter.QuarantineWaiting, o, uuid.Nil, 10)
	require.NoError(t, err)
	require.Len(t, waiting, 2)
	require.EqualValues(t, 200, waiting[0].Value)
	require.EqualValues(t, 200, waiting[0].Leased.Day)
	f.exec(`ALTER TABLE usage_daily DROP CONSTRAINT not_200`)
	_, err = f.ApplyQuarantined(t.Context(), waiting[0].ID, "key", "mended")
	require.NoError(t, err)
	require.Equal(t, [3]int64{200, 100, 250}, windows())
	require.EqualValues(t, 200, f.value(o, evaluations, today))
	agree(1)
	_, err = f.DropQuarantined(t.Context(), waiting[1].ID, "key", "not theirs")
	require.NoError(t, err)
	require.Equal(t, [3]int64{200, 100, 0}, windows())
	agree(0)
	decided, err := f.QuarantineDecidedSince(t.Context(), waiting[0].QuarantinedAt)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{o}, decided)
	decided, err = f.QuarantineDecidedSince(t.Context(), time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.Empty(t, decided)
}

func quotaWindow(organization uuid.UUID, day calendar.Day) meter.QuotaWindow {
	return meter.QuotaWindow{Organization: organization, Meter: evaluations, Kind: calendar.WindowDay, Start: day}
}

// TestADaysSumIsBounded lets two instances fill a day together, neither of which can see it
// at admission: what doesn't fit waits, and direct writes and reservations are told.
func TestADaysSumIsBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "enterprise").ID
	a, b := f.instance(), f.instance()
	a.flush(row(o, evaluations, today, plans.MaxDaySum-1))
	b.flush(row(o, evaluations, today, 2), row(o, evaluations, today-1, 5))
	require.EqualValues(t, plans.MaxDaySum-1, f.value(o, evaluations, today))
	require.EqualValues(t, 5, f.value(o, evaluations, today-1))
	require.ErrorIs(t, f.IncrementUsage(t.Context(), o, evaluations, today, 2), meter.ErrQuantityOverflow)
	require.NoError(t, f.IncrementUsage(t.Context(), o, evaluations, today, 1))
	n, err := f.QuarantinedRows(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, n)

	unlimited := draft(o, 3)
	unlimited.Plan, unlimited.Mode, unlimited.Max = "enterprise", plans.Unlimited, 0
	held := f.heldOn(unlimited, today)
	_, err = f.CommitReservation(t.Context(), o, held.ID, nil)
	require.ErrorIs(t, err, meter.ErrQuantityOverflow)
}
