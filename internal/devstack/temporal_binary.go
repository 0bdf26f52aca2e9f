package devstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

const (
	// temporalModule is the Go package of the Temporal CLI.
	temporalModule = "github.com/temporalio/cli/cmd/temporal"
	// temporalVersion is the newest version of it that builds from the module proxy.
	temporalVersion = "v1.5.1"
	// temporalBuildWait bounds the build, slow machines and networks included.
	temporalBuildWait = 30 * time.Minute
)

// ErrNoTemporal says that there is no Temporal CLI and that it can't be built. The
// message says what to do.
var ErrNoTemporal = errors.New("the Temporal CLI is missing")

// TemporalBinary returns the path of a Temporal CLI that works: the `temporal` on
// the PATH, else one built from its pinned Go module. The build happens once for a
// user and takes minutes; output, which may be nil, shows its progress.
func TemporalBinary(ctx context.Context, output io.Writer) (string, error) {
	if output == nil {
		output = io.Discard
	}
	if onPath, err := exec.LookPath("temporal"); err == nil && temporalWorks(ctx, onPath) {
		return onPath, nil
	}
	cache, err := temporalCache()
	if err != nil {
		return "", err
	}
	return builtTemporal(ctx, cache, output)
}

// temporalWorks reports whether a program is a Temporal CLI that runs here.
func temporalWorks(ctx context.Context, path string) bool {
	printed, err := exec.CommandContext(ctx, path, "--version").Output()
	return err == nil && bytes.HasPrefix(printed, []byte("temporal version"))
}

// temporalCache is the folder of the built CLI.
func temporalCache() (string, error) {
	root, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("%w, and there is no cache folder to build it into (set HOME or XDG_CACHE_HOME): %w", ErrNoTemporal, err)
	}
	return filepath.Join(root, "tollgate", fmt.Sprintf("temporal-%s-%s-%s", temporalVersion, runtime.GOOS, runtime.GOARCH)), nil
}

// builtTemporal returns the built CLI in the folder, and builds it if need be. Of
// several processes one builds and the others wait.
func builtTemporal(ctx context.Context, folder string, output io.Writer) (string, error) {
	binary := filepath.Join(folder, "temporal")
	if temporalWorks(ctx, binary) {
		return binary, nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	lock, err := awaitLock(ctx, filepath.Join(folder, "lock"), func() {
		_, _ = fmt.Fprintln(output, "Waiting for another process that builds the Temporal CLI")
	})
	if err != nil {
		return "", fmt.Errorf("wait for the build of the Temporal CLI: %w", err)
	}
	defer lock.release()
	if temporalWorks(ctx, binary) {
		return binary, nil
	}
	if ctx.Err() != nil {
		return "", fmt.Errorf("look for the Temporal CLI: %w", ctx.Err())
	}
	if err := buildTemporal(ctx, binary, output); err != nil {
		return "", err
	}
	if !temporalWorks(ctx, binary) {
		return "", fmt.Errorf("%w: the built %s does not run", ErrNoTemporal, binary)
	}
	return binary, nil
}

// buildTemporal builds the CLI with the Go toolchain, in a folder of its own, and
// moves it to its place when it is whole.
func buildTemporal(ctx context.Context, binary string, output io.Writer) error {
	goTool, err := exec.LookPath("go")
	if err != nil {
		return fmt.Errorf("%w: install it (https://docs.temporal.io/cli), or install Go (https://go.dev/dl) so that Tollgate can build it: %w", ErrNoTemporal, err)
	}
	program := goProgram{
		name: "the Temporal CLI", module: temporalModule, version: temporalVersion, wait: temporalBuildWait, hint: "(only once; 3 to 5 minutes)",
		failed: func(err error) error {
			return fmt.Errorf("%w (https://docs.temporal.io/cli says how to install it), and building it failed: %w", ErrNoTemporal, err)
		},
	}
	return program.install(ctx, goTool, binary, output)
}
