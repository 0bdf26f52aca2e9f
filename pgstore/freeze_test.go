package pgstore_test

import (
	"fmt"
	"math/big"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// lateUsage reads the rows of the batches after an export's marks.
func (f *fixture) lateUsage(id uuid.UUID) []meter.Row {
	f.t.Helper()
	rows, err := f.owner.Query(f.t.Context(), `
		SELECT r.organization_id, r.meter, r.day, r.value FROM usage_batch_rows r
		LEFT JOIN export_batches b ON b.export_id = $1 AND b.instance_id = r.instance_id
		WHERE r.seq > coalesce(b.through_seq, 0)
		ORDER BY r.organization_id, r.meter, r.day, r.instance_id, r.seq`, id)
	require.NoError(f.t, err)
	late, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (meter.Row, error) {
		var organization uuid.UUID
		var key string
		var day time.Time
		var value int64
		err := r.Scan(&organization, &key, &day, &value)
		return row(organization, key, calendar.DayOf(day), value), err
	})
	require.NoError(f.t, err)
	return late
}

// totals reads all frozen totals, page by page.
func (f *fixture) totals(id uuid.UUID, page int) []billing.UsageTotal {
	f.t.Helper()
	var all []billing.UsageTotal
	after := uuid.Nil
	for {
		next, err := f.ExportTotals(f.t.Context(), id, after, page)
		require.NoError(f.t, err)
		if len(next) == 0 {
			return all
		}
		organizations := map[uuid.UUID]bool{}
		for _, total := range next {
			organizations[total.Organization] = true
		}
		require.LessOrEqual(f.t, len(organizations), page)
		all = append(all, next...)
		after = next[len(next)-1].Organization
	}
}

// C10: an export aggregates every meter.
func TestExportAggregatesEveryMeter(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a, b := f.organization("Acme", "free"), f.organization("Bolt", "pro")
	f.exec(`UPDATE organization_plans SET effective_from = $1`, period.Start())
	w := f.instance()
	w.flush(
		row(a.ID, evaluations, firstDay-1, 1000), row(a.ID, evaluations, firstDay, 10), row(a.ID, evaluations, lastDay, 5), row(a.ID, evaluations, lastDay+1, 1000),
		row(a.ID, "flow_executions", today, 3), row(a.ID, simulations, today, 2),
		row(a.ID, entities, firstDay, 70), row(a.ID, entities, lastDay, 40),
		rowAt(a.ID, storage, lastDay-1, 900, hour(lastDay-1, 0)), rowAt(a.ID, storage, lastDay, 800, hour(lastDay, 12)),
		row(b.ID, evaluations, today, 6),
	)
	for day := firstDay - 1; day <= lastDay; day++ {
		f.rollUp(day)
	}
	e := f.beginExport(period, "run")
	require.Equal(t, []billing.BatchMark{{Instance: w.id, Through: 1}}, f.freeze(e.ID))

	total := func(o accounts.Organization, m, unit string, aggregation plans.Aggregation, value int64, unitSeconds string) billing.UsageTotal {
		return billing.UsageTotal{
			Organization: o.ID, OrganizationName: o.Name, Plan: o.Plan, Meter: m, Unit: unit,
			Aggregation: aggregation, Value: value, UnitSeconds: unitSeconds,
		}
	}
	want := []billing.UsageTotal{
		total(a, evaluations, "evaluation", plans.Sum, 15, ""),
		total(a, "flow_executions", "execution", plans.Sum, 3, ""),
		total(a, simulations, "simulation", plans.Sum, 2, ""),
		total(a, entities, "instance", plans.Max, 70, ""),
		total(a, storage, "byte", plans.Last, 800, fmt.Sprint(3600*(36*900+12*800))),
		total(b, evaluations, "evaluation", plans.Sum, 6, ""),
	}
	for _, page := range []int{1, 2, 100} {
		require.Empty(t, cmp.Diff(want, f.totals(e.ID, page)), "pages of %d", page)
	}
}

