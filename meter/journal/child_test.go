package journal_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter/journal"
)

// The children's modes.
const (
	childAppends = "append"
	childLimited = "limit"
)

// fileLimit is the file size limit of a limited child, in bytes.
const fileLimit = 2 << 20

func runChild(mode, dir, pathName string) error {
	i := slices.IndexFunc(paths, func(p path) bool { return p.name == pathName })
	j, err := journal.Open(paths[i].config(dir))
	if err != nil {
		return err
	}
	if mode == childLimited {
		return fillUp(j)
	}
	return appendForever(j)
}

// startChild starts this program again, to do something else. It ends with the test.
func startChild(t *testing.T, mode, dir, pathName string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	child := exec.Command(self)
	child.Env = append(os.Environ(), childMode+"="+mode, childMode+"_DIR="+dir, childMode+"_PATH="+pathName)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	t.Cleanup(func() {
		if child.ProcessState == nil {
			_ = child.Process.Kill()
			_ = child.Wait()
		}
	})
	return child, bufio.NewScanner(out)
}

const workers = 4

func workerID(worker int) uuid.UUID { return uuid.UUID{15: byte(worker + 1)} }

// appendForever appends from several goroutines and prints each acknowledgement.
func appendForever(j *journal.Journal) error {
	failed := make(chan error)
	for worker := range workers {
		go func() {
			for i := int64(0); ; i++ {
				r := journal.Record{Organization: workerID(worker), Meter: "evaluations", Quantity: i}
				seq, err := j.Append(r)
				if err == nil {
					_, err = fmt.Println(worker, i, seq)
				}
				if worker == 0 && i%100 == 99 && err == nil {
					err = rotate(j, i%200 == 199)
				}
				if err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	return <-failed
}

func rotate(j *journal.Journal, prepare bool) error {
	if prepare {
		if err := j.Prepare(); err != nil {
			return err
		}
	}
	_, err := j.Rotate()
	return err
}

// TestKill9LosesNothing kills a process that appends, and holds that all that it
// acknowledged is there, in the segment that it said, and nothing that it didn't append.
func TestKill9LosesNothing(t *testing.T) {
	for _, p := range paths {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			for round := range 3 {
				dir := t.TempDir()
				child, out := startChild(t, childAppends, dir, p.name)
				var acknowledged [workers]int64
				landed := map[[2]int64]int64{}
				for lines := 0; out.Scan(); lines++ {
					var worker, i, seq int64
					// A line is one write to a pipe, which nothing cuts.
					_, err := fmt.Sscan(out.Text(), &worker, &i, &seq)
					require.NoError(t, err)
					acknowledged[worker] = i + 1
					landed[[2]int64{worker, i}] = seq
					if lines == 300+round*200 {
						require.NoError(t, child.Process.Kill())
					}
				}
				require.Error(t, child.Wait())

				j := open(t, p.config(dir))
				var replayed [workers]int64
				for _, s := range j.Recovered() {
					got, _, err := read(s)
					require.NoError(t, err)
					for _, r := range got {
						worker := int64(r.Organization[15]) - 1
						require.Equal(t, replayed[worker], r.Quantity, "each once, in order")
						replayed[worker]++
						if seq, ok := landed[[2]int64{worker, r.Quantity}]; ok {
							require.Equal(t, seq, s.ID.Seq)
						}
					}
				}
				for worker := range workers {
					require.GreaterOrEqual(t, replayed[worker], acknowledged[worker], "acknowledged and lost")
					require.LessOrEqual(t, replayed[worker], acknowledged[worker]+1, "never appended")
				}
			}
		})
	}
}

func TestAFolderHasOneJournal(t *testing.T) {
	dir := t.TempDir()
	j := open(t, paths[0].config(dir))
	_, err := journal.Open(paths[0].config(dir))
	require.ErrorIs(t, err, journal.ErrLocked, "in the same process")
	require.NoError(t, j.Close())

	child, out := startChild(t, childAppends, dir, paths[0].name)
	require.True(t, out.Scan())
	_, err = journal.Open(paths[0].config(dir))
	require.ErrorIs(t, err, journal.ErrLocked)
	require.ErrorContains(t, err, dir)
	require.ErrorContains(t, err, fmt.Sprintf("by process %d", child.Process.Pid))

	require.NoError(t, child.Process.Kill())
	require.Error(t, child.Wait())
	open(t, paths[0].config(dir))
}

// fillUp appends until a limit of the system is reached, and once more after it is
// lifted. It prints how many records were appended before and after.
func fillUp(j *journal.Journal) error {
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		return err
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: fileLimit, Max: before.Max}); err != nil {
		return err
	}
	first := 0
	var err error
	for ; err == nil; first++ {
		_, err = j.Append(record(first))
	}
	first--
	if !errors.Is(err, journal.ErrFull) || !errors.Is(j.Health(), journal.ErrFull) {
		return fmt.Errorf("append says %w, health %w; both should say that there is no room", err, j.Health())
	}
	for range 1000 {
		if _, err := j.Append(record(first)); !errors.Is(err, journal.ErrFull) {
			return fmt.Errorf("append after the limit says %w", err)
		}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		return err
	}
	if err := j.Prepare(); err != nil || j.Health() != nil {
		return fmt.Errorf("with room again: %w, %w", err, j.Health())
	}
	if _, err := j.Append(record(first)); err != nil {
		return err
	}
	fmt.Println(first + 1)
	return j.Close()
}

// TestARealLimitFailsAppendsAndPasses has the kernel refuse to let a file grow.
func TestARealLimitFailsAppendsAndPasses(t *testing.T) {
	for _, p := range paths[:3] { // The others would sync tens of thousands of times.
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			child, out := startChild(t, childLimited, dir, p.name)
			require.True(t, out.Scan())
			var n int
			_, err := fmt.Sscan(strings.TrimSpace(out.Text()), &n)
			require.NoError(t, err)
			require.NoError(t, child.Wait())
			require.Greater(t, n, (fileLimit-1<<20)/120)
			requireRecords(t, records(0, n), readAll(t, segments(t, dir)))
		})
	}
}
