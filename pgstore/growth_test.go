package pgstore_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/webhooks"
)

// after returns the period that is n after another.
func after(p calendar.Period, n int) calendar.Period {
	for range n {
		p = calendar.PeriodOf(p.End())
	}
	return p
}

// droppable is a store where a period and the n after it are closed, with usage at the start of each.
func droppable(t *testing.T, n int) (f *fixture, o uuid.UUID, w *writer) {
	t.Helper()
	f = newClosingFixture(t)
	o, w = f.customer("Acme"), f.instance()
	require.NoError(t, f.EnsurePartitions(t.Context(), firstDay, 12))
	for i := range n + 1 {
		day := after(period, i).FirstDay()
		w.flush(row(o, evaluations, day, 5), row(o, storage, day, 9))
		f.rollUp(day)
		f.closePeriod(after(period, i))
	}
	return f, o, w
}

func (f *fixture) dropRows() int64 {
	f.t.Helper()
	n, err := f.DropUsageRows(f.t.Context(), 4)
	require.NoError(f.t, err)
	return n
}

func TestRowsOfClosedPeriodsAreDropped(t *testing.T) {
	t.Parallel()
	f, o, w := droppable(t, 4)
	require.EqualValues(t, 1, f.dropRows(), "the first month alone: four are closed after it")
	require.Zero(t, f.dropRows())
	require.EqualValues(t, 8, f.count(`SELECT count(*) FROM usage_batch_rows`))
	require.EqualValues(t, 5, f.value(o, evaluations, firstDay), "the record stays")
	require.Zero(t, f.count(`SELECT count(*) FROM pg_class WHERE relname = 'usage_batch_rows_' || to_char($1::date, '"y"YYYY"m"MM')`, firstDay.String()))

	found, err := f.Reconcile(t.Context(), firstDay, after(period, 4).LastDay())
	require.NoError(t, err)
	require.Zero(t, found.Different(), "%v", found.Differences)
	days, err := f.DaysToRollUp(t.Context(), firstDay, after(period, 1).FirstDay())
	require.NoError(t, err)
	require.Empty(t, days)

	// Usage that is later than all that looks back changes no record: somebody decides on it.
	late, err := f.ApplyBatch(t.Context(), w.batch(row(o, evaluations, firstDay, 2), row(o, evaluations, after(period, 4).FirstDay(), 1)))
	require.NoError(t, err)
	require.Len(t, late.Quarantined, 1)
	require.EqualValues(t, 5, f.value(o, evaluations, firstDay))
	require.EqualValues(t, 6, f.value(o, evaluations, after(period, 4).FirstDay()), "the rest is written")
	waiting, err := f.Quarantine(t.Context(), meter.QuarantineWaiting, o, uuid.Nil, 10)
	require.NoError(t, err)
	require.Len(t, waiting, 1)
	_, err = f.ApplyQuarantined(t.Context(), waiting[0].ID, "test", "it is ours")
	require.ErrorIs(t, err, meter.ErrQuarantineRefused)
	require.ErrorContains(t, err, "batch_rows_of_its_month_were_dropped")
	var field *fault.FieldError
	require.ErrorAs(t, f.IncrementUsage(t.Context(), o, evaluations, firstDay, 2), &field)
	require.Equal(t, "day", field.Field)
	// Nor does one that differs from a batch whose rows are gone, and of which nobody can tell what it has beyond that.
	other, err := f.ApplyBatch(t.Context(), meter.Batch{
		ID: meter.BatchID{Instance: w.id, Seq: 1}, Watermark: today.Start(), Rows: []meter.Row{row(o, evaluations, firstDay, 7)}, Reports: 7,
	})
	require.NoError(t, err)
	require.True(t, other.Differs)
	require.EqualValues(t, 5, f.value(o, evaluations, firstDay))
	waiting, err = f.Quarantine(t.Context(), meter.QuarantineWaiting, o, waiting[0].ID, 10)
	require.NoError(t, err)
	require.Len(t, waiting, 1)
	_, err = f.ApplyQuarantined(t.Context(), waiting[0].ID, "test", "it is ours")
	require.ErrorIs(t, err, meter.ErrQuarantineRefused)

	_, err = f.RollUpDay(t.Context(), firstDay)
	require.ErrorIs(t, err, billing.ErrRowsDropped)
	f.rollUp(after(period, 4).FirstDay())
	require.EqualValues(t, 5, f.rolledDay(o, evaluations, firstDay).Value)
	found, err = f.Reconcile(t.Context(), firstDay, after(period, 4).LastDay())
	require.NoError(t, err)
	require.Zero(t, found.Different(), "%v", found.Differences)
	require.EqualValues(t, 2, found.Quarantined)
	require.Zero(t, f.dropRows())
	require.EqualValues(t, 9, f.count(`SELECT count(*) FROM usage_batch_rows`))

	// The last closed one may still be opened again, and corrects those before it.
	second := after(period, 1).FirstDay()
	w.flush(row(o, evaluations, second, 3))
	f.rollUp(second)
	again := f.reopen(after(period, 4), "again")
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM export_corrections WHERE export_id = $1 AND corrected_id IN (
		SELECT id FROM exports WHERE period = $2)`, again.ID, second.Start()))

	// One that would look back on what is gone makes no statements at all.
	f.exec(`UPDATE exports SET stage = 'canceled', finished_at = now() WHERE id = $1`, again.ID)
	f.exec(`UPDATE exports SET stage = 'superseded' WHERE period = $1 AND stage = 'closed'`, after(period, 4).Start())
	revision := finalExport(after(period, 3), "looks back")
	revision.Reason = "a price was wrong"
	revision, err = f.ReopenExport(t.Context(), revision)
	require.NoError(t, err)
	_, err = f.FreezeExport(t.Context(), revision.ID)
	require.ErrorIs(t, err, billing.ErrRowsDropped)
}

// A level that was reported once holds on, whatever became of the rows that said so.
func TestLevelsOutliveTheirRows(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	o, w := f.customer("Acme"), f.instance()
	require.NoError(t, f.EnsurePartitions(t.Context(), firstDay, 12))
	w.flush(row(o, storage, firstDay, 9))
	roll := func(p calendar.Period) {
		days, err := f.DaysToRollUp(t.Context(), p.FirstDay(), p.LastDay())
		require.NoError(t, err)
		require.Len(t, days, int(p.LastDay()-p.FirstDay())+1)
		for _, day := range days {
			f.rollUp(day)
		}
	}
	for n := range 5 {
		roll(after(period, n))
		f.closePeriod(after(period, n))
	}
	require.EqualValues(t, 1, f.dropRows())
	require.Zero(t, f.count(`SELECT count(*) FROM usage_batch_rows`))

	unrolled := f.frozen(after(period, 5), "before its days are rolled up")
	level := func(e billing.Export) int64 {
		return f.count(`SELECT coalesce(sum(value), 0) FROM export_usage WHERE export_id = $1 AND meter = $2`, e.ID, storage)
	}
	require.EqualValues(t, 9, level(unrolled))
	f.exec(`UPDATE exports SET stage = 'canceled', finished_at = now() WHERE id = $1`, unrolled.ID)
	roll(after(period, 5))
	require.EqualValues(t, 9, f.rolledDay(o, storage, after(period, 5).LastDay()).Value)
	require.EqualValues(t, 9, level(f.closePeriod(after(period, 5))))
}

// Months that nobody closes keep those after them, until they are closed or the owner of the tables gives up their rows.
func TestRowsOfMonthsThatNobodyCloses(t *testing.T) {
	t.Parallel()
	f, o, w := droppable(t, 4)
	before := period.Previous()
	w.flush(row(o, evaluations, before.FirstDay(), 1))
	require.Zero(t, f.dropRows())
	forget := func(day calendar.Day) error {
		_, err := f.owner.Exec(t.Context(), `SELECT tollgate_forget_usage_rows($1)`, day.Start())
		return err
	}
	require.ErrorContains(t, forget(firstDay), "a day of it is not rolled up")
	days, err := f.DaysToRollUp(t.Context(), before.FirstDay(), firstDay)
	require.NoError(t, err)
	for _, day := range days {
		f.rollUp(day)
	}
	require.ErrorContains(t, forget(firstDay+1), "first day of a month")
	f.rollUp(after(period, 1).FirstDay())
	require.ErrorContains(t, forget(after(period, 2).FirstDay()), "closes after it correct it")
	require.NoError(t, forget(firstDay))
	require.NoError(t, forget(before.FirstDay()), "it never goes back")
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM usage_retention WHERE rows_from = $1`, firstDay.Start()))
	require.EqualValues(t, 1, f.value(o, evaluations, before.FirstDay()))
	require.EqualValues(t, 1, f.dropRows())

	late := finalExport(before, "late")
	late, _, err = f.BeginExport(t.Context(), late)
	require.NoError(t, err)
	_, err = f.FreezeExport(t.Context(), late.ID)
	require.ErrorIs(t, err, billing.ErrRowsDropped)
}

