package meter_test

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
)

// memoryJournal outlives the instance that writes it.
type memoryJournal struct {
	instance uuid.UUID
	active   int64
	segments map[int64][]meter.Record
	full     bool
	// removed keeps what was removed; nil: nothing is kept.
	removed map[meter.BatchID][]meter.Record
}

var errFull = errors.New("full")

func newMemoryJournal(instance uuid.UUID) *memoryJournal {
	return &memoryJournal{instance: instance, active: 1, segments: map[int64][]meter.Record{}}
}

func (j *memoryJournal) Append(r meter.Record) (int64, error) {
	if j.full {
		return 0, errFull
	}
	j.segments[j.active] = append(j.segments[j.active], r)
	return j.active, nil
}

func (j *memoryJournal) Waits() bool { return false }

func (j *memoryJournal) Prepare() error { return nil }

func (j *memoryJournal) Rotate() (int64, error) {
	j.active++
	return j.active - 1, nil
}

func (j *memoryJournal) Records(seq int64) int64 { return int64(len(j.segments[seq])) }

func (j *memoryJournal) Written(id meter.BatchID) error {
	if j.removed != nil && len(j.segments[id.Seq]) > 0 {
		j.removed[id] = j.segments[id.Seq]
	}
	delete(j.segments, id.Seq)
	return nil
}

func (j *memoryJournal) Kept(id meter.BatchID) (iter.Seq2[meter.Record, error], bool) {
	_, sealed := j.segments[id.Seq]
	_, written := j.removed[id]
	return j.read(id.Seq), sealed || written
}

func (j *memoryJournal) Health() error { return nil }

func (j *memoryJournal) read(seq int64) iter.Seq2[meter.Record, error] {
	return func(yield func(meter.Record, error) bool) {
		for _, r := range slices.Concat(j.removed[meter.BatchID{Instance: j.instance, Seq: seq}], j.segments[seq]) {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// member is one instance of the fleet.
type member struct {
	id      uuid.UUID
	meter   *meter.Meter
	flusher *meter.Flusher
	journal *memoryJournal
	changes *meter.Takeover
	held    []heldUsage
	// terms are the plans over time that it was last told of.
	terms map[uuid.UUID][]meter.Term
}

type heldUsage struct {
	usageKey
	quantity    int64
	reservation *meter.OpenReservation
	since       time.Time
}

// fleetRedateAfter is how long a reservation is open before it is moved from a day that has passed.
const fleetRedateAfter = 8 * time.Hour

type usageKey struct {
	organization, meter int
	day                 calendar.Day
	priced              metertest.PricedBy
}

// learned is the store as a member reads it: what it is told of plans over time is noted.
type learned struct {
	*metertest.Store
	member *member
}

func (s learned) LoadOrganization(ctx context.Context, id uuid.UUID, day calendar.Day) (meter.Snapshot, error) {
	snapshot, err := s.Store.LoadOrganization(ctx, id, day)
	if err == nil {
		s.member.terms[id] = snapshot.Terms
	}
	return snapshot, err
}

// leaseFor is how long leases are an instance's own after the store has seen it.
const leaseFor = 20 * time.Minute

func (f *fleet) start() {
	id := uuid.Must(uuid.NewV7())
	m := &member{id: id, journal: newMemoryJournal(id), terms: map[uuid.UUID][]meter.Term{}}
	// Loads in the background read it, too.
	clock := f.clock.Now
	m.meter = meter.New(meter.WithManualLeases(meter.Config{
		Catalog: f.catalog, Store: learned{f.store, m}, Leases: f.store, Identities: f.store, Instance: id, Journal: m.journal, Now: clock,
		LeaseFor: leaseFor, DenyUnleased: f.strict && !f.answering, RedateAfter: fleetRedateAfter, Logger: slog.New(slog.DiscardHandler),
	}))
	m.flusher = meter.NewFlusher(meter.FlusherConfig{
		Meter: m.meter, Store: f.store, Instance: id, Now: clock, Rewinds: f.store, As: meter.Instance{ID: id}, Logger: slog.New(slog.DiscardHandler),
	})
	m.journal.removed = f.segments
	m.changes = meter.NewTakeover(meter.TakeoverConfig{
		Refresher: meter.NewTestRefresher(m.meter, clock), Flusher: m.flusher, Store: f.store, Instance: id, Now: clock,
	})
	f.members = append(f.members, m)
	f.store.Set(func(s *metertest.Store) { s.Through[id] = int64(len(s.Changes)) })
}

func (f *fleet) member(t *rapid.T) *member {
	return f.members[rapid.IntRange(0, len(f.members)-1).Draw(t, "instance")]
}

func (f *fleet) organization(t *rapid.T, m *member) (int, *meter.Organization) {
	n := rapid.IntRange(0, 1).Draw(t, "organization")
	o, err := m.meter.Organization(context.Background(), f.ids[n], f.clock.Now())
	require.NoError(t, err)
	meter.WaitForLoads(m.meter)
	return n, o
}

func (f *fleet) crash(t *rapid.T) {
	if len(f.members) < 2 {
		return
	}
	n := rapid.IntRange(0, len(f.members)-1).Draw(t, "instance")
	f.dead = append(f.dead, f.members[n].journal)
	for _, records := range f.members[n].journal.segments {
		f.unknown = append(f.unknown, records...)
	}
	f.store.Set(func(s *metertest.Store) { delete(s.Through, f.members[n].id) })
	f.members = append(f.members[:n:n], f.members[n+1:]...)
}

// replay does what the next process does with a dead one's journal.
func (f *fleet) replay() bool {
	if len(f.dead) == 0 {
		return true
	}
	j := f.dead[0]
	for seq := int64(1); seq <= j.active; seq++ {
		if f.store.Seqs[j.instance] >= seq {
			continue
		}
		batch, err := meter.BatchOf(meter.BatchID{Instance: j.instance, Seq: seq}, f.catalog, j.read(seq))
		require.NoError(f.t, err)
		if _, err := f.store.ApplyBatch(context.Background(), batch); err != nil {
			return false
		}
	}
	f.dead, f.gone = f.dead[1:], append(f.gone, j)
	f.store.Set(func(s *metertest.Store) { s.Quota.Release(j.instance) })
	delete(f.forgotten, j.instance)
	return true
}

func (f *fleet) recall() {
	for _, key := range f.store.TakeRecalled() {
		for _, m := range f.members {
			m.meter.Recall(key)
		}
	}
}
