package journal_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter/journal"
)

// image is a segment's file, cut to its records: where each of the records 0 to 9
// begins, and its bytes.
type image struct {
	bytes   []byte
	starts  []int
	segment journal.Segment
}

func newImage(t testing.TB, durability journal.Durability) image {
	t.Helper()
	dir := t.TempDir()
	j := open(t, journal.WithFiles(journal.Config{Dir: dir, Instance: uuid.MustParse("018f0000-0000-7000-8000-000000000001"), Durability: durability}, quick))
	out := image{}
	for i := range 10 {
		out.starts = append(out.starts, int(j.Stats().Size))
		appendAll(t, j, records(i, i+1))
	}
	out.starts = append(out.starts, int(j.Stats().Size))
	require.NoError(t, j.Close())
	out.segment = segments(t, dir)[0]
	b, err := os.ReadFile(out.segment.Path)
	require.NoError(t, err)
	require.Len(t, b, out.starts[10])
	out.bytes = b
	return out
}

// readImage reads bytes as if they were the image's file.
func (m image) read(t *testing.T, b []byte) ([]journal.Record, journal.Summary, error) {
	t.Helper()
	s := m.segment
	s.Path = filepath.Join(t.TempDir(), filepath.Base(s.Path))
	require.NoError(t, os.WriteFile(s.Path, b, 0o600))
	got, summary, err := read(s)
	after, readErr := os.ReadFile(s.Path)
	require.NoError(t, readErr)
	require.True(t, bytes.Equal(b, after), "reading changes nothing")
	if err != nil {
		var file *journal.FileError
		require.ErrorAs(t, err, &file)
		require.Equal(t, s.Path, file.Path)
		require.ErrorContains(t, err, s.Path)
	}
	return got, summary, err
}

var fileDurabilities = []journal.Durability{journal.Process, journal.Disk}

func TestATailIsCutAtTheLastWholeRecord(t *testing.T) {
	for _, durability := range fileDurabilities {
		m := newImage(t, durability)
		for size := m.starts[8]; size <= m.starts[10]; size++ {
			for _, zeros := range []int{0, 1, 5000} {
				whole, _ := slices.BinarySearch(m.starts, size+1)
				whole--
				got, summary, err := m.read(t, append(slices.Clone(m.bytes[:size]), make([]byte, zeros)...))
				require.NoError(t, err, "%s cut at %d", durability, size)
				requireRecords(t, records(0, whole), got)
				require.EqualValues(t, whole, summary.Records)
				used := len(bytes.TrimRight(m.bytes[:size], "\x00"))
				require.EqualValues(t, max(0, used-int(summary.Bytes)), summary.Cut, "cut at %d", size)
			}
		}
	}
}

// TestDamageInTheMiddleIsNotATail flips each byte of a record that others follow.
func TestDamageInTheMiddleIsNotATail(t *testing.T) {
	for _, durability := range fileDurabilities {
		m := newImage(t, durability)
		for at := m.starts[4]; at < m.starts[5]; at++ {
			b := slices.Clone(m.bytes)
			b[at] ^= 0x40
			got, summary, err := m.read(t, b)
			require.ErrorIs(t, err, journal.ErrCorrupt, "%s byte %d", durability, at)
			var file *journal.FileError
			require.ErrorAs(t, err, &file)
			require.Equal(t, summary.Bytes, file.Offset)
			require.GreaterOrEqual(t, file.Offset, int64(m.starts[4]), "the damaged record, or its mark")
			require.LessOrEqual(t, file.Offset, int64(at))
			requireRecords(t, records(0, 4), got, "what comes before is yielded")
			require.Zero(t, summary.Cut)
		}
		for from := m.starts[2]; from < m.starts[8]; from++ {
			b := slices.Clone(m.bytes)
			clear(b[from:m.starts[9]]) // A page that was lost.
			_, _, err := m.read(t, b)
			require.ErrorIs(t, err, journal.ErrCorrupt, "%s lost from %d", durability, from)
		}
		b := slices.Clone(m.bytes)
		b[m.starts[9]+journal.MarkSize+20] ^= 1
		got, summary, err := m.read(t, b)
		require.NoError(t, err, "what nothing follows is torn")
		requireRecords(t, records(0, 9), got)
		require.Positive(t, summary.Cut)
	}
}

