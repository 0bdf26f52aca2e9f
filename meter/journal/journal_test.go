package journal_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/journal"
	"github.com/riverline/tollgate/plans"
)

func TestWhatWasAppendedIsReadInOrder(t *testing.T) {
	for _, p := range paths {
		t.Run(p.name, func(t *testing.T) {
			dir := t.TempDir()
			// The smallest windows: records straddle them.
			j := open(t, journal.WithStep(p.config(dir), 64<<10))
			n := 5_000
			if p.durability == journal.Disk {
				n = 50
			}
			appendAll(t, j, records(0, n))
			require.EqualValues(t, n, j.Stats().Appended)

			requireRecords(t, records(0, n), readAll(t, segments(t, dir)), "while it is open")
			require.NoError(t, j.Close())
			requireRecords(t, records(0, n), readAll(t, segments(t, dir)), "closed")
			require.Equal(t, j.Stats().Appended, int64(n))
		})
	}
}

func TestRecordsKeepEveryValue(t *testing.T) {
	longest := make([]byte, journal.MaxKey)
	for i := range longest {
		longest[i] = 'a'
	}
	want := []journal.Record{
		{Meter: "a"},
		{Organization: uuid.Max, Meter: string(longest), Day: -1 << 31, Quantity: -1 << 63, At: -1 << 63},
		{Meter: string(longest), Plan: string(longest), PlanVersion: 1<<32 - 1},
		{Meter: "a", Plan: "b", PlanVersion: 1, Identity: meter.Identity{1}, Receipt: meter.Receipt{Plan: "c"}},
		{Organization: uuid.New(), Meter: "storage_bytes", Day: 1<<31 - 1, Quantity: 1<<63 - 1, At: 1<<63 - 1},
		{
			Organization: uuid.Max, Meter: string(longest), Lease: calendar.WindowMonth, Quantity: -1, At: -1, Day: -1,
			Plan: string(longest), PlanVersion: 1<<32 - 1,
			Identity: meter.KeyIdentity("k"), Fingerprint: meter.FingerprintOf("f"),
			Receipt: meter.Receipt{
				Plan: string(longest), Mode: plans.Unlimited, OverLimit: true, Current: -1 << 63, Max: 1<<63 - 1, Window: calendar.WindowMonth,
			},
		},
		{Meter: "a", Lease: calendar.WindowDay, Identity: meter.Identity{15: 1}},
	}
	dir := t.TempDir()
	j := open(t, journal.Config{Dir: dir, Instance: uuid.New()})
	appendAll(t, j, want)
	requireRecords(t, want, readAll(t, segments(t, dir)))
}

func TestAppendRefusesAKeyThatDoesNotFit(t *testing.T) {
	for _, durability := range []journal.Durability{journal.Memory, journal.Process} {
		j := open(t, journal.Config{Dir: t.TempDir(), Instance: uuid.New(), Durability: durability})
		for _, key := range []string{"", string(make([]byte, journal.MaxKey+1))} {
			_, err := j.Append(journal.Record{Meter: key})
			require.ErrorIs(t, err, journal.ErrRecord)
			require.ErrorContains(t, err, "meter")
		}
		_, err := j.Append(journal.Record{Meter: "a", Plan: string(make([]byte, journal.MaxKey+1))})
		require.ErrorIs(t, err, journal.ErrRecord)
		for _, version := range []int{-1, 1 << 32} {
			_, err := j.Append(journal.Record{Meter: "a", Plan: "pro", PlanVersion: version})
			require.ErrorContains(t, err, "plan version")
		}
		require.NoError(t, j.Health(), "the caller's mistake is not the journal's")
	}
}

