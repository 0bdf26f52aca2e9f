package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// ReplayStore takes the batches of earlier processes.
type ReplayStore interface {
	// ApplyBatch is that of [meter.Store].
	ApplyBatch(ctx context.Context, batch meter.Batch) (meter.Applied, error)
	// LastSeq returns the sequence of an instance's last batch; [meter.ErrUnknownInstance]
	// where it was never registered.
	LastSeq(ctx context.Context, instance uuid.UUID) (int64, error)
	// StopInstance records that an instance has flushed all and is gone, and releases its
	// leases.
	StopInstance(ctx context.Context, id uuid.UUID) error
}

// Replayed says what became of the segments of one instance.
type Replayed struct {
	Instance uuid.UUID
	// Segments counts those that are written and removed; Applied those of them that
	// had not been written before; Records the records of those.
	Segments, Applied int
	Records           int64
	// Cut adds up the torn tails, in bytes: what had not been acknowledged.
	Cut int64
	// Missing counts the sequence numbers that had no segment: what they had was never in
	// the journal. Their batches are empty.
	Missing int
	// Err says why the rest of the instance's segments is still there; nil: all is
	// written, and the instance has stopped.
	Err error
}

// Replay writes what earlier processes left in the journal, instance by instance, each
// segment as the batch of its own identity: however often it is replayed, it counts
// once. What can't be read stops the replay of its instance, and the files are kept.
//
// An instance whose segments are all written has stopped: what it had leased and not
// used is free again.
func (j *Journal) Replay(ctx context.Context, store ReplayStore, catalog *plans.Catalog) []Replayed {
	var out []Replayed
	for begin := 0; begin < len(j.recovered); {
		end := begin
		for end < len(j.recovered) && j.recovered[end].ID.Instance == j.recovered[begin].ID.Instance {
			end++
		}
		r := Replayed{Instance: j.recovered[begin].ID.Instance}
		r.Err = j.replayInstance(ctx, store, catalog, j.recovered[begin:end], &r)
		out = append(out, r)
		begin = end
	}
	return out
}

func (j *Journal) replayInstance(ctx context.Context, store ReplayStore, catalog *plans.Catalog, segments []Segment, r *Replayed) error {
	last, err := store.LastSeq(ctx, r.Instance)
	if errors.Is(err, meter.ErrUnknownInstance) && empty(segments) {
		// It ended before it was registered.
		return j.removeAll(segments, r)
	}
	if err != nil {
		return fmt.Errorf("replay instance %s: %w", r.Instance, err)
	}
	for _, segment := range segments {
		for ; last < segment.ID.Seq-1; last++ {
			// Appends had failed, or the file was moved away: the sequence goes on all the same.
			empty := meter.Batch{ID: meter.BatchID{Instance: r.Instance, Seq: last + 1}}
			if _, err := store.ApplyBatch(ctx, empty); err != nil {
				return fmt.Errorf("replay instance %s: %w", r.Instance, err)
			}
			r.Missing++
		}
		if segment.ID.Seq > last {
			records, err := replaySegment(ctx, store, catalog, segment, r)
			if err != nil {
				return err
			}
			last = segment.ID.Seq
			r.Applied++
			r.Records += records
		}
		if err := j.Remove(segment.ID); err != nil {
			return err
		}
		r.Segments++
	}
	if err := store.StopInstance(ctx, r.Instance); err != nil {
		return fmt.Errorf("say that instance %s has stopped: %w", r.Instance, err)
	}
	return nil
}

// empty reports whether no segment has a record.
func empty(segments []Segment) bool {
	for _, segment := range segments {
		var summary Summary
		for _, err := range Read(segment, &summary) {
			if err != nil {
				return false // What can't be read is looked at by somebody.
			}
		}
		if summary.Records > 0 {
			return false
		}
	}
	return true
}

func (j *Journal) removeAll(segments []Segment, r *Replayed) error {
	for _, segment := range segments {
		if err := j.Remove(segment.ID); err != nil {
			return err
		}
		r.Segments++
	}
	return nil
}

func replaySegment(ctx context.Context, store ReplayStore, catalog *plans.Catalog, segment Segment, r *Replayed) (int64, error) {
	var summary Summary
	batch, err := meter.BatchOf(segment.ID, catalog, Read(segment, &summary))
	if err != nil {
		var file *FileError
		if !errors.As(err, &file) {
			err = &FileError{Path: segment.Path, Offset: summary.Bytes, Err: err}
		}
		return 0, err
	}
	if _, err := store.ApplyBatch(ctx, batch); err != nil {
		return 0, fmt.Errorf("replay %s: %w", segment.Path, err)
	}
	r.Cut += summary.Cut
	return summary.Records, nil
}
