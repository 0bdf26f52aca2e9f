package meter_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

var errAway = errors.New("store is away")

type recordKey struct {
	organization uuid.UUID
	meter        string
	day          calendar.Day
}

type record struct {
	value int64
	at    time.Time
}

// memoryStore keeps what a store must keep, by the letter of meter.Store.
type memoryStore struct {
	mu    sync.Mutex
	plans map[uuid.UUID]string
	// terms are the plans over time; none of organizations of which only the plan is told.
	terms map[uuid.UUID][]meter.Term
	// readAt is its clock; zero: nobody looks at it.
	readAt  time.Time
	records map[recordKey]record
	seqs    map[uuid.UUID]int64
	batches []meter.Batch
	// away makes every call fail before it does anything; loseAnswer makes ApplyBatch
	// do its work and then fail.
	away, loseAnswer bool
	watermark        time.Time
	identified       map[identifiedKey]countedIdentified
	quota            memoryQuota
	// looks are the windows that somebody looks at while others hold some idle.
	looks chan meter.QuotaWindow
	// refuses are organizations whose asks for quota are refused for good.
	refuses map[uuid.UUID]bool
	// changes are those of plans; through is how far each live instance has taken them over.
	changes []meter.PlanChange
	through map[uuid.UUID]int64
	// quarantined is what was set aside of a day, apart by which batch.
	quarantined map[recordKey]int64
	apart       map[meter.BatchID][]meter.BatchPlace
}

func newMemoryStore() *memoryStore {
	return &memoryStore{
		plans: map[uuid.UUID]string{}, terms: map[uuid.UUID][]meter.Term{}, records: map[recordKey]record{}, seqs: map[uuid.UUID]int64{},
		identified: map[identifiedKey]countedIdentified{}, quota: newMemoryQuota(), through: map[uuid.UUID]int64{},
		looks:       make(chan meter.QuotaWindow, 100),
		quarantined: map[recordKey]int64{}, apart: map[meter.BatchID][]meter.BatchPlace{},
	}
}

func (s *memoryStore) add(plan string) uuid.UUID {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := uuid.Must(uuid.NewV7())
	s.plans[id] = plan
	return id
}

func (s *memoryStore) set(fn func(*memoryStore)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(s)
}

// change puts an organization on a plan, as a change that instances have to take over.
func (s *memoryStore) change(id uuid.UUID, plan string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plans[id] = plan
	s.changes = append(s.changes, meter.PlanChange{Number: int64(len(s.changes)) + 1, Organization: id})
}

// settling reports whether a live instance has yet to take a change over.
func (s *memoryStore) settling(id uuid.UUID) bool {
	for _, c := range s.changes {
		for _, through := range s.through {
			if c.Organization == id && c.Number > through {
				return true
			}
		}
	}
	return false
}

// PlanChanges implements meter.ChangeStore.
func (s *memoryStore) PlanChanges(_ context.Context, instance uuid.UUID) ([]meter.PlanChange, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, errAway
	}
	return slices.Clone(s.changes[s.through[instance]:]), nil
}

// TakenOver implements meter.ChangeStore.
func (s *memoryStore) TakenOver(_ context.Context, instance uuid.UUID, through int64, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return errAway
	}
	if _, live := s.through[instance]; live {
		s.through[instance] = through
	}
	return nil
}

func (s *memoryStore) LoadOrganization(_ context.Context, id uuid.UUID, day calendar.Day) (meter.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return meter.Snapshot{}, errAway
	}
	plan, ok := s.plans[id]
	if !ok {
		return meter.Snapshot{}, meter.ErrUnknownOrganization
	}
	snapshot := meter.Snapshot{Organization: id, Plan: plan, Terms: slices.Clone(s.terms[id]), ReadAt: s.readAt}
	for _, m := range plans.Default().Meters {
		stored := meter.Stored{Meter: m.Key}
		for d := day.Month(); d <= day; d++ {
			if r, ok := s.records[recordKey{id, m.Key, d}]; ok {
				stored.Month = m.Aggregation.Fold(stored.Month, r.value)
				if d == day {
					stored.Day, stored.DayAt = r.value, r.at
				}
			}
		}
		snapshot.Usage = append(snapshot.Usage, stored)
	}
	return snapshot, nil
}

func (s *memoryStore) ApplyBatch(_ context.Context, b meter.Batch) (meter.Applied, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return meter.Applied{}, errAway
	}
	applied := meter.Applied{}
	last := s.seqs[b.ID.Instance]
	switch {
	case b.WatermarkOnly && b.ID.Seq == last:
		s.watermark = b.Watermark
	case b.WatermarkOnly && b.ID.Seq > last, !b.WatermarkOnly && b.ID.Seq > last+1:
		return meter.Applied{}, meter.ErrSequenceGap
	case b.ID.Seq <= last:
		applied.Duplicate = true
	default:
		s.seqs[b.ID.Instance] = b.ID.Seq
		s.watermark = b.Watermark
		s.batches = append(s.batches, b)
		s.quota.settle(b)
		for i, row := range b.Rows {
			s.write(b.ID, row, i)
		}
	}
	applied.Quarantined = s.apart[b.ID]
	for i, row := range b.Rows {
		applied.Stored = append(applied.Stored, s.records[recordKey{row.Organization, row.Meter, row.Day}].value)
		for j, e := range row.Identified {
			if s.identified[identifiedKey{row.Organization, e.Identity}].batch != b.ID {
				applied.Repeated = append(applied.Repeated, meter.BatchPlace{Row: i, Report: j})
			}
		}
	}
	if s.loseAnswer {
		s.loseAnswer = false
		return meter.Applied{}, errAway
	}
	return applied, nil
}

