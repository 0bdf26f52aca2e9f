package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/puzpuzpuz/xsync/v4"
	"github.com/sethvargo/go-limiter/memorystore"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/wallclock"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/journal"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

// subject is one way to decide and to count. use takes a unit of the organization with an index, and
// says whether it was there.
type subject struct {
	name string
	make func(ids []uuid.UUID, dir string) (use func(i int) bool, end func(), err error)
}

// limit is so high that nothing is refused: what is measured is the admission.
const limit = int64(plans.MaxQuantity)

// The subjects. Tollgate's have windows that end and read the clock, as go-limiter does; those named "in
// hand" don't look for the organization.
var subjects = []subject{
	{"find-use", ofTollgate(false, journal.Memory, useAtOnce)},
	{"find-use-journal", ofTollgate(false, journal.Process, useAtOnce)},
	{"in-hand-use", ofTollgate(true, journal.Memory, useAtOnce)},
	{"find-admit-commit", ofTollgate(false, journal.Memory, admitAndCommit)},
	{"find-admit-commit-journal", ofTollgate(false, journal.Process, admitAndCommit)},
	{"sharded-map", shardedMap},
	{"sharded-map-clock", withClock(shardedMap)},
	{"xsync.Map", xsyncMap},
	{"CounterVec", counterVec},
	{"go-limiter", goLimiter},
	{"in-hand-padded-atomic", paddedAtomic},
	{"time.Now", withClock(nothing)},
	{"wallclock.Now", wallClock},
}

// ofTollgate decides out of a lease and counts, as POST /usage does; with the organization in hand, as
// after the look-up of a key.
func ofTollgate(inHand bool, durability journal.Durability, use func(*meter.Organization, time.Time) bool) func([]uuid.UUID, string) (func(int) bool, func(), error) {
	return func(ids []uuid.UUID, dir string) (func(int) bool, func(), error) {
		catalog := *plans.Default()
		catalog.Plans = append(slices.Clone(catalog.Plans), plans.Plan{Key: "large", Version: 1, Name: "Large", Entitlements: []plans.Entitlement{
			{Meter: "evaluations", Mode: plans.Hard, Window: calendar.WindowMonth, Max: limit},
		}})
		log, closeLog, err := openJournal(dir, durability)
		if err != nil {
			return nil, nil, err
		}
		store := metertest.OnPlan("large")
		m := meter.New(meter.Config{Catalog: &catalog, Store: store, Leases: store, Instance: uuid.New(), Journal: log, Now: wallclock.Now})
		ctx := context.Background()
		handles := make([]*meter.Organization, len(ids))
		for i, id := range ids {
			o, err := m.Organization(ctx, id, time.Now())
			if err != nil {
				return nil, nil, fmt.Errorf("find an organization: %w", err)
			}
			// A lease for the whole run.
			_, held, err := o.Admit(ctx, 0, 1_000_000_000, time.Now())
			if err != nil {
				return nil, nil, fmt.Errorf("take a lease: %w", err)
			}
			held.Release()
			handles[i] = o
		}
		one := func(i int) bool {
			o := handles[i]
			if !inHand {
				var err error
				if o, err = m.Organization(ctx, ids[i], time.Time{}); err != nil {
					return false
				}
			}
			return use(o, time.Time{})
		}
		return one, func() { m.Close(); closeLog() }, nil
	}
}

// useAtOnce decides and counts in one step.
func useAtOnce(o *meter.Organization, now time.Time) bool {
	out, err := o.Use(context.Background(), 0, 1, now, nil)
	return err == nil && out.Decision.Allowed
}

// admitAndCommit decides, and counts in a second step, as the gateway does.
func admitAndCommit(o *meter.Organization, now time.Time) bool {
	d, held, err := o.Admit(context.Background(), 0, 1, now)
	if err != nil || !d.Allowed {
		return false
	}
	held.Commit()
	return true
}

