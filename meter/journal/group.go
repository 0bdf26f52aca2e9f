package journal

import (
	"errors"
	"slices"
	"sync"
)

// grouped is the tail of a segment that is written in groups: the first appender
// that finds no write under way leads, and writes (for disk: and syncs) what the
// others have brought meanwhile. While it does, the next group forms.
type grouped struct {
	// forming is the group that appends join; nil before the first joins.
	forming *group
	// leading says that a group is being written.
	leading bool
	// queued is the size of the groups that are not written, in bytes.
	queued int64
	// spare are groups to use again.
	spare []*group
	// unallocated says that the system can't allocate blocks ahead.
	unallocated bool
	// idle is signalled when no group is being written and none forms.
	idle sync.Cond
}

// group is what one write takes to the file.
type group struct {
	buffer []byte
	// members counts the appenders that have not taken note of the outcome yet.
	members int
	records int64
	done    bool
	err     error
	ended   sync.Cond
}

// join adds a record to the group that forms and returns when that is written. The
// caller holds mu, which is let go meanwhile.
func (s *segment) join(record *Record) error {
	g := s.forming
	if g == nil {
		g = s.newGroup()
		s.forming = g
	}
	g.add(record, s.salt)
	g.members++
	g.records++
	s.queued += int64(length(record))
	for !g.done {
		if s.leading {
			g.ended.Wait()
		} else {
			s.lead(g)
		}
	}
	err := g.err
	g.members--
	if g.members == 0 {
		s.spare = append(s.spare, g)
	}
	return err
}

// add puts a record at the end of the buffer.
func (g *group) add(record *Record, salt uint32) {
	before := len(g.buffer)
	g.buffer = slices.Grow(g.buffer, length(record))[:before+length(record)]
	encode(record, g.buffer[before:], salt)
}

// newGroup returns an empty group; that of a disk segment begins with a mark. The
// caller holds mu.
func (s *segment) newGroup() *group {
	var g *group
	if n := len(s.spare); n > 0 {
		g = s.spare[n-1]
		s.spare = s.spare[:n-1]
		g.buffer, g.records, g.done, g.err = g.buffer[:0], 0, false, nil
	} else {
		g = &group{}
		g.ended.L = &s.mu
	}
	if s.config.Durability == Disk {
		var mark [markSize]byte
		g.buffer = append(g.buffer, mark[:]...)
		s.queued += markSize
	}
	return g
}

// lead writes the group that forms. The caller holds mu, which is let go meanwhile.
func (s *segment) lead(g *group) {
	s.leading, s.forming = true, nil
	offset := s.size
	if s.config.Durability == Disk {
		putMark(g.buffer, offset, s.salt)
	}
	// What joined before the write of the group before it failed must not follow it.
	broken, err := s.broken, s.failure
	if !broken {
		s.mu.Unlock()
		broken, err = s.write(g.buffer, offset)
		s.mu.Lock()
		s.stats.writes++
	}

	s.leading = false
	s.queued -= int64(len(g.buffer))
	g.done, g.err = true, err
	if err == nil {
		s.size += int64(len(g.buffer))
		s.stats.records += g.records
		s.failure = nil
	} else {
		s.stats.failed += g.records
		s.failure, s.skipped = err, 0
		s.broken = s.broken || broken
	}
	g.ended.Broadcast()
	if s.forming != nil {
		s.forming.ended.Signal()
	} else {
		s.idle.Broadcast()
	}
}

// write takes a group to the file, whole or not at all, and says whether the
// segment can't go on after an error. Only the leader calls it.
func (s *segment) write(buffer []byte, offset int64) (broken bool, err error) {
	if err := s.allocate(offset + int64(len(buffer))); err != nil {
		return false, err
	}
	if _, err := s.file.WriteAt(buffer, offset); err != nil {
		return s.cut(offset) != nil, fileError(s.path, offset, err)
	}
	if s.config.Durability != Disk {
		return false, nil
	}
	if err := s.file.Persist(); err != nil {
		// The kernel may have dropped what it could not write, and a second sync would
		// not say so: nothing after this can be vouched for.
		_ = s.cut(offset)
		return true, fileError(s.path, offset, err)
	}
	return false, nil
}

// allocate makes sure of room up to an end, where the system can.
func (s *segment) allocate(end int64) error {
	for !s.unallocated && s.allocated < end {
		n := s.step(s.allocated)
		err := s.file.Allocate(s.allocated, n)
		if errors.Is(err, errors.ErrUnsupported) {
			s.unallocated = true
			return nil
		}
		if err != nil {
			return fileError(s.path, s.allocated, err)
		}
		s.allocated += n
	}
	return nil
}

// cut takes from the file what a failed write may have left: the appends failed,
// so a replay must not find them.
func (s *segment) cut(offset int64) error {
	s.allocated = min(s.allocated, offset)
	return s.file.Truncate(offset)
}

// room is how much must be writable for a segment to go on.
const room = 4096

// tryRoom looks for room after the last record, by writing zeros there where it
// can't be allocated. The caller holds mu, and no group is being written.
func (s *segment) tryRoom() error {
	if err := s.allocate(min(s.size+room, s.config.SegmentLimit)); err != nil || !s.unallocated {
		return err
	}
	if _, err := s.file.WriteAt(make([]byte, room), s.size); err != nil {
		s.broken = s.cut(s.size) != nil
		return fileError(s.path, s.size, err)
	}
	return nil
}
