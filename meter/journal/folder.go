package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/meter"
)

// SegmentID is the identity of a segment, and of the batch that it becomes.
type SegmentID = meter.BatchID

const (
	extension = ".journal"
	// written is the extension of a segment whose batch has been written.
	written   = ".written"
	seqDigits = 20
	lockName  = "lock"
)

// fileName returns the name of a segment's file.
func fileName(id SegmentID) string {
	return fmt.Sprintf("%s-%0*d%s", id.Instance, seqDigits, id.Seq, extension)
}

// writtenName returns the name of a segment's file once its batch has been written.
func writtenName(id SegmentID) string { return strings.TrimSuffix(fileName(id), extension) + written }

// parseName reads what fileName and writtenName wrote, and nothing else.
func parseName(name string) (id SegmentID, isWritten, ok bool) {
	if stem, is := strings.CutSuffix(name, written); is {
		id, ok = parseStem(stem)
		return id, true, ok
	}
	stem, is := strings.CutSuffix(name, extension)
	if !is {
		return SegmentID{}, false, false
	}
	id, ok = parseStem(stem)
	return id, false, ok
}

func parseStem(stem string) (SegmentID, bool) {
	const uuidLength = 36
	if len(stem) != uuidLength+1+seqDigits {
		return SegmentID{}, false
	}
	instance, err := uuid.Parse(stem[:uuidLength])
	if err != nil {
		return SegmentID{}, false
	}
	seq, err := strconv.ParseInt(stem[uuidLength+1:], 10, 64)
	if err != nil || seq < 1 {
		return SegmentID{}, false
	}
	id := SegmentID{Instance: instance, Seq: seq}
	return id, fileName(id) == stem+extension
}

// Segment is a segment's file in a folder.
type Segment struct {
	ID SegmentID
	// Path is the file.
	Path string
	// Size is the file's length in bytes, room that was allocated ahead included.
	Size int64
	// Written says that its batch had been written, and WrittenAt when, UTC: it is kept in case
	// the store loses it.
	Written   bool
	WrittenAt time.Time
}

// Segments lists the segments in a folder, by instance, then sequence: instances
// in the order in which they were started, where their IDs are UUIDv7. Other files
// are left out. A folder that isn't there has none. It takes no lock: the process
// that has the folder may be writing the last ones, and removing others.
func Segments(dir string) ([]Segment, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list journal segments: %w", err)
	}
	var segments []Segment
	for _, entry := range entries {
		id, isWritten, ok := parseName(entry.Name())
		if !ok {
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list journal segments: %w", err)
		}
		segment := Segment{ID: id, Path: filepath.Join(dir, entry.Name()), Size: info.Size(), Written: isWritten}
		if isWritten {
			segment.WrittenAt = info.ModTime().UTC()
		}
		segments = append(segments, segment)
	}
	slices.SortFunc(segments, compareSegments)
	return segments, nil
}

func compareSegments(a, b Segment) int {
	return cmp.Or(slices.Compare(a.ID.Instance[:], b.ID.Instance[:]), cmp.Compare(a.ID.Seq, b.ID.Seq))
}
