package meter_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// pricedRow is what a row says of a day's usage.
func pricedRow(r meter.Row) string {
	return fmt.Sprintf("%s %s/%d %d at %s", r.Meter, r.Plan, r.PlanVersion, r.Value, r.At.Sub(noon))
}

func pricedRows(store *metertest.Store) (out []string) {
	for _, b := range store.Batches {
		for _, r := range b.Rows {
			out = append(out, pricedRow(r))
		}
	}
	return out
}

// onTerms is an organization that goes from Free to Pro and back, an hour each, from noon.
func (r *rig) onTerms() uuid.UUID {
	r.meter = meter.New(meter.Config{Catalog: plans.Default(), Store: r.store, Now: r.clock.Now})
	r.flusher = meter.NewFlusher(meter.FlusherConfig{Meter: r.meter, Store: r.store, Instance: uuid.Must(uuid.NewV7()), Now: r.clock.Now})
	id := r.store.Add("free")
	r.store.Terms[id] = []meter.Term{
		{Plan: "free", Version: 1, From: noon.AddDate(0, 0, -2)},
		{Plan: "pro", Version: 1, From: noon.Add(time.Hour)},
		{Plan: "free", Version: 1, From: noon.Add(2 * time.Hour)},
	}
	return id
}

// A slot is cut where the plan changes, and takes the first plan's share up again after the
// second: one row each, whatever the meter folds.
func TestAFlushKeepsPlansApart(t *testing.T) {
	r := newRig(t)
	id := r.onTerms()
	use := func(key string, quantity int64) {
		d, _ := r.organization(id).Consume(r.index(key), quantity, r.clock.Now())
		require.True(t, d.Allowed)
	}
	for hour, quantity := range []int64{3, 4, 2} {
		r.clock.set(noon.Add(time.Duration(hour) * time.Hour))
		for _, key := range []string{"evaluations", "entity_instances", "storage_bytes"} {
			use(key, quantity)
		}
	}
	o := r.organization(id)
	for key, want := range map[string]int64{"evaluations": 9, "entity_instances": 4, "storage_bytes": 2} {
		require.Equal(t, want, o.Usage(r.index(key), r.clock.Now()).Current, key)
	}
	require.EqualValues(t, 9, o.Usage(r.index("evaluations"), r.clock.Now()).Pending)
	r.flush()
	require.ElementsMatch(t, []string{
		"entity_instances free/1 3 at 2h0m0s", "entity_instances pro/1 4 at 1h0m0s",
		"evaluations free/1 5 at 2h0m0s", "evaluations pro/1 4 at 1h0m0s",
		"storage_bytes free/1 2 at 2h0m0s", "storage_bytes pro/1 4 at 1h0m0s",
	}, pricedRows(r.store))
	require.Equal(t, int64(2), r.store.Value(id, "storage_bytes", calendar.DayOf(noon)))
	require.EqualValues(t, 9, r.organization(id).Usage(r.index("evaluations"), r.clock.Now()).Current)
}

// A level of the plan before doesn't undo the level of the plan in force.
func TestALateLevelOfThePlanBefore(t *testing.T) {
	r := newRig(t)
	id := r.onTerms()
	index := r.index("storage_bytes")
	r.clock.set(noon.Add(61 * time.Minute))
	r.organization(id).Consume(index, 70, r.clock.Now())
	_, err := r.organization(id).Report(context.Background(), meter.Report{Index: index, Quantity: 5, At: noon.Add(30 * time.Minute)})
	require.NoError(t, err)
	require.EqualValues(t, 70, r.organization(id).Usage(index, r.clock.Now()).Current)
	r.flush()
	require.ElementsMatch(t, []string{"storage_bytes pro/1 70 at 1h1m0s", "storage_bytes free/1 5 at 30m0s"}, pricedRows(r.store))
	require.EqualValues(t, 70, r.store.Value(id, "storage_bytes", calendar.DayOf(noon)))
}

// A reservation is priced by the plan at its making, also when it is settled on another day,
// and holds the watermark of its day back until then.
func TestAReservationThatSpansAChange(t *testing.T) {
	r := newRig(t)
	id := r.onTerms()
	index := r.index("evaluations")
	_, committed := r.organization(id).Reserve(index, 3, r.clock.Now())
	_, released := r.organization(id).Reserve(index, 4, r.clock.Now())
	r.clock.set(noon.Add(time.Hour))
	r.organization(id).Consume(index, 5, r.clock.Now())
	r.flush()
	r.clock.set(noon.AddDate(0, 0, 1))
	require.Less(t, r.flush().Watermark, calendar.DayOf(noon).End(), "two are open on the day before")
	committed.Commit()
	released.Release()
	require.Equal(t, r.clock.Now(), r.flush().Watermark)
	require.ElementsMatch(t, []string{"evaluations pro/1 5 at 1h0m0s", "evaluations free/1 3 at 0s"}, pricedRows(r.store))
	require.EqualValues(t, 8, r.store.Value(id, "evaluations", calendar.DayOf(noon)))
}

// The store's clock is ahead: the plan that it says is in force is, and the next change is
// not forgotten.
func TestTermsUnderAnotherClock(t *testing.T) {
	r := newRig(t)
	id := r.onTerms()
	r.store.ReadAt = noon.Add(time.Hour)
	r.clock.set(noon.Add(59 * time.Minute))
	require.Equal(t, "pro", r.organization(id).Plan().Key)
	r.clock.set(noon.Add(2 * time.Hour))
	r.organization(id).Usage(0, r.clock.Now())
	require.Equal(t, "free", r.organization(id).Plan().Key)
}