func TestRotateSeparatesBeforeFromAfter(t *testing.T) {
	for _, p := range paths {
		for _, prepare := range []bool{false, true} {
			t.Run(p.name, func(t *testing.T) {
				dir := t.TempDir()
				c := p.config(dir)
				c.First = 7
				j := open(t, c)
				for batch := range 3 {
					for _, r := range records(batch*10, batch*10+10) {
						seq, err := j.Append(r)
						require.NoError(t, err)
						require.EqualValues(t, 7+batch, seq)
					}
					if prepare {
						require.NoError(t, j.Prepare())
					}
					sealed, err := j.Rotate()
					require.NoError(t, err)
					require.EqualValues(t, 7+batch, sealed)
				}
				require.Equal(t, 3, j.Stats().Sealed)
				require.EqualValues(t, 10, j.Stats().Segment)
				found := segments(t, dir)
				for batch := range 3 {
					require.Equal(t, journal.SegmentID{Instance: c.Instance, Seq: int64(7 + batch)}, found[batch].ID)
					requireRecords(t, records(batch*10, batch*10+10), readAll(t, found[batch:batch+1]))
				}
				require.Empty(t, readAll(t, found[3:]))
			})
		}
	}
}

func TestRemove(t *testing.T) {
	for _, p := range paths {
		t.Run(p.name, func(t *testing.T) {
			dir := t.TempDir()
			c := p.config(dir)
			j := open(t, c)
			appendAll(t, j, records(0, 3))
			id := func(seq int64) journal.SegmentID { return journal.SegmentID{Instance: c.Instance, Seq: seq} }

			require.ErrorIs(t, j.Written(id(1)), journal.ErrActive)
			require.NoError(t, j.Prepare())
			require.ErrorIs(t, j.Written(id(2)), journal.ErrActive, "the prepared one")
			_, err := j.Rotate()
			require.NoError(t, err)
			require.NoError(t, j.Written(id(1)))
			require.NoError(t, j.Written(id(1)), "again")
			require.ErrorIs(t, j.Written(id(2)), journal.ErrActive)

			found := segments(t, dir)
			require.Len(t, found, 1)
			require.Equal(t, id(2), found[0].ID)
			stats := j.Stats()
			require.Zero(t, stats.Sealed)
			require.EqualValues(t, 3, stats.Appended, "totals outlive their segment")
		})
	}
}

func TestPrepareGivesBackTheRoomOfSealedSegments(t *testing.T) {
	dir := t.TempDir()
	j := open(t, paths[0].config(dir))
	appendAll(t, j, records(0, 3))
	size := j.Stats().Size
	_, err := j.Rotate()
	require.NoError(t, err)
	require.NoError(t, j.Prepare())
	require.Equal(t, size, segments(t, dir)[0].Size)
	requireRecords(t, records(0, 3), readAll(t, segments(t, dir)))
}

