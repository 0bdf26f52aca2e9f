// Package metertest has what tests of a meter, and of all that stands on one, put in place
// of a database: [Store], which keeps everything in memory by the letter of the interfaces of
// package meter, and [OnPlan], which keeps nothing. A Store fails, loses answers, counts and
// blocks on demand.
package metertest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// ErrAway is what a [Store] that is away answers.
var ErrAway = errors.New("store is away")

// Call names a method of a [Store].
type Call string

// The calls that [Store.Before] is told of.
const (
	CallLoad     Call = "LoadOrganization"
	CallApply    Call = "ApplyBatch"
	CallAdjust   Call = "AdjustLeases"
	CallKnown    Call = "KnownReports"
	CallChanges  Call = "PlanChanges"
	CallTakeOver Call = "TakenOver"
	CallRewind   Call = "RewindStore"
)

// Key is what a record is of.
type Key struct {
	Organization uuid.UUID
	Meter        string
	Day          calendar.Day
}

// Record is the usage of a day, and the time of its last report, UTC.
type Record struct {
	Value int64
	At    time.Time
}

// Store is a [meter.Store], [meter.LeaseStore], [meter.IdentityStore], [meter.ChangeStore] and
// [meter.RewindStore] in memory. Its fields are set before it is used, or in [Store.Set].
type Store struct {
	mu sync.Mutex
	// Before is called before every call, without a lock: it may count, and block until ctx
	// ends. The call fails with its error, and does nothing then. May be nil.
	Before func(ctx context.Context, call Call) error
	// Away makes every call fail with [ErrAway] before it does anything.
	Away bool
	// LoseAnswer makes the next ApplyBatch or AdjustLeases do its work and then fail.
	LoseAnswer bool
	// Unreadable is what a load of an organization is refused with; nil: it isn't.
	Unreadable error
	// Refused are organizations whose asks for quota are refused, and why: [meter.ErrAskRefused] or
	// [meter.ErrAskContested].
	Refused map[uuid.UUID]error

	// Plans are the plans in force. PlanOf answers in their place, where it isn't nil.
	Plans  map[uuid.UUID]string
	PlanOf func(uuid.UUID) (plan string, known bool)
	// Terms are the plans over time; none of organizations of which only the plan is told.
	Terms map[uuid.UUID][]meter.Term
	// ReadAt is its clock; zero: nobody looks at it.
	ReadAt time.Time

	// Records are the usage by day, Identified the reports that bear an identity.
	Records    map[Key]Record
	Identified map[IdentityKey]Counted
	// Batches are those that were applied, in their order; Seqs is the last one of each instance.
	Batches []meter.Batch
	Seqs    map[uuid.UUID]int64
	// Watermark is that of the last batch.
	Watermark time.Time
	// Quarantined is what was set aside of a day, apart in which batch.
	Quarantined map[Key]int64
	// Differing counts the batches that were answered as duplicates and are others.
	Differing int
	// Missing are the batches that were skipped.
	Missing []meter.MissingBatches
	apart   map[meter.BatchID][]meter.BatchPlace

	// Quota is what hard limits have. Looks gets the windows that somebody looks at while
	// others hold some idle; those that nobody takes from it are dropped.
	Quota Quota
	Looks chan meter.QuotaWindow
	// Changes are those of plans; Through is how far each live instance has taken them over.
	Changes []meter.PlanChange
	Through map[uuid.UUID]int64
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{
		Plans: map[uuid.UUID]string{}, Terms: map[uuid.UUID][]meter.Term{}, Records: map[Key]Record{}, Seqs: map[uuid.UUID]int64{},
		Identified: map[IdentityKey]Counted{}, Quota: newQuota(), Through: map[uuid.UUID]int64{},
		Looks:       make(chan meter.QuotaWindow, 100),
		Quarantined: map[Key]int64{}, apart: map[meter.BatchID][]meter.BatchPlace{},
	}
}

// Add makes an organization on a plan.
func (s *Store) Add(plan string) uuid.UUID {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := uuid.Must(uuid.NewV7())
	s.Plans[id] = plan
	return id
}

// Set runs fn while nobody else uses the store. fn reads and sets fields, and calls no
// methods of the store.
func (s *Store) Set(fn func(*Store)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(s)
}

