package meter

import (
	"cmp"
	"context"
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
	// Now tells the time, UTC. Required.
	Now func() time.Time
	// Interval is the time between flushes. Zero: 10 s.
	Interval time.Duration
	// MaxRows is the most rows that one batch holds. Zero: 50,000.
	MaxRows int
	// Undriven is called, beside the flush, when nothing has driven the flusher for
	// three intervals. It may start again what should have driven it. Nil: nothing.
	Undriven func(context.Context)
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

	driven  atomic.Int64
	waiting atomic.Int64
	last    atomic.Pointer[FlushSummary]
}

type pendingBatch struct {
	batch Batch
	rows  []drained
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
	if config.Interval == 0 {
		config.Interval = 10 * time.Second
	}
	if config.MaxRows == 0 {
		config.MaxRows = 50_000
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

// Driven tells the flusher that somebody else flushes it at its interval.
func (f *Flusher) Driven(now time.Time) { f.driven.Store(now.UnixNano()) }

// Flush drains the meter and writes what was drained, after what an earlier flush
// could not write. On an error nothing is lost: what isn't acknowledged is kept
// for the next flush.
func (f *Flusher) Flush(ctx context.Context) (FlushSummary, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.config.Meter
	m.storeMu.Lock()
	defer m.storeMu.Unlock()

	summary := FlushSummary{Seq: f.acknowledged, Watermark: f.last.Load().Watermark}
	if len(f.retained) < maxRetained {
		f.retain(m.drain(f.config.Now()))
	}
	for len(f.retained) > 0 {
		next := f.retained[0]
		applied, err := f.config.Store.ApplyBatch(ctx, next.batch)
		if err != nil {
			summary.Retained = len(f.retained)
			f.waiting.Store(int64(len(f.retained)))
			return summary, fmt.Errorf("apply batch %d: %w", next.batch.ID.Seq, err)
		}
		for i, row := range next.rows {
			if i < len(applied.Stored) {
				row.slot.acknowledge(row, applied.Stored[i])
			}
		}
		f.retained[0] = pendingBatch{}
		f.retained = f.retained[1:]
		if len(next.rows) > 0 {
			summary.Batches++
			summary.Rows += len(next.rows)
		}
		f.acknowledged = next.batch.ID.Seq
		summary.Seq, summary.Watermark = f.acknowledged, next.batch.Watermark
	}
	f.retained = nil
	f.waiting.Store(0)
	f.last.Store(&summary)
	return summary, nil
}

// maxRetained bounds how many batches wait while the store is away. Beyond it
// usage stays in the meter, where it takes no further room.
const maxRetained = 64

// retain cuts drained rows into batches. Where there are none, an empty batch moves
// the watermark, unless an earlier batch still has to be written.
func (f *Flusher) retain(rows []drained, watermark time.Time) {
	slices.SortFunc(rows, compareRows)
	if len(rows) == 0 && len(f.retained) == 0 {
		f.retained = append(f.retained, pendingBatch{batch: Batch{
			ID:            BatchID{Instance: f.config.Instance, Seq: f.seq},
			WatermarkOnly: true,
			Watermark:     watermark,
		}})
		return
	}
	complete := f.last.Load().Watermark
	for chunk := range slices.Chunk(rows, f.config.MaxRows) {
		f.seq++
		f.retained = append(f.retained, pendingBatch{
			rows: chunk,
			batch: Batch{
				ID:        BatchID{Instance: f.config.Instance, Seq: f.seq},
				Watermark: complete,
				Rows:      exported(chunk),
			},
		})
	}
	if len(rows) > 0 {
		// Only the last batch of a drain completes it.
		f.retained[len(f.retained)-1].batch.Watermark = watermark
	}
}

func compareRows(a, b drained) int {
	return cmp.Or(
		slices.Compare(a.slot.org.id[:], b.slot.org.id[:]),
		cmp.Compare(a.slot.meter.Key, b.slot.meter.Key),
		cmp.Compare(a.day, b.day),
	)
}

func exported(rows []drained) []Row {
	out := make([]Row, len(rows))
	for i, d := range rows {
		out[i] = Row{
			Organization: d.slot.org.id,
			Meter:        d.slot.meter.Key,
			Aggregation:  d.slot.meter.Aggregation,
			Day:          d.day,
			Value:        d.value,
			At:           time.Unix(0, d.at).UTC(),
		}
	}
	return out
}

// Run is the net: where nothing has driven the flusher for three intervals, it
// flushes it, so that an absent orchestrator delays nothing for longer. It returns
// when the context ends.
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
