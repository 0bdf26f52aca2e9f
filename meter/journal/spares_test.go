package journal_test

import (
	"math"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter/journal"
)

// TestDescriptorsThatAreGoneStopNoAppend holds that the journal goes on for some flushes while
// the process has no file descriptor left, and afterwards.
func TestDescriptorsThatAreGoneStopNoAppend(t *testing.T) {
	for _, durability := range []journal.Durability{journal.Process, journal.Disk} {
		t.Run(string(durability), func(t *testing.T) {
			j := open(t, path{durability: durability}.config(t.TempDir()))
			require.NoError(t, j.Prepare())
			flush := func() int64 {
				t.Helper()
				_, err := j.Append(record(1))
				require.NoError(t, err)
				_ = j.Prepare()
				seq, err := j.Rotate()
				require.NoError(t, err)
				_ = j.Prepare()
				return seq
			}
			release := exhaust(t)
			for range 3 {
				flush()
			}
			_, err := j.Append(record(1))
			release()
			require.NoError(t, err)
			for range 3 {
				flush()
			}
			require.NoError(t, j.Prepare())
			require.NoError(t, j.Health())
			require.Zero(t, j.Stats().Failed)
		})
	}
}

// exhaust takes every file descriptor that the process may have, until release is called.
func exhaust(t *testing.T) (release func()) {
	t.Helper()
	var before syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	var taken []*os.File
	release = func() {
		for _, f := range taken {
			_ = f.Close()
		}
		taken = nil
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before))
	}
	t.Cleanup(release)
	few := before
	few.Cur = min(before.Cur, 256)
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few))
	for range math.MaxInt16 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			require.ErrorIs(t, err, syscall.EMFILE)
			return release
		}
		taken = append(taken, f)
	}
	t.Fatal("The limit of file descriptors isn't kept")
	return nil
}
