package pgstore_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
)

// under returns the row with the plan version that prices it.
func under(r meter.Row, plan string, version int) meter.Row {
	r.Plan, r.PlanVersion = plan, version
	return r
}

// Rows of one organization, meter and day under several plans stay apart in the batch, and
// fold into one record.
func TestRowsOfSeveralPlansFoldIntoOneRecord(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o, other := f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID
	at := func(hour int) time.Time { return today.Start().Add(time.Duration(hour) * time.Hour) }
	cases := map[string]struct {
		rows []meter.Row
		// first and second are what a batch of them is answered, and the same rows in another
		// one after it; lastAt is the record's time.
		first, second []int64
		lastAt        time.Time
	}{
		"a sum": {[]meter.Row{
			under(rowAt(o, evaluations, today, 5, at(9)), "pro", 1), under(rowAt(o, evaluations, today, 7, at(3)), "free", 1),
			under(rowAt(o, evaluations, today, 11, at(4)), "pro", 2), rowAt(o, evaluations, today, 13, at(1)),
		}, []int64{25, 20, 36, 13}, []int64{61, 56, 72, 49}, at(9)},
		"a peak": {[]meter.Row{
			under(rowAt(o, entities, today, 5, at(3)), "free", 1), under(rowAt(o, entities, today, 3, at(9)), "pro", 1),
		}, []int64{5, 5}, []int64{5, 5}, at(9)},
		"a level": {[]meter.Row{
			under(rowAt(o, storage, today, 5, at(9)), "free", 1), under(rowAt(o, storage, today, 3, at(3)), "pro", 1),
		}, []int64{5, 5}, []int64{5, 5}, at(9)},
		"levels at one time: the later in the batch's order": {[]meter.Row{
			under(rowAt(other, storage, today, 3, at(9)), "pro", 10), under(rowAt(other, storage, today, 5, at(9)), "pro", 9),
			under(rowAt(other, storage, today, 7, at(9)), "free", 1),
		}, []int64{3, 3, 3}, []int64{3, 3, 3}, at(9)},
	}
	for name, c := range cases {
		w := f.instance()
		batch := w.batch(c.rows...)
		require.Equal(t, c.first, f.apply(batch).Stored, name)
		again := f.apply(batch)
		require.True(t, again.Duplicate, name)
		require.Equal(t, slices.Repeat([]int64{slices.Max(c.first)}, len(c.rows)), again.Stored, name)
		require.EqualValues(t, len(c.rows), f.count(`SELECT count(*) FROM usage_batch_rows WHERE instance_id = $1`, w.id), name)
		require.Equal(t, c.second, w.flush(c.rows...), name)
		record, err := f.CurrentUsage(t.Context(), c.rows[0].Organization, c.rows[0].Meter, today)
		require.NoError(t, err)
		require.Equal(t, slices.Max(c.second), record.Value, name)
		require.Equal(t, c.lastAt, record.LastAt, name)
	}
	require.EqualValues(t, 22, f.count(`SELECT sum(value)::bigint FROM usage_batch_rows WHERE plan = 'pro' AND plan_version = 2`))
	require.EqualValues(t, 26, f.count(`SELECT sum(value)::bigint FROM usage_batch_rows WHERE plan = '' AND plan_version = 0`))

	rollup, err := f.RollUpDay(t.Context(), today)
	require.NoError(t, err)
	require.Empty(t, rollup.Variances)
	require.EqualValues(t, 4, rollup.Rows)
	require.EqualValues(t, 3, f.count(`SELECT value FROM usage_rolled WHERE organization_id = $1`, other))
	require.Empty(t, f.reconcile(today, today).Differences)
}

