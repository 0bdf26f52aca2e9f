package journal_test

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter/journal"
)

// TestConcurrentAppends rotates under appends. Each record is in the segment that
// its append returned; with a gate, each segment is exactly what a drain took.
func TestConcurrentAppends(t *testing.T) {
	for _, p := range paths {
		t.Run(p.name, func(t *testing.T) {
			dir := t.TempDir()
			c := journal.WithStep(p.config(dir), 64<<10)
			perWorker := 2000
			if p.durability == journal.Disk {
				perWorker = 100
			}
			j := open(t, c)

			var gate sync.RWMutex
			var counters [workers]struct {
				sync.Mutex
				sum int64
			}
			landed := make([]map[int64]int64, workers)
			var appending sync.WaitGroup
			for worker := range workers {
				landed[worker] = map[int64]int64{}
				appending.Go(func() {
					for i := range int64(perWorker) {
						gate.RLock()
						seq, err := j.Append(journal.Record{Organization: workerID(worker), Meter: "evaluations", Quantity: i})
						if err != nil {
							panic(err)
						}
						counters[worker].Lock()
						counters[worker].sum += i
						counters[worker].Unlock()
						gate.RUnlock()
						landed[worker][i] = seq
					}
				})
			}
			done := make(chan struct{})
			go func() { appending.Wait(); close(done) }()

			drained := map[int64][workers]int64{}
			for last := false; !last; {
				select {
				case <-done:
					last = true
				default:
				}
				require.NoError(t, j.Prepare())
				gate.Lock()
				seq, err := j.Rotate()
				var taken [workers]int64
				for worker := range workers {
					taken[worker], counters[worker].sum = counters[worker].sum, 0
				}
				gate.Unlock()
				require.NoError(t, err)
				drained[seq] = taken
			}

			stats := j.Stats()
			require.EqualValues(t, workers*perWorker, stats.Appended)
			count := 0
			for _, s := range segments(t, dir) {
				count += compareSegment(t, s, landed, drained[s.ID.Seq])
			}
			require.Equal(t, workers*perWorker, count)
		})
	}
}

// compareSegment holds that a segment has the records that landed in it, and what
// its drain took. It returns how many records it has.
func compareSegment(t *testing.T, s journal.Segment, landed []map[int64]int64, drained [workers]int64) int {
	t.Helper()
	got, _, err := read(s)
	require.NoError(t, err)
	var sums [workers]int64
	for _, r := range got {
		worker := r.Organization[15] - 1
		sums[worker] += r.Quantity
		require.Equal(t, landed[worker][r.Quantity], s.ID.Seq)
	}
	require.Equal(t, drained, sums, "segment %d", s.ID.Seq)
	return len(got)
}

// slowDevice is a file whose syncs wait to be let go.
type slowDevice struct {
	journal.File
	// syncing is sent to when a sync begins, and release received from to end it.
	syncing chan struct{}
	release chan error
	slow    *bool
}

func (d slowDevice) Persist() error {
	if *d.slow {
		d.syncing <- struct{}{}
		return <-d.release
	}
	return nil
}

// TestAppendsShareOneSync holds that the appends that come while a sync is under
// way share the next. It then takes the power away during that next sync: whatever
// of it reached the device, what was acknowledged is there and the rest is cut.
func TestAppendsShareOneSync(t *testing.T) {
	const followers = 20
	dir, slow := t.TempDir(), false
	device := slowDevice{syncing: make(chan struct{}), release: make(chan error), slow: &slow}
	c := journal.WithFiles(journal.Config{Dir: dir, Instance: workerID(0), Durability: journal.Disk},
		func(f journal.File) (journal.File, error) {
			device.File = f
			return device, nil
		})
	j := open(t, c)
	appendAll(t, j, records(0, 3))
	slow = true

	var appending sync.WaitGroup
	appending.Go(func() { appendAll(t, j, records(3, 4)) })
	<-device.syncing
	bytes := journal.Queued(j) + journal.MarkSize
	for i := range followers {
		appending.Go(func() { appendAll(t, j, records(4+i, 5+i)) })
		bytes += int64(journal.Length(record(4 + i)))
	}
	require.Eventually(t, func() bool { return journal.Queued(j) == bytes }, 30*time.Second, time.Millisecond)
	device.release <- nil
	<-device.syncing
	acknowledged := j.Stats().Size
	atCrash, err := os.ReadFile(segments(t, dir)[0].Path)
	require.NoError(t, err)
	device.release <- nil
	appending.Wait()
	slow = false
	require.EqualValues(t, 3+1+1, j.Stats().Writes)

	end := j.Stats().Size
	crashed := segments(t, dir)[0]
	crashed.Path = filepath.Join(t.TempDir(), filepath.Base(crashed.Path))
	for at := int64(journal.HeaderSize); at < end; at += 5 {
		to := min(at+40, end)
		if at < acknowledged {
			to = min(to, acknowledged) // Rot, which the mark after it proves.
		}
		damaged := bytesWithout(atCrash[:end], at, to)
		require.NoError(t, os.WriteFile(crashed.Path, damaged, 0o600))
		got, summary, err := read(crashed)
		if at < acknowledged {
			require.ErrorIs(t, err, journal.ErrCorrupt, "damage at %d, acknowledged up to %d", at, acknowledged)
			continue
		}
		require.NoError(t, err, "damage at %d, acknowledged up to %d", at, acknowledged)
		require.GreaterOrEqual(t, summary.Bytes, acknowledged)
		require.Positive(t, summary.Cut)
		requireRecords(t, records(0, 4), got[:4])
	}
}

// TestAppendsThatWaitFailWithTheSyncBeforeThem holds that appends that had come
// while a sync failed are not acknowledged by a later one of the same file.
func TestAppendsThatWaitFailWithTheSyncBeforeThem(t *testing.T) {
	dir, slow := t.TempDir(), false
	device := slowDevice{syncing: make(chan struct{}), release: make(chan error), slow: &slow}
	c := journal.WithFiles(journal.Config{Dir: dir, Instance: workerID(0), Durability: journal.Disk},
		func(f journal.File) (journal.File, error) {
			device.File = f
			return device, nil
		})
	j := open(t, c)
	appendAll(t, j, records(0, 3))
	slow = true
	failed := make(chan error, 2)
	for i := range 2 {
		before := journal.Queued(j)
		go func() {
			_, err := j.Append(record(3 + i))
			failed <- err
		}()
		require.Eventually(t, func() bool { return journal.Queued(j) > before }, 30*time.Second, time.Millisecond)
	}
	<-device.syncing
	device.release <- syscall.EIO
	for range 2 {
		require.ErrorIs(t, <-failed, syscall.EIO)
	}
	slow = false
	require.EqualValues(t, 2, j.Stats().Failed)
	requireRecords(t, records(0, 3), readAll(t, segments(t, dir)))
}

func bytesWithout(b []byte, from, to int64) []byte {
	b = slices.Clone(b)
	clear(b[from:to])
	return b
}
