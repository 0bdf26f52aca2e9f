package journal

import (
	"errors"
	"syscall"
)

// madvPopulateWrite is MADV_POPULATE_WRITE, since Linux 5.14. MAP_POPULATE has the pages of a
// shared mapping read alone, so that the first store to each is a fault all the same.
const madvPopulateWrite = 23

// Allocate uses fallocate(2).
func (f osFile) Allocate(offset, n int64) error {
	return uninterrupted(func() error { return syscall.Fallocate(int(f.Fd()), 0, offset, n) })
}

// Map uses a shared mapping: what is stored there is the kernel's, and outlives
// the process.
func (f osFile) Map(offset, n int64) ([]byte, error) {
	window, err := syscall.Mmap(int(f.Fd()), offset, int(n), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if errors.Is(err, syscall.ENODEV) {
		return nil, errors.ErrUnsupported // The file system maps no files.
	}
	if err == nil {
		// The first store to each page is a fault. Here it holds no append up; where it can't be had
		// beforehand, it is had later.
		_ = syscall.Madvise(window, madvPopulateWrite)
	}
	return window, err
}

// Unmap ends a mapping.
func (osFile) Unmap(window []byte) error { return syscall.Munmap(window) }

// Persist uses fdatasync(2), which leaves out times of access and change.
func (f osFile) Persist() error {
	return uninterrupted(func() error { return syscall.Fdatasync(int(f.Fd())) })
}
