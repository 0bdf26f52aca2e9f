package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/devstack"
	"github.com/riverline/tollgate/migrations"
)

// ImagesVariable names the environment variable with a folder in which test binaries that run
// together keep the image of a server. Without it each binary makes its own.
const ImagesVariable = "TOLLGATE_TEST_SERVER_IMAGES"

// image is the data folder of a durable server with the template of databases, which was stopped in
// an orderly way. A server of a test's own begins as a copy of it: to initialize and migrate each
// takes seconds of a processor, and to copy it a tenth of one.
type image struct {
	mu     sync.Mutex
	folder string
	// own says that the folder goes with this binary.
	own bool
	dir string
}

var shelf image

// copyTo makes a data folder of a new server.
func (i *image) copyTo(t testing.TB, dir string) {
	t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.dir == "" {
		require.NoError(t, i.find(context.WithoutCancel(t.Context())))
	}
	copyFolder(t, i.dir, dir)
}

// find takes the image that is there, or makes it. Of several processes one makes it, and the others wait.
func (i *image) find(ctx context.Context) error {
	name, err := templateName(migrations.FS, time.Now())
	if err != nil {
		return err
	}
	if i.folder = os.Getenv(ImagesVariable); i.folder == "" {
		if i.folder, err = newFolder(); err != nil {
			return err
		}
		i.own = true
	}
	lock, err := os.OpenFile(filepath.Join(i.folder, name+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock the image of a server: %w", err)
	}
	// Its end gives the lock back.
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock the image of a server: %w", err)
	}
	dir := filepath.Join(i.folder, name)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		err = makeImage(ctx, dir, name)
		if err != nil {
			return fmt.Errorf("make the image of a server: %w", err)
		}
	}
	i.dir = dir
	return nil
}

// makeImage makes the image beside its place, and moves it there when it is whole.
func makeImage(ctx context.Context, dir, template string) error {
	making := dir + ".making"
	if err := os.RemoveAll(making); err != nil {
		return err
	}
	server, err := devstack.StartPostgres(ctx, devstack.PostgresConfig{DataDir: making, Durable: true, Output: os.Stderr})
	if err != nil {
		return err
	}
	inside, err := newCluster(server.URL("postgres"))
	if err == nil {
		err = inside.makeTemplate(ctx, template)
	}
	stopping, cancel := context.WithTimeout(ctx, stopWait)
	defer cancel()
	if err := errors.Join(err, server.Stop(stopping)); err != nil {
		return err
	}
	return os.Rename(server.DataDir(), dir)
}

// remove removes an image that no other binary uses.
func (i *image) remove() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.own {
		return nil
	}
	return os.RemoveAll(i.folder)
}
