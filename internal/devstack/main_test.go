package devstack

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// helperVariable names the role in which this test binary runs as a process of its
// own, so that a test can kill it.
const helperVariable = "TOLLGATE_DEVSTACK_HELPER"

func TestMain(m *testing.M) {
	role := os.Getenv(helperVariable)
	if role == "" {
		os.Exit(m.Run())
	}
	pid, err := helperRoles[role](os.Args[1])
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println("pid:", pid)
	time.Sleep(time.Hour)
}

// helperRoles start something and return its process.
var helperRoles = map[string]func(argument string) (int, error){
	"postgres": func(dataDir string) (int, error) {
		server, err := StartPostgres(context.Background(), PostgresConfig{DataDir: dataDir})
		if err != nil {
			return 0, err
		}
		return server.process.child.Pid, nil
	},
	"temporal": func(databaseFile string) (int, error) {
		server, err := StartTemporal(context.Background(), TemporalConfig{DatabaseFile: databaseFile, Headless: true})
		if err != nil {
			return 0, err
		}
		return server.process.child.Pid, nil
	},
	"guard": func(string) (int, error) {
		sleeper := exec.Command("sleep", "3600")
		sleeper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := sleeper.Start(); err != nil {
			return 0, err
		}
		startGuard(sleeper.Process.Pid, syscall.SIGTERM)
		return sleeper.Process.Pid, nil
	},
}

// startHelper runs this test binary in a role, and returns it with the process
// that it has started.
func startHelper(t *testing.T, role, argument string) (helper *exec.Cmd, pid int) {
	t.Helper()
	helper = exec.Command(os.Args[0], argument)
	helper.Env = append(os.Environ(), helperVariable+"="+role)
	helper.Stderr = os.Stderr
	printed, err := helper.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, helper.Start())
	t.Cleanup(func() { _ = helper.Process.Kill() })
	line, err := bufio.NewReader(printed).ReadString('\n')
	require.NoError(t, err)
	_, err = fmt.Sscanf(strings.TrimSpace(line), "pid: %d", &pid)
	require.NoError(t, err, "the helper said %q", line)
	return helper, pid
}

// killHard ends a helper as the kernel's out-of-memory killer would.
func killHard(t *testing.T, helper *exec.Cmd) {
	t.Helper()
	require.NoError(t, helper.Process.Signal(syscall.SIGKILL))
	require.Error(t, helper.Wait())
}

// requireGone waits until a process is no longer there. A zombie that nobody reaps
// counts as gone.
func requireGone(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool {
		arguments, err := commandLine(t.Context(), pid)
		return err == nil && strings.Join(arguments, "") == ""
	}, 30*time.Second, 20*time.Millisecond, "process %d is still there", pid)
}

// stopper is a running server.
type stopper interface {
	Stop(ctx context.Context) error
}

// stop stops a server, and fails the test if that isn't orderly.
func stop(t *testing.T, server stopper) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	require.NoError(t, server.Stop(ctx))
}
