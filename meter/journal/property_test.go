package journal_test

import (
	"bytes"
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/journal"
	"github.com/riverline/tollgate/plans"
)

func drawRecord(t *rapid.T) journal.Record {
	var organization uuid.UUID
	binary.BigEndian.PutUint64(organization[8:], rapid.Uint64().Draw(t, "organization"))
	r := journal.Record{
		Organization: organization,
		Meter:        strings.Repeat("k", rapid.IntRange(1, journal.MaxKey).Draw(t, "meter")),
		Day:          calendar.Day(rapid.Int32().Draw(t, "day")),
		Quantity:     rapid.Int64().Draw(t, "quantity"),
		At:           rapid.Int64().Draw(t, "at"),
		Lease:        rapid.SampledFrom([]calendar.WindowKind{"", calendar.WindowDay, calendar.WindowMonth}).Draw(t, "lease"),
		Plan:         strings.Repeat("p", rapid.IntRange(0, journal.MaxKey).Draw(t, "priced by")),
		PlanVersion:  int(rapid.Uint32().Draw(t, "version")),
	}
	if !rapid.Bool().Draw(t, "identified") {
		return r
	}
	r.Identity = meter.KeyIdentity(rapid.String().Draw(t, "identity"))
	r.Fingerprint = meter.FingerprintOf(rapid.String().Draw(t, "fingerprint"))
	if rapid.Bool().Draw(t, "batch") {
		r.Batch = meter.BatchKey{Identity: meter.BatchIdentity(rapid.String().Draw(t, "batch key")), Fingerprint: r.Fingerprint}
	}
	r.Receipt = meter.Receipt{
		Plan:      strings.Repeat("p", rapid.IntRange(0, journal.MaxKey).Draw(t, "plan")),
		Mode:      rapid.SampledFrom([]plans.Mode{"", plans.Hard, plans.Soft, plans.Unlimited}).Draw(t, "mode"),
		OverLimit: rapid.Bool().Draw(t, "over limit"),
		Current:   rapid.Int64().Draw(t, "current"),
		Max:       rapid.Int64().Draw(t, "max"),
		Window:    rapid.SampledFrom([]calendar.WindowKind{"", calendar.WindowDay, calendar.WindowMonth}).Draw(t, "window"),
	}
	return r
}

// crashModel is what must be found after a crash: the acknowledged records of each
// segment that isn't removed.
type crashModel struct {
	journal  *journal.Journal
	instance uuid.UUID
	active   int64
	segments map[int64][]journal.Record
}

func (m *crashModel) append(t *rapid.T) journal.Record {
	r := drawRecord(t)
	seq, err := m.journal.Append(r)
	require.NoError(t, err)
	require.Equal(t, m.active, seq)
	return r
}

func (m *crashModel) step(t *rapid.T) {
	switch rapid.IntRange(0, 9).Draw(t, "step") {
	case 0:
		sealed, err := m.journal.Rotate()
		require.NoError(t, err)
		require.Equal(t, m.active, sealed)
		m.active++
	case 1:
		require.NoError(t, m.journal.Prepare())
	case 2:
		if m.active > 1 {
			seq := rapid.Int64Range(1, m.active-1).Draw(t, "remove")
			require.NoError(t, m.journal.Written(journal.SegmentID{Instance: m.instance, Seq: seq}))
			delete(m.segments, seq)
		}
	default:
		m.segments[m.active] = append(m.segments[m.active], m.append(t))
	}
}

// TestACrashLosesAndInventsNothing appends, rotates and removes at random. Then more
// records are appended that nobody is told of, and the machine stops: the active file
// is as long as it happens to be, the last acknowledged byte included. What is
// replayed is what was acknowledged, and of the rest the whole records in order.
func TestACrashLosesAndInventsNothing(t *testing.T) {
	for _, p := range paths {
		t.Run(p.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { crash(t, p) })
		})
	}
}

