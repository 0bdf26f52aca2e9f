package journal_test

import (
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter/journal"
)

// device decides which calls of its files fail, and counts the calls.
type device struct {
	allocate, write, persist, truncate, mapping, create error
	// torn is how much of a failing write reaches the file, in bytes.
	torn  int
	calls atomic.Int64
}

func (d *device) wrap(f journal.File) (journal.File, error) {
	d.calls.Add(1)
	return &faultyFile{File: f, device: d}, d.create
}

type faultyFile struct {
	journal.File
	device *device
}

func (f *faultyFile) Allocate(offset, n int64) error {
	f.device.calls.Add(1)
	if f.device.allocate != nil {
		return f.device.allocate
	}
	return f.File.Allocate(offset, n)
}

func (f *faultyFile) WriteAt(b []byte, offset int64) (int, error) {
	f.device.calls.Add(1)
	if f.device.write != nil {
		n, _ := f.File.WriteAt(b[:min(f.device.torn, len(b))], offset)
		return n, f.device.write
	}
	return f.File.WriteAt(b, offset)
}

func (f *faultyFile) Persist() error {
	f.device.calls.Add(1)
	return f.device.persist
}

func (f *faultyFile) Truncate(size int64) error {
	if f.device.truncate != nil {
		return f.device.truncate
	}
	return f.File.Truncate(size)
}

func (f *faultyFile) Map(offset, n int64) ([]byte, error) {
	if f.device.mapping != nil {
		return nil, f.device.mapping
	}
	return f.File.Map(offset, n)
}

// openOn opens a journal on a device of its own.
func (p path) openOn(t *testing.T, dir string) (*journal.Journal, *device) {
	t.Helper()
	d := &device{}
	c := p.config(dir)
	c.SegmentLimit = 1 << 20
	j := open(t, journal.WithStep(journal.WithFiles(c, after(p.wrap, d.wrap)), 64<<10))
	return j, d
}

// fillWindow appends until a call of the device fails, and returns how many
// records were appended.
func fillWindow(t *testing.T, j *journal.Journal) (int, error) {
	t.Helper()
	for i := range 5_000 {
		if seq, err := j.Append(record(i)); err != nil {
			require.EqualValues(t, 1, seq, "the segment that lacks it")
			return i, err
		}
	}
	require.Fail(t, "nothing fails")
	return 0, nil
}

// TestAFullDiskFailsAppendsUntilThereIsRoom takes the room away where each way of
// writing needs it.
func TestAFullDiskFailsAppendsUntilThereIsRoom(t *testing.T) {
	for _, p := range paths {
		for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
			t.Run(p.name+"/"+errno.Error(), func(t *testing.T) {
				dir := t.TempDir()
				j, d := p.openOn(t, dir)
				d.allocate, d.torn = errno, 20
				if p.name != "process-unmapped" && p.name != "disk" {
					d.write = errno // Nothing is allocated ahead.
				}
				n, err := fillWindow(t, j)
				require.ErrorIs(t, err, journal.ErrFull)
				require.ErrorIs(t, err, errno)
				var file *journal.FileError
				require.ErrorAs(t, err, &file)
				require.Equal(t, segments(t, dir)[0].Path, file.Path)
				require.ErrorIs(t, j.Health(), journal.ErrFull)

				before := d.calls.Load()
				for range 10 * journal.RetryEvery {
					_, err := j.Append(record(n))
					require.ErrorIs(t, err, journal.ErrFull)
				}
				require.LessOrEqual(t, d.calls.Load()-before, int64(20), "it asks the system now and then")
				require.EqualValues(t, 10*journal.RetryEvery+1, j.Stats().Failed)
				require.ErrorIs(t, j.Prepare(), journal.ErrFull)

				d.allocate, d.write = nil, nil
				tries := 1
				for ; tries <= journal.RetryEvery; tries++ {
					if _, err = j.Append(record(n)); err == nil {
						break
					}
				}
				require.NoError(t, err, "there is room again")
				require.NoError(t, j.Health())
				appendAll(t, j, records(n+1, n+5))
				requireRecords(t, records(0, n+5), readAll(t, segments(t, dir)[:1]), "what failed left nothing")
			})
		}
	}
}

