package meter_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// twin is an instance that decides and counts in one step, or one that admits and commits.
type twin struct {
	oneStep bool
	atOnce  int
	store   *metertest.Store
	journal *memoryJournal
	meter   *meter.Meter
	flusher *meter.Flusher
	levels  []meter.Level
	held    []*meter.OpenReservation
	tokens  int
	paced   []time.Time
	undone  bool
}

func newTwin(oneStep bool, clock *clock, instance uuid.UUID, ids []uuid.UUID, strict, journalled, refuse bool) *twin {
	w := &twin{oneStep: oneStep, store: metertest.NewStore(), journal: newMemoryJournal(instance), tokens: 1 << 30}
	for _, id := range ids {
		w.store.Plans[id] = "free"
		w.store.Terms[id] = []meter.Term{{Plan: "free", Version: 1, From: clock.Now().AddDate(0, 0, -1)}}
	}
	config := meter.Config{
		Catalog: fleetCatalog(), Store: w.store, Leases: w.store, Identities: w.store, Instance: instance, Now: clock.Now,
		LeaseFor: leaseFor, DenyUnleased: strict, RefuseUnjournalled: refuse, RedateAfter: fleetRedateAfter, Logger: slog.New(slog.DiscardHandler),
	}
	if journalled {
		config.Journal = w.journal
	}
	w.meter = meter.New(meter.WithManualLeases(config))
	w.flusher = meter.NewFlusher(meter.FlusherConfig{
		Meter: w.meter, Store: w.store, Instance: instance, Now: clock.Now, Rewinds: w.store, As: meter.Instance{ID: instance},
		Logger: slog.New(slog.DiscardHandler), WatchFrom: 50,
		Watch: func(_ context.Context, levels []meter.Level) { w.levels = append(w.levels, levels...) },
	})
	return w
}

func (w *twin) organization(t *rapid.T, id uuid.UUID, now time.Time) *meter.Organization {
	o, err := w.meter.Organization(context.Background(), id, now)
	require.NoError(t, err)
	meter.WaitForLoads(w.meter)
	return o
}

func (w *twin) use(t *rapid.T, id uuid.UUID, index meter.Index, quantity int64, now time.Time, rounds int) (out meter.Outcome, err error) {
	o := w.organization(t, id, now)
	pace := func(_ plans.RateLimit, at time.Time) bool {
		w.paced = append(w.paced, at)
		w.tokens--
		return w.tokens >= 0
	}
	if !w.oneStep {
		return meter.AdmitAndCommit(o, index, quantity, now, rounds, pace)
	}
	out, atOnce, err := meter.UseManually(o, index, quantity, now, rounds, pace)
	if atOnce {
		w.atOnce++
	}
	return out, err
}