func TestRowsThatAreNotDoneWithStay(t *testing.T) {
	t.Parallel()
	t.Run("too few periods are closed after it", func(t *testing.T) {
		t.Parallel()
		f, _, _ := droppable(t, 3)
		require.Zero(t, f.dropRows())
		n, err := f.DropUsageRows(t.Context(), 0)
		require.NoError(t, err)
		require.Zero(t, n, "no setting goes below what closes look back on")
	})
	f, o, w := droppable(t, 4)
	for _, c := range []struct{ name, spoil, mend string }{
		{"it isn't closed", `UPDATE exports SET stage = 'superseded' WHERE period = $1`, `UPDATE exports SET stage = 'closed' WHERE period = $1`},
		{
			"one that corrects it is opened again", `INSERT INTO exports (id, period, workflow_id, run_id, stage, cut, provisional, requested_by, requested_at)
				VALUES (gen_random_uuid(), $1::date + interval '3 months', 'w', 'r', 'rating', now(), false, 'test', now())`,
			`DELETE FROM exports WHERE workflow_id = 'w' AND period > $1`,
		},
		{"a day isn't rolled up", `UPDATE usage_rollups SET stale = true WHERE day = $1`, `UPDATE usage_rollups SET stale = false WHERE day = $1`},
	} {
		f.exec(c.spoil, firstDay.String())
		require.Zero(t, f.dropRows(), c.name)
		f.exec(c.mend, firstDay.String())
	}
	w.flush(row(o, evaluations, firstDay, 2))
	require.Zero(t, f.dropRows(), "usage came after the close, and isn't rolled up yet")
	f.rollUp(firstDay)
	require.EqualValues(t, 1, f.dropRows())
}

