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

	"github.com/google/uuid"

	"github.com/riverline/tollgate/meter"
)

// SegmentID is the identity of a segment, and of the batch that it becomes.
type SegmentID = meter.BatchID

const (
	extension = ".journal"
	seqDigits = 20
	lockName  = "lock"
)

// fileName returns the name of a segment's file.
func fileName(id SegmentID) string {
	return fmt.Sprintf("%s-%0*d%s", id.Instance, seqDigits, id.Seq, extension)
}

// parseName reads what fileName wrote, and nothing else.
func parseName(name string) (SegmentID, bool) {
	const uuidLength = 36
	stem, ok := strings.CutSuffix(name, extension)
	if !ok || len(stem) != uuidLength+1+seqDigits {
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
	return id, fileName(id) == name
}

// Segment is a segment's file in a folder.
type Segment struct {
	ID SegmentID
	// Path is the file.
	Path string
	// Size is the file's length in bytes, room that was allocated ahead included.
	Size int64
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
		id, ok := parseName(entry.Name())
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
		segments = append(segments, Segment{ID: id, Path: filepath.Join(dir, entry.Name()), Size: info.Size()})
	}
	slices.SortFunc(segments, func(a, b Segment) int {
		return cmp.Or(slices.Compare(a.ID.Instance[:], b.ID.Instance[:]), cmp.Compare(a.ID.Seq, b.ID.Seq))
	})
	return segments, nil
}