func TestTheNextProcessFindsWhatIsLeft(t *testing.T) {
	dir := t.TempDir()
	var want []journal.SegmentID
	for range 2 {
		c := paths[0].config(dir)
		j := open(t, c)
		for range 2 {
			appendAll(t, j, records(0, 3))
			_, err := j.Rotate()
			require.NoError(t, err)
		}
		require.NoError(t, j.Prepare())
		require.NoError(t, j.Close())
		want = append(want, journal.SegmentID{Instance: c.Instance, Seq: 1}, journal.SegmentID{Instance: c.Instance, Seq: 2})
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes.journal"), []byte("not ours"), 0o600))

	j := open(t, paths[0].config(dir))
	var got []journal.SegmentID
	for _, s := range j.Recovered() {
		got = append(got, s.ID)
		require.Len(t, readAll(t, []journal.Segment{s}), 3)
		require.NoError(t, j.Written(s.ID))
	}
	require.Equal(t, want, got, "in the order of starts, without segments that have no records")
	require.Len(t, segments(t, dir), 1)
	require.FileExists(t, filepath.Join(dir, "notes.journal"))
}

func TestFirstMustBeNew(t *testing.T) {
	dir := t.TempDir()
	c := paths[0].config(dir)
	j := open(t, c)
	appendAll(t, j, records(0, 3))
	require.NoError(t, j.Close())

	_, err := journal.Open(c)
	require.ErrorIs(t, err, fs.ErrExist)
	require.ErrorContains(t, err, "First is 1")
	c.First = 2
	j = open(t, c)
	require.Len(t, j.Recovered(), 1)
	require.NoError(t, j.Written(j.Recovered()[0].ID))
	require.Len(t, segments(t, dir), 1)
}

func TestMemoryWritesNothing(t *testing.T) {
	dir := t.TempDir()
	left := open(t, paths[0].config(dir))
	appendAll(t, left, records(0, 3))
	require.NoError(t, left.Close())

	for _, dir := range []string{"", dir} {
		instance := uuid.New()
		j := open(t, journal.Config{Dir: dir, Instance: instance, Durability: journal.Memory})
		appendAll(t, j, records(0, 3))
		require.NoError(t, j.Prepare())
		sealed, err := j.Rotate()
		require.NoError(t, err)
		require.EqualValues(t, 1, sealed)
		seq, err := j.Append(record(3))
		require.NoError(t, err)
		require.EqualValues(t, 2, seq)
		require.NoError(t, j.Written(journal.SegmentID{Instance: instance, Seq: 1}))
		require.NoError(t, j.Health())
		if dir != "" {
			require.Len(t, j.Recovered(), 1, "what earlier processes left counts whatever the setting is now")
			require.Len(t, segments(t, dir), 1)
		}
		require.NoError(t, j.Close())
		_, err = j.Append(record(4))
		require.ErrorIs(t, err, journal.ErrClosed)
	}
}

func TestClosed(t *testing.T) {
	dir := t.TempDir()
	j := open(t, paths[0].config(dir))
	require.NoError(t, j.Prepare())
	require.NoError(t, j.Close())
	require.NoError(t, j.Close(), "again")

	_, err := j.Append(record(0))
	require.ErrorIs(t, err, journal.ErrClosed)
	_, err = j.Rotate()
	require.ErrorIs(t, err, journal.ErrClosed)
	require.ErrorIs(t, j.Prepare(), journal.ErrClosed)
	require.ErrorIs(t, j.Health(), journal.ErrClosed)
	require.Empty(t, segments(t, dir), "segments without records go")
}

func TestConfigIsChecked(t *testing.T) {
	good := journal.Config{Dir: t.TempDir(), Instance: uuid.New()}
	for field, spoil := range map[string]func(*journal.Config){
		"Dir":          func(c *journal.Config) { c.Dir = "" },
		"Instance":     func(c *journal.Config) { c.Instance = uuid.Nil },
		"Durability":   func(c *journal.Config) { c.Durability = "paper" },
		"First":        func(c *journal.Config) { c.First = -1 },
		"SegmentLimit": func(c *journal.Config) { c.SegmentLimit = 1000 },
	} {
		c := good
		spoil(&c)
		_, err := journal.Open(c)
		require.ErrorContains(t, err, field)
	}
	file := filepath.Join(good.Dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	good.Dir = file
	_, err := journal.Open(good)
	require.ErrorContains(t, err, "file")
}

// TestSegmentAndBatchHaveOneIdentity holds that the two types convert.
func TestSegmentAndBatchHaveOneIdentity(t *testing.T) {
	id := journal.SegmentID{Instance: uuid.New(), Seq: 7}
	require.Equal(t, meter.BatchID{Instance: id.Instance, Seq: 7}, id)
}

func TestAppendAllocatesNothing(t *testing.T) {
	for _, p := range append(paths, path{name: "memory", durability: journal.Memory}) {
		t.Run(p.name, func(t *testing.T) {
			c := p.config(t.TempDir())
			if p.durability == journal.Disk {
				c = journal.WithFiles(c, after(p.wrap, quick))
			}
			j := open(t, c)
			r := record(1)
			require.Zero(t, testing.AllocsPerRun(1000, func() {
				if _, err := j.Append(r); err != nil {
					panic(err)
				}
			}))
		})
	}
}
