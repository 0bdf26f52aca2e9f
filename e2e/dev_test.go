package e2e_test

import (
	"context"
	"html"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/demo"
)

// devRun is `tollgate dev` on ports and in a folder of its own.
type devRun struct {
	*process
	env demo.Env
	// folder is its data.
	folder string
}

// startDev starts it and waits until it says that it is ready.
func startDev(t *testing.T, folder string, ports map[string]string) *devRun {
	t.Helper()
	args := []string{"dev", "--data-dir", folder}
	for flag, port := range ports {
		args = append(args, flag, port)
	}
	run := &devRun{folder: folder, process: &process{t: t, name: "tollgate dev", log: &syncBuffer{}, ended: make(chan struct{})}}
	run.url = "http://127.0.0.1:" + ports["--port"]
	run.command = exec.Command(filepath.Join(programs, "tollgate"), args...)
	run.command.Stdout, run.command.Stderr = run.log, run.log
	require.NoError(t, run.command.Start())
	go func() {
		defer close(run.ended)
		_ = run.command.Wait()
	}()
	t.Cleanup(func() {
		// Kill would leave the servers to end by themselves.
		_ = run.command.Process.Signal(syscall.SIGTERM)
		select {
		case <-run.ended:
		case <-time.After(30 * time.Second):
			run.kill()
		}
	})
	require.Eventually(t, func() bool {
		return run.over() || strings.Contains(run.log.String(), "Tollgate is ready")
	}, 10*time.Minute, 50*time.Millisecond)
	require.False(t, run.over(), "tollgate dev ended: %s", run.log.tail(30))
	var err error
	run.env, err = demo.ReadEnv(filepath.Join(folder, "dev.env"))
	require.NoError(t, err)
	return run
}

// over says that it has ended.
func (d *devRun) over() bool {
	select {
	case <-d.ended:
		return true
	default:
		return false
	}
}

// dataFolder is a folder that Postgres's own user can reach, too, should root run the
// test.
func dataFolder(t *testing.T) string {
	t.Helper()
	parent, err := os.MkdirTemp("", "tollgate-dev-*")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(parent) })
	require.NoError(t, os.Chmod(parent, 0o755))
	return filepath.Join(parent, "data")
}

func freePorts(t *testing.T, flags ...string) map[string]string {
	t.Helper()
	ports := map[string]string{}
	for _, flag := range flags {
		_, ports[flag], _ = net.SplitHostPort(freeAddress(t))
	}
	return ports
}

// TestDevKeepsItsDataAndLeavesNothingRunning is the README's first command, twice.
func TestDevKeepsItsDataAndLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	folder := dataFolder(t)
	ports := freePorts(t, "--port", "--temporal-port", "--temporal-ui-port", "--metrics-port", "--worker-port", "--postgres-port")
	first := startDev(t, folder, ports)
	for _, name := range []string{
		"TOLLGATE_URL", "TOLLGATE_ADMIN_KEY", "TOLLGATE_FINANCE_KEY", "TOLLGATE_FINANCE2_KEY",
		"TOLLGATE_FREE_KEY", "TOLLGATE_PRO_KEY", "TOLLGATE_ENTERPRISE_KEY",
		"TOLLGATE_FREE_ORG", "TOLLGATE_PRO_ORG", "TOLLGATE_ENTERPRISE_ORG",
	} {
		require.NotEmpty(t, first.env[name], name)
	}
	info, err := os.Stat(filepath.Join(folder, "dev.env"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "it holds keys")

	step(t, "the API, its gateway and Temporal's UI answer")
	key := first.env["TOLLGATE_FREE_KEY"]
	status, _ := first.call(http.MethodPost, "/api/v1/usage", key, map[string]any{"meter": "simulations", "quantity": 50})
	require.Equal(t, http.StatusOK, status)
	status, answer := first.call(http.MethodPost, "/gateway/simulate", key, map[string]any{})
	require.Equal(t, http.StatusPaymentRequired, status, "the gateway has an upstream and the same limits")
	require.Equal(t, "simulations", answer["limit"])
	ui, err := http.Get("http://127.0.0.1:" + ports["--temporal-ui-port"])
	require.NoError(t, err)
	require.NoError(t, ui.Body.Close())
	require.Equal(t, http.StatusOK, ui.StatusCode)
	for path, says := range map[string]string{"/docs": "Tollgate's documents", "/docs/reference/settings": "--oidc-issuer", "/docs/api": "openapi.yaml", "/sign-in": "Your API key"} {
		require.Contains(t, html.UnescapeString(text(t, first.url+path)), says, path)
	}

	step(t, "what the documents say works; finance closes the demo's months")
	first.walkTheDocuments()
	used := first.must("usage", "history", "--json", "--key", first.env["TOLLGATE_PRO_KEY"], "--meter", "evaluations",
		"--from", time.Now().UTC().AddDate(0, -3, 0).Format(time.DateOnly), "--to", time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly))

	step(t, "a second one on the same ports says which, and how to choose others")
	second := exec.CommandContext(t.Context(), filepath.Join(programs, "tollgate"), "dev", "--data-dir", folder, "--port", ports["--port"])
	out, err := second.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "port "+ports["--port"]+" is taken")
	require.Contains(t, string(out), "--port")

	step(t, "Ctrl-C flushes, and leaves nothing running")
	require.NoError(t, first.command.Process.Signal(os.Interrupt))
	select {
	case <-first.ended:
	case <-time.After(60 * time.Second):
		t.Fatalf("it does not stop: %s", first.log.tail(30))
	}
	require.Zero(t, first.command.ProcessState.ExitCode(), first.log.tail(30))
	require.Contains(t, first.log.String(), "Flushed and stopped.")
	for flag, port := range ports {
		_, err := net.Dial("tcp", "127.0.0.1:"+port)
		require.Error(t, err, "something still listens on the port of %s", flag)
	}

	step(t, "the next run has the data, and adds nothing")
	began := time.Now()
	again := startDev(t, folder, ports)
	require.Less(t, time.Since(began), 60*time.Second)
	require.Equal(t, first.env, again.env, "the same organizations, with the same keys")
	status, answer = again.call(http.MethodPost, "/api/v1/usage", key, map[string]any{"meter": "simulations"})
	require.Equal(t, http.StatusOK, status, "README has upgraded it")
	require.InEpsilon(t, 51, answer["current"], 0, "what was used is still there")
	require.JSONEq(t, used, again.must("usage", "history", "--json", "--key", first.env["TOLLGATE_PRO_KEY"], "--meter", "evaluations",
		"--from", time.Now().UTC().AddDate(0, -3, 0).Format(time.DateOnly), "--to", time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly)), "a second run adds nothing")
}

// TestDevSaysWhatIsWrongWithItsFolder breaks the data folder.
func TestDevSaysWhatIsWrongWithItsFolder(t *testing.T) {
	t.Parallel()
	folder := dataFolder(t)
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "postgres"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "postgres", "holiday.jpg"), []byte("no database"), 0o600))
	ports := freePorts(t, "--port", "--temporal-port", "--temporal-ui-port", "--metrics-port", "--worker-port")
	args := []string{"dev", "--data-dir", folder}
	for flag, port := range ports {
		args = append(args, flag, port)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(programs, "tollgate"), args...).CombinedOutput()
	require.NoError(t, ctx.Err(), "it starts: %s", out)
	require.Error(t, err)
	require.Contains(t, string(out), filepath.Join(folder, "postgres"))
	require.Contains(t, string(out), "--data-dir")
}
