package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// Journal appends records to the active segment. Its methods may be called by any
// number of goroutines.
type Journal struct {
	config    Config
	recovered []Segment
	// postponed are those of instances that are alive, in a folder that is a copy.
	postponed []Segment
	// active is nil after Close.
	active atomic.Pointer[segment]

	// mu is held by all that changes which segments there are. Nothing that appends
	// takes it.
	mu sync.Mutex
	// next is the segment after the active one, where it is prepared; unprepared is
	// why the last attempt at that failed.
	next       *segment
	unprepared error
	// sealed are the segments that are not removed, by sequence.
	sealed map[int64]*segment
	// removed adds up the counts of those that are.
	removed counts
	// kept are the segments that were written, the oldest first; keptBytes is their size.
	kept      []Segment
	keptBytes int64
}

// Open takes the folder, notes what earlier processes left there, and begins the
// first segment. It answers [ErrLocked] where another journal has the folder. A
// full disk is no error: then appends fail, and [Journal.Health] says why.
func Open(config Config) (*Journal, error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	j := &Journal{config: config, sealed: map[int64]*segment{}}
	if err := j.takeFolder(); err != nil {
		return nil, err
	}
	first := newSegment(&j.config, config.First)
	if config.Durability != Memory {
		if err := first.open(); errors.Is(err, ErrFull) {
			first.failure = err
		} else if err != nil {
			_ = j.config.held.close()
			return nil, fmt.Errorf("open journal: %w", err)
		}
	}
	j.active.Store(first)
	return j, nil
}

func (j *Journal) takeFolder() (err error) {
	dir := j.config.Dir
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	if j.config.held, err = holdFolder(dir); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = j.config.held.close()
		}
	}()
	found, err := Segments(dir)
	if err != nil {
		return err
	}
	for _, s := range found {
		if s.Written {
			j.keep(s)
			continue
		}
		j.recovered = append(j.recovered, s)
		if s.ID.Instance == j.config.Instance && s.ID.Seq >= j.config.First {
			return fmt.Errorf("open journal: First is %d, but %s is there: %w", j.config.First, s.Path, fs.ErrExist)
		}
	}
	if len(found) == 0 {
		j.config.held.claim()
	}
	return nil
}

// Recovered returns the segments that earlier processes left unwritten, by instance, then
// sequence. Each is to be read with [Read], written as the batch of its own
// identity, which [Journal.Written] is told of then.
func (j *Journal) Recovered() []Segment { return j.recovered }

// Append writes a record and returns the sequence of the segment that it landed
// in. When it returns, the record is as durable as [Config.Durability] says.
//
// An error means that the record isn't in the journal: [ErrFull], [ErrSegmentFull]
// or [ErrIO] in a [FileError], or [ErrRecord] or [ErrClosed]. The first three come
// with the active segment's sequence: a caller who counts the record all the same
// counts it in that batch. While they last, most appends fail without asking the
// system. Append allocates nothing unless it fails.
func (j *Journal) Append(record Record) (seq int64, err error) {
	if err := valid(&record); err != nil {
		return 0, err
	}
	for {
		s := j.active.Load()
		if s == nil {
			return 0, ErrClosed
		}
		if j.config.Durability == Memory {
			return s.seq, nil
		}
		if taken, err := s.append(&record); taken {
			return s.seq, err
		}
	}
}

// Waits reports whether Append waits until the disk has the record.
func (j *Journal) Waits() bool { return j.config.Durability == Disk }

// Prepare does beforehand what [Journal.Rotate] would need time and a file descriptor for: it
// creates the next segment, and closes those that are sealed. Where appends fail, it looks
// whether they can go on, and it sees that the folder is still the one that was taken. Call it after Open, and before and after each Rotate, outside
// of any lock that appends need: the next segment is there then when the process has no descriptor left.
// Its error is for the log: Rotate and Append work as well as they can.
func (j *Journal) Prepare() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	active := j.active.Load()
	if active == nil {
		return ErrClosed
	}
	if j.config.Durability == Memory {
		return nil
	}
	err := j.keepFolder(active)
	for _, s := range j.sealed {
		err = errors.Join(err, s.release(true))
	}
	j.config.spares.fill()
	err = errors.Join(err, active.retry())
	if j.next == nil && active.seq < math.MaxInt64 {
		next := newSegment(&j.config, active.seq+1)
		if j.unprepared = next.open(); j.unprepared != nil {
			return errors.Join(err, j.unprepared)
		}
		j.next = next
	}
	return err
}

