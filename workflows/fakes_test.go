package workflows_test

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// permanentError is a store's failure that would come again.
type permanentError string

func (e permanentError) Error() string { return string(e) }
func (permanentError) Retryable() bool { return false }

// fakeStore is what the activities need of a database, in memory.
type fakeStore struct {
	mu        sync.Mutex
	instances map[uuid.UUID]meter.Instance
	// toRollUp are the days that need a rollup.
	toRollUp   []calendar.Day
	revisions  map[calendar.Day]int
	partitions []calendar.Day
	exports    map[uuid.UUID]billing.Export
	usage      []billing.UsageTotal
	fakeWebhooks
	fakeClose
	fakeSinks
	// hook is called, without the lock, before what it is named after; it may fail or wait.
	hook func(ctx context.Context, what string) error
}

func newFakeStore() *fakeStore {
	return &fakeStore{
		instances: map[uuid.UUID]meter.Instance{},
		revisions: map[calendar.Day]int{},
		exports:   map[uuid.UUID]billing.Export{},
		fakeClose: newFakeClose(),
		fakeSinks: newFakeSinks(),
	}
}

func (s *fakeStore) call(ctx context.Context, what string, fn func() error) error {
	if s.hook != nil {
		if err := s.hook(ctx, what); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return fn()
}

func (s *fakeStore) put(i meter.Instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instances[i.ID] = i
}

func (s *fakeStore) instance(id uuid.UUID) meter.Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.instances[id]
}

func (s *fakeStore) allExports() []billing.Export {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []billing.Export
	for _, e := range s.exports {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b billing.Export) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return out
}

func (s *fakeStore) StopInstance(ctx context.Context, id uuid.UUID) error {
	return s.call(ctx, "StopInstance", func() error {
		i := s.instances[id]
		i.Status = meter.InstanceStopped
		s.instances[id] = i
		return nil
	})
}

func (s *fakeStore) InstancesSince(ctx context.Context, _ time.Time) (out []meter.Instance, err error) {
	err = s.call(ctx, "Instances", func() error {
		for _, i := range s.instances {
			out = append(out, i)
		}
		return nil
	})
	return out, err
}

func (s *fakeStore) MarkInstanceLost(ctx context.Context, id uuid.UUID) (i meter.Instance, marked bool, err error) {
	err = s.call(ctx, "MarkInstanceLost", func() error {
		var ok bool
		if i, ok = s.instances[id]; !ok {
			return meter.ErrUnknownInstance
		}
		if marked = i.Status == meter.InstanceLive && time.Since(i.SeenAt) > i.Patience(); marked {
			i.Status = meter.InstanceLost
			s.instances[id] = i
		}
		return nil
	})
	return i, marked, err
}

func (s *fakeStore) RollUpDay(ctx context.Context, day calendar.Day) (out billing.DayRollup, err error) {
	err = s.call(ctx, "RollUpDay", func() error {
		s.revisions[day]++
		s.toRollUp = slices.DeleteFunc(s.toRollUp, func(d calendar.Day) bool { return d == day })
		out = billing.DayRollup{Day: day, Revision: s.revisions[day], Batches: 2, Rows: int64(len(s.usage))}
		return nil
	})
	return out, err
}

func (s *fakeStore) DaysToRollUp(ctx context.Context, from, to calendar.Day) (out []calendar.Day, err error) {
	err = s.call(ctx, "DaysToRollUp", func() error {
		for _, day := range s.toRollUp {
			if from <= day && day <= to {
				out = append(out, day)
			}
		}
		return nil
	})
	return out, err
}

func (s *fakeStore) Reconcile(ctx context.Context, from, to calendar.Day) (out billing.Reconciliation, err error) {
	err = s.call(ctx, "Reconcile", func() error {
		out = billing.Reconciliation{From: from, To: to}
		for _, c := range billing.Comparisons() {
			out.Compared = append(out.Compared, billing.Compared{Comparison: c, Compared: int64(len(s.usage))})
		}
		return nil
	})
	return out, err
}

func (s *fakeStore) DeleteEvents(context.Context, time.Time) (billing.Expired, error) {
	return billing.Expired{}, nil
}

func (s *fakeStore) DropUsageRows(context.Context, int) (int64, error) { return 0, nil }

func (s *fakeStore) DeleteInstances(context.Context, time.Time) (billing.Expired, error) {
	return billing.Expired{}, nil
}

func (s *fakeStore) DeleteExpired(ctx context.Context, before time.Time) (out billing.Expired, err error) {
	err = s.call(ctx, "DeleteExpired", func() error {
		out = billing.Expired{Identities: 7}
		return nil
	})
	return out, err
}

func (s *fakeStore) ExpireCredits(ctx context.Context, _ time.Time, _ int) (n int, err error) {
	err = s.call(ctx, "ExpireCredits", func() error {
		n = 4
		return nil
	})
	return n, err
}

func (s *fakeStore) EnsurePartitions(ctx context.Context, day calendar.Day, _ int) error {
	return s.call(ctx, "EnsurePartitions", func() error {
		s.partitions = append(s.partitions, day)
		return nil
	})
}

