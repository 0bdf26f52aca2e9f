package journal

import (
	"errors"
	"syscall"
)

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
	return window, err
}

// Unmap ends a mapping.
func (osFile) Unmap(window []byte) error { return syscall.Munmap(window) }

// Persist uses fdatasync(2), which leaves out times of access and change.
func (f osFile) Persist() error {
	return uninterrupted(func() error { return syscall.Fdatasync(int(f.Fd())) })
}
