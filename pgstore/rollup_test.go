package pgstore_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
)

func (f *fixture) rollUp(day calendar.Day) billing.DayRollup {
	f.t.Helper()
	rollup, err := f.RollUpDay(f.t.Context(), day)
	require.NoError(f.t, err)
	return rollup
}

// rolled is a row of a rolled day.
type rolled struct {
	Value       int64
	Carried     bool
	MonthToDate int64
	UnitSeconds string
}

// rolledDay reads one row of a rolled day; the zero value where there is none.
func (f *fixture) rolledDay(organization uuid.UUID, meterKey string, day calendar.Day) (r rolled) {
	f.t.Helper()
	rows, err := f.owner.Query(f.t.Context(), `
		SELECT value, carried, month_to_date, coalesce(unit_seconds::text, '') FROM usage_rolled
		WHERE organization_id = $1 AND meter = $2 AND day = $3`, organization, meterKey, day.Start())
	require.NoError(f.t, err)
	defer rows.Close()
	for rows.Next() {
		require.NoError(f.t, rows.Scan(&r.Value, &r.Carried, &r.MonthToDate, &r.UnitSeconds))
	}
	require.NoError(f.t, rows.Err())
	return r
}

// monthToDate is what the rolled days of a month, up to one of them, say of a meter.
type monthToDate struct {
	Meter       string
	Through     calendar.Day
	Value       int64
	UnitSeconds string
}

// monthToDate reads the last rolled day up to a day of its month, in the order of the
// catalog's meters, and adds up the unit-seconds.
func (f *fixture) monthToDate(organization uuid.UUID, day calendar.Day) []monthToDate {
	f.t.Helper()
	rows, err := f.owner.Query(f.t.Context(), `
		SELECT DISTINCT ON (m.position) r.meter, r.day, r.month_to_date,
			coalesce(trim_scale(sum(r.unit_seconds) OVER (PARTITION BY r.meter))::text, '')
		FROM usage_rolled r JOIN meters m ON m.key = r.meter
		WHERE r.organization_id = $1 AND r.day BETWEEN $2 AND $3
		ORDER BY m.position, r.day DESC`, organization, day.Month().Start(), day.Start())
	require.NoError(f.t, err)
	months, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (m monthToDate, err error) {
		var through time.Time
		err = r.Scan(&m.Meter, &through, &m.Value, &m.UnitSeconds)
		m.Through = calendar.DayOf(through)
		return m, err
	})
	require.NoError(f.t, err)
	return months
}

func hour(day calendar.Day, hours float64) time.Time {
	return day.Start().Add(time.Duration(hours * float64(time.Hour)))
}

func TestRollUpFoldsByAggregation(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a, b := f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID
	v, w := f.instance(), f.instance()
	v.flush(row(a, evaluations, today, 10), row(a, entities, today, 70), rowAt(a, storage, today, 500, hour(today, 6)), row(b, evaluations, today, 1))
	w.flush(row(a, evaluations, today, 5), row(a, entities, today, 40), rowAt(a, storage, today, 900, hour(today, 3)))
	v.flush(row(a, evaluations, today, 2), row(a, entities, today+1, 99), rowAt(a, storage, today, 300, hour(today, 18)))

	got := f.rollUp(today)
	require.Equal(t, billing.DayRollup{Day: today, Revision: 1, Batches: 3, Rows: 4}, got)
	require.Equal(t, rolled{Value: 17, MonthToDate: 17}, f.rolledDay(a, evaluations, today))
	require.Equal(t, rolled{Value: 70, MonthToDate: 70}, f.rolledDay(a, entities, today))
	require.Equal(t, rolled{Value: 1, MonthToDate: 1}, f.rolledDay(b, evaluations, today))
	// 900 from 3:00 to 6:00, 500 to 18:00, 300 to midnight.
	require.Equal(t, rolled{Value: 300, MonthToDate: 300, UnitSeconds: "37800000"}, f.rolledDay(a, storage, today))
	require.EqualValues(t, 2, f.count(`SELECT through_seq FROM usage_rollup_batches WHERE day = $1 AND instance_id = $2`, today.Start(), v.id))
	require.EqualValues(t, 1, f.count(`SELECT through_seq FROM usage_rollup_batches WHERE day = $1 AND instance_id = $2`, today.Start(), w.id))
}