// Whatever happens after the freeze, the totals stay, to the byte.
func TestNothingChangesFrozenTotals(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free")
	v, w := f.instance(), f.instance()
	v.flush(row(o.ID, evaluations, today, 10), row(o.ID, storage, today, 7))
	f.rollUp(today)
	v.flush(row(o.ID, evaluations, today+1, 20))

	e := f.beginExport(period, "run")
	marks := f.freeze(e.ID)
	require.Equal(t, []billing.BatchMark{{Instance: v.id, Through: 2}}, marks)
	frozen := f.totals(e.ID, 10)
	require.EqualValues(t, 30, frozen[0].Value)

	v.flush(row(o.ID, evaluations, today, 1), row(o.ID, evaluations, today+1, 1))
	w.flush(row(o.ID, evaluations, today+2, 5), row(o.ID, storage, today, 1))
	f.rollUp(today)
	f.rollUp(today + 1)
	name, plan := "Acme II", "enterprise"
	_, err := f.UpdateOrganization(t.Context(), o.ID, accounts.OrganizationChange{Name: &name, Plan: &plan})
	require.NoError(t, err)
	f.exec(`UPDATE meters SET unit = 'other', position = position + 10`)

	require.Equal(t, marks, f.freeze(e.ID), "frozen once")
	require.Empty(t, cmp.Diff(frozen, f.totals(e.ID, 10)))

	require.Equal(t, []meter.Row{
		row(o.ID, evaluations, today, 1), row(o.ID, evaluations, today+1, 1), row(o.ID, evaluations, today+2, 5), row(o.ID, storage, today, 1),
	}, f.lateUsage(e.ID), "in the records, not in the export")
	require.EqualValues(t, 11, f.value(o.ID, evaluations, today))
}

// The plan of an export is the one in force just before the cut.
func TestExportHasThePlanOfItsPeriod(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o, fresh, unknown := f.organization("Acme", "enterprise"), f.organization("Bolt", "pro"), f.tenants(1)[0]
	f.exec(`DELETE FROM organization_plans WHERE organization_id = $1`, o.ID)
	for plan, at := range map[string]time.Time{
		"free": period.Start().Add(-time.Hour), "pro": period.End().Add(-time.Second), "enterprise": period.End(),
	} {
		f.exec(`INSERT INTO organization_plans VALUES ($1, $2, $3)`, o.ID, at, plan)
	}
	f.exec(`UPDATE organization_plans SET effective_from = $2 WHERE organization_id = $1`, fresh.ID, period.End().Add(time.Hour))
	f.instance().flush(row(o.ID, evaluations, today, 1), row(fresh.ID, evaluations, today, 1), row(unknown, evaluations, today, 1))
	f.exec(`DELETE FROM organizations WHERE id = $1`, unknown)
	e := f.beginExport(period, "run")
	f.freeze(e.ID)
	got := f.totals(e.ID, 10)
	require.Len(t, got, 3)
	require.Equal(t, "pro", got[0].Plan)
	require.Equal(t, "pro", got[1].Plan, "its first plan began after the cut")
	require.Equal(t, unknown, got[2].Organization, "usage without an organization is shown, not dropped")
	require.Empty(t, got[2].OrganizationName)
}

// A level from before the period is in the export, although nothing was reported in it.
func TestExportCarriesLevels(t *testing.T) {
	t.Parallel()
	for _, rolledUp := range []bool{false, true} {
		f := newFixture(t)
		o := f.organization("Acme", "free").ID
		f.instance().flush(rowAt(o, storage, firstDay-3, 100, hour(firstDay-3, 1)))
		if rolledUp {
			for day := firstDay - 3; day <= lastDay; day++ {
				f.rollUp(day)
			}
		}
		e := f.beginExport(period, "run")
		f.freeze(e.ID)
		got := f.totals(e.ID, 10)
		require.Len(t, got, 1)
		require.EqualValues(t, 100, got[0].Value)
		require.Equal(t, fmt.Sprint(100*31*86_400), got[0].UnitSeconds, "rolled up: %v", rolledUp)
	}
}