// TestPrepareFindsRoomWithoutAppends holds that an instance that takes no requests
// while the journal fails gets well again.
func TestPrepareFindsRoomWithoutAppends(t *testing.T) {
	for _, p := range paths {
		t.Run(p.name, func(t *testing.T) {
			dir := t.TempDir()
			j, d := p.openOn(t, dir)
			d.allocate, d.write = syscall.ENOSPC, syscall.ENOSPC
			n, err := fillWindow(t, j)
			require.ErrorIs(t, err, journal.ErrFull)
			d.allocate, d.write = nil, nil
			require.NoError(t, j.Prepare())
			require.NoError(t, j.Health())
			appendAll(t, j, records(n, n+3))
			requireRecords(t, records(0, n+3), readAll(t, segments(t, dir)[:1]))
		})
	}
}

// TestRotateWithoutRoom holds that a drain goes on when the disk is full: what it
// removes may be the room that is lacking.
func TestRotateWithoutRoom(t *testing.T) {
	for _, p := range paths {
		t.Run(p.name, func(t *testing.T) {
			dir := t.TempDir()
			j, d := p.openOn(t, dir)
			appendAll(t, j, records(0, 3))
			d.create = syscall.ENOSPC
			require.ErrorIs(t, j.Prepare(), journal.ErrFull)
			sealed, err := j.Rotate()
			require.NoError(t, err)
			require.EqualValues(t, 1, sealed)
			require.ErrorIs(t, j.Health(), journal.ErrFull)
			seq, err := j.Append(record(3))
			require.ErrorIs(t, err, journal.ErrFull)
			require.EqualValues(t, 2, seq)
			require.Len(t, segments(t, dir), 1, "a file that could not be begun goes")

			sealed, err = j.Rotate()
			require.NoError(t, err)
			require.EqualValues(t, 2, sealed, "a segment without a file has its number")

			d.create = nil
			for range journal.RetryEvery {
				if seq, err = j.Append(record(4)); err == nil {
					break
				}
			}
			require.NoError(t, err)
			require.EqualValues(t, 3, seq)
			requireRecords(t, []journal.Record{record(4)}, readAll(t, segments(t, dir)[1:]))
		})
	}
}

func TestOpen(t *testing.T) {
	for _, step := range []struct {
		name  string
		spoil func(*device, error)
	}{
		{"create", func(d *device, err error) { d.create = err }},
		{"allocate", func(d *device, err error) { d.allocate = err }},
		{"write", func(d *device, err error) { d.write = err }},
		{"map", func(d *device, err error) { d.mapping = err }},
	} {
		t.Run(step.name, func(t *testing.T) {
			dir, d := t.TempDir(), &device{}
			c := journal.WithFiles(paths[0].config(dir), d.wrap)
			step.spoil(d, syscall.EACCES)
			_, err := journal.Open(c)
			require.ErrorIs(t, err, syscall.EACCES, "what won't pass is an error")
			require.Empty(t, segments(t, dir))

			step.spoil(d, syscall.ENOSPC)
			j := open(t, c)
			require.ErrorIs(t, j.Health(), journal.ErrFull, "a full disk may pass, and is the journal's state")
			_, err = j.Append(record(0))
			require.ErrorIs(t, err, journal.ErrFull)
			step.spoil(d, nil)
			require.NoError(t, j.Prepare())
			appendAll(t, j, records(0, 3))
			requireRecords(t, records(0, 3), readAll(t, segments(t, dir)[:1]))
		})
	}
}

// TestAFailedSyncEndsTheSegment holds that after a failed sync nothing more is
// vouched for in that file, although the next sync might succeed.
func TestAFailedSyncEndsTheSegment(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		for _, truncate := range []error{nil, syscall.EIO} {
			dir := t.TempDir()
			j, d := paths[3].openOn(t, dir)
			appendAll(t, j, records(0, 3))
			d.persist, d.truncate = errno, truncate
			_, err := j.Append(record(3))
			require.ErrorIs(t, err, errno)
			d.persist, d.truncate = nil, nil
			before := d.calls.Load()
			for range 2 * journal.RetryEvery {
				_, err := j.Append(record(4))
				require.ErrorIs(t, err, errno)
			}
			require.Equal(t, before, d.calls.Load())
			require.ErrorIs(t, j.Prepare(), errno)
			require.ErrorIs(t, j.Health(), errno)

			_, err = j.Rotate()
			require.NoError(t, err)
			require.NoError(t, j.Health())
			appendAll(t, j, records(5, 8))
			want := append(records(0, 3), records(5, 8)...)
			if truncate != nil {
				want = append(records(0, 4), records(5, 8)...)
			}
			require.Empty(t, cmp.Diff(want, readAll(t, segments(t, dir))),
				"a failed append is replayed only where the file could not even be cut")
		}
	}
}

