package devstack

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	held, err := tryLock(path)
	require.NoError(t, err)
	_, err = tryLock(path)
	require.ErrorIs(t, err, ErrFolderInUse)
	require.ErrorContains(t, err, "process "+strconv.Itoa(os.Getpid())+" holds "+path)

	waited := make(chan struct{})
	go func() {
		<-waited
		held.release()
	}()
	next, err := awaitLock(t.Context(), path, func() { close(waited) })
	require.NoError(t, err)
	defer next.release()

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = awaitLock(ctx, path, func() {})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, ErrFolderInUse)
}
