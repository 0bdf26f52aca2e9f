package e2e_test

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
)

// fault is something that goes wrong. Begin returns what ends it; nil where it has ended.
// One that is alone must have ended before the next begins.
type fault struct {
	name  string
	alone bool
	begin func(*replica) (heal func())
}

// faults are all that may be drawn.
func (c *chaos) faults() []fault {
	return []fault{
		{name: "kill -9 of the API", alone: true, begin: c.killAPI},
		{name: "kill -9 of the API, again", alone: true, begin: c.killAPI},
		{name: "kill -9 of the worker", alone: true, begin: c.killWorker},
		{name: "SIGSTOP of the API", begin: c.suspend},
		{name: "Postgres stops", alone: true, begin: func(*replica) func() {
			// An orderly stop waits for what a stalled connection doesn't take.
			c.healAll()
			c.postgres.Stop(c.t)
			return func() { c.postgres.Start(c.t) }
		}},
		{name: "Postgres crashes", alone: true, begin: func(*replica) func() {
			c.postgres.Crash(c.t)
			return func() { c.postgres.Start(c.t) }
		}},
		{name: "Temporal stops", alone: true, begin: func(*replica) func() {
			c.temporal.Stop(c.t)
			return func() { c.temporal.Start(c.t) }
		}},
		{name: "cut from Postgres", begin: func(r *replica) func() { r.postgres.Cut(); return r.postgres.Heal }},
		{name: "Postgres is slow", begin: func(r *replica) func() { r.postgres.Delay(150 * time.Millisecond); return r.postgres.Heal }},
		{name: "Postgres stalls", begin: func(r *replica) func() { r.postgres.Stall(); return r.postgres.Heal }},
		{name: "cut from Temporal", begin: func(r *replica) func() { r.temporal.Cut(); return r.temporal.Heal }},
		{name: "all are cut from Postgres", begin: func(*replica) func() {
			for _, r := range c.replicas {
				r.postgres.Cut()
			}
			return func() {
				for _, r := range c.replicas {
					r.postgres.Heal()
				}
			}
		}},
		{name: "the journal's disk is full", begin: c.fillJournal},
	}
}

// killAPI ends the process without a word. It starts anew when the fault is healed,
// which ends what keeps it from Postgres.
func (c *chaos) killAPI(r *replica) func() {
	r.process.kill()
	return func() {
		r.postgres.Heal()
		c.restart(r)
	}
}

func (c *chaos) killWorker(*replica) func() {
	c.worker.kill()
	return func() { c.worker = c.system.startWorker() }
}

func (c *chaos) suspend(r *replica) func() {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.process
	_ = p.command.Process.Signal(syscall.SIGSTOP)
	return func() { _ = p.command.Process.Signal(syscall.SIGCONT) }
}

// fillJournal gives the replica a journal folder on a small disk, and fills that. Only
// Linux lets root have such a disk; elsewhere the fault is said to be left out.
func (c *chaos) fillJournal(r *replica) func() {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		c.t.Log("left out: a full disk needs a mount, which only root may make on Linux")
		return nil
	}
	if !c.onSmallDisk(r) {
		return nil
	}
	filler := filepath.Join(r.journal, "filler")
	f, err := os.Create(filler)
	require.NoError(c.t, err)
	block := make([]byte, 64<<10)
	for {
		if _, err := f.Write(block); err != nil {
			break
		}
	}
	require.NoError(c.t, f.Close())
	// It may have been drawn twice.
	return func() { require.NoError(c.t, os.RemoveAll(filler)) }
}

// onSmallDisk moves a replica's journal to a small disk, where it isn't yet: a clean
// stop empties it, and the next process begins there.
func (c *chaos) onSmallDisk(r *replica) bool {
	folder := filepath.Join(r.journal, "..", "small-"+filepath.Base(r.journal))
	if filepath.Base(filepath.Dir(r.journal)) == "small" {
		return true
	}
	folder = filepath.Join(filepath.Dir(folder), "small", filepath.Base(r.journal))
	require.NoError(c.t, os.MkdirAll(folder, 0o755))
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=8m"); err != nil {
		c.t.Logf("left out: a small disk can't be mounted here: %v", err)
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.postgres.Heal()
	old := r.journal
	c.t.Cleanup(func() {
		r.process.kill()
		require.NoError(c.t, syscall.Unmount(folder, syscall.MNT_DETACH))
	})
	_ = r.process.command.Process.Signal(syscall.SIGCONT)
	r.process.stop()
	left, err := filepath.Glob(filepath.Join(old, "*.journal"))
	require.NoError(c.t, err)
	require.Empty(c.t, left)
	r.journal = folder
	r.environment = append(r.environment, "TOLLGATE_JOURNAL_DIR="+folder)
	r.process = c.launch(r)
	require.True(c.t, r.process.becomesReady(30*time.Second), r.process.log.tail(10))
	return true
}
