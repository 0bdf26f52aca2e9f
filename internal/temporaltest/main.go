package temporaltest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/devstack"
)

// AddressVariable names the environment variable with the host:port of a server to
// use instead of starting one.
const AddressVariable = "TOLLGATE_TEST_TEMPORAL_ADDRESS"

// Runner runs a package's tests: a *testing.M, or what another package's Wrap returns.
type Runner interface{ Run() int }

// Main runs a package's tests, stops the shared server and exits.
func Main(m Runner) { os.Exit(Wrap(m).Run()) }

// Wrap returns a runner that runs m and then stops the shared server.
func Wrap(m Runner) Runner { return wrapped{m} }

type wrapped struct{ inner Runner }

func (w wrapped) Run() int {
	shared.mu.Lock()
	shared.ready = true
	shared.mu.Unlock()
	code := w.inner.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "temporaltest: stop the shared server:", err)
		return max(code, 1)
	}
	return code
}

// sharedServer is the server that the tests of a binary share.
type sharedServer struct {
	mu      sync.Mutex
	ready   bool
	started bool
	err     error
	folder  string
	process *devstack.Temporal
	address string
}

var shared sharedServer

// sharedAddress returns the address of the shared server, and starts it if need be.
func sharedAddress(t testing.TB) string {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	require.True(t, shared.ready, "this package's TestMain must call temporaltest.Main or temporaltest.Wrap")
	if !shared.started {
		shared.started = true
		shared.err = shared.start()
	}
	require.NoError(t, shared.err)
	return shared.address
}

// start starts the server, or takes the one that the environment names.
func (s *sharedServer) start() error {
	if s.address = os.Getenv(AddressVariable); s.address != "" {
		return nil
	}
	folder, err := os.MkdirTemp("", "tollgate-temporaltest-")
	if err != nil {
		return fmt.Errorf("make a folder for Temporal: %w", err)
	}
	s.folder = folder
	// The server outlives the test that happens to start it, so the test's context
	// is none of its business.
	s.process, err = devstack.StartTemporal(context.Background(), devstack.TemporalConfig{
		DatabaseFile: filepath.Join(folder, "temporal.db"),
		Headless:     true,
		Output:       os.Stderr,
	})
	if err != nil {
		return fmt.Errorf("start Temporal: %w", err)
	}
	s.address = s.process.Address()
	return nil
}

// stop ends the server, if it was started here, and removes its state.
func (s *sharedServer) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.process != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopWait)
		defer cancel()
		err = s.process.Stop(ctx)
	}
	if s.folder != "" {
		err = errors.Join(err, os.RemoveAll(s.folder))
	}
	return err
}