// Rotate seals the active segment, returns its sequence, and makes the next one
// active. When it returns, every Append that had returned is in the sealed segment
// or an earlier one, and every Append that begins later is in a later one. An
// Append that runs meanwhile is in either, and says in which.
//
// Its only error is [ErrClosed]. Where there is no room for the next segment,
// appends fail until there is.
func (j *Journal) Rotate() (sealed int64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	active := j.active.Load()
	if active == nil {
		return 0, ErrClosed
	}
	next, failure := j.next, j.unprepared
	j.next, j.unprepared = nil, nil
	if next == nil {
		next = newSegment(&j.config, active.seq+1)
		if failure == nil && j.config.Durability != Memory {
			failure = next.open()
		}
		next.failure = failure
	}
	j.seal(active, next)
	j.sealed[active.seq] = active
	return active.seq, nil
}

// seal ends a segment and makes another one active, in one step.
func (j *Journal) seal(s, next *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = true
	j.active.Store(next)
}

// Records returns how many records a sealed segment has that isn't removed; with
// [Memory], and of a segment that isn't there, 0. It waits for the appends to the
// segment that are under way.
func (j *Journal) Records(seq int64) int64 {
	j.mu.Lock()
	s, ok := j.sealed[seq]
	j.mu.Unlock()
	if !ok {
		return 0
	}
	return s.appended().records
}

// Written says that the store has acknowledged a segment's batch. Its file is deleted, or
// kept as [Config.Keep] says. The segment is a sealed one of this journal ([ErrActive]
// otherwise), or one that an earlier process left. One that isn't there needs nothing.
func (j *Journal) Written(id SegmentID) error {
	if j.config.Dir == "" {
		return nil
	}
	if id.Instance == j.config.Instance && id.Seq >= j.config.First {
		if err := j.releaseSealed(id); err != nil {
			return err
		}
	}
	path := filepath.Join(j.config.Dir, fileName(id))
	if j.config.Keep == 0 {
		return removeFile(path)
	}
	return j.keepFile(id, path)
}

func (j *Journal) releaseSealed(id SegmentID) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if active := j.active.Load(); active != nil && id.Seq >= active.seq {
		return fmt.Errorf("segment %d is not sealed: %w", id.Seq, ErrActive)
	}
	s, ok := j.sealed[id.Seq]
	if !ok {
		return nil
	}
	// Where the file goes, what closing it says doesn't matter.
	_ = s.release(j.config.Keep > 0)
	stats, _ := s.count()
	j.removed.add(stats)
	delete(j.sealed, id.Seq)
	return nil
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove journal segment: %w", err)
	}
	return nil
}

// Health returns nil while the last append succeeded, or none was tried since
// there is room, and otherwise why it failed.
func (j *Journal) Health() error {
	s := j.active.Load()
	if s == nil {
		return ErrClosed
	}
	return s.health()
}

// Stats are figures of a journal. The totals count since it was opened; those of
// [Memory] stay 0.
type Stats struct {
	// Segment is the active segment's sequence, Size its whole records in bytes.
	Segment, Size int64
	// Sealed counts the segments of this journal that are not removed.
	Sealed int
	// Kept counts the segments that are kept although they are written, KeptBytes is what they
	// take, and KeptMost the most that they may take, in bytes.
	Kept                int
	KeptBytes, KeptMost int64
	// Appended and Failed count the appends that succeeded and that failed.
	Appended, Failed int64
	// Writes counts the writes (for [Disk]: syncs) of groups of appends; 0 where the
	// segments are mapped.
	Writes int64
}

// Stats returns the figures as they are.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	total := j.removed
	for _, s := range j.sealed {
		stats, _ := s.count()
		total.add(stats)
	}
	out := Stats{Sealed: len(j.sealed), Kept: len(j.kept), KeptBytes: j.keptBytes}
	if j.config.Keep > 0 {
		out.KeptMost = j.config.KeepBytes
	}
	if active := j.active.Load(); active != nil {
		stats, size := active.count()
		total.add(stats)
		out.Segment, out.Size = active.seq, size
	}
	out.Appended, out.Failed, out.Writes = total.records, total.failed, total.writes
	return out
}

// Close ends the journal and lets the folder go. Segments with records that were
// not removed stay, for the next process. Appends that are under way end first.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	active := j.active.Load()
	if active == nil {
		return nil
	}
	j.seal(active, nil)
	j.sealed[active.seq] = active
	var err error
	for seq, s := range j.sealed {
		err = errors.Join(err, s.release(true))
		stats, _ := s.count()
		j.removed.add(stats)
		if stats.records == 0 && s.path != "" {
			err = errors.Join(err, removeFile(s.path))
		}
		delete(j.sealed, seq)
	}
	if j.next != nil {
		err = errors.Join(err, j.next.release(false), removeFile(j.next.path))
	}
	j.config.spares.close()
	return errors.Join(err, j.config.held.close())
}