func TestRollUpIsIdempotent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	w.flush(row(o, evaluations, today, 10), row(o, storage, today, 7))
	first := f.rollUp(today)
	second := f.rollUp(today)
	require.Equal(t, 2, second.Revision, "each run is a revision")
	second.Revision = first.Revision
	require.Equal(t, first, second)
	require.EqualValues(t, 1, f.count(`SELECT content_revision FROM usage_rollups`), "nothing changed")
}

func TestRollUpTakesInLateUsage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	w.flush(row(o, evaluations, today, 10))
	f.rollUp(today)
	days, err := f.DaysToRollUp(t.Context(), today-3, today)
	require.NoError(t, err)
	require.Empty(t, days)

	w.flush(row(o, evaluations, today, 5))
	days, err = f.DaysToRollUp(t.Context(), today-3, today)
	require.NoError(t, err)
	require.Equal(t, []calendar.Day{today}, days, "usage came after the rollup")

	require.Equal(t, 2, f.rollUp(today).Revision)
	require.Equal(t, rolled{Value: 15, MonthToDate: 15}, f.rolledDay(o, evaluations, today))
	days, err = f.DaysToRollUp(t.Context(), today-3, today)
	require.NoError(t, err)
	require.Empty(t, days)
}

func TestDaysToRollUp(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	all := func(from, to calendar.Day) []calendar.Day {
		days, err := f.DaysToRollUp(t.Context(), from, to)
		require.NoError(t, err)
		return days
	}
	require.Empty(t, all(today-9, today), "no usage at all")

	o := f.organization("Acme", "free").ID
	w := f.instance()
	w.flush(row(o, evaluations, today-5, 1), row(o, evaluations, today-1, 1))
	require.Equal(t, []calendar.Day{today - 5, today - 4, today - 3, today - 2, today - 1, today}, all(today-9, today),
		"from the first usage on; a level may be carried over the days without usage")
	require.Equal(t, []calendar.Day{today - 2}, all(today-2, today-2))
	for day := today - 5; day <= today; day++ {
		f.rollUp(day)
	}
	require.Empty(t, all(today-9, today))

	f.rollUp(today - 3)
	require.Empty(t, all(today-9, today), "a rollup that changes nothing makes no later day outdated")
	w.flush(row(o, evaluations, today-3, 1))
	require.Equal(t, []calendar.Day{today - 3, today - 2, today - 1, today}, all(today-9, today), "the days after continue it")
	f.rollUp(today - 3)
	require.Equal(t, []calendar.Day{today - 2, today - 1, today}, all(today-9, today), "they continue what it was before")
	f.rollUp(today - 2)
	require.Equal(t, []calendar.Day{today - 1, today}, all(today-9, today), "also through a day that has no usage")
	f.rollUp(today - 1)
	f.rollUp(today)
	require.Empty(t, all(today-9, today))
}

func TestMonthToDate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o, other := f.organization("Acme", "free").ID, f.organization("Other", "free").ID
	first := today.Month()
	w := f.instance()
	w.flush(
		row(o, evaluations, first-1, 1000), row(o, evaluations, first, 10), row(o, evaluations, first+2, 5),
		row(o, entities, first, 70), row(o, entities, first+2, 40),
		rowAt(o, storage, first, 100, hour(first, 0)), row(other, evaluations, first, 9),
	)
	for day := first - 1; day <= first+2; day++ {
		f.rollUp(day)
	}
	require.Equal(t, []monthToDate{
		{Meter: evaluations, Through: first + 2, Value: 15},
		{Meter: entities, Through: first + 2, Value: 70},
		{Meter: storage, Through: first + 2, Value: 100, UnitSeconds: "25920000"},
	}, f.monthToDate(o, first+2), "the month before is not in it")
	require.Equal(t, []monthToDate{
		{Meter: evaluations, Through: first, Value: 10},
		{Meter: entities, Through: first, Value: 70},
		{Meter: storage, Through: first + 1, Value: 100, UnitSeconds: "17280000"},
	}, f.monthToDate(o, first+1))
}

