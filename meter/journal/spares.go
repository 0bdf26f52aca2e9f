package journal

import (
	"errors"
	"os"
	"sync"
	"syscall"
)

// spareFiles is how many descriptors are held back: for a segment, and for the folder that its
// name is made durable in.
const spareFiles = 4

// spares are file descriptors that stand for those of the next segments, should the process
// have no other left.
type spares struct {
	mu    sync.Mutex
	files []*os.File
}

// fill takes as many as are missing, and can be had.
func (s *spares) fill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.files) < spareFiles {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return
		}
		s.files = append(s.files, f)
	}
}

// open opens a file. Where the process or the system has no descriptor left, spares are given
// up for it, one after another: somebody else may take what is free for a moment.
func (s *spares) open(open func() (*os.File, error)) (*os.File, error) {
	for {
		f, err := open()
		if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) || !s.giveUpOne() {
			return f, err
		}
	}
}

func (s *spares) giveUpOne() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.files) - 1
	if last < 0 {
		return false
	}
	_ = s.files[last].Close()
	s.files = s.files[:last]
	return true
}

func (s *spares) close() {
	for s.giveUpOne() {
	}
}
