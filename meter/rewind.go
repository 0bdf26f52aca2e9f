package meter

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/google/uuid"
)

// RewindStore takes an instance up again where the store has lost what it had acknowledged:
// a standby that lagged, or a backup, has taken its place.
type RewindStore interface {
	// LastSeq returns the sequence of an instance's last batch, 0 before the first;
	// [ErrUnknownInstance] where it was never registered.
	LastSeq(ctx context.Context, instance uuid.UUID) (int64, error)
	// RegisterInstance adds an instance as live. One that is there keeps its sequence.
	RegisterInstance(ctx context.Context, i Instance) error
	// SkipBatches records that batches are missing, and moves the sequence of their instance
	// over them. The first must follow the instance's last ([ErrSequenceGap]).
	SkipBatches(ctx context.Context, missing MissingBatches) error
	// LeasedWindows returns the windows of which the store has a lease of an instance.
	LeasedWindows(ctx context.Context, instance uuid.UUID) ([]LeasedWindow, error)
	// ReleaseLeases gives back what the store believes an instance to hold of windows, but for
	// those of which it has another lease since.
	ReleaseLeases(ctx context.Context, instance uuid.UUID, windows []LeasedWindow) error
}

// LeasedWindow is a window of which an instance holds quota.
type LeasedWindow struct {
	QuotaWindow
	// Generation is that of the lease, and Version that of its last ask, as in [LeaseAsk].
	Generation, Version int64
}

// MissingBatches are batches of an instance that the store doesn't have, and that nobody can
// send again.
type MissingBatches struct {
	Instance uuid.UUID `json:"instance_id"`
	// First and Last are their sequences, both included.
	First int64 `json:"first_seq"`
	Last  int64 `json:"last_seq"`
	// Reports is how many reports they had acknowledged; nil where that isn't known.
	Reports *int64 `json:"reports,omitempty"`
	// NotedAt is when it was found, UTC. The store's to say.
	NotedAt time.Time `json:"noted_at,omitzero"`
}

// Count returns how many batches are missing.
func (m MissingBatches) Count() int64 { return m.Last - m.First + 1 }

// ErrStoreBehind says that the store doesn't have a batch that it had acknowledged. It
// grants nothing to the instance until it has.
var ErrStoreBehind = errors.New("the store doesn't have a batch that it had acknowledged")

// isBehind reports whether an error says that the store has lost something.
func isBehind(err error) bool {
	return errors.Is(err, ErrSequenceGap) || errors.Is(err, ErrUnknownInstance) || errors.Is(err, ErrStoreBehind)
}

// sent is a batch that the store had acknowledged.
type sent struct{ seq, reports int64 }

// maxSent bounds how many batches a flusher remembers the reports of: ten hours of flushes
// each ten seconds.
const maxSent = 3600

// remember notes what a batch that was acknowledged had. Whoever drained it holds mu.
func (f *Flusher) remember(b *Batch) {
	if b.WatermarkOnly {
		return
	}
	if len(f.sent) == maxSent {
		f.sent = append(f.sent[:0], f.sent[1:]...)
	}
	f.sent = append(f.sent, sent{b.ID.Seq, b.Reports})
}

// reportsOf returns how many reports a batch had acknowledged, and whether that is known.
func (f *Flusher) reportsOf(seq int64) (int64, bool) {
	if len(f.sent) == 0 || seq < f.sent[0].seq || seq > f.sent[len(f.sent)-1].seq {
		return 0, false
	}
	return f.sent[seq-f.sent[0].seq].reports, true
}

// rewind brings the store up to a batch that it had acknowledged: it sends again what is
// kept, under the same identities, and records what is not. From here on nothing is admitted out
// of leases before the store, up to date, has granted it. The caller holds mu and the meter's storeMu.
func (f *Flusher) rewind(ctx context.Context, through int64) error {
	m, store := f.config.Meter, f.config.Rewinds
	f.rewinding = true
	m.forfeitLeases()
	last, err := store.LastSeq(ctx, f.config.Instance)
	if errors.Is(err, ErrUnknownInstance) {
		last, err = 0, store.RegisterInstance(ctx, f.config.As)
	}
	if err != nil {
		return fmt.Errorf("take the instance up again: %w", err)
	}
	if last > through {
		return fmt.Errorf("another process writes as this instance: its last batch is %d, and not %d", last, through)
	}
	var again, missing int64
	for last < through {
		applied, err := f.sendAgain(ctx, last+1)
		if err != nil {
			return err
		}
		if applied {
			last++
			again++
			continue
		}
		gap := f.gap(last+1, through)
		if err := store.SkipBatches(ctx, gap); err != nil {
			return fmt.Errorf("record missing batches: %w", err)
		}
		last = gap.Last
		missing += gap.Count()
	}
	m.stats.sentAgain.Add(again)
	m.stats.missing.Add(missing)
	f.config.Logger.Error("The store has lost batches that it had acknowledged: they are sent again, as far as the journal has kept them",
		"through", through, "sent_again", again, "missing", missing)
	return nil
}