// Late usage moves the month to date of every later day, also over days without usage.
func TestMonthToDateAfterLateUsage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	w.flush(row(o, evaluations, today-3, 10), row(o, evaluations, today, 1))
	for day := today - 3; day <= today; day++ {
		f.rollUp(day)
	}
	require.EqualValues(t, 11, f.rolledDay(o, evaluations, today).MonthToDate)
	w.flush(row(o, evaluations, today-3, 100))
	for {
		// Whoever rolls up what is named ends with a month that is right.
		days, err := f.DaysToRollUp(t.Context(), today-3, today)
		require.NoError(t, err)
		if len(days) == 0 {
			break
		}
		f.rollUp(days[0])
	}
	require.EqualValues(t, 111, f.rolledDay(o, evaluations, today).MonthToDate)
}

// A level holds until the next report: over days without one, and over months.
func TestLevelsAreCarried(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	day := today.Month() - 2
	w := f.instance()
	w.flush(rowAt(o, storage, day, 100, hour(day, 12)))
	w.flush(rowAt(o, storage, day+3, 40, hour(day+3, 6)), rowAt(o, evaluations, day, 1, hour(day, 1)))
	w.flush(rowAt(o, storage, day+4, 0, hour(day+4, 6)))
	for d := day; d <= day+6; d++ {
		f.rollUp(d)
	}
	want := []rolled{
		{Value: 100, MonthToDate: 100, UnitSeconds: "4320000"}, // from noon on
		{Value: 100, Carried: true, MonthToDate: 100, UnitSeconds: "8640000"},
		{Value: 100, Carried: true, MonthToDate: 100, UnitSeconds: "8640000"}, // the month's first
		{Value: 40, MonthToDate: 40, UnitSeconds: "4752000"},                  // 100 to 6:00, then 40
		{Value: 0, MonthToDate: 0, UnitSeconds: "864000"},                     // 40 to 6:00, then none
		{},
		{},
	}
	for i, w := range want {
		require.Equal(t, w, f.rolledDay(o, storage, day+calendar.Day(i)), "day %d", i)
	}
	require.Zero(t, f.count(`SELECT count(*) FROM usage_daily WHERE day = $1`, (day+1).Start()), "a record is never made up")
}

// The level before a day is known although the days before it were not rolled up.
func TestRollUpAfterAGap(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	w.flush(rowAt(o, storage, today-4, 100, hour(today-4, 12)), rowAt(o, storage, today-2, 200, hour(today-2, 12)))
	f.rollUp(today)
	require.Equal(t, rolled{Value: 200, Carried: true, MonthToDate: 200, UnitSeconds: "17280000"}, f.rolledDay(o, storage, today))

	f.rollUp(today - 4)
	days, err := f.DaysToRollUp(t.Context(), today-4, today)
	require.NoError(t, err)
	require.Equal(t, []calendar.Day{today - 3, today - 2, today - 1, today}, days)
}

// A report's time may lie outside its day: replayed late, or written by an import.
func TestReportsOutsideTheirDay(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o, p := f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID
	w := f.instance()
	w.flush(rowAt(o, storage, today, 100, hour(today, -5)), rowAt(p, storage, today, 100, hour(today, 30)))
	f.rollUp(today)
	require.Equal(t, "8640000", f.rolledDay(o, storage, today).UnitSeconds, "from the start of the day")
	require.Equal(t, rolled{Value: 100, MonthToDate: 100, UnitSeconds: "0"}, f.rolledDay(p, storage, today), "from the end of the day")
}

