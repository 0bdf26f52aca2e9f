package pgtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/devstack"
)

// Server is a durable Postgres server that belongs to one test, for tests that stop or
// crash it or change its roles.
type Server struct {
	config  devstack.PostgresConfig
	process *devstack.Postgres
	cluster *cluster
}

// NewServer starts a server for one test. It ends with the test. It has the roles of Tollgate, and
// the template of databases.
func NewServer(t testing.TB) *Server {
	t.Helper()
	return newServer(t, func(dir string) { shelf.copyTo(t, dir) })
}

// NewVirginServer starts a server on which Tollgate never was, for tests of what the first
// migration makes of a server. It ends with the test.
func NewVirginServer(t testing.TB) *Server {
	t.Helper()
	return newServer(t, func(string) {})
}

// newServer starts a server on the data folder that prepare makes; on a new one, if it makes none.
func newServer(t testing.TB, prepare func(dir string)) *Server {
	t.Helper()
	folder, err := newFolder()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(folder)) })
	server := &Server{config: devstack.PostgresConfig{
		DataDir: filepath.Join(folder, "data"),
		Durable: true,
		Output:  os.Stderr,
	}}
	prepare(server.config.DataDir)
	server.Start(t)
	t.Cleanup(func() { server.Stop(t) })
	server.cluster, err = newCluster(server.process.URL("postgres"))
	require.NoError(t, err)
	server.cluster.disposable = true
	return server
}

// NewDatabase makes a migrated database on the server.
func (s *Server) NewDatabase(t testing.TB) *Database {
	t.Helper()
	return s.cluster.newDatabase(t, true)
}

// NewEmptyDatabase makes a database without any migration on the server.
func (s *Server) NewEmptyDatabase(t testing.TB) *Database {
	t.Helper()
	return s.cluster.newDatabase(t, false)
}

// Start starts a server that was stopped or has crashed, with its data and on its port.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	process, err := devstack.StartPostgres(t.Context(), s.config)
	require.NoError(t, err)
	s.process = process
	s.config.Port = process.Port()
}

// Stop shuts the server down in an orderly way. A server that has ended stays so.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), stopWait)
	defer cancel()
	require.NoError(t, s.process.Stop(ctx))
}

// Restart stops the server and starts it again.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop(t)
	s.Start(t)
}

// Crash ends the server without letting it write anything more. What was committed is
// there after the next Start.
func (s *Server) Crash(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), stopWait)
	defer cancel()
	require.NoError(t, s.process.Crash(ctx))
}

// Suspend stops all processes of the server where they are: connections stay open, and nothing
// answers, until Resume.
func (s *Server) Suspend(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGSTOP)
}

// Resume lets a server go on that was suspended.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGCONT)
}

// signal sends a signal to the server and to its children, each of which has a group of its own.
func (s *Server) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.process.DataDir(), "postmaster.pid"))
	require.NoError(t, err)
	first, _, _ := strings.Cut(string(text), "\n")
	server, err := strconv.Atoi(first)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(server, signal))
	out, err := exec.CommandContext(t.Context(), "ps", "-A", "-o", "pid=,ppid=").Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		var child, parent int
		_, err := fmt.Sscan(line, &child, &parent)
		require.NoError(t, err, line)
		if parent == server {
			// It may have ended meanwhile.
			_ = syscall.Kill(child, signal)
		}
	}
}
