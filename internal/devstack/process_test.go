package devstack

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// script starts a shell script as a server.
func script(t *testing.T, text string) *process {
	t.Helper()
	server, err := startProcess(processConfig{
		name: "Script", path: "/bin/sh", args: []string{"-c", text}, env: os.Environ(),
		logFile: filepath.Join(t.TempDir(), "log"), stop: syscall.SIGTERM,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.kill()) })
	return server
}

// waitForLog waits until a server has printed something.
func waitForLog(t *testing.T, server *process, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(server.logTail(), text) }, 30*time.Second, 5*time.Millisecond)
}

func TestProcessStop(t *testing.T) {
	t.Parallel()
	server := script(t, "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done")
	waitForLog(t, server, "up")
	require.NoError(t, server.stop(t.Context()))
	require.True(t, server.ended())
	require.NoError(t, server.stop(t.Context()), "a second stop does nothing")
}

func TestProcessThatIgnoresTheSignalIsKilled(t *testing.T) {
	t.Parallel()
	server := script(t, "trap '' TERM; echo up; while :; do sleep 0.05; done")
	waitForLog(t, server, "up")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := server.stop(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "Script did not stop in time and was killed")
	require.True(t, server.ended())
}

func TestAwaitReady(t *testing.T) {
	t.Parallel()
	notYet := errors.New("not yet")
	t.Run("ended", func(t *testing.T) {
		t.Parallel()
		server := script(t, "echo first; echo broken >&2; exit 3")
		err := server.awaitReady(t.Context(), func(context.Context) error { return notYet })
		require.EqualError(t, err, "Script ended while it was starting (log: "+server.config.logFile+"):\n  first\n  broken")
	})
	t.Run("too slow", func(t *testing.T) {
		t.Parallel()
		server := script(t, "sleep 3600")
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := server.awaitReady(ctx, func(context.Context) error { return notYet })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, notYet)
	})
	t.Run("permanent", func(t *testing.T) {
		t.Parallel()
		server := script(t, "sleep 3600")
		err := server.awaitReady(t.Context(), func(context.Context) error { return permanentError{notYet} })
		require.Equal(t, notYet, err)
	})
}

func TestLogIsAppendedAndMovedAside(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(path, []byte("earlier\n"), 0o600))
	file, start, err := openLog(path)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	require.EqualValues(t, len("earlier\n"), start)

	require.NoError(t, os.Truncate(path, maxLogBytes+1))
	file, start, err = openLog(path)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	require.Zero(t, start)
	require.FileExists(t, path+".old")
}

func TestStartProcessSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := startProcess(processConfig{name: "Server", path: "/nowhere/server", logFile: filepath.Join(t.TempDir(), "log")})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "start Server (/nowhere/server)")
}
