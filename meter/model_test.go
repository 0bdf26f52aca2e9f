package meter_test

import (
	"context"
	"log/slog"
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

// model is the simplest account of what a meter must do: a list of what was
// committed, and a list of what is held.
type model struct {
	committed []modelUsage
	held      []modelUsage
}

type modelUsage struct {
	organization, meter int
	day                 calendar.Day
	quantity            int64
	reservation         *meter.OpenReservation
	since               time.Time
}

// redate moves what has been held for long, and is of a day that has passed, to the day of now,
// unless that has no room for it.
func (m *model) redate(t *rapid.T, now time.Time) {
	today := calendar.DayOf(now)
	var stayed []modelUsage
	for i := range m.held {
		u := &m.held[i]
		if u.day == today || !u.since.Before(now.Add(-modelRedateAfter)) {
			continue
		}
		if meter.DayOfOpen(u.reservation) != today {
			stayed = append(stayed, *u)
			continue
		}
		u.day = today
	}
	is := func(d calendar.Day) bool { return d == today }
	for _, u := range stayed {
		used := m.sum(m.committed, u.organization, u.meter, is) + m.sum(m.held, u.organization, u.meter, is)
		require.Greater(t, used+u.quantity, int64(plans.MaxDaySum))
	}
}

func always(calendar.Day) bool { return true }

// answering is a store that answers every load, so that the model need not know of fail-open.
type answering struct{ *metertest.Store }

func (s answering) LoadOrganization(ctx context.Context, id uuid.UUID, day calendar.Day) (out meter.Snapshot, err error) {
	away := false
	s.Set(func(s *metertest.Store) { away, s.Away = s.Away, false })
	defer s.Set(func(s *metertest.Store) { s.Away = away })
	return s.Store.LoadOrganization(ctx, id, day)
}

// modelRedateAfter is longer than a flush takes to find that a day has passed.
const modelRedateAfter = 20 * time.Hour

func (m *model) sum(list []modelUsage, organization, index int, within func(calendar.Day) bool) int64 {
	total := int64(0)
	for _, u := range list {
		if u.organization == organization && u.meter == index && within(u.day) {
			total += u.quantity
		}
	}
	return total
}

func modelCatalog() *plans.Catalog {
	return &plans.Catalog{
		Meters: []plans.Meter{
			{Key: "daily", Name: "Daily", Aggregation: plans.Sum, Unit: "call"},
			{Key: "monthly", Name: "Monthly", Aggregation: plans.Sum, Unit: "call"},
			{Key: "soft", Name: "Soft", Aggregation: plans.Sum, Unit: "call"},
		},
		Plans: []plans.Plan{{Key: "free", Version: 1, Name: "Free", Entitlements: []plans.Entitlement{
			{Meter: "daily", Mode: plans.Hard, Window: calendar.WindowDay, Max: 20},
			{Meter: "monthly", Mode: plans.Hard, Window: calendar.WindowMonth, Max: 30},
			{Meter: "soft", Mode: plans.Soft, Window: calendar.WindowDay, Max: 5},
		}}},
	}
}

// TestMeterAgainstModel draws requests, settlements, flushes, failures of the store
// and steps of the clock in any order, and holds the meter to the model after each.
func TestMeterAgainstModel(t *testing.T) {
	catalog := modelCatalog()
	require.NoError(t, catalog.Validate())
	rapid.Check(t, func(t *rapid.T) {
		store := metertest.NewStore()
		ids := []uuid.UUID{store.Add("free"), store.Add("free")}
		now := time.Date(2026, 11, 28, 22, 0, 0, 0, time.UTC)
		m := meter.New(meter.Config{
			Catalog: catalog, Store: answering{store}, Now: func() time.Time { return now },
			RedateAfter: modelRedateAfter, Logger: slog.New(slog.DiscardHandler),
		})
		flusher := meter.NewFlusher(meter.FlusherConfig{
			Meter: m, Store: store, Instance: uuid.New(), Now: func() time.Time { return now },
		})
		expected := &model{}
		organization := func(i int) *meter.Organization {
			o, err := m.Organization(context.Background(), ids[i], now)
			require.NoError(t, err)
			return o
		}
		kinds := []calendar.WindowKind{calendar.WindowDay, calendar.WindowMonth, calendar.WindowDay}
		limits := []int64{20, 30, 5}

		one := func(t *rapid.T, hold bool, org, index int, quantity int64, asked time.Time) {
			window := kinds[index].At(now)
			inWindow := func(d calendar.Day) bool { return window.Contains(d.Start()) }
			current := expected.sum(expected.committed, org, index, inWindow) + expected.sum(expected.held, org, index, inWindow)
			usage := modelUsage{organization: org, meter: index, day: calendar.DayOf(now), quantity: quantity}
			var d plans.Decision
			if hold {
				var r meter.Reservation
				d, r = organization(org).Reserve(meter.Index(index), quantity, asked)
				usage.reservation, usage.since = m.KeepOpen(r, now), now
			} else if rapid.Bool().Draw(t, "in one step") {
				out, err := organization(org).Use(context.Background(), meter.Index(index), quantity, asked, nil)
				if err != nil {
					require.ErrorIs(t, err, meter.ErrQuantityOverflow)
				}
				d = out.Decision
			} else {
				d, _ = organization(org).Consume(meter.Index(index), quantity, asked)
			}
			over := current+quantity > limits[index]
			overflows := current+quantity > plans.MaxDaySum
			require.Equal(t, over && !overflows, d.OverLimit, "current %d, quantity %d, %+v", current, quantity, d)
			require.Equal(t, !overflows && (!over || index == 2), d.Allowed)
			if overflows {
				return
			}
			require.Zero(t, d.Held, "nothing is held in the store")
			if !d.Allowed {
				require.Equal(t, current, d.Current)
				require.Less(t, d.Remaining, quantity, "what is shown to remain is what can be had")
				return
			}
			require.Equal(t, current+quantity, d.Current)
			require.Equal(t, max(0, limits[index]-current-quantity), d.Remaining)
			if hold {
				expected.held = append(expected.held, usage)
			} else {
				expected.committed = append(expected.committed, usage)
			}
		}
		request := func(t *rapid.T, hold bool) {
			org, index := rapid.IntRange(0, 1).Draw(t, "organization"), rapid.IntRange(0, 2).Draw(t, "meter")
			quantity, times := rapid.Int64Range(1, 8).Draw(t, "quantity"), 1
			// The caller has waited since it read the clock: the decision is of now.
			asked := now.Add(-time.Duration(rapid.SampledFrom([]int{0, 0, 1, 30}).Draw(t, "hours since")) * time.Hour)
			if index == 2 && rapid.Bool().Draw(t, "near the edge") {
				quantity, times = plans.MaxQuantity-rapid.Int64Range(0, 1).Draw(t, "less"), rapid.IntRange(1, 110).Draw(t, "times")
			}
			for range times {
				one(t, hold, org, index, quantity, asked)
			}
		}
		settle := func(t *rapid.T, commit bool) {
			if len(expected.held) == 0 {
				return
			}
			n := rapid.IntRange(0, len(expected.held)-1).Draw(t, "which")
			usage := expected.held[n]
			expected.held = append(expected.held[:n:n], expected.held[n+1:]...)
			if commit {
				usage.reservation.Commit()
				expected.committed = append(expected.committed, usage)
				return
			}
			usage.reservation.Release()
		}
		t.Repeat(map[string]func(*rapid.T){
			"consume": func(t *rapid.T) { request(t, false) },
			"reserve": func(t *rapid.T) { request(t, true) },
			"commit":  func(t *rapid.T) { settle(t, true) },
			"release": func(t *rapid.T) { settle(t, false) },
			"flush": func(t *rapid.T) {
				// One that the store is away for drains all the same, until there is much to be written.
				drains := flusher.Retained() < 64
				_, _ = flusher.Flush(context.Background())
				if drains {
					expected.redate(t, now)
				}
			},
			"idle out": func(t *rapid.T) {
				drains := flusher.Retained() < 64
				_, _ = flusher.Flush(context.Background())
				if drains {
					expected.redate(t, now)
				}
				was := m.Organizations()
				meter.ForgetIdle(flusher, 0)
				for org := range ids {
					if _, there := m.Find(ids[org]); there && flusher.Retained() == 0 && was == len(ids) {
						// Only what is held, or a day that is all but full, keeps one.
						held := expected.sum(expected.held, org, 0, always) + expected.sum(expected.held, org, 1, always) + expected.sum(expected.held, org, 2, always)
						full := expected.sum(expected.committed, org, 2, always) > plans.MaxQuantity
						require.True(t, held > 0 || full, "organization %d stays", org)
					}
				}
			},
			"clock": func(t *rapid.T) { now = now.Add(time.Duration(rapid.IntRange(1, 30).Draw(t, "hours")) * time.Hour) },
			"store": func(t *rapid.T) {
				store.Set(func(s *metertest.Store) {
					s.Away = rapid.Bool().Draw(t, "away")
					s.LoseAnswer = rapid.Bool().Draw(t, "lose answer")
				})
			},
			"": func(t *rapid.T) {
				for org := range ids {
					for index := range limits {
						window := kinds[index].At(now)
						inWindow := func(d calendar.Day) bool { return window.Contains(d.Start()) }
						if len(expected.committed) == 0 {
							continue
						}
						if m.Organizations() == len(ids) {
							u := organization(org).Usage(meter.Index(index), now)
							want := expected.sum(expected.committed, org, index, inWindow) + expected.sum(expected.held, org, index, inWindow)
							require.Equal(t, want, u.Current, "organization %d, meter %d", org, index)
							require.Zero(t, u.Held)
						}
					}
				}
			},
		})

		// At the end everything settles, and the store has just what was committed.
		for len(expected.held) > 0 {
			settle(t, true)
		}
		store.Set(func(s *metertest.Store) { s.Away, s.LoseAnswer = false, false })
		_, err := flusher.Flush(context.Background())
		require.NoError(t, err)
		_, err = flusher.Flush(context.Background())
		require.NoError(t, err)
		require.Equal(t, now, store.Watermark)
		want := map[metertest.Key]int64{}
		for _, u := range expected.committed {
			want[metertest.Key{Organization: ids[u.organization], Meter: catalog.Meters[u.meter].Key, Day: u.day}] += u.quantity
		}
		require.Len(t, store.Records, len(want))
		for key, value := range want {
			require.Equal(t, value, store.Records[key].Value, "%v", key)
		}
	})
}
