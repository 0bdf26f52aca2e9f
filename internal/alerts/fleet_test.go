package alerts_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/internal/alerts"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// interval is the time between the flushes of a replica, patience that of its watcher.
const (
	interval = 10 * time.Second
	patience = time.Minute
)

// catalog is read once.
var catalog = sync.OnceValue(plans.Default)

// fleet are replicas on one store, whose events go into another one.
type fleet struct {
	t        require.TestingT
	store    *metertest.Store
	kept     *kept
	now      time.Time
	replicas []*replica
}

// replica is one of a fleet.
type replica struct {
	fleet   *fleet
	meter   *meter.Meter
	flusher *meter.Flusher
	watcher *alerts.Watcher
	// dies says that the replica ends between its next flush and its call.
	dies bool
	// calls counts what it has asked.
	calls int
}

func newFleet(t require.TestingT, replicas int) *fleet {
	f := &fleet{t: t, store: metertest.NewStore(), kept: &kept{}, now: noon}
	for range replicas {
		f.replicas = append(f.replicas, f.replica())
	}
	return f
}

func (f *fleet) clock() time.Time { return f.now }

func (f *fleet) replica() *replica {
	r := &replica{fleet: f}
	r.meter = meter.New(meter.Config{Catalog: catalog(), Store: f.store, Now: f.clock})
	r.watcher = alerts.NewWatcher(alerts.Config{
		Thresholds: []int{25, 80, 100}, Publish: f.kept.publish, Now: f.clock, Patience: patience, Logger: slog.New(slog.DiscardHandler),
	})
	r.flusher = meter.NewFlusher(meter.FlusherConfig{
		Meter: r.meter, Store: f.store, Instance: uuid.Must(uuid.NewV7()), Now: f.clock, Watch: r.watch, WatchFrom: r.watcher.WatchFrom(),
		Logger: slog.New(slog.DiscardHandler),
	})
	return r
}

func (r *replica) watch(ctx context.Context, levels []meter.Level) {
	if r.dies {
		return
	}
	before := r.fleet.kept.calls
	r.watcher.Watch(ctx, levels)
	r.calls += r.fleet.kept.calls - before
}

// use has a replica take usage, as far as the limit allows.
func (r *replica) use(id uuid.UUID, key string, quantity int64) {
	o, err := r.meter.Organization(context.Background(), id, r.fleet.now)
	require.NoError(r.fleet.t, err)
	i, _ := r.meter.Index(key)
	_, err = o.Use(context.Background(), i, quantity, r.fleet.now, nil)
	require.NoError(r.fleet.t, err)
}

func (r *replica) flush() {
	_, err := r.flusher.Flush(context.Background())
	require.NoError(r.fleet.t, err)
}

// restart puts another replica in the place of one.
func (f *fleet) restart(n int) { f.replicas[n] = f.replica() }

// round lets an interval pass, and all replicas flush.
func (f *fleet) round() {
	f.now = f.now.Add(interval)
	for _, r := range f.replicas {
		r.flush()
	}
}

// reached is how many thresholds the usage of a window of 5,000 has reached.
func reached(used int64) (n int) {
	for _, percent := range []int64{25, 80, 100} {
		if used >= percent*50 {
			n++
		}
	}
	if used > 5000 {
		n++
	}
	return n
}

// The replica that crosses publishes at once, by one call for all that its batch has crossed. None of the
// others calls, however many they are and however many crossings they see: after a minute each makes sure
// of them all by one call, which keeps nothing.
func TestCallsOfAFleet(t *testing.T) {
	t.Parallel()
	const crossings = 40
	for _, replicas := range []int{1, 3, 20} {
		t.Run(fmt.Sprint(replicas), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, replicas)
			var ids []uuid.UUID
			for range crossings {
				ids = append(ids, f.store.Add("pro"))
			}
			for _, id := range ids {
				f.replicas[0].use(id, "simulations", 4_000)
			}
			f.round()
			require.Equal(t, 1, f.kept.calls, "of the one that has crossed 25 and 80 percent of %d limits", crossings)
			require.Len(t, f.kept.keys, 2*crossings)
			for range 3 {
				for _, r := range f.replicas {
					for _, id := range ids {
						r.use(id, "simulations", 1)
					}
				}
				f.round()
			}
			require.Equal(t, 1, f.kept.calls)
			for range 2 * int(patience/interval) {
				f.round()
			}
			require.Equal(t, replicas, f.kept.calls, "each of the others makes sure once")
			require.Equal(t, 1, f.kept.new)
			require.Len(t, f.kept.keys, 2*crossings)
			require.Equal(t, 1, f.replicas[0].calls)
		})
	}
}

// Whoever takes usage, restarts, loses an answer, or dies before it could publish: each crossing is an event
// once, at once where the replica that crossed lives, otherwise once the others have been patient.
func TestEachCrossingOfAFleetOnce(t *testing.T) {
	t.Parallel()
	for _, replicas := range []int{1, 3, 20} {
		t.Run(fmt.Sprint(replicas), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				f := newFleet(t, replicas)
				ids := []uuid.UUID{f.store.Add("pro"), f.store.Add("pro")}
				used, late := map[uuid.UUID]int64{}, false
				for range rapid.IntRange(1, 12).Draw(t, "rounds") {
					f.now = f.now.Add(interval)
					for range rapid.IntRange(0, 4).Draw(t, "uses") {
						id, quantity := rapid.SampledFrom(ids).Draw(t, "organization"), rapid.Int64Range(1, 1_300).Draw(t, "quantity")
						rapid.SampledFrom(f.replicas).Draw(t, "replica").use(id, "simulations", quantity)
						used[id] += quantity
					}
					n := rapid.IntRange(0, replicas-1).Draw(t, "whose")
					switch rapid.SampledFrom([]string{"", "", "dies", "restarts", "loses an answer"}).Draw(t, "event") {
					case "dies":
						f.replicas[n].dies, late = true, true
					case "restarts":
						f.replicas[n].flush()
						f.restart(n)
					case "loses an answer":
						f.store.Set(func(s *metertest.Store) { s.LoseAnswer = true })
						if _, err := f.replicas[n].flusher.Flush(context.Background()); err == nil {
							t.Fatal("no answer was lost")
						}
					}
					for n, r := range f.replicas {
						r.flush()
						if r.dies {
							f.restart(n)
						}
					}
					if !late {
						require.Len(t, f.kept.keys, reached(used[ids[0]])+reached(used[ids[1]]), "at once")
					}
				}
				// Each is seen again where it is used, and left to others no longer than that.
				for range patience/interval + 2 {
					for _, id := range ids {
						f.replicas[0].use(id, "simulations", 1)
						used[id]++
					}
					f.round()
				}
				require.Len(t, f.kept.keys, reached(used[ids[0]])+reached(used[ids[1]]))
			})
		})
	}
}

// Several replicas refuse at about the same time: each says so at once, by one call.
func TestEachReplicaThatRefusesCallsOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	id := f.store.Add("free")
	f.replicas[0].use(id, "simulations", 50)
	f.round()
	calls := f.kept.calls
	for range 5 {
		for _, r := range f.replicas {
			r.use(id, "simulations", 51)
		}
		f.round()
	}
	require.Equal(t, calls+3, f.kept.calls)
	require.Equal(t, 2, f.kept.new, "the thresholds, and the limit that refused")
}