func TestDeleteInstances(t *testing.T) {
	t.Parallel()
	f, o, w := droppable(t, 4)
	gone, idle := f.instance(), f.instance()
	gone.flush(row(o, evaluations, firstDay, 1))
	f.rollUp(firstDay)
	require.NoError(t, f.StopInstance(t.Context(), gone.id))
	require.NoError(t, f.StopInstance(t.Context(), idle.id))
	long := firstDay.Start().Add(24 * time.Hour)
	f.exec(`UPDATE usage_batches SET applied_at = $2 WHERE instance_id = $1 OR seq = 1`, gone.id, long)
	f.exec(`UPDATE instances SET seen_at = $1 WHERE status <> 'live'`, long)
	f.exec(`INSERT INTO quota_lost_leases VALUES ($1, 'evaluations', 'day', $2, $3, 5, $4)`, o, firstDay.Start(), gone.id, long)

	deleted, err := f.DeleteInstances(t.Context(), long)
	require.NoError(t, err)
	require.Equal(t, billing.Expired{}, deleted)
	deleted, err = f.DeleteInstances(t.Context(), time.Now())
	require.NoError(t, err)
	require.Equal(t, billing.Expired{LostLeases: 1}, deleted, "rows of their days are kept")
	require.EqualValues(t, 1, f.dropRows())
	deleted, err = f.DeleteInstances(t.Context(), time.Now())
	require.NoError(t, err)
	require.Equal(t, billing.Expired{Batches: 2, Instances: 2}, deleted)

	require.ErrorIs(t, f.RegisterInstance(t.Context(), meter.Instance{ID: gone.id, Host: "copy", StartedAt: long}), meter.ErrForgotten,
		"its journal would count again")
	require.NoError(t, f.RegisterInstance(t.Context(), meter.Instance{ID: w.id, Host: "test", StartedAt: long}), "one that is known is taken up")
	w.flush(row(o, evaluations, today, 1))
}