// Rolled days are only a shorter way: with none, some or all of them the totals are
// those of a simple model.
func TestRolledDaysDoNotChangeTotals(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	// Each run has a month of its own, and levels of its own that end with it.
	next := calendar.PeriodOf(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	rapid.Check(t, func(rt *rapid.T) {
		period := next
		next = calendar.PeriodOf(period.End())
		o := f.tenants(1)[0]
		w := f.instance()
		var reports []meter.Row
		for range rapid.IntRange(1, 15).Draw(rt, "reports") {
			day := period.FirstDay() + calendar.Day(rapid.IntRange(0, 27).Draw(rt, "day"))
			m := rapid.SampledFrom([]string{evaluations, entities, storage, storage}).Draw(rt, "meter")
			at := day.Start().Add(time.Duration(rapid.IntRange(0, 86_399_999).Draw(rt, "millisecond")) * time.Millisecond)
			r := rowAt(o, m, day, rapid.Int64Range(0, 1_000_000_000_000).Draw(rt, "value"), at)
			reports = append(reports, r)
			w.flush(r)
		}
		// Some days are rolled up, from the first usage on, before late reports arrive.
		for day := period.FirstDay(); day < period.FirstDay()+calendar.Day(rapid.IntRange(0, 31).Draw(rt, "rolled days")) && day <= period.LastDay(); day++ {
			rollup, err := f.RollUpDay(t.Context(), day)
			require.NoError(rt, err)
			require.Zero(rt, rollup.VarianceCount)
		}
		if rapid.Bool().Draw(rt, "late") {
			day := period.FirstDay() + calendar.Day(rapid.IntRange(0, 27).Draw(rt, "late day"))
			late := rowAt(o, storage, day, 5, hour(day, 23.9))
			reports = append(reports, late)
			w.flush(late)
		}
		if rapid.Bool().Draw(rt, "roll up what is due") {
			days, err := f.DaysToRollUp(t.Context(), period.FirstDay(), period.LastDay())
			require.NoError(rt, err)
			for _, day := range days {
				f.rollUp(day)
			}
		}
		e := f.beginExport(period, "run")
		f.freeze(e.ID)
		got := map[string]billing.UsageTotal{}
		for _, total := range f.totals(e.ID, 10) {
			if total.Organization == o {
				got[total.Meter] = billing.UsageTotal{Value: total.Value, UnitSeconds: total.UnitSeconds}
			}
		}
		if diff := cmp.Diff(expectedTotals(period, reports), got); diff != "" {
			rt.Fatalf("-want +got:\n%s", diff)
		}
	})
}

// expectedTotals is the model: every report in the order of time.
func expectedTotals(period calendar.Period, reports []meter.Row) map[string]billing.UsageTotal {
	want := map[string]billing.UsageTotal{}
	milli := new(big.Int)
	for day := period.FirstDay(); day <= period.LastDay(); day++ {
		from, level := day.Start(), want[storage].Value
		hold := func(until time.Time) {
			held := big.NewInt(until.Sub(from).Milliseconds())
			milli.Add(milli, held.Mul(held, big.NewInt(level)))
			from = until
		}
		for _, r := range inOrder(reports, day) {
			total := want[r.Meter]
			if r.Meter == storage {
				hold(r.At)
				level = r.Value
			}
			total.Value = r.Aggregation.Fold(total.Value, r.Value)
			want[r.Meter] = total
		}
		hold(day.End())
		if total, ok := want[storage]; ok {
			total.UnitSeconds = decimal.NewFromBigInt(milli, -3).String()
			want[storage] = total
		}
	}
	return want
}

// inOrder returns the reports of a day, the earliest first.
func inOrder(reports []meter.Row, day calendar.Day) []meter.Row {
	var out []meter.Row
	for _, r := range reports {
		if r.Day != day {
			continue
		}
		i := len(out)
		for i > 0 && out[i-1].At.After(r.At) {
			i--
		}
		out = append(out[:i], append([]meter.Row{r}, out[i:]...)...)
	}
	return out
}

// Freezes amid flushes and rollups: the totals are those of the batches up to the marks.
func TestFreezeAmidFlushesAndRollups(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	const instances, batches = 3, 40
	var flushing atomic.Int64
	flushing.Store(instances)
	var group errgroup.Group
	for range instances {
		w := f.instance()
		group.Go(func() error {
			defer flushing.Add(-1)
			for b := range batches {
				day := firstDay + calendar.Day(b%3)
				if _, err := f.ApplyBatch(t.Context(), w.batch(row(o, evaluations, day, 1), row(o, evaluations, day+1, 1))); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		for day := firstDay; flushing.Load() > 0; day = firstDay + (day-firstDay+1)%4 {
			if _, err := f.RollUpDay(t.Context(), day); err != nil {
				return err
			}
		}
		return nil
	})
	for run := 0; flushing.Load() > 0; run++ {
		e := f.beginExport(period, fmt.Sprint(run))
		var sent int64
		for _, mark := range f.freeze(e.ID) {
			sent += 2 * mark.Through
		}
		var counted int64
		for _, total := range f.totals(e.ID, 10) {
			counted += total.Value
		}
		require.Equal(t, sent, counted, "run %d", run)
	}
	require.NoError(t, group.Wait())
}
