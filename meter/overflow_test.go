package meter_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// TestLateReportsNeverWrap sends 9,400 reports of 10^15 each of yesterday: together they
// are beyond an int64. What a day can't hold is refused, and all that was taken arrives.
func TestLateReportsNeverWrap(t *testing.T) {
	r := newReportRig(t, "enterprise")
	o := r.organization(r.id)
	yesterday := r.clock.Now().Add(-24 * time.Hour)
	accepted := int64(0)
	for range 9400 {
		out, err := o.Report(context.Background(), meter.Report{Index: r.index("evaluations"), Quantity: plans.MaxQuantity, At: yesterday})
		if err != nil {
			require.ErrorIs(t, err, meter.ErrQuantityOverflow)
			continue
		}
		require.True(t, out.Decision.Allowed)
		accepted++
	}
	r.flush()
	stored := r.store.Value(r.id, "evaluations", calendar.DayOf(yesterday))
	require.Equal(t, accepted*plans.MaxQuantity, stored)
	require.Equal(t, int64(plans.MaxDaySum), stored)
}

// TestSumsNeverWrap draws quantities of the largest size at the present and at earlier
// times, held and settled in any order around midnight, with and without identities,
// and holds what arrives at the store against what was admitted.
func TestSumsNeverWrap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newReportRig(t, rapid.SampledFrom([]string{"enterprise", "pro"}).Draw(rt, "plan"))
		o := r.organization(r.id)
		index := r.index("evaluations")
		want := map[calendar.Day]int64{}
		type hold struct {
			reservation meter.Reservation
			day         calendar.Day
			quantity    int64
		}
		var held []hold
		heldOn := func(day calendar.Day) (sum int64) {
			for _, h := range held {
				if h.day == day {
					sum += h.quantity
				}
			}
			return sum
		}
		quantity := rapid.OneOf(rapid.Just(int64(plans.MaxQuantity)), rapid.Int64Range(1, plans.MaxQuantity))
		rt.Repeat(map[string]func(*rapid.T){
			"many": func(rt *rapid.T) {
				at := r.clock.Now().Add(-time.Duration(rapid.IntRange(0, 72).Draw(rt, "hours ago")) * time.Hour)
				q, n, keyed := quantity.Draw(rt, "quantity"), rapid.IntRange(1, 120).Draw(rt, "times"), rapid.Bool().Draw(rt, "keyed")
				for range n {
					report := meter.Report{Index: index, Quantity: q, At: at}
					if keyed {
						report.Identity = meter.KeyIdentity(uuid.NewString())
					}
					out, err := o.Report(context.Background(), report)
					if err != nil {
						require.ErrorIs(rt, err, meter.ErrQuantityOverflow)
						continue
					}
					require.True(rt, out.Decision.Allowed)
					require.GreaterOrEqual(rt, out.Decision.Current, q)
					want[calendar.DayOf(at)] += q
				}
			},
			"hold": func(rt *rapid.T) {
				q, n := quantity.Draw(rt, "quantity"), rapid.IntRange(1, 60).Draw(rt, "times")
				for range n {
					d, reservation := o.Reserve(index, q, r.clock.Now())
					if d.Allowed {
						held = append(held, hold{reservation, calendar.DayOf(r.clock.Now()), q})
					}
				}
			},
			"settle": func(rt *rapid.T) {
				commit := rapid.Bool().Draw(rt, "commit")
				for i := range held {
					if commit {
						held[i].reservation.Commit()
						want[held[i].day] += held[i].quantity
					} else {
						held[i].reservation.Release()
					}
				}
				held = nil
			},
			"clock": func(rt *rapid.T) { r.clock.add(time.Duration(rapid.IntRange(1, 30).Draw(rt, "hours")) * time.Hour) },
			"flush": func(*rapid.T) { r.flush() },
			"": func(rt *rapid.T) {
				for day, value := range want {
					// What is admitted of a day fits into it; one that was full at another flush is the store's to say.
					require.LessOrEqual(rt, heldOn(day), int64(plans.MaxDaySum), "%s", day)
					require.GreaterOrEqual(rt, value, int64(0))
				}
				require.GreaterOrEqual(rt, o.Usage(index, r.clock.Now()).Current, int64(0))
			},
		})
		for i := range held {
			held[i].reservation.Commit()
			want[held[i].day] += held[i].quantity
		}
		r.flush()
		for day, value := range want {
			stored, apart := r.store.Value(r.id, "evaluations", day), r.store.Quarantined[metertest.Key{Organization: r.id, Meter: "evaluations", Day: day}]
			require.Equal(rt, value, stored+apart, "%s", day)
			require.LessOrEqual(rt, stored, int64(plans.MaxDaySum), "%s", day)
		}
	})
}

// reportRig is a rig of one organization whose meter knows the time and identities.
type reportRig struct {
	*rig
	id uuid.UUID
}

func newReportRig(tb testing.TB, plan string) *reportRig {
	tb.Helper()
	r := &reportRig{rig: &rig{t: tb, store: metertest.NewStore(), clock: &clock{now: noon}}}
	r.id = r.store.Add(plan)
	r.meter = meter.New(meter.Config{Catalog: plans.Default(), Store: r.store, Identities: r.store, Now: r.clock.Now})
	r.flusher = meter.NewFlusher(meter.FlusherConfig{
		Meter: r.meter, Store: r.store, Instance: uuid.Must(uuid.NewV7()), Now: r.clock.Now,
	})
	return r
}
