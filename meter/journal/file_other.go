//go:build !linux

package journal

import "errors"

// Allocate is not there: writing finds out whether there is room.
func (osFile) Allocate(_, _ int64) error { return errors.ErrUnsupported }

// Map is not used where room can't be allocated ahead: a store to a mapped page
// that has no room would end the process.
func (osFile) Map(_, _ int64) ([]byte, error) { return nil, errors.ErrUnsupported }

// Unmap ends a mapping; there are none.
func (osFile) Unmap(_ []byte) error { return errors.ErrUnsupported }

// Persist uses os.File.Sync, which on macOS is F_FULLFSYNC: fsync(2) there does not
// empty the drive's cache.
func (f osFile) Persist() error { return f.Sync() }
