package journal

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// mapped is the tail of a segment that is written by storing to memory: its file
// is mapped, a window at a time, on blocks that were allocated before. What is
// stored belongs to the kernel at once and outlives the process.
type mapped struct {
	// window is what appends go to, from position; nil where the segment isn't mapped.
	window   []byte
	position int
	// ahead is the window after it, where it is there already.
	ahead []byte
	// straddling is where a record is made that begins in one and ends in the other.
	straddling [maxFrame]byte
}

// place stores a record, whole or not at all. Records are stored one after another
// under mu, so that one that is there vouches for all before it. The caller holds mu.
func (s *segment) place(record *Record) (err error) {
	n, free := length(record), s.window[s.position:]
	if n > len(free) {
		if err := s.mapAhead(); err != nil {
			return err
		}
	}
	// A page whose device fails, or whose file was cut by somebody, faults. That must
	// fail the append and not the process.
	before := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(before)
		if fault := recover(); fault != nil {
			err = s.faulted(fault)
		}
	}()
	if n <= len(free) {
		encode(record, free[:n], s.salt)
		s.position += n
	} else {
		b := s.straddling[:n]
		encode(record, b, s.salt)
		placed := copy(free, b)
		s.position = copy(s.ahead, b[placed:])
		// The record is in the file: what ending the mapping says doesn't change that.
		_ = s.file.Unmap(s.window)
		s.window, s.ahead = s.ahead, nil
	}
	s.size += int64(n)
	return nil
}

// faulted turns a fault of a mapped page into an error. Anything else goes on panicking.
func (s *segment) faulted(fault any) error {
	if _, ok := fault.(interface{ Addr() uintptr }); !ok {
		panic(fault)
	}
	s.broken = true
	return &FileError{Path: s.path, Offset: s.size, Err: fmt.Errorf("%w: page fault: %v", ErrIO, fault)}
}

// mapAhead allocates and maps the next window. The caller holds mu.
func (s *segment) mapAhead() error {
	if s.ahead != nil {
		return nil
	}
	n := s.step(s.allocated)
	if err := s.file.Allocate(s.allocated, n); err != nil {
		return fileError(s.path, s.allocated, err)
	}
	window, err := s.file.Map(s.allocated, n)
	if err != nil {
		return fileError(s.path, s.allocated, err)
	}
	s.allocated += n
	s.ahead = window
	return nil
}

// unmap ends the mappings. The caller holds mu.
func (s *segment) unmap() error {
	var err error
	for _, window := range [][]byte{s.window, s.ahead} {
		if window != nil {
			err = errors.Join(err, s.file.Unmap(window))
		}
	}
	s.window, s.ahead = nil, nil
	return err
}
