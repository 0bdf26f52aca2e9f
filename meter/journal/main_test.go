package journal_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/journal"
	"github.com/riverline/tollgate/plans"
)

// childMode names what a process started by a test does instead of testing.
const childMode = "TOLLGATE_JOURNAL_TEST_CHILD"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childMode); mode != "" {
		if err := runChild(mode, os.Getenv(childMode+"_DIR"), os.Getenv(childMode+"_PATH")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// Each run makes files: make laws does many, without the race detector.
	if err := flag.Set("rapid.checks", "40"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// every says of how many moments of a segment one is held against all before it.
var every = flag.Int("every", 7, "of how many moments of a segment one is tried with all before it; 1: each")

// path is a way in which segments are written.
type path struct {
	name       string
	durability journal.Durability
	// wrap stands in for a system that lacks something; nil: none.
	wrap func(journal.File) (journal.File, error)
	// window is how much of a segment is mapped; 0: the default.
	window int64
}

// paths are all ways that lead to a file. What is not this system's own way is
// forced, so that macOS's is tested on Linux too.
var paths = []path{
	{name: "process", durability: journal.Process},
	{name: "process-unmapped", durability: journal.Process, wrap: unmapped},
	{name: "process-unallocated", durability: journal.Process, wrap: unallocated},
	{name: "disk", durability: journal.Disk},
	{name: "disk-unallocated", durability: journal.Disk, wrap: unallocated},
	{name: "process-moving", durability: journal.Process, window: smallWindow},
}

// smallWindow takes few records until they are moved.
const smallWindow = 4096

func (p path) config(dir string) journal.Config {
	c := journal.Config{Dir: dir, Instance: uuid.Must(uuid.NewV7()), Durability: p.durability}
	if p.window > 0 {
		c = journal.WithWindow(c, p.window)
	}
	if p.wrap != nil {
		c = journal.WithFiles(c, p.wrap)
	}
	return c
}

type unmappedFile struct{ journal.File }

func unmapped(f journal.File) (journal.File, error) { return unmappedFile{f}, nil }

func (unmappedFile) Map(_, _ int64) ([]byte, error) { return nil, errors.ErrUnsupported }

type unallocatedFile struct{ unmappedFile }

func unallocated(f journal.File) (journal.File, error) { return unallocatedFile{unmappedFile{f}}, nil }

func (unallocatedFile) Allocate(_, _ int64) error { return errors.ErrUnsupported }

// quickFile doesn't wait for the device.
type quickFile struct{ journal.File }

func quick(f journal.File) (journal.File, error) { return quickFile{f}, nil }

func (quickFile) Persist() error { return nil }

// after puts second around first, which may be nil.
func after(first, second func(journal.File) (journal.File, error)) func(journal.File) (journal.File, error) {
	if first == nil {
		return second
	}
	return func(f journal.File) (journal.File, error) {
		f, err := first(f)
		if err != nil {
			return nil, err
		}
		return second(f)
	}
}

func open(t testing.TB, c journal.Config) *journal.Journal {
	t.Helper()
	j, err := journal.Open(c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, j.Close()) })
	return j
}

var meters = []string{"evaluations", "flow_executions", "simulations", "entity_instances", "storage_bytes"}

// record makes the i-th of a series of records, each of which is different.
func record(i int) journal.Record {
	r := journal.Record{
		Organization: uuid.NewSHA1(uuid.Nil, []byte{byte(i % 7)}),
		Meter:        meters[i%len(meters)],
		Day:          calendar.Day(20000 + i%3),
		Quantity:     int64(i),
		At:           1_764_000_000_000_000_000 + int64(i),
		Lease:        []calendar.WindowKind{"", calendar.WindowDay, calendar.WindowMonth}[i%3],
		Plan:         []string{"", "free", "pro"}[i%3],
		PlanVersion:  i % 3,
	}
	if i%4 == 0 {
		r.Identity = meter.KeyIdentity(fmt.Sprint(i))
		r.Receipt = meter.Receipt{Plan: "free", Mode: plans.Hard, Current: int64(i), Max: 1000, Window: calendar.WindowDay}
	}
	return r
}

// series holds the records that were made so far.
var series struct {
	sync.Mutex
	made []journal.Record
}

// records are a part of the series, to be read alone: each is made once, because hashing their
// organizations took more than all reading.
func records(from, to int) []journal.Record {
	series.Lock()
	defer series.Unlock()
	for i := len(series.made); i < to; i++ {
		series.made = append(series.made, record(i))
	}
	return slices.Clip(series.made[from:to])
}

func appendAll(t testing.TB, j *journal.Journal, records []journal.Record) {
	t.Helper()
	for _, r := range records {
		_, err := j.Append(r)
		require.NoError(t, err)
	}
}

func segments(t testing.TB, dir string) []journal.Segment {
	t.Helper()
	found, err := journal.Segments(dir)
	require.NoError(t, err)
	return found
}

// requireRecords compares records.
func requireRecords(t require.TestingT, want, got []journal.Record, message ...any) {
	if !slices.Equal(want, got) {
		require.Empty(t, cmp.Diff(want, got), message...)
	}
}

// read returns what can be read of a segment, and how that ended.
func read(s journal.Segment) (out []journal.Record, summary journal.Summary, err error) {
	for r, readErr := range journal.Read(s, &summary) {
		if readErr != nil {
			err = readErr
			break
		}
		out = append(out, r)
	}
	return out, summary, err
}

// readAll reads segments that must be whole.
func readAll(t testing.TB, segments []journal.Segment) []journal.Record {
	t.Helper()
	var out []journal.Record
	for _, s := range segments {
		got, summary, err := read(s)
		require.NoError(t, err)
		require.Zero(t, summary.Cut)
		require.EqualValues(t, len(got), summary.Records)
		out = append(out, got...)
	}
	return out
}
