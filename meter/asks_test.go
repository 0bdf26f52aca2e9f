package meter_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/benchline"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// asking is a window of a month that some instances use up together, and what that costs the store.
type asking struct {
	t         *testing.T
	store     *metertest.Store
	clock     *clock
	id        uuid.UUID
	instances []*meter.Meter
	flushers  []*meter.Flusher
	max       int64

	asks, recalls, requests, waited int
}

// newAsking is a window of a limit, of which some instances hold a part; others are live.
func newAsking(t *testing.T, limit int64, holders, others int) *asking {
	t.Helper()
	a := &asking{t: t, store: metertest.NewStore(), clock: &clock{now: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}, max: limit}
	a.id = a.store.Add("thin")
	catalog := &plans.Catalog{
		Meters: []plans.Meter{{Key: "calls", Name: "Calls", Aggregation: plans.Sum, Unit: "call"}},
		Plans: []plans.Plan{{Key: "thin", Version: 1, Name: "Thin", Entitlements: []plans.Entitlement{
			{Meter: "calls", Mode: plans.Hard, Window: calendar.WindowMonth, Max: limit},
		}}},
	}
	for i := range holders + others {
		id := uuid.Must(uuid.NewV7())
		a.store.Through[id] = 0
		if i >= holders {
			continue
		}
		m := meter.New(meter.WithManualLeases(meter.Config{
			Catalog: catalog, Store: a.store, Leases: counted{a.store, a}, Instance: id, Now: a.clock.Now,
		}))
		t.Cleanup(m.Close)
		a.instances = append(a.instances, m)
		a.flushers = append(a.flushers, meter.NewFlusher(meter.FlusherConfig{Meter: m, Store: a.store, Instance: id, Now: a.clock.Now}))
	}
	return a
}

// counted counts asks, and holds what they are granted to a share of what remains.
type counted struct {
	*metertest.Store
	a *asking
}

func (c counted) AdjustLeases(ctx context.Context, by meter.BatchID, asks []meter.LeaseAsk) (meter.LeaseAnswers, error) {
	c.a.asks += len(asks)
	answers, err := c.Store.AdjustLeases(ctx, by, asks)
	for i, answer := range answers.Answers {
		granted := answer.Outstanding - asks[i].Outstanding - (asks[i].Issued - asks[i].Spent)
		remained := c.a.max - answer.Consumed - answer.Leased + max(0, granted)
		require.LessOrEqual(c.a.t, granted, max(asks[i].Need, remained))
	}
	return answers, err
}

// use makes a request at an instance, and reports whether it was allowed.
func (a *asking) use(n int, quantity int64) bool {
	a.t.Helper()
	o, err := a.instances[n].Organization(context.Background(), a.id, a.clock.Now())
	require.NoError(a.t, err)
	a.requests++
	d, r := meter.AdmitManually(o, 0, quantity, a.clock.Now(), 0)
	if !d.Allowed {
		a.waited++
	}
	for round := 0; !d.Allowed && round < 4; round++ {
		d, r = meter.AdmitManually(o, 0, quantity, a.clock.Now(), 1)
		a.recall()
	}
	r.Commit()
	for _, m := range a.instances {
		meter.KeepLeases(m)
	}
	return d.Allowed
}

// recall has all instances give back what the store asks for.
func (a *asking) recall() {
	for _, key := range a.store.TakeRecalled() {
		a.recalls++
		for _, m := range a.instances {
			m.Recall(key)
			meter.KeepLeases(m)
		}
	}
}

// useUp makes requests at all instances in turn until so much is used, at a rate of all of them together.
func (a *asking) useUp(until int64, rate float64, quantity func() int64) {
	a.t.Helper()
	flushed := a.clock.Now()
	for used := int64(0); used < until; {
		n := quantity()
		if used+n > a.max {
			return
		}
		require.True(a.t, a.use(a.requests%len(a.instances), n), "%d of %d are used", used, a.max)
		used += n
		if a.clock.add(time.Duration(float64(time.Second)/rate)).Sub(flushed) >= 10*time.Second {
			flushed = a.clock.Now()
			for _, f := range a.flushers {
				_, err := f.Flush(context.Background())
				require.NoError(a.t, err)
			}
		}
	}
}

func (a *asking) perEvent(n int) float64 { return float64(n) / float64(a.requests) }

func one() int64 { return 1 }

// TestFewAsksHoweverSlow holds that a window that one instance uses is decided in memory at any
// rate, however many others are live.
func TestFewAsksHoweverSlow(t *testing.T) {
	t.Parallel()
	for _, others := range []int{1, 5, 300} {
		for _, rate := range []float64{0.01, 0.1, 0.5, 1, 5, 100} {
			a := newAsking(t, 1000, 1, others)
			a.useUp(950, rate, one)
			require.LessOrEqual(t, a.perEvent(a.asks), 0.1, "asks an event at %g/s", rate)
			require.Less(t, a.perEvent(a.waited), 0.01, "requests that wait at %g/s", rate)
			require.NoError(t, benchline.Write(os.Stdout, fmt.Sprintf("Asks/others=%d/rate=%g", others, rate), a.requests,
				benchline.Figures{"asks/event": a.perEvent(a.asks), "waits/event": a.perEvent(a.waited)}))
		}
	}
}

// TestFewAsksOfManyUnits holds the same for requests of other sizes, also where few of them fit.
func TestFewAsksOfManyUnits(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for name, quantity := range map[string]func() int64{
		"fifty":  func() int64 { return 50 },
		"mixed":  func() int64 { return 1 + random.Int64N(50) },
		"seldom": func() int64 { return []int64{1, 500}[max(0, random.IntN(100)-98)] },
	} {
		a := newAsking(t, 50_000, 1, 5)
		a.useUp(47_500, 0.1, quantity)
		require.LessOrEqual(t, a.perEvent(a.asks), 0.1, name)
		require.Less(t, a.perEvent(a.waited), 0.01, name)
	}
}

// TestFewRecallsWhereAWindowIsShared holds that instances which take a window's requests in turn leave
// each other their parts of it, to the last unit.
func TestFewRecallsWhereAWindowIsShared(t *testing.T) {
	t.Parallel()
	for holders, most := range map[int]float64{2: 0.1, 5: 0.1, 20: 0.2, 100: 1} {
		for _, rate := range []float64{0.01, 100} {
			a := newAsking(t, 1000, holders, 0)
			a.useUp(1000, rate, one)
			require.LessOrEqual(t, a.perEvent(a.asks), most, "asks an event of %d at %g/s", holders, rate)
			require.LessOrEqual(t, a.recalls, 5, "recalls of %d at %g/s", holders, rate)
			require.False(t, a.use(0, 1), "all is used")
		}
	}
}

// TestSmallLimitsAreUsedUp holds that the last unit of a small limit is found, with few asks.
func TestSmallLimitsAreUsedUp(t *testing.T) {
	t.Parallel()
	for limit := int64(1); limit <= 10; limit++ {
		for holders := 1; holders <= 3; holders++ {
			a := newAsking(t, limit, holders, 0)
			a.useUp(limit, 0.1, one)
			if holders == 1 {
				require.Equal(t, 1, a.asks, "asks for %d", limit)
			}
			require.LessOrEqual(t, a.recalls, 4, "recalls of %d for %d", holders, limit)
			require.False(t, a.use(0, 1), "all of %d is used", limit)
		}
	}
}