// rewound compares what is leased with a store that is up to date again, and has what else is known
// of it read anew.
func (f *Flusher) rewound(ctx context.Context) error {
	if err := f.CompareLeases(ctx); err != nil {
		return err
	}
	f.rewinding = false
	f.config.Meter.orgs.each(func(o *Organization) { o.stale.Store(true) })
	if f.config.Rewound != nil {
		f.config.Rewound()
	}
	return nil
}

// sendAgain applies a batch again, where the journal has kept it.
func (f *Flusher) sendAgain(ctx context.Context, seq int64) (bool, error) {
	m, id := f.config.Meter, BatchID{Instance: f.config.Instance, Seq: seq}
	records, kept := f.kept(id)
	if !kept {
		return false, nil
	}
	batch, err := BatchOf(id, m.Catalog(), records)
	if err != nil {
		f.config.Logger.Error("A batch that the store has lost can't be read from the journal", "seq", seq, "error", err)
		return false, nil
	}
	if _, err := f.config.Store.ApplyBatch(ctx, batch); err != nil {
		return false, fmt.Errorf("apply batch %d again: %w", seq, err)
	}
	return true, nil
}

func (f *Flusher) kept(id BatchID) (iter.Seq2[Record, error], bool) {
	if f.config.Meter.config.Journal == nil {
		return nil, false
	}
	return f.config.Meter.config.Journal.Kept(id)
}

// gap returns the batches from the first on that nobody has.
func (f *Flusher) gap(first, through int64) MissingBatches {
	gap := MissingBatches{Instance: f.config.Instance, First: first, Last: first}
	for gap.Last < through {
		if _, kept := f.kept(BatchID{Instance: gap.Instance, Seq: gap.Last + 1}); kept {
			break
		}
		gap.Last++
	}
	var reports int64
	for seq := gap.First; seq <= gap.Last; seq++ {
		n, known := f.reportsOf(seq)
		if !known {
			return gap
		}
		reports += n
	}
	gap.Reports = &reports
	return gap
}

// CompareLeases compares what the store believes this instance to hold with what it does hold. They
// differ where the store has gone back in time. What it believes of windows that the instance has no
// quota of is given back. What the store doesn't know to have granted is not admitted: it may be
// another's by now. Call it where the store was away.
func (f *Flusher) CompareLeases(ctx context.Context) error {
	m, store := f.config.Meter, f.config.Rewinds
	if store == nil || m.keeper == nil {
		return nil
	}
	leases, err := store.LeasedWindows(ctx, f.config.Instance)
	if err != nil {
		return fmt.Errorf("compare leases: %w", err)
	}
	stored, forgotten := make(map[QuotaWindow]LeasedWindow, len(leases)), leases[:0:0]
	for _, w := range leases {
		stored[w.QuotaWindow] = w
		known := false
		// One that has heard nothing is of an organization that came back: the lease is of before it left.
		m.withQuota(w.QuotaWindow, func(q *quota) { known = q.heard > 0 || q.generation == w.Generation })
		if !known {
			forgotten = append(forgotten, w)
		}
	}
	if err := store.ReleaseLeases(ctx, f.config.Instance, forgotten); err != nil {
		return fmt.Errorf("compare leases: %w", err)
	}
	m.eachQuota(func(q *quota) {
		if w := stored[q.key]; q.heard > 0 && (w.Generation != q.generation || w.Version < q.heard) {
			q.forfeit()
		}
	})
	return nil
}

// forfeitLeases gives up all that is free.
func (m *Meter) forfeitLeases() {
	if m.keeper != nil {
		m.eachQuota((*quota).forfeit)
	}
}