// tables says of each table what bounds it: nothing but a retention, or why it may grow with time.
var tables = map[string]string{
	"instances": "", "usage_batches": "", "usage_batch_rows": "", "usage_rollup_batches": "", "export_batches": "", "export_correction_batches": "",
	"usage_events": "", "usage_keys": "", "usage_conflicts": "", "usage_turns": "", "idempotent_writes": "", "reservations": "", "reservations_stuck": "",
	"quota_window_rows": "", "quota_leases": "", "plan_changes": "", "events": "", "webhook_endpoints": "", "webhook_deliveries": "", "webhook_attempts": "",
	"usage_retention": "", "sign_ins": "", "catalog_settings": "", "goose_db_version": "",
	"usage_daily": "the records", "usage_rolled": "the records", "usage_rollups": "the records",
	"usage_quarantine": "evidence", "usage_batch_conflicts": "evidence", "usage_missing_batches": "evidence", "quota_lost_leases": "",
	"audit_entries": "evidence", "audit_digests": "evidence",
	"organizations": "people", "organization_plans": "people", "organization_plan_changes": "people", "organization_customers": "people", "api_keys": "people",
	"proposals": "people", "sinks": "people", "meters": "people", "plans": "people", "plan_limits": "people",
	"exports": "books", "export_meters": "books", "export_organizations": "books", "export_usage": "books", "export_segments": "books",
	"export_segment_usage": "books", "export_corrections": "books", "export_parked": "books", "export_variances": "books", "export_decisions": "books",
	"export_credits": "books", "export_credit_uses": "books", "statements": "books", "statement_deliveries": "books", "statement_undelivered": "books",
	"credit_grants": "books", "credit_entries": "books",
}

