package meter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// FlusherConfig is what a [Flusher] is made from.
type FlusherConfig struct {
	// Meter is drained. Required.
	Meter *Meter
	// Store takes the batches. Required.
	Store Store
	// Instance is the identity under which batches are written. Required.
	Instance uuid.UUID
	// Rewinds takes the instance up again where the store has lost what it had acknowledged.
	// Nil: every flush fails then, until somebody has mended it.
	Rewinds RewindStore
	// As is what the instance is registered as, should the store have lost it. Required with
	// Rewinds.
	As Instance
	// Rewound is called after the store was brought up to date again: what else is known of
	// it is to be read anew. It must not block. Nil: nobody is told.
	Rewound func()
	// Now tells the time, UTC. Required.
	Now func() time.Time
	// Interval is the time between flushes. Zero: 10 s.
	Interval time.Duration
	// Undriven is called, beside the flush, when nothing has driven the flusher for
	// three intervals. It may start again what should have driven it. Nil: nothing.
	Undriven func(context.Context)
	// Watch is called after each flush that succeeded, with the levels of what it wrote that
	// are at least WatchFrom percent of their limit, and those that were exceeded since the
	// call before. It may be called by several goroutines. Nil: nobody watches.
	Watch func(context.Context, []Level)
	// WatchFrom is the least percentage that Watch hears of, 1 to 100. Zero: 100.
	WatchFrom int
	// IdleAfter is how long no usage of an organization must have been written until it leaves memory: at
	// once to twice as long after that. Its leases are given back first; with the next request it is loaded
	// again. One with reservations, or with levels of the day ([plans.Last]), stays. Zero: all stay.
	IdleAfter time.Duration
	// Logger takes what [Flusher.Run] can't return. Nil: slog.Default.
	Logger *slog.Logger
}

// Flusher drains a meter into batches and writes them in sequence. A batch is kept
// until the store has acknowledged it, and tried again under the same identity, so
// that a lost answer counts nothing twice.
type Flusher struct {
	config FlusherConfig

	// mu is held for the whole of a flush; one flush runs at a time.
	mu sync.Mutex
	// seq is the sequence of the last batch made, acknowledged that of the last one
	// that the store has.
	seq, acknowledged int64
	retained          []pendingBatch
	// sent are the last batches that were acknowledged, in sequence.
	sent []sent
	// rewinding says that the store was brought up to date, and that what else is known of it is yet to
	// be read anew.
	rewinding bool
	idle      idleness

	driven  atomic.Int64
	waiting atomic.Int64
	last    atomic.Pointer[FlushSummary]
}

type pendingBatch struct {
	batch Batch
	rows  []drained
	// identified is how many of its reports bear an identity.
	identified int64
	// journalled says that the batch's segment is in the journal until it is acknowledged.
	journalled bool
}

// FlushSummary says what a flush wrote.
type FlushSummary struct {
	// Seq is the sequence of the last batch that the store has.
	Seq int64 `json:"seq"`
	// Batches and Rows count what this flush wrote.
	Batches int `json:"batches"`
	Rows    int `json:"rows"`
	// Watermark is the time up to which all that was admitted has been flushed, UTC.
	Watermark time.Time `json:"watermark"`
	// Retained counts the batches that still wait for the store.
	Retained int `json:"retained"`
}

// undrivenIntervals is how many intervals may pass without a driver.
const undrivenIntervals = 3

