package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// ReplayStore takes the batches of earlier processes.
type ReplayStore interface {
	// LastSeq, RegisterInstance and SkipBatches are those of [meter.RewindStore].
	LastSeq(ctx context.Context, instance uuid.UUID) (int64, error)
	RegisterInstance(ctx context.Context, i meter.Instance) error
	SkipBatches(ctx context.Context, missing meter.MissingBatches) error
	// InstanceAlive reports whether an instance is live and was seen within the time after which it
	// is lost, by the store's clock.
	InstanceAlive(ctx context.Context, instance uuid.UUID) (bool, error)
	// ApplyBatch is that of [meter.Store].
	ApplyBatch(ctx context.Context, batch meter.Batch) (meter.Applied, error)
	// StopInstance records that an instance has flushed all and is gone, and releases its
	// leases.
	StopInstance(ctx context.Context, id uuid.UUID) error
}

// Replayed says what became of the segments of one instance.
type Replayed struct {
	Instance uuid.UUID
	// Segments counts those that the store has; Applied those of them that it had not
	// had; Records the records of those.
	Segments, Applied int
	Records           int64
	// Again counts those of Applied that had been written before: the store had lost them.
	Again int
	// Cut adds up the torn tails, in bytes: what had not been acknowledged.
	Cut int64
	// Differing counts those that the store has otherwise: another process has written as this
	// instance. The store keeps both.
	Differing int
	// Missing counts the sequence numbers that the store doesn't have and that have no segment:
	// appends had failed, or the store has lost what isn't kept any more. The store has a
	// record of them.
	Missing int64
	// Err says why the rest of the instance's segments is still there; nil: all is
	// written, and the instance has stopped.
	Err error
}

// Replay writes what earlier processes left in the journal, instance by instance, each
// segment as the batch of its own identity: however often it is replayed, it counts
// once. Segments that had been written are written again where the store has lost them; an
// instance of which the store has what they held is left out. What can't be read stops
// the replay of its instance, and the files are kept.
//
// An instance whose segments are all written has stopped: what it had leased and not
// used is free again.
//
// The folder's lock says that who wrote in it has ended, unless the folder is a copy. Then the
// store is asked, and an instance that is alive is left alone, with [ErrAlive]: see
// [Journal.ReplayPostponed].
func (j *Journal) Replay(ctx context.Context, store ReplayStore, catalog *plans.Catalog) []Replayed {
	all := slices.Concat(j.kept, j.recovered)
	slices.SortFunc(all, compareSegments)
	j.postponed = nil
	return j.replay(ctx, store, catalog, all)
}

// ReplayPostponed replays the instances that were alive and are no more. It is not to be called
// by two at once, nor beside [Journal.Replay].
func (j *Journal) ReplayPostponed(ctx context.Context, store ReplayStore, catalog *plans.Catalog) []Replayed {
	all := j.postponed
	j.postponed = nil
	return j.replay(ctx, store, catalog, all)
}

// Postponed counts the instances whose segments wait for [Journal.ReplayPostponed]. It is for who
// calls that.
func (j *Journal) Postponed() int {
	instances := map[uuid.UUID]bool{}
	for _, s := range j.postponed {
		instances[s.ID.Instance] = true
	}
	return len(instances)
}

func (j *Journal) replay(ctx context.Context, store ReplayStore, catalog *plans.Catalog, all []Segment) []Replayed {
	var out []Replayed
	for begin := 0; begin < len(all); {
		end := begin
		for end < len(all) && all[end].ID.Instance == all[begin].ID.Instance {
			end++
		}
		r := Replayed{Instance: all[begin].ID.Instance}
		if r.Err = j.fence(ctx, store, r.Instance); r.Err != nil {
			j.postponed = append(j.postponed, all[begin:end]...)
			out = append(out, r)
			begin = end
			continue
		}
		var needed bool
		if needed, r.Err = j.replayInstance(ctx, store, catalog, all[begin:end], &r); needed {
			out = append(out, r)
		}
		begin = end
	}
	if len(j.postponed) > 0 {
		return out
	}
	if j.config.held != nil {
		j.config.held.claim()
	}
	if j.config.Keep == 0 && !slices.ContainsFunc(out, func(r Replayed) bool { return r.Err != nil }) {
		j.forgetKept()
	}
	return out
}