// sizes counts the rows of every table, and the partitions of batch rows.
func (f *fixture) sizes() map[string]int64 {
	f.t.Helper()
	rows, err := f.owner.Query(f.t.Context(), `
		SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition`)
	require.NoError(f.t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(f.t, err)
	sizes := map[string]int64{"partitions of usage_batch_rows": f.count(`SELECT count(*) FROM pg_inherits WHERE inhparent = 'usage_batch_rows'::regclass`)}
	for _, name := range names {
		require.Contains(f.t, tables, name, "a table says whether it grows")
		sizes[name] = f.count(`SELECT count(*) FROM ` + pgx.Identifier{name}.Sanitize())
	}
	return sizes
}

// What is not a record, a book, evidence or made by people stops growing: over 14 months in which instances come and
// go each few days, with usage, identities and events on every day, and a close each month.
func TestTheDatabaseStopsGrowing(t *testing.T) {
	t.Parallel()
	f := newClosingFixture(t)
	o := f.customer("Acme")
	var w *writer
	var before map[string]int64
	for month := range 14 {
		p := after(period, month)
		require.NoError(t, f.EnsurePartitions(t.Context(), p.FirstDay(), 2))
		for day := p.FirstDay(); day <= p.LastDay(); day++ {
			if w == nil || day%5 == 0 {
				if w != nil {
					require.NoError(t, f.StopInstance(t.Context(), w.id))
					f.exec(`INSERT INTO quota_lost_leases VALUES ($1, 'evaluations', 'day', $2, $3, 5, $4)`, o, day.Start(), w.id, day.End())
				}
				w = f.instanceSince(day.Start())
			}
			f.liveOneDay(w, o, day)
		}
		if month > 0 {
			f.closePeriod(after(period, month-1))
		}
		f.keepHouse(p.End())
		if month == 9 {
			before = f.sizes()
		}
	}
	for table, size := range f.sizes() {
		if tables[table] == "" {
			require.LessOrEqual(t, size, before[table]+before[table]/8+2, table)
		}
	}
}

// liveOneDay has a day of usage, of which one report bears an identity, and an event that is sent, and rolls it up; what the database's
// clock wrote is as of that day.
func (f *fixture) liveOneDay(w *writer, o uuid.UUID, day calendar.Day) {
	f.t.Helper()
	identified := row(o, evaluations, day, 1)
	identified.Identified = []meter.IdentifiedReport{{Identity: meter.KeyIdentity(day.String()), Quantity: 1, At: day.Start()}}
	w.flush(identified, row(o, storage, day, 9))
	require.NoError(f.t, f.IncrementUsage(f.t.Context(), o, evaluations, day, 1))
	f.rollUp(day)
	if day%10 == 0 {
		e := occurred(day.String(), events.ExportIssued, o)
		to := f.endpoint(o)
		require.NoError(f.t, f.PublishEvents(f.t.Context(), e))
		_, err := f.PrepareWebhookDeliveries(f.t.Context(), e.ID)
		require.NoError(f.t, err)
		require.NoError(f.t, f.MarkEventDispatched(f.t.Context(), e.ID))
		require.NoError(f.t, f.RecordWebhookAttempt(f.t.Context(), webhooks.Attempt{
			Event: e.ID, Endpoint: to.ID, ID: "run/1", State: webhooks.Delivered, Response: webhooks.Response{Status: 200, At: day.Start()},
		}))
		require.NoError(f.t, f.DeleteEndpoint(f.t.Context(), o, to.ID))
	}
	f.exec(`
		WITH a AS (
				UPDATE usage_batches b SET applied_at = $1 FROM instances i
				WHERE i.id IN ($2, $5) AND b.instance_id = i.id AND b.seq = i.last_seq),
			b AS (UPDATE instances SET seen_at = $1 WHERE id = $2),
			c AS (UPDATE usage_events SET counted_at = $1 WHERE instance_id = $2 AND seq = $3),
			d AS (UPDATE events SET created_at = $1 WHERE key = $4),
			e AS (UPDATE webhook_deliveries SET updated_at = $1 WHERE event_id IN (SELECT id FROM events WHERE key = $4))
		UPDATE webhook_endpoints SET deleted_at = $1 WHERE deleted_at > $1`, day.End(), w.id, w.seq, day.String(), pgstore.DirectInstance)
}

// keepHouse is the housekeeping of a time; events of closes are dispatched before it.
func (f *fixture) keepHouse(at time.Time) {
	f.t.Helper()
	f.exec(`UPDATE events SET created_at = $1, dispatched_at = $1 WHERE dispatched_at IS NULL`, at)
	_, err := f.DeleteExpired(f.t.Context(), at.Add(-meter.IdentityRetention))
	require.NoError(f.t, err)
	_, err = f.DeleteEvents(f.t.Context(), at.AddDate(0, 0, -70))
	require.NoError(f.t, err)
	f.dropRows()
	_, err = f.DeleteInstances(f.t.Context(), at.AddDate(0, 0, -70))
	require.NoError(f.t, err)
}