func TestHeaders(t *testing.T) {
	m := newImage(t, journal.Process)
	other := newImage(t, journal.Process)
	edit := func(change func(b []byte)) []byte {
		b := slices.Clone(m.bytes)
		change(b)
		return b
	}
	repaired := func(change func(b []byte)) []byte {
		b := edit(change)
		journal.Repair(b)
		return b
	}
	for _, c := range []struct {
		name  string
		bytes []byte
		want  error
		says  string
		cut   int64
		whole int
	}{
		{name: "empty file"},
		{name: "all zeros", bytes: make([]byte, 9000)},
		{name: "zeros, shorter than a header", bytes: make([]byte, 20), cut: 20},
		{name: "truncated header", bytes: m.bytes[:47], cut: 47},
		{name: "header alone", bytes: m.bytes[:journal.HeaderSize]},
		{name: "header and zeros", bytes: append(slices.Clone(m.bytes[:journal.HeaderSize]), make([]byte, 9000)...)},
		{name: "one record and zeros", bytes: append(slices.Clone(m.bytes[:m.starts[1]]), make([]byte, 9000)...), whole: 1},
		{name: "not a journal", bytes: bytes.Repeat([]byte("text "), 30), want: journal.ErrNotJournal, says: "74 65 78 74"},
		{name: "lost header", bytes: edit(func(b []byte) { clear(b[:journal.HeaderSize]) }), want: journal.ErrNotJournal},
		{name: "unknown version", bytes: repaired(func(b []byte) { b[8] = 1 }), want: journal.ErrVersion, says: "1, this program reads 2"},
		{name: "damaged header", bytes: edit(func(b []byte) { b[20] ^= 1 }), want: journal.ErrCorrupt, says: "header"},
		{name: "unknown durability", bytes: repaired(func(b []byte) { b[12] = 9 }), want: journal.ErrCorrupt, says: "durability 9"},
		{name: "wrong instance", bytes: repaired(func(b []byte) { b[16] ^= 1 }), want: journal.ErrIdentity, says: "instance 008f0000"},
		{name: "a window without a tail", bytes: repaired(func(b []byte) { copy(b[40:], []byte{64, 0, 0}) }), want: journal.ErrCorrupt, says: "window of 64 bytes"},
		{name: "less than nothing was moved", bytes: edit(func(b []byte) { b[journal.MovedAt+7] = 0x80 }), want: journal.ErrCorrupt, says: "were moved"},
		{name: "wrong sequence", bytes: repaired(func(b []byte) { b[32] = 77 }), want: journal.ErrIdentity, says: "segment 77"},
		{name: "record of unknown kind", bytes: repaired(func(b []byte) { b[m.starts[0]+6] = 9 }), want: journal.ErrCorrupt, says: "kind 9"},
		{name: "mark without a group", bytes: repaired(func(b []byte) { b[m.starts[0]+6] = 2 }), want: journal.ErrCorrupt, says: "kind 2"},
		{name: "the same of another folder", bytes: other.bytes, whole: 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, summary, err := m.read(t, c.bytes)
			require.ErrorIs(t, err, c.want)
			if c.want != nil {
				require.ErrorContains(t, err, c.says)
			}
			requireRecords(t, records(0, c.whole), got)
			require.Equal(t, c.cut, summary.Cut)
		})
	}
}

// TestRecordsBelongToTheirSegment puts the records of one segment under the header
// of another: old blocks of a disk must not come back as usage.
func TestRecordsBelongToTheirSegment(t *testing.T) {
	m := newImage(t, journal.Process)
	b := slices.Clone(m.bytes)
	b[32] = 2
	h := slices.Clone(b[:journal.HeaderSize])
	journal.Repair(h)
	copy(b, h)
	m.segment.ID.Seq = 2
	got, summary, err := m.read(t, b)
	require.NoError(t, err)
	require.Empty(t, got)
	require.EqualValues(t, len(b)-journal.HeaderSize, summary.Cut)
}

func TestReadStopsWhenAskedTo(t *testing.T) {
	m := newImage(t, journal.Process)
	var summary journal.Summary
	for r, err := range journal.Read(m.segment, &summary) {
		require.NoError(t, err)
		if r.Quantity == 4 {
			break
		}
	}
	require.EqualValues(t, 5, summary.Records)
	for _, err := range journal.Read(m.segment, nil) {
		require.NoError(t, err)
		break
	}
}

func TestReadOfAFileThatIsNotThere(t *testing.T) {
	m := newImage(t, journal.Process)
	require.NoError(t, os.Remove(m.segment.Path))
	_, _, err := read(m.segment)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorIs(t, err, journal.ErrIO)

	m.segment.Path = filepath.Dir(m.segment.Path)
	_, _, err = read(m.segment)
	require.ErrorIs(t, err, journal.ErrIO, "a folder")
}

func TestSegments(t *testing.T) {
	found, err := journal.Segments(filepath.Join(t.TempDir(), "none"))
	require.NoError(t, err)
	require.Empty(t, found)

	dir := t.TempDir()
	const a, b = "018f0000-0000-7000-8000-00000000000a", "018f0000-0000-7000-8000-00000000000b"
	for _, name := range []string{
		b + "-00000000000000000001.journal",
		a + "-00000000000000000010.journal",
		a + "-00000000000000000009.journal",
		// None of these is a segment's name.
		"lock", "x.journal",
		a + "-00000000000000000000.journal",
		a + "-99999999999999999999.journal",
		a + "-0000000000000000001.journal",
		a + "-00000000000000000001.journal.old",
		a + "_00000000000000000002.journal",
		"018F0000-0000-7000-8000-00000000000A-00000000000000000003.journal",
		"018f0000-0000-7000-8000-0000000000xx-00000000000000000004.journal",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
	}
	found, err = journal.Segments(dir)
	require.NoError(t, err)
	var ids []journal.SegmentID
	for _, s := range found {
		ids = append(ids, s.ID)
		require.EqualValues(t, 36+1+20+len(".journal"), s.Size)
	}
	require.Equal(t, []journal.SegmentID{
		{Instance: uuid.MustParse(a), Seq: 9},
		{Instance: uuid.MustParse(a), Seq: 10},
		{Instance: uuid.MustParse(b), Seq: 1},
	}, ids)

	_, err = journal.Segments(found[0].Path)
	require.Error(t, err)
}