// Change puts an organization on a plan, as a change that instances have to take over.
func (s *Store) Change(id uuid.UUID, plan string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Plans[id] = plan
	s.Changes = append(s.Changes, meter.PlanChange{Number: int64(len(s.Changes)) + 1, Organization: id})
}

// TakeRecalled returns the windows that instances are to give back of, once.
func (s *Store) TakeRecalled() []meter.QuotaWindow {
	s.mu.Lock()
	defer s.mu.Unlock()
	recalled := s.Quota.Recalled
	s.Quota.Recalled = nil
	return recalled
}

// Value returns the usage of a day.
func (s *Store) Value(id uuid.UUID, key string, day calendar.Day) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Records[Key{id, key, day}].Value
}

// begin takes the lock for a call, unless that is to fail.
func (s *Store) begin(ctx context.Context, call Call) error {
	if s.Before != nil {
		if err := s.Before(ctx, call); err != nil {
			return err
		}
	}
	s.mu.Lock()
	if s.Away {
		s.mu.Unlock()
		return ErrAway
	}
	return nil
}

// changing reports whether a live instance has yet to take a change over.
func (s *Store) changing(id uuid.UUID) bool {
	for _, c := range s.Changes {
		for _, through := range s.Through {
			if c.Organization == id && c.Number > through {
				return true
			}
		}
	}
	return false
}

// PlanChanges implements meter.ChangeStore.
func (s *Store) PlanChanges(ctx context.Context, instance uuid.UUID) ([]meter.PlanChange, error) {
	if err := s.begin(ctx, CallChanges); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return slices.Clone(s.Changes[s.Through[instance]:]), nil
}

// TakenOver implements meter.ChangeStore.
func (s *Store) TakenOver(ctx context.Context, instance uuid.UUID, through int64, _ time.Time) error {
	if err := s.begin(ctx, CallTakeOver); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if _, live := s.Through[instance]; live {
		s.Through[instance] = through
	}
	return nil
}

// defaultMeters are those of the default catalog, which is parsed once.
var defaultMeters = sync.OnceValue(func() []plans.Meter { return plans.Default().Meters })

// LoadOrganization implements meter.Store.
func (s *Store) LoadOrganization(ctx context.Context, id uuid.UUID, day calendar.Day) (meter.Snapshot, error) {
	if err := s.begin(ctx, CallLoad); err != nil {
		return meter.Snapshot{}, err
	}
	defer s.mu.Unlock()
	if s.Unreadable != nil {
		return meter.Snapshot{}, s.Unreadable
	}
	plan, ok := s.Plans[id]
	if s.PlanOf != nil {
		plan, ok = s.PlanOf(id)
	}
	if !ok {
		return meter.Snapshot{}, meter.ErrUnknownOrganization
	}
	snapshot := meter.Snapshot{Organization: id, Plan: plan, Terms: slices.Clone(s.Terms[id]), ReadAt: s.ReadAt}
	aggregations := map[string]plans.Aggregation{}
	for _, m := range defaultMeters() {
		aggregations[m.Key] = m.Aggregation
	}
	for key := range s.Records {
		if key.Organization == id && aggregations[key.Meter] == "" {
			aggregations[key.Meter] = plans.Sum
		}
	}
	for key, aggregation := range aggregations {
		stored := meter.Stored{Meter: key}
		for d := day.Month(); d <= day; d++ {
			if r, ok := s.Records[Key{id, key, d}]; ok {
				stored.Month = aggregation.Fold(stored.Month, r.Value)
				if d == day {
					stored.Day, stored.DayAt = r.Value, r.At
				}
			}
		}
		snapshot.Usage = append(snapshot.Usage, stored)
	}
	return snapshot, nil
}