func (s *fakeStore) Export(ctx context.Context, period calendar.Period) (out billing.Export, err error) {
	err = s.call(ctx, "Export", func() error {
		for _, known := range s.exports {
			if known.Period == period && (out.ID == uuid.Nil || !known.Stage.Ended()) {
				out = known
			}
		}
		if out.ID == uuid.Nil {
			return billing.ErrExportNotFound
		}
		return nil
	})
	return out, err
}

func (s *fakeStore) BeginExport(ctx context.Context, e billing.Export) (out billing.Export, final bool, err error) {
	err = s.call(ctx, "BeginExport", func() error {
		for _, known := range s.exports {
			final = known.Period == e.Period && known.Stage == billing.StageClosed
			if final || (known.WorkflowID == e.WorkflowID && known.RunID == e.RunID) {
				out = known
				return nil
			}
		}
		e.Revision = 1
		out = e
		s.exports[e.ID] = e
		return nil
	})
	return out, final, err
}

func (s *fakeStore) change(ctx context.Context, what string, id uuid.UUID, fn func(*billing.Export) error) error {
	return s.call(ctx, what, func() error {
		e, ok := s.exports[id]
		if !ok {
			return billing.ErrExportNotFound
		}
		if err := fn(&e); err != nil {
			return err
		}
		s.exports[id] = e
		return nil
	})
}

func (s *fakeStore) SetExportStage(ctx context.Context, id uuid.UUID, stage billing.Stage) error {
	return s.change(ctx, "SetExportStage "+string(stage), id, func(e *billing.Export) error {
		if e.Stage.Ended() {
			return billing.ErrExportEnded
		}
		e.Stage = stage
		return nil
	})
}

func (s *fakeStore) FreezeExport(ctx context.Context, id uuid.UUID) (marks []billing.BatchMark, err error) {
	err = s.change(ctx, "FreezeExport", id, func(*billing.Export) error {
		for instance, i := range s.instances {
			if i.LastSeq > 0 {
				marks = append(marks, billing.BatchMark{Instance: instance, Through: i.LastSeq})
			}
		}
		return nil
	})
	return marks, err
}

func (s *fakeStore) ExportTotals(ctx context.Context, id, after uuid.UUID, limit int) (out []billing.UsageTotal, err error) {
	err = s.change(ctx, "ExportTotals", id, func(*billing.Export) error {
		organizations := 0
		for i, total := range s.usage {
			if slices.Compare(total.Organization[:], after[:]) <= 0 {
				continue
			}
			if i == 0 || s.usage[i-1].Organization != total.Organization {
				if organizations++; organizations > limit {
					break
				}
			}
			out = append(out, total)
		}
		return nil
	})
	return out, err
}

func (s *fakeStore) FailExport(ctx context.Context, id uuid.UUID, stage billing.Stage, reason string) error {
	return s.change(ctx, "FailExport", id, func(e *billing.Export) error {
		if e.Stage == billing.StageDone || e.IssuedAt != nil {
			return billing.ErrExportEnded
		}
		e.Stage, e.Error = stage, reason
		return nil
	})
}

func (s *fakeStore) Catalog(context.Context) (*plans.Catalog, error) { return plans.Default(), nil }

func (s *fakeStore) ExportCatalog(context.Context, uuid.UUID) (*plans.Catalog, error) {
	return plans.Default(), nil
}

// fakeFlusher is an instance's flusher that writes to a fakeStore.
type fakeFlusher struct {
	store    *fakeStore
	id       uuid.UUID
	interval time.Duration

	mu     sync.Mutex
	failed error
	driven int
}

func (f *fakeFlusher) Flush(ctx context.Context) (meter.FlushSummary, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed != nil {
		return meter.FlushSummary{Retained: 1}, f.failed
	}
	now := time.Now().UTC()
	i := f.store.instance(f.id)
	i.Status, i.LastSeq, i.SeenAt, i.Watermark = meter.InstanceLive, i.LastSeq+1, now, now
	f.store.put(i)
	return meter.FlushSummary{Seq: i.LastSeq, Batches: 1, Rows: 3, Watermark: now}, ctx.Err()
}

func (f *fakeFlusher) Driven(time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.driven++
}

func (f *fakeFlusher) Interval() time.Duration { return f.interval }

func (f *fakeFlusher) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = err
}

// someUsage returns totals of two organizations.
func someUsage() []billing.UsageTotal {
	total := func(organization string, meter plans.Meter, value int64) billing.UsageTotal {
		return billing.UsageTotal{
			Organization: uuid.MustParse(organization), OrganizationName: "Acme", Plan: "pro",
			Meter: meter.Key, Unit: meter.Unit, Aggregation: meter.Aggregation, Value: value,
		}
	}
	meters := plans.Default().Meters
	return []billing.UsageTotal{
		total("0199a000-0000-7000-8000-000000000001", meters[0], 1200),
		total("0199a000-0000-7000-8000-000000000001", meters[3], 7),
		total("0199a000-0000-7000-8000-000000000002", meters[0], 30),
	}
}
