package metertest

import (
	"context"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/meter"
)

// Backup is the usage and the quota of a store as they were at a time.
type Backup struct {
	records     map[Key]Record
	identified  map[IdentityKey]Counted
	batches     []meter.Batch
	seqs        map[uuid.UUID]int64
	quarantined map[Key]int64
	apart       map[meter.BatchID][]meter.BatchPlace
	windows     map[meter.QuotaWindow]*Window
}

// Backup copies the usage and the quota.
func (s *Store) Backup() *Backup {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Backup{
		records: maps.Clone(s.Records), identified: maps.Clone(s.Identified), batches: slices.Clone(s.Batches),
		seqs: maps.Clone(s.Seqs), quarantined: maps.Clone(s.Quarantined), apart: maps.Clone(s.apart),
		windows: cloneWindows(s.Quota.Windows),
	}
}

// Restore takes the store back to a backup, as an operator or a standby that lagged would.
func (s *Store) Restore(b *Backup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Records, s.Identified, s.Batches = maps.Clone(b.records), maps.Clone(b.identified), slices.Clone(b.batches)
	s.Seqs, s.Quarantined, s.apart = maps.Clone(b.seqs), maps.Clone(b.quarantined), maps.Clone(b.apart)
	s.Quota.Windows = cloneWindows(b.windows)
}

func cloneWindows(windows map[meter.QuotaWindow]*Window) map[meter.QuotaWindow]*Window {
	out := make(map[meter.QuotaWindow]*Window, len(windows))
	for key, w := range windows {
		clone := *w
		clone.leases = make(map[uuid.UUID]*lease, len(w.leases))
		for id, l := range w.leases {
			copied := *l
			clone.leases[id] = &copied
		}
		out[key] = &clone
	}
	return out
}

// LastSeq implements meter.RewindStore.
func (s *Store) LastSeq(ctx context.Context, instance uuid.UUID) (int64, error) {
	if err := s.begin(ctx, CallRewind); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	return s.Seqs[instance], nil
}

// RegisterInstance implements meter.RewindStore.
func (s *Store) RegisterInstance(ctx context.Context, i meter.Instance) error {
	if err := s.begin(ctx, CallRewind); err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.Seqs[i.ID] += 0
	return nil
}

// SkipBatches implements meter.RewindStore.
func (s *Store) SkipBatches(ctx context.Context, missing meter.MissingBatches) error {
	if err := s.begin(ctx, CallRewind); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if s.Seqs[missing.Instance] != missing.First-1 {
		return meter.ErrSequenceGap
	}
	s.Seqs[missing.Instance] = missing.Last
	s.Missing = append(s.Missing, missing)
	return nil
}

// LeasedWindows implements meter.RewindStore.
func (s *Store) LeasedWindows(ctx context.Context, instance uuid.UUID) (held []meter.LeasedWindow, _ error) {
	if err := s.begin(ctx, CallRewind); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	for key, w := range s.Quota.Windows {
		if l := w.leases[instance]; l != nil {
			held = append(held, meter.LeasedWindow{QuotaWindow: key, Generation: l.generation, Version: l.version})
		}
	}
	return held, nil
}

// ReleaseLeases implements meter.RewindStore.
func (s *Store) ReleaseLeases(ctx context.Context, instance uuid.UUID, windows []meter.LeasedWindow) error {
	if err := s.begin(ctx, CallRewind); err != nil {
		return err
	}
	defer s.mu.Unlock()
	for _, window := range windows {
		w := s.Quota.Windows[window.QuotaWindow]
		if w == nil || w.leases[instance] == nil || w.leases[instance].generation != window.Generation {
			continue
		}
		w.Leased -= w.leases[instance].granted
		delete(w.leases, instance)
	}
	return nil
}
