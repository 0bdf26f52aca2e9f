package journal_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/meter/journal"
)

// movedOf reads how many bytes of records a segment's header says are behind its window.
func movedOf(b []byte) int64 {
	if len(b) < journal.HeaderSize {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(b[journal.MovedAt:]))
}

// watchedFile shows what a kill would leave at each step of a write.
type watchedFile struct {
	journal.File
	watcher *watcher
}

type watcher struct {
	// look is called at each step; nil: nobody looks.
	look func(step string)
	// fails is how many writes to come fail, torn how much of one reaches the file, failsAt the only
	// place where they do; 0: anywhere.
	fails, torn int
	failsAt     int64
}

func (w *watcher) wrap(f journal.File) (journal.File, error) { return watchedFile{f, w}, nil }

func (w *watcher) at(step string) {
	if w.look != nil {
		w.look(step)
	}
}

func (f watchedFile) WriteAt(b []byte, offset int64) (int, error) {
	w := f.watcher
	w.at("before a write")
	if w.fails > 0 && (w.failsAt == 0 || w.failsAt == offset) {
		w.fails--
		n, _ := f.File.WriteAt(b[:min(w.torn, len(b))], offset)
		return n, syscall.ENOSPC
	}
	if len(b) > 8 { // Eight bytes of one page are there or not.
		for _, n := range []int{1, len(b) / 3, len(b) - 1} {
			if _, err := f.File.WriteAt(b[:n], offset); err != nil {
				return 0, err
			}
			w.at(fmt.Sprintf("%d of %d bytes are written", n, len(b)))
		}
	}
	n, err := f.File.WriteAt(b, offset)
	w.at("after a write")
	return n, err
}

// moving is a segment whose records are moved now and then.
type moving struct {
	journal *journal.Journal
	watcher *watcher
	id      journal.SegmentID
	path    string
}

func newMoving(t require.TestingT, dir string) *moving {
	c := journal.Config{Dir: dir, Instance: uuid.MustParse("018f0000-0000-7000-8000-000000000001")}
	m := &moving{watcher: &watcher{}, id: journal.SegmentID{Instance: c.Instance, Seq: 1}}
	var err error
	m.journal, err = journal.Open(journal.WithFiles(journal.WithWindow(c, smallWindow), m.watcher.wrap))
	require.NoError(t, err)
	found, err := journal.Segments(dir)
	require.NoError(t, err)
	m.path = found[0].Path
	return m
}

func (m *moving) file(t require.TestingT) []byte {
	b, err := os.ReadFile(m.path)
	require.NoError(t, err)
	return b
}

// requireLeft holds what a replay of a file finds.
func (m *moving) requireLeft(t require.TestingT, want []journal.Record, b []byte, message ...any) journal.Summary {
	got, summary, err := readBytes(b, m.id)
	require.NoError(t, err, message...)
	requireRecords(t, want, got, message...)
	return summary
}

// TestAKillWhileRecordsAreMoved appends records of all lengths, fails writes, and looks at what a
// replay would find at each step of each move, and in the middle of each store.
func TestAKillWhileRecordsAreMoved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "journal")
		require.NoError(t, err)
		defer func() { require.NoError(t, os.RemoveAll(dir)) }()
		m := newMoving(t, dir)
		defer m.journal.Close()
		var acknowledged []journal.Record
		m.watcher.look = func(step string) {
			summary := m.requireLeft(t, acknowledged, m.file(t), step)
			require.True(t, summary.Cut == 0 || step == "after a write", "half a move is no torn tail: %s", step)
		}
		for range rapid.IntRange(0, 120).Draw(t, "records") {
			if rapid.IntRange(0, 9).Draw(t, "fails") == 0 {
				m.watcher.fails, m.watcher.torn = 1, rapid.IntRange(0, 4000).Draw(t, "torn")
			}
			before := m.file(t)
			r := drawRecord(t)
			if _, err := m.journal.Append(r); err != nil {
				require.ErrorIs(t, err, journal.ErrFull)
				m.requireLeft(t, acknowledged, m.file(t), "after an append that failed")
				require.NoError(t, m.journal.Prepare(), "there is room again")
				m.requireLeft(t, acknowledged, m.file(t), "after a look for room")
				continue
			}
			after := m.file(t)
			if movedOf(before) == movedOf(after) {
				m.tear(t, acknowledged, before, after)
			} else {
				m.clearPartly(t, acknowledged, before, after)
			}
			acknowledged = append(acknowledged, r)
			require.Zero(t, m.requireLeft(t, acknowledged, after).Cut, "what was moved is no torn tail")
		}
		m.watcher.look = nil
		require.NoError(t, m.journal.Close())
		if len(acknowledged) > 0 {
			b := m.file(t)
			summary := m.requireLeft(t, acknowledged, b)
			if movedOf(b) == 0 {
				require.EqualValues(t, len(b), summary.Bytes, "trimmed")
			} else {
				require.Len(t, b, smallWindow+int(movedOf(b)), "trimmed")
			}
		}
	})
}

