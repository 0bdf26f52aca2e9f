package journal

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/google/uuid"
)

// segment is a segment that this process writes. One of process durability is
// mapped where the system allows it (mapped.go); all others write groups (group.go).
type segment struct {
	config *Config
	seq    int64
	path   string
	// salt is the header's checksum, once there is a file.
	salt uint32

	mu sync.Mutex
	// file is nil as long as there was no room for it, and after release.
	file file
	// sealed says that nothing more is appended, released that the file is closed.
	sealed, released bool
	// failure is why the last append failed, nil after one that didn't. Broken says
	// that it is for good; otherwise skipped counts the appends since the last that
	// looked again. Full is the error of a segment that has reached its limit.
	failure error
	broken  bool
	skipped int
	full    error
	// lost is why the folder isn't this journal's any more.
	lost error
	// size is the end of the last whole record, allocated the end of the blocks that
	// are known to be the file's own.
	size, allocated int64
	stats           counts

	mapped
	grouped
}

// counts add up what appends came to.
type counts struct{ records, failed, writes int64 }

func (c *counts) add(o counts) {
	c.records += o.records
	c.failed += o.failed
	c.writes += o.writes
}

// retryEvery is how many appends to a segment that has failed it takes until one
// looks again whether there is room. A look costs tens of microseconds or more.
const retryEvery = 64

// newSegment makes a segment whose file isn't there yet.
func newSegment(config *Config, seq int64) *segment {
	s := &segment{config: config, seq: seq}
	if config.Durability == Memory {
		return s
	}
	s.path = filepath.Join(config.Dir, fileName(s.id(config.Instance)))
	s.idle.L = &s.mu
	return s
}

func (s *segment) id(instance uuid.UUID) SegmentID { return SegmentID{Instance: instance, Seq: s.seq} }

func (s *segment) header() [headerSize]byte {
	return header{durability: s.config.Durability, id: s.id(s.config.Instance), window: int64(len(s.window))}.encode()
}

// open creates the file. Where that fails there is none, and open may be tried
// again. The caller holds mu, or nobody else knows the segment.
func (s *segment) open() error {
	if err := s.config.held.check(); err != nil {
		return err
	}
	f, err := s.config.create(s.path)
	if err != nil {
		return fileError(s.path, 0, err)
	}
	s.file = f
	if err := s.begin(f); err != nil {
		_ = s.unmap()
		_ = f.Close()
		s.file = nil
		// Where it stays, it is a segment without records, and its name is taken.
		s.broken = os.Remove(s.path) != nil
		return err
	}
	s.size, s.failure = headerSize, nil
	return nil
}

func (s *segment) begin(f file) error {
	first := s.config.firstStep()
	err := f.Allocate(0, first)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		s.unallocated = true
	case err != nil:
		return fileError(s.path, 0, err)
	default:
		s.allocated = first
	}
	if err := s.mapFile(f, first); err != nil {
		return err
	}
	header := s.header()
	s.salt = saltOf(header[:])
	if _, err := f.WriteAt(header[:], 0); err != nil {
		return fileError(s.path, 0, err)
	}
	if s.config.Durability == Disk {
		if err := errors.Join(f.Persist(), persistFolder(s.config.Dir, s.config.spares)); err != nil {
			return fileError(s.path, 0, err)
		}
	}
	return nil
}

// mapFile maps what was allocated of a process segment, where the system can.
func (s *segment) mapFile(f file, n int64) error {
	if s.config.Durability != Process || s.unallocated {
		return nil
	}
	window, err := f.Map(0, n)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return fileError(s.path, 0, err)
	}
	s.window, s.position, s.moved, s.unsure = window, headerSize, 0, false
	return nil
}

// step returns how much to allocate after an offset.
func (s *segment) step(offset int64) int64 {
	return min(s.config.step, s.config.SegmentLimit-offset)
}

// append writes a record. It answers false, and has done nothing, where the
// segment is sealed.
func (s *segment) append(record *Record) (taken bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sealed {
		return false, nil
	}
	if err := s.admit(length(record)); err != nil {
		s.stats.failed++
		return true, err
	}
	if s.window == nil {
		return true, s.join(record)
	}
	if err := s.place(record); err != nil {
		s.stats.failed++
		s.failure, s.skipped = err, 0
		return true, err
	}
	s.stats.records++
	s.failure = nil
	return true, nil
}

// admit says why a record of n bytes can't be taken, without asking the system
// more often than retryEvery says.
func (s *segment) admit(n int) error {
	if s.lost != nil {
		return s.lost
	}
	if s.failure != nil {
		s.skipped++
		if s.broken || s.skipped%retryEvery != 0 {
			return s.failure
		}
		if s.file == nil {
			if err := s.open(); err != nil {
				s.failure = err
				return err
			}
		}
	}
	if s.full == nil && s.size+s.queued+int64(n)+markSize > s.config.SegmentLimit {
		s.full = &FileError{Path: s.path, Offset: s.size, Err: fmt.Errorf("%w of %d bytes", ErrSegmentFull, s.config.SegmentLimit)}
	}
	return s.full
}

// retry looks whether a segment that has failed can go on.
func (s *segment) retry() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil || s.broken || s.leading {
		return cmp.Or(s.failure, s.full)
	}
	var err error
	switch {
	case s.file == nil:
		err = s.open()
	case s.window != nil:
		err = s.tryMove()
	default:
		err = s.tryRoom()
	}
	s.failure = err
	return err
}

// release closes the file of a sealed segment, when the appends that are under way
// have ended. Where trim is set, the room that was allocated ahead is given back.
func (s *segment) release(trim bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.leading || s.forming != nil {
		s.idle.Wait()
	}
	if s.released || s.file == nil {
		s.released = true
		return nil
	}
	s.released = true
	end := s.end()
	err := s.unmap()
	if trim && !s.unsure {
		err = errors.Join(err, s.file.Truncate(end))
	}
	err = errors.Join(err, s.file.Close())
	s.file = nil
	if err != nil {
		return fileError(s.path, s.size, err)
	}
	return nil
}

// health returns why the last append failed.
func (s *segment) health() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.lost, s.failure, s.full)
}

// appended returns what appends came to, when those that are under way have ended.
func (s *segment) appended() counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.leading || s.forming != nil {
		s.idle.Wait()
	}
	return s.stats
}

// count returns what appends came to, and the size so far.
func (s *segment) count() (counts, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats, s.size
}
