package pgstore_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/plans"
)

// C10: increment creates and accumulates.
func TestIncrementCreatesAndAccumulates(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free")

	require.NoError(t, f.IncrementUsage(t.Context(), o.ID, evaluations, today, 5))
	require.EqualValues(t, 5, f.value(o.ID, evaluations, today))
	require.NoError(t, f.IncrementUsage(t.Context(), o.ID, evaluations, today, 7))
	require.EqualValues(t, 12, f.value(o.ID, evaluations, today))

	require.Zero(t, f.value(o.ID, evaluations, today+1), "another day is another record")
	require.Zero(t, f.value(o.ID, simulations, today), "another meter is another record")
}

// C3: current usage is a zero record where the day has none.
func TestCurrentUsageIsZeroWithoutARecord(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free")
	record, err := f.CurrentUsage(t.Context(), o.ID, evaluations, today)
	require.NoError(t, err)
	require.Equal(t, billing.UsageRecord{Organization: o.ID, Meter: evaluations, Day: today}, record)
}

// C10: a peak keeps the greatest.
func TestPeakKeepsGreatest(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free")
	for _, step := range []struct{ report, stored int64 }{{40, 40}, {75, 75}, {10, 75}, {75, 75}, {76, 76}} {
		require.NoError(t, f.UpdatePeak(t.Context(), o.ID, entities, today, step.report))
		require.Equal(t, step.stored, f.value(o.ID, entities, today), "after %d", step.report)
	}
	require.NoError(t, f.UpdatePeak(t.Context(), o.ID, entities, today+1, 3))
	require.EqualValues(t, 3, f.value(o.ID, entities, today+1), "a new day begins without a peak")
}

// C1: a snapshot takes the last, by the time of the report.
func TestSnapshotTakesTheLatestReport(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free")
	at := today.Start().Add(10 * time.Hour)
	for _, step := range []struct {
		report int64
		at     time.Time
		stored int64
	}{
		{500, at, 500},
		{300, at.Add(time.Hour), 300},
		{900, at.Add(-time.Hour), 300},
		{200, at.Add(time.Hour), 200}, // the same time: the later call counts
	} {
		require.NoError(t, f.UpdateSnapshot(t.Context(), o.ID, storage, today, step.report, step.at))
		require.Equal(t, step.stored, f.value(o.ID, storage, today), "after %d at %s", step.report, step.at)
	}
	record, err := f.CurrentUsage(t.Context(), o.ID, storage, today)
	require.NoError(t, err)
	require.Equal(t, at.Add(time.Hour), record.LastAt)
}

func TestDirectWritesRefuseWhatTheyCannotCount(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free")
	cases := []struct {
		name  string
		err   error
		field string
	}{
		{"a negative quantity", f.IncrementUsage(t.Context(), o.ID, evaluations, today, -1), "quantity"},
		{"a quantity beyond the limit", f.IncrementUsage(t.Context(), o.ID, evaluations, today, plans.MaxQuantity+1), "quantity"},
		{"an unknown meter", f.IncrementUsage(t.Context(), o.ID, "clicks", today, 1), "meter"},
		{"a sum of a peak meter", f.IncrementUsage(t.Context(), o.ID, entities, today, 1), "meter"},
		{"a peak of a sum meter", f.UpdatePeak(t.Context(), o.ID, evaluations, today, 1), "meter"},
		{"a snapshot of a sum meter", f.UpdateSnapshot(t.Context(), o.ID, evaluations, today, 1, today.Start()), "meter"},
		{"a negative peak", f.UpdatePeak(t.Context(), o.ID, entities, today, -1), "value"},
	}
	for _, c := range cases {
		var field *fault.FieldError
		require.ErrorAs(t, c.err, &field, c.name)
		require.Equal(t, c.field, field.Field, c.name)
		require.False(t, pgstore.Retryable(c.err), c.name)
	}
	require.ErrorIs(t, f.IncrementUsage(t.Context(), uuid.Must(uuid.NewV7()), evaluations, today, 1), fault.ErrNotFound)
	require.Zero(t, f.count(`SELECT count(*) FROM usage_batch_rows`))
}

// Direct writes are batches too, so that batches and records agree.
func TestDirectWritesAreBatches(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free")
	require.NoError(t, f.IncrementUsage(t.Context(), o.ID, evaluations, today, 5))
	require.NoError(t, f.UpdatePeak(t.Context(), o.ID, entities, today, 9))
	require.NoError(t, f.UpdateSnapshot(t.Context(), o.ID, storage, today, 7, today.Start().Add(time.Hour)))
	require.EqualValues(t, 3, f.count(`SELECT count(*) FROM usage_batch_rows`))

	instances, err := f.InstancesSince(t.Context(), time.Time{})
	require.NoError(t, err)
	require.Len(t, instances, 1)
	require.Equal(t, pgstore.DirectInstance, instances[0].ID)
	require.Equal(t, meter.InstanceStopped, instances[0].Status, "no rollup may wait for it")
	require.EqualValues(t, 3, instances[0].LastSeq)

	rollup, err := f.RollUpDay(t.Context(), today)
	require.NoError(t, err)
	require.Zero(t, rollup.VarianceCount)
	require.EqualValues(t, 3, rollup.Rows)
}