// tear has a part of the record's bytes in the file.
func (m *moving) tear(t *rapid.T, acknowledged []journal.Record, before, after []byte) {
	from, to := difference(before, after)
	torn := slices.Clone(before)
	cut := rapid.IntRange(from, to-1).Draw(t, "stored")
	if rapid.Bool().Draw(t, "from the end") {
		copy(torn[cut+1:to], after[cut+1:to])
	} else {
		copy(torn[from:cut], after[from:cut])
	}
	m.requireLeft(t, acknowledged, torn, "torn from %d to %d at %d", from, to, cut)
}

// clearPartly has the header say that the tail was moved, and the tail still there, in part.
func (m *moving) clearPartly(t *rapid.T, acknowledged []journal.Record, before, after []byte) {
	b := slices.Clone(after)
	n := rapid.IntRange(journal.HeaderSize, smallWindow).Draw(t, "cleared")
	clear(b[journal.HeaderSize:n])
	copy(b[n:smallWindow], before[n:smallWindow])
	m.requireLeft(t, acknowledged, b, "cleared up to %d", n)
}

// difference returns where two files begin and end to differ.
func difference(a, b []byte) (from, to int) {
	for from < len(b) && a[from] == b[from] {
		from++
	}
	to = len(b)
	for to > from && a[to-1] == b[to-1] {
		to--
	}
	return from, to
}

// movedImages are the file after each of some records.
func movedImages(t testing.TB) [][]byte {
	t.Helper()
	m := newMoving(t, t.TempDir())
	t.Cleanup(func() { require.NoError(t, m.journal.Close()) })
	var out [][]byte
	for i := range 150 {
		appendAll(t, m.journal, records(i, i+1))
		if i%7 == 0 {
			b := m.file(t)
			out = append(out, b)
		}
	}
	return out
}

// TestOldRecordsNeverComeBack puts every earlier tail, whole and behind what is there now, into the
// tail of later files: only what is there now is read.
func TestOldRecordsNeverComeBack(t *testing.T) {
	m := newMoving(t, t.TempDir())
	defer func() { require.NoError(t, m.journal.Close()) }()
	var files [][]byte
	var used []int64
	for i := range 200 {
		appendAll(t, m.journal, records(i, i+1))
		b := m.file(t)
		files, used = append(files, b), append(used, m.journal.Stats().Size-movedOf(b))
	}
	require.Greater(t, movedOf(files[199]), int64(2*smallWindow), "it was moved again and again")
	for i := 0; i < len(files); i += max(1, *every) {
		now := files[i]
		for k := 0; k < i; k += 3 {
			old := files[k]
			if movedOf(old) == movedOf(now) {
				continue
			}
			b := slices.Clone(now)
			copy(b[used[i]:smallWindow], old[used[i]:smallWindow])
			m.requireLeft(t, records(0, i+1), b, "the rest of the tail of %d behind that of %d", k, i)
			copy(b[journal.HeaderSize:smallWindow], old[journal.HeaderSize:smallWindow])
			got, _, err := readBytes(b, m.id)
			require.NoError(t, err)
			requireRecords(t, records(0, len(got)), got, "the tail of %d in place of that of %d", k, i)
			require.LessOrEqual(t, len(got), i)
		}
	}
}

