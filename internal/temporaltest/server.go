package temporaltest

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/devstack"
)

// stopWait bounds the end of a server.
const stopWait = 30 * time.Second

// Server is a Temporal dev server that belongs to one test, for tests that stop or
// kill it.
type Server struct {
	config  devstack.TemporalConfig
	process *devstack.Temporal
}

// NewServer starts a server for one test. What it acknowledges survives a Stop and a
// Crash. It ends with the test.
func NewServer(t testing.TB) *Server {
	t.Helper()
	server := &Server{config: devstack.TemporalConfig{
		DatabaseFile: filepath.Join(t.TempDir(), "temporal.db"),
		Headless:     true,
		Output:       os.Stderr,
	}}
	server.Start(t)
	t.Cleanup(func() { server.Stop(t) })
	return server
}

// Address returns the host:port of the server. It stays the same across starts.
func (s *Server) Address() string { return s.process.Address() }

// Start starts a server that was stopped, with its state and on its port.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	process, err := devstack.StartTemporal(t.Context(), s.config)
	require.NoError(t, err)
	s.process = process
	s.config.Port = process.Port()
}

// Stop ends the server in an orderly way. A server that has ended stays so.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), stopWait)
	defer cancel()
	require.NoError(t, s.process.Stop(ctx))
}

// Replace stops the server and starts one on its port that knows nothing.
func (s *Server) Replace(t testing.TB) {
	t.Helper()
	s.Stop(t)
	files, err := filepath.Glob(s.config.DatabaseFile + "*")
	require.NoError(t, err)
	for _, file := range files {
		require.NoError(t, os.Remove(file))
	}
	s.Start(t)
}

// Crash kills the server.
func (s *Server) Crash(t testing.TB) {
	t.Helper()
	require.NoError(t, s.process.Crash())
}

// Register makes a namespace on the server, as the package's Register does on the shared one.
func (s *Server) Register(t testing.TB) Namespace {
	t.Helper()
	return register(t, s.Address())
}
