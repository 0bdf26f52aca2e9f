package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// heldFolder is a folder that this journal has taken. Nil: there is none.
type heldFolder struct {
	dir  string
	mu   sync.Mutex
	lock *os.File
	// original says that what is in the folder is no copy: who wrote it has ended.
	original bool
}

func holdFolder(dir string) (*heldFolder, error) {
	lock, original, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	return &heldFolder{dir: dir, lock: lock, original: original}, nil
}

// claim makes the folder the original: nothing in it is of a process that may be alive.
func (h *heldFolder) claim() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.original = true
	nameFile(h.lock)
}

func (h *heldFolder) isOriginal() bool {
	if h == nil {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.original
}

// check answers [ErrFolderLost] where the folder at the path isn't the one that was taken: it was
// deleted, and another process may have made and taken one in its place.
func (h *heldFolder) check() error {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	path := filepath.Join(h.dir, lockName)
	there, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is gone", ErrFolderLost, path)
	}
	if err != nil {
		// Whether it is ours isn't known: it is looked for again.
		return nil
	}
	ours, err := h.lock.Stat()
	if err == nil && !os.SameFile(there, ours) {
		return fmt.Errorf("%w: %s is another one", ErrFolderLost, path)
	}
	return err
}

// retake makes the folder again, and takes it: [ErrLocked] where another journal has it.
func (h *heldFolder) retake() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return fmt.Errorf("make the journal folder again: %w", err)
	}
	lock, _, err := lockFolder(h.dir)
	if err != nil {
		return err
	}
	_ = h.lock.Close()
	h.lock, h.original = lock, true
	nameFile(lock)
	return nil
}

func (h *heldFolder) close() error {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lock.Close()
}

// keepFolder sees that the folder is still the one that was taken. Where it was deleted, it is
// made again, and the next segment is in it; where another journal has it, appends fail until it
// has not. Either is an error, to be logged. The caller holds mu.
func (j *Journal) keepFolder(active *segment) error {
	lost := j.config.held.check()
	if lost == nil {
		return nil
	}
	if j.next != nil {
		// Its file went with the folder.
		_ = j.next.release(false)
		j.next = nil
	}
	if err := j.config.held.retake(); err != nil {
		lost = errors.Join(lost, err)
		active.lose(lost)
		return lost
	}
	return errors.Join(fmt.Errorf("%w: it is made again, and what was appended since the last flush is in memory alone", lost), active.regain())
}

// lose makes all appends fail.
func (s *segment) lose(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = why
}

// regain lets appends go on. A file that has something is gone with the folder, and is as good as
// none until the next segment; one without records is made again.
func (s *segment) regain() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = nil
	if s.stats.records > 0 || s.file == nil || s.leading || s.forming != nil {
		return nil
	}
	_ = s.unmap()
	_ = s.file.Close()
	s.file = nil
	s.failure = s.open()
	return s.failure
}
