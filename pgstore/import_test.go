package pgstore_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

var importSource = uuid.MustParse("00000000-0000-8000-8000-00000000cafe")

func (f *fixture) imported(seq int64, rows ...meter.Row) bool {
	f.t.Helper()
	written, err := f.ImportUsage(f.t.Context(), meter.BatchID{Instance: importSource, Seq: seq}, "import of usage.csv", rows)
	require.NoError(f.t, err)
	return written
}

func past(organization uuid.UUID, meterKey string, a plans.Aggregation, day calendar.Day, value int64) meter.Row {
	return meter.Row{Organization: organization, Meter: meterKey, Aggregation: a, Day: day, Value: value}
}

// A chunk counts once, however often it is sent; sums add to what is there, peaks keep the
// greatest, and a level doesn't take the place of a later one.
func TestImportedUsageCountsOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organizationSince("Acme", "pro", mustDay("2026-08-01").Start()).ID
	day := today - 20
	require.NoError(t, f.IncrementUsage(t.Context(), o, evaluations, day, 5))
	require.NoError(t, f.UpdatePeak(t.Context(), o, entities, day, 9))
	require.NoError(t, f.UpdateSnapshot(t.Context(), o, storage, day, 70, day.Start().Add(time.Hour)))
	first := []meter.Row{
		past(o, storage, plans.Last, day, 30), past(o, storage, plans.Last, day+1, 40),
		past(o, evaluations, plans.Sum, day, 10), past(o, evaluations, plans.Sum, day, 1), past(o, entities, plans.Max, day, 8), past(o, entities, plans.Max, day, 11),
	}
	require.True(t, f.imported(1, first...))
	require.True(t, f.imported(2, past(o, evaluations, plans.Sum, day, 100)))
	for range 2 {
		require.False(t, f.imported(1, first...), "run again")
		require.False(t, f.imported(2, past(o, evaluations, plans.Sum, day, 100)))
	}
	require.EqualValues(t, 116, f.value(o, evaluations, day))
	require.EqualValues(t, 11, f.value(o, entities, day))
	require.EqualValues(t, 70, f.value(o, storage, day), "a later level stays")
	require.EqualValues(t, 40, f.value(o, storage, day+1))
	require.Zero(t, f.reconcile(day, day+1).Different())
	require.Equal(t, meter.InstanceStopped, f.instanceNow(importSource).Status, "it holds up no rollup")

	_, err := f.ImportUsage(t.Context(), meter.BatchID{Instance: importSource, Seq: 4}, "", first)
	require.ErrorIs(t, err, meter.ErrSequenceGap)
	_, err = f.ImportUsage(t.Context(), meter.BatchID{Instance: importSource}, "", first)
	require.ErrorContains(t, err, "chunks count from 1")
	_, err = f.ImportUsage(t.Context(), meter.BatchID{Instance: importSource, Seq: 3}, "", []meter.Row{
		past(o, evaluations, plans.Sum, day, 1), past(uuid.Max, evaluations, plans.Sum, day, 1),
	})
	require.ErrorIs(t, err, accounts.ErrOrganizationNotFound)
	require.ErrorContains(t, err, "organization "+uuid.Max.String()+" not found", "it says which one")
	require.EqualValues(t, 116, f.value(o, evaluations, day))
}

// Two that import the same file at once write it once.
func TestImportsRaced(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organizationSince("Acme", "pro", mustDay("2026-08-01").Start()).ID
	var group errgroup.Group
	for range 4 {
		group.Go(func() error {
			for seq := range int64(5) {
				row := past(o, evaluations, plans.Sum, today-calendar.Day(seq), 7)
				if _, err := f.ImportUsage(t.Context(), meter.BatchID{Instance: importSource, Seq: seq + 1}, "x", []meter.Row{row, row}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	for seq := range calendar.Day(5) {
		require.EqualValues(t, 14, f.value(o, evaluations, today-seq))
	}
	require.EqualValues(t, 5, f.count(`SELECT count(*) FROM usage_batches`))
	require.Zero(t, f.reconcile(today-5, today).Different())
}

// Rows bear the plan version that was in force at their time: a day's end, where they have
// none, and its start for levels. Before the contract there is none.
func TestDirectRowsAreOfThePlanOfTheirTime(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	day := today - 20
	o := f.organizationSince("Acme", "free", day.Start().Add(6*time.Hour)).ID
	f.changePlan(o, (day + 1).Start().Add(12*time.Hour), "pro")
	require.True(t, f.imported(1,
		past(o, evaluations, plans.Sum, day-1, 1), past(o, evaluations, plans.Sum, day, 2), past(o, evaluations, plans.Sum, day+1, 3),
		meter.Row{Organization: o, Meter: evaluations, Aggregation: plans.Sum, Day: day + 1, Value: 4, At: (day + 1).Start().Add(time.Hour)},
		past(o, storage, plans.Last, day+1, 5), past(o, entities, plans.Max, day+2, 6),
	))
	require.NoError(t, f.IncrementUsage(t.Context(), o, simulations, day, 7))
	rows, err := f.owner.Query(t.Context(), `
		SELECT meter || ' ' || (day - $1::date) || ' ' || value || ' ' || plan || plan_version
		FROM usage_batch_rows ORDER BY day, meter, value`, day.String())
	require.NoError(t, err)
	var got []string
	for rows.Next() {
		var one string
		require.NoError(t, rows.Scan(&one))
		got = append(got, one)
	}
	require.NoError(t, rows.Err())
	require.Equal(t, []string{
		"evaluations -1 1 0", "evaluations 0 2 free1", "simulations 0 7 free1", "evaluations 1 3 pro1", "evaluations 1 4 free1", "storage_bytes 1 5 free1",
		"entity_instances 2 6 pro1",
	}, got)
	require.EqualValues(t, 7, f.value(o, evaluations, day+1))
	require.Zero(t, f.reconcile(day-1, day+2).Different())
}

// What is imported into a closed month becomes a correction, as other late usage does.
func TestImportedUsageOfAClosedMonthIsCorrected(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	september := calendar.PeriodOf(mustDay("2026-09-01").Start())
	o := f.organizationSince("Acme", "pro", september.Start()).ID
	require.NoError(t, f.IncrementUsage(t.Context(), o, simulations, mustDay("2026-09-10"), 100))
	f.closePeriod(september)
	require.True(t, f.imported(1, past(o, simulations, plans.Sum, mustDay("2026-09-20"), 200)))
	october := f.closePeriod(calendar.PeriodOf(today.Start()))
	statement := f.statement(october.ID, o)
	var corrections int
	for _, line := range statement.Lines {
		if line.Corrects != nil {
			corrections++
			require.Equal(t, "3.00", line.Amount.String(), "two packages of 100")
		}
	}
	require.Equal(t, 1, corrections)
}