func crash(t *rapid.T, p path) {
	dir, err := os.MkdirTemp("", "journal")
	require.NoError(t, err)
	defer func() { require.NoError(t, os.RemoveAll(dir)) }()
	c := journal.WithStep(journal.WithFiles(p.config(dir), after(p.wrap, quick)), 64<<10)
	m := &crashModel{instance: c.Instance, active: 1, segments: map[int64][]journal.Record{}}
	m.journal, err = journal.Open(c)
	require.NoError(t, err)
	defer m.journal.Close()

	for range rapid.IntRange(0, 40).Draw(t, "steps") {
		m.step(t)
	}
	ends := []int64{m.journal.Stats().Size}
	moved := m.moved(t, dir)
	var unanswered []journal.Record
	for range rapid.IntRange(0, 5).Draw(t, "unanswered") {
		unanswered = append(unanswered, m.append(t))
		ends = append(ends, m.journal.Stats().Size)
	}

	crashed, err := os.MkdirTemp("", "journal")
	require.NoError(t, err)
	defer func() { require.NoError(t, os.RemoveAll(crashed)) }()
	cut := rapid.Int64Range(ends[0], ends[len(ends)-1]).Draw(t, "cut")
	if m.moved(t, dir) != moved {
		cut, moved = ends[len(ends)-1], m.moved(t, dir) // TestAKillWhileRecordsAreMoved has what is in between.
	}
	zeros := rapid.IntRange(0, 5000).Draw(t, "zeros")
	found, err := journal.Segments(dir)
	require.NoError(t, err)
	for _, s := range found {
		b, err := os.ReadFile(s.Path)
		require.NoError(t, err)
		if s.ID.Seq == m.active {
			if moved == 0 {
				b = append(b[:cut:cut], make([]byte, zeros)...)
			} else {
				clear(b[cut-moved : p.window])
			}
		}
		require.NoError(t, os.WriteFile(filepath.Join(crashed, filepath.Base(s.Path)), b, 0o600))
	}
	whole := 0
	for whole+1 < len(ends) && ends[whole+1] <= cut {
		whole++
	}
	m.segments[m.active] = append(m.segments[m.active], unanswered[:whole]...)
	m.compare(t, crashed, cut, moved)
}

// moved returns how much of the active segment is behind its window.
func (m *crashModel) moved(t *rapid.T, dir string) int64 {
	found, err := journal.Segments(dir)
	require.NoError(t, err)
	for _, s := range found {
		if s.ID.Seq == m.active {
			b, err := os.ReadFile(s.Path)
			require.NoError(t, err)
			return movedOf(b)
		}
	}
	return 0
}

// compare replays what a crash left.
func (m *crashModel) compare(t *rapid.T, dir string, cut, moved int64) {
	next, err := journal.Open(journal.Config{Dir: dir, Instance: uuid.New(), Durability: journal.Memory})
	require.NoError(t, err)
	defer next.Close()
	replayed := map[int64][]journal.Record{}
	for _, s := range next.Recovered() {
		require.Equal(t, m.instance, s.ID.Instance)
		got, summary, err := read(s)
		require.NoError(t, err)
		require.EqualValues(t, len(got), summary.Records)
		if len(got) > 0 {
			replayed[s.ID.Seq] = got
		}
		if s.ID.Seq == m.active {
			b, err := os.ReadFile(s.Path)
			require.NoError(t, err)
			used := moved + int64(len(bytes.TrimRight(b[:cut-moved], "\x00")))
			require.Equal(t, max(0, used-summary.Bytes), summary.Cut)
		} else {
			require.Zero(t, summary.Cut)
		}
	}
	for seq, records := range m.segments {
		if len(records) == 0 {
			delete(m.segments, seq)
		}
	}
	if !maps.EqualFunc(m.segments, replayed, slices.Equal[[]journal.Record]) {
		require.Empty(t, cmp.Diff(m.segments, replayed))
	}
}
