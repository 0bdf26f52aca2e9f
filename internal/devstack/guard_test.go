package devstack

import (
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// The guard is what systems other than Linux use; it works on every one.
func TestGuardEndsTheChildOfAKilledProcess(t *testing.T) {
	t.Parallel()
	helper, pid := startHelper(t, "guard", "")
	killHard(t, helper)
	requireGone(t, pid)
}

func TestReleasedGuardLeavesTheProcessAlone(t *testing.T) {
	t.Parallel()
	sleeper := exec.Command("sleep", "3600")
	require.NoError(t, sleeper.Start())
	release := startGuard(sleeper.Process.Pid, syscall.SIGTERM)
	release()
	require.NoError(t, sleeper.Process.Signal(syscall.Signal(0)), "the process must still be there")
	require.NoError(t, sleeper.Process.Kill())
	require.Error(t, sleeper.Wait())
}