// C10: a range query, both ends included.
func TestRangeQuery(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o, other := f.organization("Acme", "free"), f.organization("Other", "free")
	w := f.instance()
	w.flush(
		row(o.ID, evaluations, today-2, 1), row(o.ID, evaluations, today-1, 2), row(o.ID, evaluations, today, 4), row(o.ID, evaluations, today+1, 8),
		row(o.ID, storage, today, 16), row(o.ID, entities, today, 32),
		row(other.ID, evaluations, today, 64),
	)
	record := func(m string, day calendar.Day, value int64) billing.UsageRecord {
		return billing.UsageRecord{Organization: o.ID, Meter: m, Day: day, Value: value, LastAt: day.Start().Add(12 * time.Hour)}
	}
	cases := []struct {
		name     string
		from, to calendar.Day
		meter    string
		want     []billing.UsageRecord
	}{
		{"one meter", today - 1, today, evaluations, []billing.UsageRecord{record(evaluations, today-1, 2), record(evaluations, today, 4)}},
		{"all meters, in the catalog's order", today, today + 1, "", []billing.UsageRecord{
			record(evaluations, today, 4), record(entities, today, 32), record(storage, today, 16), record(evaluations, today+1, 8),
		}},
		{"no usage", today - 9, today - 8, "", []billing.UsageRecord{}},
		{"an empty range", today, today - 1, "", []billing.UsageRecord{}},
	}
	for _, c := range cases {
		got, err := f.UsageRange(t.Context(), o.ID, c.from, c.to, c.meter)
		require.NoError(t, err, c.name)
		require.Empty(t, cmp.Diff(c.want, got), c.name)
	}
}

// C8, C10: the export of a range aggregates every meter, and names the organizations.
func TestRangeOfAllAggregatesEveryMeter(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a, b := f.organization("Acme", "free"), f.organization("Bolt", "pro")
	w := f.instance()
	w.flush(
		row(a.ID, evaluations, today-1, 10), row(a.ID, evaluations, today, 5), row(a.ID, evaluations, today+1, 1000),
		row(a.ID, "flow_executions", today, 3), row(a.ID, simulations, today, 2),
		row(a.ID, entities, today-1, 70), row(a.ID, entities, today, 40),
		row(a.ID, storage, today-1, 900), row(a.ID, storage, today, 800),
		row(b.ID, evaluations, today, 6),
	)
	total := func(o accounts.Organization, m, unit string, aggregation plans.Aggregation, value int64) billing.UsageTotal {
		return billing.UsageTotal{
			Organization: o.ID, OrganizationName: o.Name, Plan: o.Plan, Meter: m, Unit: unit, Aggregation: aggregation, Value: value,
		}
	}
	want := []billing.UsageTotal{
		total(a, evaluations, "evaluation", plans.Sum, 15),
		total(a, "flow_executions", "execution", plans.Sum, 3),
		total(a, simulations, "simulation", plans.Sum, 2),
		total(a, entities, "instance", plans.Max, 70),
		total(a, storage, "byte", plans.Last, 800),
		total(b, evaluations, "evaluation", plans.Sum, 6),
	}
	got, err := f.UsageRangeAll(t.Context(), today-1, today)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(want, got))
}

func TestLoadOrganization(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "pro")
	first := today.Month()
	w := f.instance()
	w.flush(
		row(o.ID, evaluations, first-1, 1000), row(o.ID, evaluations, first, 10), row(o.ID, evaluations, today, 5), row(o.ID, evaluations, today+1, 900),
		row(o.ID, entities, first, 70), row(o.ID, entities, today, 40),
		row(o.ID, storage, first, 900),
	)
	noon := today.Start().Add(12 * time.Hour)
	want := meter.Snapshot{Organization: o.ID, Plan: "pro", Usage: []meter.Stored{
		{Meter: evaluations, Day: 5, DayAt: noon, Month: 15},
		{Meter: entities, Day: 40, DayAt: noon, Month: 70},
		{Meter: storage, Day: 0, Month: 900},
	}}
	got, err := f.LoadOrganization(t.Context(), o.ID, today)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(want, got, cmpopts.IgnoreFields(meter.Snapshot{}, "Terms", "ReadAt", "Seen")))
	require.Len(t, got.Terms, 1)
	require.WithinDuration(t, time.Now(), got.ReadAt, time.Minute)
	require.False(t, got.Seen.Has(got.Seen.From))

	_, err = f.LoadOrganization(t.Context(), uuid.Must(uuid.NewV7()), today)
	require.ErrorIs(t, err, meter.ErrUnknownOrganization)
	require.False(t, pgstore.Retryable(err))
}

// Days that are full add up over a month, and over three years only as far as an int64 goes:
// beyond it the range is refused, and nothing is cut.
func TestFullDaysAddUp(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "enterprise")
	w := f.instance()
	month := today.Month()
	for day := month; day < month+31; day++ {
		w.flush(row(o.ID, evaluations, day, plans.MaxDaySum))
	}
	snapshot, err := f.LoadOrganization(t.Context(), o.ID, month+30)
	require.NoError(t, err)
	require.EqualValues(t, plans.MaxMonthSum, snapshot.Usage[0].Month)
	for day := month; day < month+31; day++ {
		f.rollUp(day)
	}
	require.EqualValues(t, plans.MaxMonthSum, f.monthToDate(o.ID, month+30)[0].Value)
	e := f.beginExport(period, "run")
	f.freeze(e.ID)
	require.EqualValues(t, plans.MaxMonthSum, f.totals(e.ID, 10)[0].Value)

	for day := month - 61; day < month; day++ {
		w.flush(row(o.ID, evaluations, day, plans.MaxDaySum))
	}
	totals, err := f.UsageRangeAll(t.Context(), month-61, month+30)
	require.NoError(t, err)
	require.EqualValues(t, 92*plans.MaxDaySum, totals[0].Value)
	w.flush(row(o.ID, evaluations, month-62, plans.MaxDaySum))
	_, err = f.UsageRangeAll(t.Context(), month-62, month+30)
	var field *fault.FieldError
	require.ErrorAs(t, err, &field)
	require.Equal(t, "to", field.Field)
	require.ErrorContains(t, err, o.ID.String())
}
