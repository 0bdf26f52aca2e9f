package journal

import (
	"encoding/binary"
	"fmt"
	"runtime/debug"
)

// mapped is a segment that is written by storing to memory. The beginning of its file is mapped:
// the header, and after it the tail, which takes records until it is full. Then they are moved
// behind it by one write, and the tail takes the next. What is stored belongs to the kernel at
// once and outlives the process.
//
// The tail is small and used again and again, because the first store to a page of a file is a
// fault, which costs more than all records that the page takes.
type mapped struct {
	// window is what is mapped: header and tail; nil where the segment isn't mapped.
	window []byte
	// position is where in the window the next record goes.
	position int
	// moved is how many bytes of records were moved behind the window; noted is its form in the header.
	moved int64
	noted [8]byte
	// unsure says that the header may say another one.
	unsure bool
}

// place stores a record, whole or not at all. Records are stored one after another
// under mu, so that one that is there vouches for all before it. The caller holds mu.
func (s *segment) place(record *Record) (err error) {
	defer s.guard(&err, debug.SetPanicOnFault(true))
	n := length(record)
	if n > len(s.window)-s.position {
		if err := s.move(); err != nil {
			return err
		}
	}
	encode(record, s.window[s.position:][:n], saltAt(s.salt, s.size))
	s.position += n
	s.size += int64(n)
	return nil
}

// move makes room in the tail. Until the header says that its records were moved, they are read
// from the tail; so it keeps them until then, and where moving fails. The caller holds mu.
func (s *segment) move() error {
	tail := s.window[headerSize:s.position]
	if len(tail) == 0 {
		return nil
	}
	end := int64(len(s.window)) + s.moved
	if _, err := s.file.WriteAt(tail, end); err != nil {
		return fileError(s.path, end, err)
	}
	moved := s.moved + int64(len(tail))
	binary.LittleEndian.PutUint64(s.noted[:], uint64(moved))
	if _, err := s.file.WriteAt(s.noted[:], movedAt); err != nil {
		// Neither the tail nor what is behind the window may go.
		s.broken, s.unsure = true, true
		return fileError(s.path, movedAt, err)
	}
	s.moved = moved
	clear(tail)
	s.position = headerSize
	return nil
}

// tryMove is move, for who doesn't append. The caller holds mu.
func (s *segment) tryMove() (err error) {
	defer s.guard(&err, debug.SetPanicOnFault(true))
	return s.move()
}

// guard is deferred around what stores to the window. A page whose device fails, or whose file was
// cut by somebody, faults. That must fail the append and not the process.
func (s *segment) guard(err *error, before bool) {
	debug.SetPanicOnFault(before)
	if fault := recover(); fault != nil {
		*err = s.faulted(fault)
	}
}

// faulted turns a fault of a mapped page into an error. Anything else goes on panicking.
func (s *segment) faulted(fault any) error {
	if _, ok := fault.(interface{ Addr() uintptr }); !ok {
		panic(fault)
	}
	s.broken = true
	return &FileError{Path: s.path, Offset: s.size, Err: fmt.Errorf("%w: page fault: %v", ErrIO, fault)}
}

// end is where the file's records end.
func (s *segment) end() int64 {
	if s.moved > 0 {
		return int64(len(s.window)) + s.moved
	}
	return s.size
}

// unmap ends the mapping. The caller holds mu.
func (s *segment) unmap() error {
	if s.window == nil {
		return nil
	}
	err := s.file.Unmap(s.window)
	s.window = nil
	return err
}