// Reports that were counted before leave their row idle, whatever the other rows of the day
// bring; the same identity under two plans counts once.
func TestRepeatedReportsAmongRowsOfSeveralPlans(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	f.instance().flush(identifiedRow(o, evaluations, keyed("a", 10, 1)))

	w := f.instance()
	batch := w.batch(
		under(identifiedRow(o, evaluations, keyed("a", 10, 1)), "free", 1),
		under(identifiedRow(o, evaluations, keyed("b", 5, 2)), "pro", 1),
		under(row(o, evaluations, today, 1), "pro", 2),
		under(identifiedRow(o, evaluations, keyed("b", 5, 2)), "pro", 3),
	)
	// Of a sum, each row is answered what the day had after it; one that wrote nothing, all of it.
	want := meter.Applied{
		Stored:   []int64{16, 15, 16, 16},
		Repeated: []meter.BatchPlace{{Row: 0}, {Row: 3}},
	}
	require.Equal(t, want, f.apply(batch))
	want.Duplicate, want.Stored[1] = true, 16
	require.Equal(t, want, f.apply(batch))
	require.EqualValues(t, 2, f.count(`SELECT count(*) FROM usage_batch_rows WHERE instance_id = $1`, w.id))
	require.EqualValues(t, 5, f.count(`SELECT value FROM usage_batch_rows WHERE plan = 'pro' AND plan_version = 1`))
}

// Rows of one record on both sides of the cut between two statements fold into it once.
func TestRecordAcrossStatements(t *testing.T) {
	t.Parallel()
	const size = chunkRows - 1
	f := newFixture(t)
	rows := make([]meter.Row, 0, size+3)
	for _, id := range f.tenants(size) {
		rows = append(rows, row(id, evaluations, today, 1))
	}
	last := uuid.MustParse("ffffffff-0000-7000-8000-000000000000")
	f.exec(`INSERT INTO organizations (id, name) VALUES ($1, 'Last')`, last)
	for i, value := range []int64{7, 9, 8} {
		rows = append(rows, under(rowAt(last, storage, today, value, today.Start().Add(time.Duration(9-i)*time.Hour)), "pro", i))
	}
	stored := f.instance().flush(rows...)
	require.Equal(t, []int64{1, 7}, []int64{stored[size-1], stored[size+2]})
	require.EqualValues(t, 7, f.value(last, storage, today))
	require.EqualValues(t, size+3, f.count(`SELECT count(*) FROM usage_batch_rows`))
	require.EqualValues(t, size+1, f.count(`SELECT count(*) FROM usage_daily`))
}

// A window that is open gets the usage of a day once, whatever plans it was under.
func TestRowsOfSeveralPlansSettleTheirWindow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	w.flush(under(row(o, evaluations, today, 100), "pro", 1))
	answers, err := f.AdjustLeases(t.Context(), meter.BatchID{Instance: w.id}, []meter.LeaseAsk{{
		QuotaWindow: meter.QuotaWindow{Organization: o, Meter: evaluations, Kind: calendar.WindowDay, Start: today},
		Generation:  1, Version: 1, Issued: 50, Need: 50, Plan: "free", PlanVersion: 1, Max: 1000,
	}})
	require.NoError(t, err)
	require.EqualValues(t, 50, answers.Answers[0].Issued)
	leased := under(row(o, evaluations, today, 30), "free", 1)
	leased.Leased.Day = 30
	w.flush(leased, under(row(o, evaluations, today, 7), "pro", 1))
	require.EqualValues(t, 30, f.count(`SELECT consumed FROM quota_windows`))
	require.EqualValues(t, 107, f.count(`SELECT unleased FROM quota_windows`))
	require.EqualValues(t, 20, f.count(`SELECT leased FROM quota_windows`))
}

// The second of two rows of a plan version is set aside.
func TestARowThatComesTwice(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	require.Equal(t, []int64{1, 0}, w.flush(under(row(o, evaluations, today, 1), "pro", 1), under(row(o, evaluations, today, 2), "pro", 1)))
	waiting, err := f.Quarantine(t.Context(), meter.QuarantineWaiting, o, uuid.Nil, 10)
	require.NoError(t, err)
	require.Len(t, waiting, 1)
	require.Equal(t, "pro", waiting[0].Plan)
	require.Equal(t, 1, waiting[0].PlanVersion)
	require.Contains(t, waiting[0].Reason, "twice")
}
