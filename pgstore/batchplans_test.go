package pgstore_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// under returns the row with the plan version that prices it.
func under(r meter.Row, plan string, version int) meter.Row {
	r.Plan, r.PlanVersion = plan, version
	return r
}

// Usage of a day under several plans is one record, and a row of its own for each plan version.
func TestBatchOfADayUnderSeveralPlans(t *testing.T) {
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	noon := today.Start().Add(12 * time.Hour)
	rows := []meter.Row{
		under(row(o, entities, today, 70), "pro", 1),
		under(row(o, entities, today, 90), "free", 1),
		under(row(o, evaluations, today, 10), "free", 1),
		under(row(o, evaluations, today, 5), "pro", 1),
		under(row(o, evaluations, today, 2), "pro", 2),
		under(rowAt(o, storage, today, 500, noon.Add(time.Minute)), "free", 1),
		under(rowAt(o, storage, today, 900, noon), "pro", 1),
	}
	require.Equal(t, []int64{90, 90, 10, 15, 17, 500, 500}, w.flush(rows...))
	require.Equal(t, []int64{90, 90, 27, 32, 34, 500, 500}, w.flush(rows...))
	require.EqualValues(t, 14, f.count(`SELECT count(*) FROM usage_batch_rows`))
	require.EqualValues(t, 3, f.count(`SELECT count(*) FROM usage_daily`))
	require.EqualValues(t, 10, f.count(`SELECT sum(value)::bigint FROM usage_batch_rows WHERE meter = 'evaluations' AND plan = 'pro' AND plan_version = 1`))
	require.EqualValues(t, 34, f.value(o, evaluations, today))

	_, err := f.RollUpDay(t.Context(), today)
	require.NoError(t, err)
	require.Zero(t, f.count(`SELECT variance_count FROM usage_rollups`))
	require.EqualValues(t, 34, f.count(`SELECT value FROM usage_rolled WHERE meter = 'evaluations'`))
	require.EqualValues(t, 500, f.count(`SELECT value FROM usage_rolled WHERE meter = 'storage_bytes'`))
}

// A window that is open gets the usage of a day once, whatever plans it was under.
func TestBatchUnderSeveralPlansSettlesItsWindow(t *testing.T) {
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	w.flush(under(row(o, evaluations, today, 100), "pro", 1))
	answers, err := f.AdjustLeases(t.Context(), w.id, []meter.LeaseAsk{{
		QuotaWindow: meter.QuotaWindow{Organization: o, Meter: evaluations, Kind: plans.WindowDay, Start: today},
		Generation:  1, Version: 1, Issued: 50, Need: 50, Plan: "free", PlanVersion: 1, Max: 1000,
	}})
	require.NoError(t, err)
	require.EqualValues(t, 50, answers[0].Issued)
	leased := under(row(o, evaluations, today, 30), "free", 1)
	leased.Leased.Day = 30
	w.flush(leased, under(row(o, evaluations, today, 7), "pro", 1))
	require.EqualValues(t, 30, f.count(`SELECT consumed FROM quota_windows`))
	require.EqualValues(t, 107, f.count(`SELECT unleased FROM quota_windows`))
	require.EqualValues(t, 20, f.count(`SELECT leased FROM quota_windows`))
}

// An event that was counted under one plan is not counted again under another.
func TestRepeatedEventUnderAnotherPlan(t *testing.T) {
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	w := f.instance()
	report := func(plan string, identity byte) meter.Row {
		r := under(row(o, evaluations, today, 0), plan, 1)
		r.EventsOnly = true
		r.Events = []meter.Event{{
			Identity: meter.Identity{identity}, Quantity: 4, At: today.Start(),
			Receipt: meter.Receipt{Plan: plan, Mode: plans.Soft, Window: plans.WindowDay},
		}}
		return r
	}
	require.Equal(t, []int64{4, 4}, w.flush(report("free", 1), report("pro", 1)))
	require.Equal(t, []int64{8, 8}, w.flush(report("free", 1), report("pro", 2)))
	require.EqualValues(t, 2, f.count(`SELECT count(*) FROM usage_batch_rows`))
}

func TestBatchSetsAKeyAsideTwice(t *testing.T) {
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