// openJournal opens a journal, or none. What would fill its segment is rotated away beside the
// measurement, as flushes do.
func openJournal(dir string, durability journal.Durability) (log meter.Journal, end func(), err error) {
	if durability == journal.Memory {
		return nil, func() {}, nil
	}
	folder, err := os.MkdirTemp(dir, "tollgate-bench-")
	if err != nil {
		return nil, nil, fmt.Errorf("make a folder: %w", err)
	}
	instance := uuid.Must(uuid.NewV7())
	j, err := journal.Open(journal.Config{Dir: folder, Instance: instance, Durability: durability})
	if err != nil {
		return nil, nil, fmt.Errorf("open a journal: %w", err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
			}
			_ = j.Prepare()
			if seq, err := j.Rotate(); err == nil {
				_ = j.Written(journal.SegmentID{Instance: instance, Seq: seq})
			}
		}
	}()
	return j, func() {
		close(stop)
		<-stopped
		_ = j.Close()
		_ = os.RemoveAll(folder)
	}, nil
}

// shards is as many as make contention rare.
const shards = 256

type shard struct {
	mu sync.RWMutex
	of map[uuid.UUID]*atomic.Int64
	_  [64]byte
}

// take is what all maps do once they have found a counter.
func take(used *atomic.Int64) bool {
	if used.Add(1) > limit {
		used.Add(-1)
		return false
	}
	return true
}

func shardedMap(ids []uuid.UUID, _ string) (func(int) bool, func(), error) {
	all := make([]shard, shards)
	for i := range all {
		all[i].of = map[uuid.UUID]*atomic.Int64{}
	}
	for _, id := range ids {
		all[id[15]].of[id] = new(atomic.Int64)
	}
	return func(i int) bool {
		id := ids[i]
		s := &all[id[15]]
		s.mu.RLock()
		used := s.of[id]
		s.mu.RUnlock()
		return take(used)
	}, func() {}, nil
}

func xsyncMap(ids []uuid.UUID, _ string) (func(int) bool, func(), error) {
	all := xsync.NewMap[uuid.UUID, *atomic.Int64]()
	for _, id := range ids {
		all.Store(id, new(atomic.Int64))
	}
	return func(i int) bool {
		used, _ := all.Load(ids[i])
		return take(used)
	}, func() {}, nil
}

func counterVec(ids []uuid.UUID, _ string) (func(int) bool, func(), error) {
	all := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "used"}, []string{"organization"})
	names := namesOf(ids)
	for _, name := range names {
		all.WithLabelValues(name)
	}
	return func(i int) bool {
		all.WithLabelValues(names[i]).Inc()
		return true
	}, func() {}, nil
}

func goLimiter(ids []uuid.UUID, _ string) (func(int) bool, func(), error) {
	store, err := memorystore.New(&memorystore.Config{Tokens: 1 << 40, Interval: 24 * time.Hour, InitialAlloc: len(ids)})
	if err != nil {
		return nil, nil, fmt.Errorf("make a limiter: %w", err)
	}
	names, ctx := namesOf(ids), context.Background()
	use := func(i int) bool {
		_, _, _, ok, err := store.Take(ctx, names[i])
		return ok && err == nil
	}
	for i := range ids {
		use(i)
	}
	return use, func() { _ = store.Close(ctx) }, nil
}

func paddedAtomic(ids []uuid.UUID, _ string) (func(int) bool, func(), error) {
	all := make([]struct {
		used atomic.Int64
		_    [56]byte
	}, len(ids))
	return func(i int) bool { return take(&all[i].used) }, func() {}, nil
}

func nothing([]uuid.UUID, string) (func(int) bool, func(), error) {
	return func(int) bool { return true }, func() {}, nil
}

func wallClock([]uuid.UUID, string) (func(int) bool, func(), error) {
	return func(int) bool { return !wallclock.Now().IsZero() }, func() {}, nil
}

// withClock reads the clock before, as a window that ends needs it.
func withClock(of func([]uuid.UUID, string) (func(int) bool, func(), error)) func([]uuid.UUID, string) (func(int) bool, func(), error) {
	return func(ids []uuid.UUID, dir string) (func(int) bool, func(), error) {
		use, end, err := of(ids, dir)
		began := time.Now()
		return func(i int) bool { return !time.Now().Before(began) && use(i) }, end, err
	}
}

func namesOf(ids []uuid.UUID) []string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = id.String()
	}
	return names
}