// NewFlusher makes a flusher that has flushed nothing yet. It panics where a
// required field of the config is missing.
func NewFlusher(config FlusherConfig) *Flusher {
	if config.Meter == nil || config.Store == nil || config.Now == nil || config.Instance == uuid.Nil {
		panic("meter: FlusherConfig.Meter, Store, Instance and Now are required")
	}
	if config.WatchFrom == 0 {
		config.WatchFrom = 100
	}
	if config.Interval == 0 {
		config.Interval = 10 * time.Second
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	f := &Flusher{config: config}
	f.driven.Store(config.Now().UnixNano())
	f.last.Store(&FlushSummary{})
	return f
}

// Interval returns the time between flushes.
func (f *Flusher) Interval() time.Duration { return f.config.Interval }

// Last returns the summary of the last flush that succeeded.
func (f *Flusher) Last() FlushSummary { return *f.last.Load() }

// Retained returns how many batches wait because the last flush could not write them.
func (f *Flusher) Retained() int { return int(f.waiting.Load()) }

// Behind reports whether the store may not have all that was drained: a flush is under
// way, or the last one failed.
func (f *Flusher) Behind() bool {
	if !f.mu.TryLock() {
		return true
	}
	defer f.mu.Unlock()
	return len(f.retained) > 0
}

// Driven tells the flusher that somebody else flushes it at its interval.
func (f *Flusher) Driven(now time.Time) { f.driven.Store(now.UnixNano()) }

// Flush drains the meter and writes what was drained, after what an earlier flush
// could not write. On an error nothing is lost: what isn't acknowledged is kept
// for the next flush.
func (f *Flusher) Flush(ctx context.Context) (FlushSummary, error) {
	summary, levels, err := f.flush(ctx)
	if err != nil {
		return summary, err
	}
	levels = f.config.Meter.takeExceeded(levels)
	if f.config.Watch != nil {
		f.config.Watch(ctx, levels)
	}
	f.forgetIdle()
	return summary, nil
}

// flush holds the locks of a flush, and returns the levels that are watched.
func (f *Flusher) flush(ctx context.Context) (_ FlushSummary, levels []Level, _ error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.config.Meter
	m.storeMu.Lock()
	defer m.storeMu.Unlock()

	summary := FlushSummary{Seq: f.acknowledged, Watermark: f.last.Load().Watermark}
	began := f.config.Now()
	if len(f.retained) < maxRetained {
		f.retain(m.drain(began))
	}
	levels, err := f.write(ctx, began, &summary, levels)
	if err == nil && f.rewinding {
		err = f.rewound(ctx)
	}
	m.crowd.succeeds(err == nil)
	if err != nil {
		return summary, nil, err
	}
	f.last.Store(&summary)
	return summary, levels, nil
}

// write writes the batches that wait, and adds them to a summary. It returns the levels that are
// watched, with those so far. The caller holds the locks of a flush.
func (f *Flusher) write(ctx context.Context, began time.Time, summary *FlushSummary, levels []Level) ([]Level, error) {
	m := f.config.Meter
	for len(f.retained) > 0 {
		next := f.retained[0]
		sent := f.config.Now()
		applied, err := f.apply(ctx, next.batch)
		if err != nil {
			summary.Retained = len(f.retained)
			f.waiting.Store(int64(len(f.retained)))
			return nil, fmt.Errorf("apply batch %d: %w", next.batch.ID.Seq, err)
		}
		m.crowd.pace(next.identified, f.config.Now().Sub(sent))
		levels = f.acknowledge(&next, applied, levels)
		m.LeasesValid(began)
		f.retained[0] = pendingBatch{}
		f.retained = f.retained[1:]
		if !next.batch.WatermarkOnly {
			summary.Batches++
			summary.Rows += len(next.rows)
		}
		f.remember(&next.batch)
		f.acknowledged = next.batch.ID.Seq
		m.acknowledged.Store(f.acknowledged)
		summary.Seq, summary.Watermark = f.acknowledged, next.batch.Watermark
	}
	f.retained = nil
	f.waiting.Store(0)
	return levels, nil
}

// apply writes a batch. Where the store turns out to have lost earlier ones, it is brought up
// to date first.
func (f *Flusher) apply(ctx context.Context, batch Batch) (Applied, error) {
	applied, err := f.config.Store.ApplyBatch(ctx, batch)
	if f.config.Rewinds == nil || !isBehind(err) {
		return applied, err
	}
	if rewound := f.rewind(ctx, f.acknowledged); rewound != nil {
		return applied, errors.Join(err, rewound)
	}
	return f.config.Store.ApplyBatch(ctx, batch)
}

// maxRetained bounds how many batches wait while the store is away. Beyond it
// usage stays in the meter, where it takes no further room.
const maxRetained = 64

// retain makes what was drained the next batch. Where that is nothing, a batch without
// an identity moves the watermark, unless an earlier batch still has to be written.
func (f *Flusher) retain(h harvest) {
	if len(h.rows) == 0 && !h.rotated {
		if len(f.retained) == 0 {
			f.retained = append(f.retained, pendingBatch{batch: Batch{
				ID:            BatchID{Instance: f.config.Instance, Seq: f.seq},
				WatermarkOnly: true,
				Watermark:     h.watermark,
				Open:          f.config.Meter.Open(),
			}})
		}
		return
	}
	slices.SortFunc(h.rows, compareRows)
	f.seq++
	if h.rotated && h.sealed != f.seq {
		f.config.Logger.Error("The journal's sequence is not that of the batches", "sealed", h.sealed, "batch", f.seq)
	}
	batch := Batch{ID: BatchID{Instance: f.config.Instance, Seq: f.seq}, Watermark: h.watermark, Open: f.config.Meter.Open(), Rows: exported(h.rows)}
	identified := int64(0)
	for i := range h.rows {
		identified += int64(len(h.rows[i].identified))
		batch.Reports += int64(h.rows[i].reports)
	}
	batch.Reports += identified
	f.config.Meter.crowd.leave(identified)
	if h.rotated {
		records := f.config.Meter.config.Journal.Records(h.sealed)
		batch.Journalled = &records
	}
	f.retained = append(f.retained, pendingBatch{batch: batch, rows: h.rows, identified: identified, journalled: h.rotated})
}

// acknowledge tells the meter and the journal that the store has a batch. It returns the levels that are
// watched, with those so far.
func (f *Flusher) acknowledge(p *pendingBatch, applied Applied, levels []Level) []Level {
	repeated, quarantined := identifiedByRow(applied.Repeated), identifiedByRow(applied.Quarantined)
	m := f.config.Meter
	if applied.Conflicts > 0 {
		m.stats.conflicts.Add(int64(applied.Conflicts))
		f.config.Logger.Warn("Reports under keys that another instance took with other ones are not counted: see the table usage_conflicts",
			"seq", p.batch.ID.Seq, "conflicts", applied.Conflicts)
	}
	if applied.Differs {
		f.config.Logger.Error("Another process has written another batch as this instance: both are kept, see usage_batch_conflicts and the runbook",
			"seq", p.batch.ID.Seq, "reports", p.batch.Reports)
	}
	for i := range p.rows {
		row := &p.rows[i]
		f.idle.use(row.slot.org)
		if applied.Differs {
			// What is set aside counts as used, and is read with all else.
			row.slot.org.stale.Store(true)
		}
		if i < len(applied.Stored) {
			written := row.slot.acknowledge(row, applied.Stored[i], repeated[i], quarantined[i], applied.Duplicate)
			if f.config.Watch != nil {
				levels = m.level(row, &written, f.config.WatchFrom, levels)
			}
		}
		for j := range row.identified {
			m.identities.forget(identityKey{row.slot.org.id, row.identified[j].Identity})
		}
	}
	m.identities.full.Store(false)
	if !p.journalled {
		return levels
	}
	if err := m.config.Journal.Written(p.batch.ID); err != nil {
		// It is replayed at the next start, and counts nothing then.
		f.config.Logger.Warn("A journal segment that is written can't be set aside", "seq", p.batch.ID.Seq, "error", err)
	}
	return levels
}

func identifiedByRow(places []BatchPlace) map[int][]int {
	byRow := map[int][]int{}
	for _, place := range places {
		byRow[place.Row] = append(byRow[place.Row], place.Report)
	}
	return byRow
}

func compareRows(a, b drained) int {
	return cmp.Or(
		slices.Compare(a.slot.org.id[:], b.slot.org.id[:]),
		cmp.Compare(a.slot.meter.Key, b.slot.meter.Key),
		cmp.Compare(a.day, b.day),
		a.slot.org.meter.prices.compare(a.price, b.price),
	)
}

func exported(rows []drained) []Row {
	out := make([]Row, len(rows))
	for i := range rows {
		d := &rows[i]
		priced := d.slot.org.meter.prices.name(d.price)
		out[i] = Row{
			Organization:   d.slot.org.id,
			Meter:          d.slot.meter.Key,
			Aggregation:    d.slot.meter.Aggregation,
			Day:            d.day,
			Plan:           priced.plan,
			PlanVersion:    priced.version,
			Value:          d.value,
			Leased:         d.leased,
			IdentifiedOnly: !d.has,
			Identified:     copied(d.identified),
		}
		if d.has {
			out[i].At = time.Unix(0, d.at).UTC()
		}
	}
	return out
}

// copied are the reports themselves; nil where there are none.
func copied(reports []*IdentifiedReport) []IdentifiedReport {
	if len(reports) == 0 {
		return nil
	}
	out := make([]IdentifiedReport, len(reports))
	for i, report := range reports {
		out[i] = *report
	}
	return out
}

// Run is the net: where nothing has driven the flusher for three intervals, it
// flushes it, so that an absent orchestrator delays nothing for longer. It flushes ahead of time where
// many reports with an identity are undrained. It returns when the context ends.
func (f *Flusher) Run(ctx context.Context) {
	ticker := time.NewTicker(f.config.Interval)
	defer ticker.Stop()
	// What should drive the flusher may take long to say that it can't be reached: that
	// must not hold up the flush.
	var telling sync.WaitGroup
	defer telling.Wait()
	var busy atomic.Bool
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.config.Meter.crowd.due:
			f.flushCrowd(ctx)
			continue
		case <-ticker.C:
		}
		idle := f.config.Now().UnixNano() - f.driven.Load()
		if idle < int64(undrivenIntervals*f.config.Interval) {
			continue
		}
		if f.config.Undriven != nil && busy.CompareAndSwap(false, true) {
			telling.Go(func() {
				defer busy.Store(false)
				f.config.Undriven(ctx)
			})
		}
		if _, err := f.Flush(ctx); err != nil && ctx.Err() == nil {
			f.config.Logger.Error("Flush by the instance itself failed: keeping the usage for the next", "error", err)
		}
	}
}

// flushCrowd flushes ahead of time, unless another flush has, or the store is away.
func (f *Flusher) flushCrowd(ctx context.Context) {
	if !f.config.Meter.crowd.there() {
		return
	}
	if _, err := f.Flush(ctx); err != nil && ctx.Err() == nil {
		f.config.Logger.Error("Flush ahead of its time failed: keeping the usage for the next", "error", err)
	}
}