func TestRollUpFindsVariances(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	w.flush(row(o, evaluations, today, 10), row(o, entities, today, 5), row(o, storage, today, 7), row(o, simulations, today, 1))
	f.exec(`UPDATE usage_daily SET value = 11 WHERE meter = $1`, evaluations)
	f.exec(`DELETE FROM usage_daily WHERE meter = $1`, entities)
	f.exec(`INSERT INTO usage_daily VALUES ($1, 'flow_executions', $2, 3, now())`, o, today.Start())

	got := f.rollUp(today)
	require.EqualValues(t, 3, got.VarianceCount)
	require.Equal(t, []billing.Variance{
		{Organization: o, Meter: entities, Day: today, Batches: 5, Records: 0},
		{Organization: o, Meter: evaluations, Day: today, Batches: 10, Records: 11},
		{Organization: o, Meter: "flow_executions", Day: today, Batches: 0, Records: 3},
	}, got.Variances)
	require.EqualValues(t, 3, f.count(`SELECT jsonb_array_length(variances) FROM usage_rollups`))
	require.Equal(t, rolled{Value: 10, MonthToDate: 10}, f.rolledDay(o, evaluations, today), "the batches are what counts")

	f.exec(`DELETE FROM usage_batch_rows WHERE meter = $1`, simulations)
	require.EqualValues(t, 4, f.rollUp(today).VarianceCount)
	require.Zero(t, f.rolledDay(o, simulations, today), "a row that no batch backs goes")
}

func TestRollUpKeepsTheFirstHundredVariances(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var rows []meter.Row
	for _, id := range f.tenants(150) {
		rows = append(rows, row(id, evaluations, today, 1))
	}
	f.instance().flush(rows...)
	f.exec(`UPDATE usage_daily SET value = 2`)
	got := f.rollUp(today)
	require.EqualValues(t, 150, got.VarianceCount)
	require.Len(t, got.Variances, 100)
}

// Two instances that report a snapshot at the same time are no variance.
func TestSimultaneousSnapshotsAgree(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	first, second := f.instance(), f.instance()
	for i, order := range [][]*writer{{first, second}, {second, first}} {
		day := today + calendar.Day(i)
		order[0].flush(rowAt(o, storage, day, 500, hour(day, 1)))
		order[1].flush(rowAt(o, storage, day, 300, hour(day, 1)))
		require.Zero(t, f.rollUp(day).VarianceCount)
		require.EqualValues(t, 300, f.rolledDay(o, storage, day).Value)
	}
}

// Flushes and rollups of one day at the same time: every rollup is of whole batches,
// and no usage that one misses leaves the day fresh.
func TestRollUpAmidFlushes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	organizations := []uuid.UUID{f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID}
	const instances, batches = 4, 25
	var flushing atomic.Int64
	flushing.Store(instances)
	var group errgroup.Group
	for range instances {
		w := f.instance()
		group.Go(func() error {
			defer flushing.Add(-1)
			for range batches {
				batch := w.batch(row(organizations[0], evaluations, today, 1), row(organizations[1], evaluations, today, 1), row(organizations[0], storage, today, 1))
				if _, err := f.ApplyBatch(t.Context(), batch); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		for flushing.Load() > 0 {
			rollup, err := f.RollUpDay(t.Context(), today)
			if err != nil {
				return err
			}
			if rollup.VarianceCount != 0 {
				t.Errorf("revision %d: %v", rollup.Revision, rollup.Variances)
			}
		}
		return nil
	})
	require.NoError(t, group.Wait())

	days, err := f.DaysToRollUp(t.Context(), today, today)
	require.NoError(t, err)
	if rolledNow := f.rolledDay(organizations[0], evaluations, today).Value; rolledNow != instances*batches {
		require.Equal(t, []calendar.Day{today}, days, "the rollup has %d of %d", rolledNow, instances*batches)
	}
	require.Zero(t, f.rollUp(today).VarianceCount)
	require.EqualValues(t, instances*batches, f.rolledDay(organizations[1], evaluations, today).Value)
	days, err = f.DaysToRollUp(t.Context(), today, today)
	require.NoError(t, err)
	require.Empty(t, days)
}