// identifiedKey is an identity, which is its organization's own.
type identifiedKey struct {
	organization uuid.UUID
	identity     meter.Identity
}

// pricedBy is the plan version that prices usage.
type pricedBy struct {
	plan    string
	version int
}

// countedIdentified is an identity that was counted, and by which batch.
type countedIdentified struct {
	batch meter.BatchID
	// priced is what its row is priced by.
	priced pricedBy
	known  meter.KnownReport
}

// write folds a row, and those of its identified reports that are new; or sets it aside, with them,
// where its day can't hold it.
func (s *memoryStore) write(batch meter.BatchID, row meter.Row, place int) {
	total := int64(0)
	if !row.IdentifiedOnly {
		total = row.Value
	}
	fresh := map[identifiedKey]bool{}
	for _, e := range row.Identified {
		key := identifiedKey{row.Organization, e.Identity}
		if _, there := s.identified[key]; !there && !fresh[key] {
			fresh[key] = true
			total += e.Quantity
		}
	}
	key := recordKey{row.Organization, row.Meter, row.Day}
	if row.Aggregation == plans.Sum && s.records[key].value+total > plans.MaxDaySum {
		for _, e := range row.Identified {
			if key := (identifiedKey{row.Organization, e.Identity}); fresh[key] {
				s.identified[key] = countedIdentified{batch, pricedBy{row.Plan, row.PlanVersion}, meter.KnownReport{Organization: row.Organization, Meter: row.Meter, Day: row.Day, Report: e}}
			}
		}
		s.quarantined[key] += total
		s.apart[batch] = append(s.apart[batch], meter.BatchPlace{Row: place, Report: meter.WholeRow})
		return
	}
	if !row.IdentifiedOnly {
		s.fold(row)
	}
	for _, e := range row.Identified {
		key := identifiedKey{row.Organization, e.Identity}
		if _, there := s.identified[key]; there {
			continue
		}
		s.identified[key] = countedIdentified{batch, pricedBy{row.Plan, row.PlanVersion}, meter.KnownReport{Organization: row.Organization, Meter: row.Meter, Day: row.Day, Report: e}}
		one := row
		one.Value, one.At = e.Quantity, e.At
		s.fold(one)
		s.quota.acknowledgeIdentified(batch.Instance, row, e)
	}
}

// KnownReports implements meter.IdentityStore.
func (s *memoryStore) KnownReports(_ context.Context, organization uuid.UUID, ids []meter.Identity) (out []meter.KnownReport, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, errAway
	}
	for _, id := range ids {
		if found, ok := s.identified[identifiedKey{organization, id}]; ok {
			out = append(out, found.known)
		}
	}
	return out, nil
}

func (s *memoryStore) fold(row meter.Row) {
	key := recordKey{row.Organization, row.Meter, row.Day}
	was, ok := s.records[key]
	switch {
	case !ok:
		s.records[key] = record{row.Value, row.At}
	case row.Aggregation == plans.Last && row.At.Before(was.at):
	default:
		s.records[key] = record{row.Aggregation.Fold(was.value, row.Value), row.At}
	}
}

func (s *memoryStore) value(id uuid.UUID, key string, day calendar.Day) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.records[recordKey{id, key, day}].value
}

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

func (c *clock) add(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.now
}

// rig is a meter on a memory store.
type rig struct {
	t       testing.TB
	store   *memoryStore
	meter   *meter.Meter
	flusher *meter.Flusher
	clock   *clock
}

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func newRig(tb testing.TB) *rig {
	tb.Helper()
	r := &rig{t: tb, store: newMemoryStore(), clock: &clock{now: noon}}
	r.restart()
	return r
}

// restart makes a new instance on the same store, as after a clean stop.
func (r *rig) restart() {
	r.meter = meter.New(meter.Config{Catalog: plans.Default(), Store: r.store})
	r.flusher = meter.NewFlusher(meter.FlusherConfig{
		Meter: r.meter, Store: r.store, Instance: uuid.Must(uuid.NewV7()), Now: r.clock.Now,
	})
}

func (r *rig) organization(id uuid.UUID) *meter.Organization {
	r.t.Helper()
	o, err := r.meter.Organization(context.Background(), id, r.clock.Now())
	require.NoError(r.t, err)
	return o
}

func (r *rig) index(key string) meter.Index {
	i, ok := r.meter.Index(key)
	require.True(r.t, ok, key)
	return i
}

func (r *rig) flush() meter.FlushSummary {
	r.t.Helper()
	summary, err := r.flusher.Flush(context.Background())
	require.NoError(r.t, err)
	return summary
}
