package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"

	"github.com/riverline/tollgate/meter"
)

// keepFile keeps a written segment's file, and removes what need not be kept any more.
func (j *Journal) keepFile(id SegmentID, path string) error {
	kept := Segment{ID: id, Path: filepath.Join(j.config.Dir, writtenName(id)), Written: true, WrittenAt: j.config.Now()}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		kept.Size = info.Size()
		// The time is that of the writing, also for the next process.
		err = errors.Join(os.Chtimes(path, kept.WrittenAt, kept.WrittenAt), os.Rename(path, kept.Path))
	}
	if err != nil {
		return fmt.Errorf("keep journal segment: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.keep(kept)
	return j.prune()
}

// keep notes a segment that is kept. The caller holds mu, or is the only one.
func (j *Journal) keep(s Segment) {
	// Nearly always the last one.
	at := len(j.kept)
	for at > 0 && j.kept[at-1].WrittenAt.After(s.WrittenAt) {
		at--
	}
	j.kept = slices.Insert(j.kept, at, s)
	j.keptBytes += s.Size
}

// prune removes what is kept for longer, or takes more room, than the config says. The
// caller holds mu.
func (j *Journal) prune() error {
	var failed error
	oldest := j.config.Now().Add(-j.config.Keep)
	gone := 0
	for _, s := range j.kept {
		if s.WrittenAt.After(oldest) && j.keptBytes <= j.config.KeepBytes {
			break
		}
		failed = errors.Join(failed, removeFile(s.Path))
		j.keptBytes -= s.Size
		gone++
	}
	j.kept = slices.Delete(j.kept, 0, gone)
	return failed
}

// forgetKept removes what a process kept that was set to. A file that can't be removed now is
// removed at the next start.
func (j *Journal) forgetKept() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.kept {
		_ = removeFile(s.Path)
	}
	j.kept, j.keptBytes = nil, 0
}

// Kept returns the records of a segment that is sealed, left by an earlier process or kept
// after it was written, and whether there is one. Records are read as they are ranged over:
// one that can't be read ends them with an error.
func (j *Journal) Kept(id SegmentID) (iter.Seq2[meter.Record, error], bool) {
	segment, ok := j.find(id)
	if !ok {
		return nil, false
	}
	var summary Summary
	return Read(segment, &summary), true
}

func (j *Journal) find(id SegmentID) (Segment, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	is := func(s Segment) bool { return s.ID == id }
	if at := slices.IndexFunc(j.kept, is); at >= 0 {
		return j.kept[at], true
	}
	if at := slices.IndexFunc(j.recovered, is); at >= 0 {
		return j.recovered[at], true
	}
	if s, ok := j.sealed[id.Seq]; ok && id.Instance == j.config.Instance && s.path != "" {
		return Segment{ID: id, Path: s.path}, true
	}
	return Segment{}, false
}