// TestAWriteThatCannotBeUndoneEndsTheSegment holds that an append that failed is not
// followed by others in the same file when part of it may be there.
func TestAWriteThatCannotBeUndoneEndsTheSegment(t *testing.T) {
	dir := t.TempDir()
	j, d := paths[2].openOn(t, dir)
	appendAll(t, j, records(0, 3))
	d.write, d.truncate, d.torn = syscall.EIO, syscall.EIO, 20
	_, err := j.Append(record(3))
	require.ErrorIs(t, err, journal.ErrIO)
	d.write, d.truncate = nil, nil
	for range 2 * journal.RetryEvery {
		_, err := j.Append(record(3))
		require.ErrorIs(t, err, journal.ErrIO)
	}
	got, summary, err := read(segments(t, dir)[0])
	require.NoError(t, err)
	requireRecords(t, records(0, 3), got)
	require.EqualValues(t, 20, summary.Cut)
}

func TestASegmentHasALimit(t *testing.T) {
	for _, p := range paths[:3] {
		t.Run(p.name, func(t *testing.T) {
			dir := t.TempDir()
			c := p.config(dir)
			c.SegmentLimit = 100_000 // Not a multiple of a page.
			j := open(t, journal.WithStep(c, 64<<10))
			n, err := fillWindow(t, j)
			require.ErrorIs(t, err, journal.ErrSegmentFull)
			require.ErrorContains(t, err, "100000 bytes")
			require.ErrorIs(t, j.Health(), journal.ErrSegmentFull)
			require.Greater(t, j.Stats().Size, int64(100_000-200))
			require.LessOrEqual(t, segments(t, dir)[0].Size, c.SegmentLimit+64<<10, "its records, and a tail")

			require.ErrorIs(t, j.Prepare(), journal.ErrSegmentFull)
			_, err = j.Rotate()
			require.NoError(t, err)
			require.NoError(t, j.Health())
			appendAll(t, j, records(n, n+3))
			requireRecords(t, records(0, n+3), readAll(t, segments(t, dir)))
		})
	}
}

// TestAPageFaultFailsTheAppend cuts a mapped file short behind the journal's back,
// which faults as a failing device does.
func TestAPageFaultFailsTheAppend(t *testing.T) {
	dir := t.TempDir()
	c := paths[0].config(dir)
	mapped := false
	j := open(t, journal.WithFiles(c, func(f journal.File) (journal.File, error) { return watchMap{f, &mapped}, nil }))
	if !mapped {
		// Where nothing is mapped the same cut does no harm: the next write makes the file longer.
		require.NoError(t, os.Truncate(segments(t, dir)[0].Path, journal.HeaderSize))
		appendAll(t, j, records(0, 3))
		require.Len(t, readAll(t, segments(t, dir)), 3)
		return
	}
	require.NoError(t, os.Truncate(segments(t, dir)[0].Path, 0))
	for range 2 * journal.RetryEvery {
		_, err := j.Append(record(0))
		require.ErrorIs(t, err, journal.ErrIO)
		require.ErrorContains(t, err, "fault")
	}
	require.ErrorIs(t, j.Health(), journal.ErrIO)
	_, err := j.Rotate()
	require.NoError(t, err)
	appendAll(t, j, records(0, 3))
	requireRecords(t, records(0, 3), readAll(t, segments(t, dir)[1:]))
}

type watchMap struct {
	journal.File
	mapped *bool
}

func (w watchMap) Map(offset, n int64) ([]byte, error) {
	window, err := w.File.Map(offset, n)
	*w.mapped = err == nil
	return window, err
}

func TestRemoveSaysWhyItFails(t *testing.T) {
	dir := t.TempDir()
	j := open(t, paths[0].config(dir))
	id := journal.SegmentID{Instance: uuid.New(), Seq: 1}
	// A folder that isn't empty stands where the file should be.
	name := id.Instance.String() + "-00000000000000000001.journal"
	require.NoError(t, os.MkdirAll(dir+"/"+name+"/x", 0o700))
	err := j.Written(id)
	require.Error(t, err)
	require.NotErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, name)
}