// ApplyBatch implements meter.Store.
func (s *Store) ApplyBatch(ctx context.Context, b meter.Batch) (meter.Applied, error) {
	if err := s.begin(ctx, CallApply); err != nil {
		return meter.Applied{}, err
	}
	defer s.mu.Unlock()
	applied := meter.Applied{}
	last := s.Seqs[b.ID.Instance]
	switch {
	case b.WatermarkOnly && b.ID.Seq == last:
		s.Watermark = b.Watermark
	case b.WatermarkOnly && b.ID.Seq > last, !b.WatermarkOnly && b.ID.Seq > last+1:
		return meter.Applied{}, meter.ErrSequenceGap
	case b.ID.Seq <= last:
		applied.Duplicate = true
		if applied.Differs = s.differs(&b); applied.Differs {
			s.Differing++
		}
	default:
		s.Seqs[b.ID.Instance] = b.ID.Seq
		s.Watermark = b.Watermark
		s.Batches = append(s.Batches, b)
		s.Quota.consume(b)
		for i, row := range b.Rows {
			s.write(b.ID, row, i)
		}
	}
	applied.Quarantined = s.apart[b.ID]
	for i, row := range b.Rows {
		applied.Stored = append(applied.Stored, s.Records[Key{row.Organization, row.Meter, row.Day}].Value)
		for j, e := range row.Identified {
			if s.Identified[IdentityKey{row.Organization, e.Identity}].Batch != b.ID {
				applied.Repeated = append(applied.Repeated, meter.BatchPlace{Row: i, Report: j})
			}
		}
	}
	if s.LoseAnswer {
		s.LoseAnswer = false
		return meter.Applied{}, ErrAway
	}
	return applied, nil
}

// differs reports whether another batch was applied under a batch's identity.
func (s *Store) differs(b *meter.Batch) bool {
	for i := range s.Batches {
		if was := &s.Batches[i]; was.ID == b.ID {
			return !b.SameAs(was.Digest(), was.Reports, was.Journalled)
		}
	}
	// It was skipped.
	return len(b.Rows) > 0
}

// IdentityKey is an identity, which is its organization's own.
type IdentityKey struct {
	Organization uuid.UUID
	Identity     meter.Identity
}

// PricedBy is the plan version that prices usage.
type PricedBy struct {
	Plan    string
	Version int
}

// Counted is an identity that was counted, and by which batch.
type Counted struct {
	Batch meter.BatchID
	// Priced is what its row is priced by.
	Priced PricedBy
	Known  meter.KnownReport
}

// write folds a row, and those of its identified reports that are new; or sets it aside, with them,
// where its day can't hold it.
func (s *Store) write(batch meter.BatchID, row meter.Row, place int) {
	total := int64(0)
	if !row.IdentifiedOnly {
		total = row.Value
	}
	fresh := map[IdentityKey]bool{}
	for _, e := range row.Identified {
		key := IdentityKey{row.Organization, e.Identity}
		if _, there := s.Identified[key]; !there && !fresh[key] {
			fresh[key] = true
			total += e.Quantity
		}
	}
	key := Key{row.Organization, row.Meter, row.Day}
	if row.Aggregation == plans.Sum && s.Records[key].Value+total > plans.MaxDaySum {
		for _, e := range row.Identified {
			if key := (IdentityKey{row.Organization, e.Identity}); fresh[key] {
				s.Identified[key] = Counted{batch, PricedBy{row.Plan, row.PlanVersion}, meter.KnownReport{Organization: row.Organization, Meter: row.Meter, Day: row.Day, Report: e}}
			}
		}
		s.Quarantined[key] += total
		s.apart[batch] = append(s.apart[batch], meter.BatchPlace{Row: place, Report: meter.WholeRow})
		return
	}
	if !row.IdentifiedOnly {
		s.fold(row)
	}
	for _, e := range row.Identified {
		key := IdentityKey{row.Organization, e.Identity}
		if _, there := s.Identified[key]; there {
			continue
		}
		s.Identified[key] = Counted{batch, PricedBy{row.Plan, row.PlanVersion}, meter.KnownReport{Organization: row.Organization, Meter: row.Meter, Day: row.Day, Report: e}}
		one := row
		one.Value, one.At = e.Quantity, e.At
		s.fold(one)
		s.Quota.consumeIdentified(batch.Instance, row, e)
	}
}

// KnownReports implements meter.IdentityStore.
func (s *Store) KnownReports(ctx context.Context, organization uuid.UUID, ids []meter.Identity) (out []meter.KnownReport, _ error) {
	if err := s.begin(ctx, CallKnown); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	for _, id := range ids {
		if found, ok := s.Identified[IdentityKey{organization, id}]; ok {
			out = append(out, found.Known)
		}
	}
	return out, nil
}

func (s *Store) fold(row meter.Row) {
	key := Key{row.Organization, row.Meter, row.Day}
	was, ok := s.Records[key]
	switch {
	case !ok:
		s.Records[key] = Record{row.Value, row.At}
	case row.Aggregation == plans.Last && row.At.Before(was.At):
	default:
		s.Records[key] = Record{row.Aggregation.Fold(was.Value, row.Value), row.At}
	}
}