// TestAnOlderHeader has the header, and with it the tail, of an earlier moment: a copy of a file that is
// being written, or what a machine had written back. What was moved since is read.
func TestAnOlderHeader(t *testing.T) {
	m := newMoving(t, t.TempDir())
	defer func() { require.NoError(t, m.journal.Close()) }()
	var files [][]byte
	for i := range 150 {
		appendAll(t, m.journal, records(i, i+1))
		files = append(files, m.file(t))
	}
	for i := 0; i < len(files); i += max(1, *every) {
		now := files[i]
		for k := range i {
			b := slices.Clone(now)
			copy(b[:smallWindow], files[k][:smallWindow])
			got, _, err := readBytes(b, m.id)
			require.NoError(t, err)
			requireRecords(t, records(0, len(got)), got)
			require.GreaterOrEqual(t, len(got), k+1, "what the older file had")
		}
	}
}

// TestDamageOfWhatWasMoved flips bytes behind the window, and in the tail.
func TestDamageOfWhatWasMoved(t *testing.T) {
	m := newMoving(t, t.TempDir())
	appendAll(t, m.journal, records(0, 100))
	require.NoError(t, m.journal.Close())
	whole := m.file(t)
	require.Positive(t, movedOf(whole))
	require.EqualValues(t, len(whole), smallWindow+movedOf(whole), "it ends with what was moved")
	for at := smallWindow; at < len(whole)-300; at += 5 {
		b := slices.Clone(whole)
		b[at] ^= 0x40
		got, summary, err := readBytes(b, m.id)
		require.ErrorIs(t, err, journal.ErrCorrupt, "byte %d", at)
		requireRecords(t, records(0, len(got)), got)
		var file *journal.FileError
		require.ErrorAs(t, err, &file)
		require.Equal(t, summary.Bytes-journal.HeaderSize+smallWindow, file.Offset, "where it is in the file")
		require.LessOrEqual(t, file.Offset, int64(at))
	}
	_, _, err := readBytes(whole[:smallWindow+200], m.id)
	require.ErrorIs(t, err, journal.ErrCorrupt, "cut short, and its tail goes on")
	for _, moved := range []uint64{1, 1 << 40, 1 << 63} {
		b := slices.Clone(whole)
		binary.LittleEndian.PutUint64(b[journal.MovedAt:], moved)
		got, _, _ := readBytes(b, m.id)
		requireRecords(t, records(0, len(got)), got)
	}
}

// TestTheHeaderCanNotBeWritten fails the note of a move: the segment takes no more, and loses nothing.
func TestTheHeaderCanNotBeWritten(t *testing.T) {
	for _, torn := range []int{0, 8} { // It isn't there, or is and the system says that it isn't.
		dir := t.TempDir()
		m := newMoving(t, dir)
		m.watcher.fails, m.watcher.failsAt, m.watcher.torn = 1, journal.MovedAt, torn
		n := 0
		var err error
		for ; err == nil; n++ {
			_, err = m.journal.Append(record(n))
		}
		n--
		require.ErrorIs(t, err, syscall.ENOSPC)
		for range 2 * journal.RetryEvery {
			_, err := m.journal.Append(record(n))
			require.ErrorIs(t, err, syscall.ENOSPC)
		}
		require.Error(t, m.journal.Prepare())
		m.requireLeft(t, records(0, n), m.file(t))
		_, err = m.journal.Rotate()
		require.NoError(t, err)
		appendAll(t, m.journal, records(n, n+100))
		require.NoError(t, m.journal.Close())
		var all []journal.Record
		for _, s := range segments(t, dir) {
			got, _, err := read(s)
			require.NoError(t, err)
			all = append(all, got...)
		}
		requireRecords(t, records(0, n+100), all)
	}
}
