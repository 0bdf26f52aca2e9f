package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// chaosLostAfter is the time after which a silent replica is lost. Its leases end at two thirds of it.
const chaosLostAfter = 9 * time.Second

// execute runs one statement as the owner of the database, also where Postgres is read-only.
func (c *chaos) execute(statement string) {
	c.t.Helper()
	config, err := pgx.ParseConfig(c.system.database.URL)
	require.NoError(c.t, err)
	config.RuntimeParams["default_transaction_read_only"] = "off"
	conn, err := pgx.ConnectConfig(c.t.Context(), config)
	require.NoError(c.t, err)
	defer func() { _ = conn.Close(c.t.Context()) }()
	_, err = conn.Exec(c.t.Context(), statement)
	require.NoError(c.t, err, statement)
}

func (c *chaos) setReadOnly(to string) {
	c.execute("ALTER SYSTEM SET default_transaction_read_only = " + to)
	c.execute("SELECT pg_reload_conf()")
}

// restorePostgres takes Postgres back by some flushes.
func (c *chaos) restorePostgres(*replica) func() {
	backup := c.postgres.BackUp(c.t)
	c.pause(1000, 2000)
	c.postgres.Restore(c.t, backup)
	return nil
}

// suspendPastFence stops a replica for longer than its leases last and until it is lost, amid
// requests whose bodies are half there.
func (c *chaos) suspendPastFence(r *replica) func() {
	key := ledgerKey{"limited", "evaluations"}
	body := `{"meter":"evaluations","quantity":1}`
	var open []net.Conn
	for range 40 {
		conn, err := net.Dial("tcp", r.address)
		require.NoError(c.t, err)
		_, err = fmt.Fprintf(conn, "POST /api/v1/usage HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			c.ledger.tenant(key.tenant).key, len(body), body[:1])
		require.NoError(c.t, err)
		open = append(open, conn)
	}
	time.Sleep(50 * time.Millisecond)
	goOn := c.suspend(r)
	time.Sleep(chaosLostAfter + time.Second)
	return func() {
		goOn()
		var answered sync.WaitGroup
		for _, conn := range open {
			answered.Go(func() {
				defer func() { _ = conn.Close() }()
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				_, _ = io.WriteString(conn, body[1:])
				status := 0
				if response, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
					status = response.StatusCode
				}
				c.ledger.note(key, 1, status)
			})
		}
		answered.Wait()
	}
}

// restartAtOnce asks a replica to end, and starts the next on its folder before it has.
func (c *chaos) restartAtOnce(r *replica) func() {
	r.mu.Lock()
	old := r.process
	require.NoError(c.t, old.command.Process.Signal(syscall.SIGTERM))
	r.process = c.launch(r)
	ready := r.process.becomesReady(60 * time.Second)
	r.mu.Unlock()
	<-old.ended
	require.Zero(c.t, old.command.ProcessState.ExitCode(), old.log.tail(10))
	require.True(c.t, ready, "a quick restart waits for the folder: %s", r.process.log.tail(10))
	return nil
}

// deleteJournal deletes the folder under a replica. Until the next flush what it had appended is in
// memory alone, so nothing else goes wrong meanwhile.
func (c *chaos) deleteJournal(r *replica) func() {
	// A folder that is a mount stays, and is empty.
	_ = os.RemoveAll(r.journal)
	return func() {
		require.Eventually(c.t, func() bool {
			_, err := os.Stat(filepath.Join(r.journal, "lock"))
			return err == nil
		}, patience, 50*time.Millisecond, "the folder is not made again: %s", r.process.log.tail(5))
		time.Sleep(2 * flushInterval)
	}
}

// copyJournal starts another process on a copy of a replica's journal. The replica is well: one that was
// cut off for long is lost, and then its journal is anybody's to replay.
func (c *chaos) copyJournal(r *replica) func() {
	c.recover(time.Now())
	copied := filepath.Join(c.t.TempDir(), "copied")
	names, err := filepath.Glob(filepath.Join(r.journal, "*"))
	require.NoError(c.t, err)
	require.NoError(c.t, os.MkdirAll(copied, 0o700))
	names = slices.DeleteFunc(names, func(name string) bool {
		// Segments come and go meanwhile.
		content, err := os.ReadFile(name)
		if err == nil {
			require.NoError(c.t, os.WriteFile(filepath.Join(copied, filepath.Base(name)), content, 0o600))
		}
		return err != nil || len(content) == 0
	})
	thief := c.system.launch("api", "TOLLGATE_LISTEN", freeAddress(c.t), "TOLLGATE_JOURNAL_DIR="+copied)
	if thief.becomesReady(3 * time.Second) {
		// Who serves has looked at the folder.
		for _, name := range names {
			if filepath.Ext(name) == ".journal" {
				require.FileExists(c.t, filepath.Join(copied, filepath.Base(name)), "a copy is not replayed while its instance is alive: %s", thief.log.tail(10))
			}
		}
	}
	require.NoError(c.t, thief.command.Process.Signal(syscall.SIGTERM))
	select {
	case <-thief.ended:
	case <-time.After(30 * time.Second):
		thief.kill()
	}
	return nil
}

// stallBodies opens more connections to a replica than it has descriptors.
func (c *chaos) stallBodies(r *replica) func() {
	says := "POST /api/v1/usage HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer " + c.ledger.tenant("slow").key + "\r\nContent-Length: 100\r\n\r\n{"
	done := make(chan struct{})
	var attack sync.WaitGroup
	for range 3 {
		attack.Go(func() { stall(r.address, says, 200, done) })
	}
	return func() { close(done); attack.Wait() }
}

// trickleUploads sends uploads through a replica's gateway that bring a byte from time to time, and
// ends them when it is healed.
func (c *chaos) trickleUploads(r *replica) func() {
	const length = 4096
	done := make(chan struct{})
	var uploads sync.WaitGroup
	for range 8 {
		uploads.Go(func() {
			status := trickle(r.address, c.ledger.tenant("slow").key, length, done)
			c.ledger.note(ledgerKey{"slow", "evaluations"}, 1, status)
		})
	}
	return func() { close(done); uploads.Wait() }
}

// trickle uploads one byte after the other until done is closed, and what is left of length then.
// It returns the status of the answer, 0 where there is none, [notSent] where nothing was sent.
func trickle(address, key string, length int, done <-chan struct{}) int {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return notSent
	}
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprintf(conn, "POST /gateway/evaluate/upload HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", key, length)
	for err == nil && !closed(done) && length > 1 {
		length--
		_, err = conn.Write([]byte("x"))
		select {
		case <-done:
		case <-time.After(50 * time.Millisecond):
		}
	}
	_, _ = io.WriteString(conn, strings.Repeat("x", length))
	_ = conn.SetReadDeadline(time.Now().Add(15 * time.Second))
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	return response.StatusCode
}

// floodReplica has a tenant flood a replica for two seconds, by a generator that doesn't heed
// Retry-After.
func (c *chaos) floodReplica(r *replica) func() {
	sending := flood{r.address, 2 * time.Second, []floodCaller{{Key: c.ledger.tenant("slow").key, Connections: 100, Items: 1}}}.begin(c.t, -1)
	return func() {
		came := sending.wait()[0]
		key := ledgerKey{"slow", "evaluations"}
		c.ledger.note(key, came.Served, http.StatusOK)
		c.ledger.note(key, came.Unanswered, 0)
	}
}
