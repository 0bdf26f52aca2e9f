package e2e_test

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
)

// fault is something that goes wrong. Begin returns what ends it; nil where it has ended.
type fault struct {
	name string
	// promise is what must hold after it, in the words of docs/guarantees.md.
	promise string
	// alone must have ended before the next begins, and healthy needs all others to have ended.
	alone, healthy bool
	// long is left to runs that are given minutes.
	long bool
	// rewinds takes Postgres back in time: leases begin anew, and what was admitted out of those
	// before may be granted again until it is flushed.
	rewinds bool
	begin   func(*replica) (heal func())
}

const (
	everything = "nothing acknowledged is lost, nothing counts twice, no hard limit is passed"
	afterwards = "what Postgres has lost is sent again and counts once; a hard limit is passed by no more than what was admitted and not sent again when others were granted quota"
)

// faults are all that may be drawn.
func (c *chaos) faults(long bool) []fault {
	all := slices.Concat(c.faultsOfReplicas(), c.faultsOfPostgres(), c.faultsOfNetworks(), []fault{
		{name: "kill -9 of the worker", promise: everything, alone: true, begin: c.killWorker},
		{name: "Temporal stops", promise: everything, alone: true, begin: func(*replica) func() {
			c.temporal.Stop(c.t)
			return func() { c.temporal.Start(c.t) }
		}},
		{name: "Temporal is replaced by an empty one", promise: everything + "; flushes go on by themselves", healthy: true, begin: func(*replica) func() {
			c.temporal.Replace(c.t)
			return nil
		}},
	})
	return slices.DeleteFunc(all, func(f fault) bool { return f.long && !long })
}

func (c *chaos) faultsOfReplicas() []fault {
	return []fault{
		{name: "kill -9 of the API", promise: everything + "; the journal is replayed at the next start", alone: true, begin: c.killAPI},
		{name: "SIGSTOP of the API", promise: everything, begin: c.suspend},
		{name: "SIGSTOP past lease and fence, with half-sent bodies", promise: everything + "; what waited is decided on by the time at which it goes on", alone: true, healthy: true, long: true, begin: c.suspendPastFence},
		{name: "SIGTERM and a quick restart on the folder", promise: everything + "; the next process waits for the folder", healthy: true, begin: c.restartAtOnce},
		{name: "the journal's disk is full", promise: everything + "; reports are refused with 503", begin: c.fillJournal},
		{name: "the journal's folder is deleted", promise: everything + "; the folder is made again", alone: true, healthy: true, begin: c.deleteJournal},
		{name: "a copy of the journal at another process", promise: everything + "; the copy is not replayed while its instance is alive", healthy: true, begin: c.copyJournal},
		{name: "slow bodies on every descriptor", promise: everything + "; the journal goes on", begin: c.stallBodies},
		{name: "uploads that trickle", promise: everything + "; they count once, when they are answered 2xx", begin: c.trickleUploads},
		{name: "a flood of one tenant", promise: everything + "; what is shed is answered with 503 and counts nothing", begin: c.floodReplica},
	}
}

func (c *chaos) faultsOfPostgres() []fault {
	return []fault{
		{name: "Postgres stops", promise: everything, alone: true, healthy: true, begin: func(*replica) func() {
			// An orderly stop waits for what a stalled connection doesn't take.
			c.postgres.Stop(c.t)
			return func() { c.postgres.Start(c.t) }
		}},
		{name: "Postgres crashes", promise: everything, alone: true, begin: func(*replica) func() {
			c.postgres.Crash(c.t)
			return func() { c.postgres.Start(c.t) }
		}},
		{name: "Postgres hangs", promise: everything, alone: true, begin: func(*replica) func() {
			c.postgres.Suspend(c.t)
			return func() { c.postgres.Resume(c.t) }
		}},
		{name: "Postgres is read-only", promise: everything + "; nothing is set aside", alone: true, begin: func(*replica) func() {
			c.setReadOnly("on")
			return func() { c.setReadOnly("off") }
		}},
		{name: "a base backup of Postgres is restored", promise: afterwards, rewinds: true, begin: c.restorePostgres},
		{name: "the sequences of all instances go back by one", promise: afterwards, rewinds: true, begin: func(*replica) func() {
			c.execute("UPDATE instances SET last_seq = last_seq - 1 WHERE status = 'live' AND last_seq > 0")
			return nil
		}},
	}
}

func (c *chaos) faultsOfNetworks() []fault {
	return []fault{
		{name: "cut from Postgres", promise: everything, begin: func(r *replica) func() { r.postgres.Cut(); return r.postgres.Heal }},
		{name: "Postgres is slow", promise: everything, begin: func(r *replica) func() { r.postgres.Delay(150 * time.Millisecond); return r.postgres.Heal }},
		{name: "Postgres stalls", promise: everything, begin: func(r *replica) func() { r.postgres.Stall(); return r.postgres.Heal }},
		{name: "cut from Temporal", promise: everything, begin: func(r *replica) func() { r.temporal.Cut(); return r.temporal.Heal }},
		{name: "all are cut from Postgres", promise: everything, begin: func(*replica) func() {
			for _, r := range c.replicas {
				r.postgres.Cut()
			}
			return func() {
				for _, r := range c.replicas {
					r.postgres.Heal()
				}
			}
		}},
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
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=32m"); err != nil {
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
	// Amid other faults a machine that is busy may not get all of it done in the time that a stop has.
	for tries := 0; r.process.end() != 0; tries++ {
		require.Less(c.t, tries, 5, r.process.log.tail(10))
		r.process = c.launch(r)
		require.True(c.t, r.process.becomesReady(time.Minute), r.process.log.tail(10))
	}
	left, err := filepath.Glob(filepath.Join(old, "*.journal"))
	require.NoError(c.t, err)
	require.Empty(c.t, left)
	r.journal = folder
	r.environment = append(r.environment, "TOLLGATE_JOURNAL_DIR="+folder, "TOLLGATE_JOURNAL_KEEP_MIB=8")
	r.process = c.launch(r)
	require.True(c.t, r.process.becomesReady(patience), r.process.log.tail(10))
	return true
}
