package journal

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// file is a segment's file. Tests put one in its place that fails.
type file interface {
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	// Allocate makes the file's blocks of [offset, offset+n) this file's own, zeroed
	// and within its length, so that writing there can't lack room. It fails with
	// errors.ErrUnsupported where the system can't.
	Allocate(offset, n int64) error
	// Map maps [offset, offset+n) for writing; offset is a multiple of the page size.
	// It fails with errors.ErrUnsupported where segments are not mapped.
	Map(offset, n int64) ([]byte, error)
	// Unmap ends a mapping.
	Unmap(window []byte) error
	// Persist returns when what was written will survive a loss of power.
	Persist() error
}

// osFile is a file of the system.
type osFile struct{ *os.File }

// createFile creates a segment's file, which must not be there.
func createFile(path string, s *spares) (file, error) {
	f, err := s.open(func() (*os.File, error) {
		return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // The folder is the operator's choice.
	})
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// persistFolder makes the names in a folder survive a loss of power.
func persistFolder(dir string, s *spares) error {
	f, err := s.open(func() (*os.File, error) { return os.Open(dir) }) //nolint:gosec // The folder is the operator's choice.
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	err = f.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
		// The file system has no such thing for folders, and keeps names by itself.
		return nil
	}
	return err
}

// uninterrupted calls again what a signal has interrupted.
func uninterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
