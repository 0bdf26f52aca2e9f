package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/devstack"
)

// URLVariable names the environment variable with the superuser's URL of a server to
// use instead of starting one.
const URLVariable = "TOLLGATE_TEST_DATABASE_URL"

// stopWait bounds the end of a server.
const stopWait = 30 * time.Second

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
	if err := errors.Join(shared.stop(), shelf.remove()); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest: stop the servers:", err)
		return max(code, 1)
	}
	return code
}

// NewDatabase makes a migrated database on the shared server, with the built-in catalog
// published. It is dropped at the end of the test.
func NewDatabase(t testing.TB) *Database {
	t.Helper()
	return sharedCluster(t).newDatabase(t, true)
}

// NewEmptyDatabase makes a database without any migration on the shared server. It is
// dropped at the end of the test.
func NewEmptyDatabase(t testing.TB) *Database {
	t.Helper()
	return sharedCluster(t).newDatabase(t, false)
}

// sharedServer is the server that the tests of a binary share.
type sharedServer struct {
	mu      sync.Mutex
	ready   bool
	started bool
	err     error
	folder  string
	process *devstack.Postgres
	cluster *cluster
}

var shared sharedServer

// sharedCluster returns the shared server's databases, and starts it if need be.
func sharedCluster(t testing.TB) *cluster {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	require.True(t, shared.ready, "this package's TestMain must call pgtest.Main or pgtest.Wrap")
	if !shared.started {
		shared.started = true
		shared.err = shared.start()
	}
	require.NoError(t, shared.err)
	return shared.cluster
}

// start starts the server, or takes the one that the environment names.
func (s *sharedServer) start() error {
	if external := os.Getenv(URLVariable); external != "" {
		var err error
		if s.cluster, err = newCluster(external); err != nil {
			return fmt.Errorf("%s: %w", URLVariable, err)
		}
		return nil
	}
	folder, err := newFolder()
	if err != nil {
		return err
	}
	s.folder = folder
	// The server outlives the test that happens to start it, so the test's context
	// is none of its business.
	s.process, err = devstack.StartPostgres(context.Background(), devstack.PostgresConfig{
		DataDir: filepath.Join(folder, "data"),
		Output:  os.Stderr,
	})
	if err != nil {
		return fmt.Errorf("start Postgres: %w", err)
	}
	s.cluster, err = newCluster(s.process.URL("postgres"))
	return err
}

// newFolder makes a temporary folder that Postgres's user can enter.
func newFolder() (string, error) {
	folder, err := os.MkdirTemp("", "tollgate-pgtest-")
	if err != nil {
		return "", fmt.Errorf("make a folder for Postgres: %w", err)
	}
	if err := os.Chmod(folder, 0o755); err != nil {
		return "", fmt.Errorf("open the folder for Postgres's user: %w", err)
	}
	return folder, nil
}

// stop ends the server, if it was started here, and removes its data.
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
