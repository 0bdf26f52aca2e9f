package journal

import (
	"errors"
	"fmt"
	"syscall"
)

// What can go wrong. Errors about a file bear one of these inside a [FileError];
// tell them apart with errors.Is.
var (
	// ErrClosed says that the journal was closed.
	ErrClosed = errors.New("journal is closed")
	// ErrLocked says that another process, or another journal of this one, has the
	// folder.
	ErrLocked = errors.New("journal folder is in use")
	// ErrFolderLost says that the folder was deleted under the journal, or another one is in its
	// place. Where another journal has that, appends fail until it has not.
	ErrFolderLost = errors.New("the journal's folder is lost")
	// ErrAlive says that segments are a copy: the instance that writes them is alive.
	ErrAlive = errors.New("the instance is alive, and this is a copy of its journal")
	// ErrRecord says that a record can't be written as it is: its meter's key is not
	// of 1 to [MaxKey] bytes.
	ErrRecord = errors.New("invalid journal record")
	// ErrFull says that there is no room: the device is full, a quota or a file size
	// limit is reached. Appends succeed again when there is room.
	ErrFull = errors.New("no room for the journal")
	// ErrSegmentFull says that the segment has reached [Config.SegmentLimit]. Appends
	// succeed again after [Journal.Rotate].
	ErrSegmentFull = errors.New("journal segment has reached its limit")
	// ErrIO says that the system failed otherwise. Where what is in the file is then
	// in doubt, its segment takes no more, and appends succeed again after [Journal.Rotate].
	ErrIO = errors.New("journal input or output failed")
	// ErrActive says that a segment can't be removed, because appends go to it or
	// will go to it.
	ErrActive = errors.New("journal segment is not sealed")
	// ErrNotJournal says that a file does not begin as a journal segment does.
	ErrNotJournal = errors.New("not a journal segment")
	// ErrVersion says that a segment is of a version that this program can't read.
	ErrVersion = errors.New("unknown journal version")
	// ErrIdentity says that a segment's header names another instance or sequence
	// than its file name does.
	ErrIdentity = errors.New("journal segment has another identity than its name says")
	// ErrCorrupt says that a segment is damaged where it had been whole: records that
	// were acknowledged are unreadable.
	ErrCorrupt = errors.New("journal segment is corrupt")
)

// FileError is an error of one segment's file.
type FileError struct {
	// Path is the file.
	Path string
	// Offset is where in the file, in bytes.
	Offset int64
	// Err is the cause. It wraps one of this package's errors, and the system's where
	// there is one.
	Err error
}

// Error names the file, the place and the cause.
func (e *FileError) Error() string {
	return fmt.Sprintf("%s: offset %d: %v", e.Path, e.Offset, e.Err)
}

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }

// fileError classifies what the system answered.
func fileError(path string, offset int64, err error) *FileError {
	kind := ErrIO
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) {
			kind = ErrFull
		}
	}
	return &FileError{Path: path, Offset: offset, Err: fmt.Errorf("%w: %w", kind, err)}
}