// fence answers [ErrAlive] where segments may be a copy of those of an instance that is alive.
func (j *Journal) fence(ctx context.Context, store ReplayStore, instance uuid.UUID) error {
	if !j.config.Fenced || j.config.held.isOriginal() {
		return nil
	}
	alive, err := store.InstanceAlive(ctx, instance)
	if err == nil && alive {
		err = ErrAlive
	}
	if err != nil {
		return fmt.Errorf("replay instance %s: %w", instance, err)
	}
	return nil
}

// replayInstance reports whether there was something to do.
func (j *Journal) replayInstance(ctx context.Context, store ReplayStore, catalog *plans.Catalog, segments []Segment, r *Replayed) (bool, error) {
	last, err := store.LastSeq(ctx, r.Instance)
	if errors.Is(err, meter.ErrUnknownInstance) {
		if empty(segments) {
			// It ended before it was registered.
			return true, j.writtenAll(segments, r)
		}
		// The store has lost that it was registered.
		last, err = 0, store.RegisterInstance(ctx, meter.Instance{ID: r.Instance, Host: replayedHost, StartedAt: startOf(segments)})
	}
	if err != nil {
		return true, fmt.Errorf("replay instance %s: %w", r.Instance, err)
	}
	if !slices.ContainsFunc(segments, func(s Segment) bool { return !s.Written || s.ID.Seq > last }) {
		return false, nil
	}
	for _, segment := range segments {
		if segment.ID.Seq > last+1 {
			missing := meter.MissingBatches{Instance: r.Instance, First: last + 1, Last: segment.ID.Seq - 1}
			if err := store.SkipBatches(ctx, missing); err != nil {
				return true, fmt.Errorf("replay instance %s: %w", r.Instance, err)
			}
			r.Missing += missing.Count()
			last = missing.Last
		}
		if segment.ID.Seq > last || !segment.Written {
			// The store compares one that it has: another process may have written as this instance.
			if err := replaySegment(ctx, store, catalog, segment, r); err != nil {
				return true, err
			}
			last = max(last, segment.ID.Seq)
		}
		if !segment.Written {
			if err := j.Written(segment.ID); err != nil {
				return true, err
			}
		}
		r.Segments++
	}
	if err := store.StopInstance(ctx, r.Instance); err != nil {
		return true, fmt.Errorf("say that instance %s has stopped: %w", r.Instance, err)
	}
	return true, nil
}

// replayedHost stands for the host of an instance that the store has lost.
const replayedHost = "replayed"

// startOf returns when an instance started: its ID says so, where it is a UUIDv7 (RFC 9562,
// section 5.7). Otherwise it started before what it left was written.
func startOf(segments []Segment) time.Time {
	if id := segments[0].ID.Instance; id.Version() == 7 {
		seconds, nanoseconds := id.Time().UnixTime()
		return time.Unix(seconds, nanoseconds).UTC()
	}
	return segments[0].WrittenAt
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

func (j *Journal) writtenAll(segments []Segment, r *Replayed) error {
	for _, segment := range segments {
		if err := j.Written(segment.ID); err != nil {
			return err
		}
		r.Segments++
	}
	return nil
}

func replaySegment(ctx context.Context, store ReplayStore, catalog *plans.Catalog, segment Segment, r *Replayed) error {
	var summary Summary
	batch, err := meter.BatchOf(segment.ID, catalog, Read(segment, &summary))
	if err != nil {
		var file *FileError
		if !errors.As(err, &file) {
			err = &FileError{Path: segment.Path, Offset: summary.Bytes, Err: err}
		}
		return err
	}
	applied, err := store.ApplyBatch(ctx, batch)
	if err != nil {
		return fmt.Errorf("replay %s: %w", segment.Path, err)
	}
	if applied.Differs {
		r.Differing++
	}
	if applied.Duplicate {
		return nil
	}
	r.Applied++
	if segment.Written {
		r.Again++
	}
	r.Cut += summary.Cut
	r.Records += summary.Records
	return nil
}