// TestOneStepIsAdmitAndCommit draws the same steps for two instances, of which one uses in one step what the
// other admits and commits, and holds that nobody can tell them apart: not by an answer, a level, a record of the
// journal, an ask, a row or what is shown.
func TestOneStepIsAdmitAndCommit(t *testing.T) {
	atOnce := 0
	rapid.Check(t, func(t *rapid.T) {
		clock := &clock{now: time.Date(2026, 11, 29, 20, 0, 0, 0, time.UTC)}
		ids := []uuid.UUID{{15: 1}, {15: 2}}
		instance := uuid.UUID{14: 1}
		strict, refuse := rapid.Bool().Draw(t, "strict"), rapid.Bool().Draw(t, "refuse what isn't journalled")
		journalled := rapid.Bool().Draw(t, "journalled")
		one, two := newTwin(true, clock, instance, ids, strict, journalled, refuse), newTwin(false, clock, instance, ids, strict, journalled, refuse)
		both := func(fn func(*twin)) { fn(one); fn(two) }
		draw := func(t *rapid.T) (uuid.UUID, meter.Index) {
			return ids[rapid.IntRange(0, 1).Draw(t, "organization")], meter.Index(rapid.IntRange(0, 1).Draw(t, "meter"))
		}
		use := func(t *rapid.T) {
			id, index := draw(t)
			quantity, rounds := rapid.Int64Range(0, 9).Draw(t, "quantity"), rapid.IntRange(0, 2).Draw(t, "rounds")
			asked := clock.Now().Add(-time.Duration(rapid.IntRange(0, 1).Draw(t, "hours since")) * time.Hour)
			got, gotErr := one.use(t, id, index, quantity, asked, rounds)
			want, wantErr := two.use(t, id, index, quantity, asked, rounds)
			require.Equal(t, want, got)
			require.Equal(t, wantErr, gotErr)
			// What is admitted, and then not counted, has passed a soft limit for a moment.
			one.undone = one.undone || gotErr != nil
		}
		t.Repeat(map[string]func(*rapid.T){
			"use": use, "use again": use, "use once more": use,
			"hold": func(t *rapid.T) {
				id, index := draw(t)
				quantity := rapid.Int64Range(1, 9).Draw(t, "quantity")
				both(func(w *twin) {
					if _, r := meter.AdmitManually(w.organization(t, id, clock.Now()), index, quantity, clock.Now(), 1); r.Held() {
						w.held = append(w.held, w.meter.KeepOpen(r, clock.Now()))
					}
				})
				require.Len(t, one.held, len(two.held))
			},
			"settle": func(t *rapid.T) {
				if len(one.held) == 0 {
					return
				}
				n, commit := rapid.IntRange(0, len(one.held)-1).Draw(t, "which"), rapid.Bool().Draw(t, "commit")
				both(func(w *twin) {
					if r := w.held[n]; commit {
						r.Commit()
					} else {
						r.Release()
					}
					w.held = slices.Delete(w.held, n, n+1)
				})
			},
			"late": func(t *rapid.T) {
				id, index := draw(t)
				at := clock.Now().AddDate(0, 0, -rapid.IntRange(0, 2).Draw(t, "days ago"))
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				both(func(w *twin) {
					_, _ = w.organization(t, id, clock.Now()).Report(ctx, meter.Report{Index: index, Quantity: 3, At: at})
				})
			},
			"replan": func(t *rapid.T) {
				id, _ := draw(t)
				plan := rapid.SampledFrom([]string{"free", "plus", "pro", ""}).Draw(t, "plan")
				later := time.Duration(rapid.IntRange(0, 1).Draw(t, "hours")) * time.Hour
				both(func(w *twin) {
					w.store.Set(func(s *metertest.Store) {
						s.Terms[id] = append(slices.Clone(s.Terms[id]), meter.Term{Plan: plan, Version: 1, From: clock.Now().Add(later)})
						s.Plans[id] = plan
					})
					_ = w.meter.Reload(context.Background(), id, clock.Now())
				})
			},
			"tokens": func(t *rapid.T) {
				tokens := rapid.SampledFrom([]int{0, 2, 1 << 30}).Draw(t, "tokens")
				both(func(w *twin) { w.tokens = tokens })
			},
			"journal": func(t *rapid.T) {
				full := rapid.Bool().Draw(t, "full")
				both(func(w *twin) { w.journal.full = full })
			},
			"away": func(t *rapid.T) {
				away := rapid.Bool().Draw(t, "away")
				both(func(w *twin) { w.store.Set(func(s *metertest.Store) { s.Away = away }) })
			},
			"keep":  func(*rapid.T) { both(func(w *twin) { meter.KeepLeases(w.meter) }) },
			"flush": func(*rapid.T) { both(func(w *twin) { _, _ = w.flusher.Flush(context.Background()) }) },
			"idle": func(*rapid.T) {
				both(func(w *twin) {
					_, _ = w.flusher.Flush(context.Background())
					meter.ForgetIdle(w.flusher, 1)
				})
			},
			"clock": func(t *rapid.T) {
				clock.add(time.Duration(rapid.SampledFrom([]int{1, 10, 60, 24 * 60}).Draw(t, "minutes")) * time.Minute)
			},
			"": func(t *rapid.T) { requireTwins(t, one, two, ids, clock.Now()) },
		})
		both(func(w *twin) {
			w.store.Set(func(s *metertest.Store) { s.Away = false })
			_, err := w.flusher.Flush(context.Background())
			require.NoError(t, err)
		})
		requireTwins(t, one, two, ids, clock.Now())
		atOnce += one.atOnce
	})
	require.NotZero(t, atOnce, "some are decided at once")
}

func requireTwins(t *rapid.T, one, two *twin, ids []uuid.UUID, now time.Time) {
	require.Equal(t, two.paced, one.paced)
	if !one.undone {
		require.Equal(t, two.levels, one.levels)
	}
	require.Equal(t, two.journal.segments, one.journal.segments)
	require.Equal(t, two.meter.Totals(), one.meter.Totals())
	require.Equal(t, two.store.Records, one.store.Records)
	require.Equal(t, written(two), written(one))
	require.Equal(t, windows(two), windows(one))
	for index := range meter.Index(2) {
		require.Equal(t, two.meter.Counts(index), one.meter.Counts(index))
		for _, id := range ids {
			a, found := one.meter.Find(id)
			b, also := two.meter.Find(id)
			require.Equal(t, also, found)
			if found {
				require.Equal(t, meter.StateOf(b, index, now), meter.StateOf(a, index, now))
			}
		}
	}
}

// written are the batches, but for which of the reservations of one time is named as open.
func written(w *twin) []meter.Batch {
	batches := slices.Clone(w.store.Batches)
	for i := range batches {
		batches[i].Open = meter.OpenUsage{Count: batches[i].Open.Count, Since: batches[i].Open.Since}
	}
	return batches
}

// windows are the store's, but for the generations of their leases.
func windows(w *twin) map[meter.QuotaWindow][5]int64 {
	out := map[meter.QuotaWindow][5]int64{}
	for key, window := range w.store.Quota.Windows {
		out[key] = [5]int64{window.Max, window.PlanMax, window.Consumed, window.Leased, window.Unleased}
	}
	return out
}
