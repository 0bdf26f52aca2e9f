package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	// toolBuildWait bounds the build of a tool, slow machines and networks included.
	toolBuildWait = 20 * time.Minute
	// toolStartWait bounds the start of a tool's server.
	toolStartWait = 90 * time.Second
)

// ErrNoTool says that a tool can't be built. The message says why.
var ErrNoTool = errors.New("a tool of the tests is missing")

// Tool is a program of others that tests run as a server. It is built from its Go module,
// so that it is in no go.mod of ours.
type Tool struct {
	// Package is its main package, Version that of its module.
	Package, Version string
}

// The tools.
var (
	// StripeMock is Stripe's own mock of its API: it checks requests against Stripe's
	// OpenAPI document.
	StripeMock = Tool{Package: "github.com/stripe/stripe-mock", Version: "v0.203.0"}
	// VersityGateway is a server that speaks S3's protocol, and checks signatures.
	VersityGateway = Tool{Package: "github.com/versity/versitygw/cmd/versitygw", Version: "v1.8.0"}
)

// Binary returns the path of the built tool. The build happens once for a user and takes
// up to a few minutes; output, which may be nil, shows its progress. Of several processes
// one builds and the others wait. The error is [ErrNoTool].
func (t Tool) Binary(ctx context.Context, output io.Writer) (string, error) {
	if output == nil {
		output = io.Discard
	}
	root, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("%w: there is no cache folder to build %s into (set HOME or XDG_CACHE_HOME): %w", ErrNoTool, t.Package, err)
	}
	name := path.Base(t.Package)
	folder := filepath.Join(root, "tollgate", fmt.Sprintf("%s-%s-%s-%s", name, t.Version, runtime.GOOS, runtime.GOARCH))
	binary := filepath.Join(folder, name)
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	lock, err := awaitLock(ctx, filepath.Join(folder, "lock"), func() {
		_, _ = fmt.Fprintln(output, "Waiting for another process that builds "+name)
	})
	if err != nil {
		return "", fmt.Errorf("wait for the build of %s: %w", name, err)
	}
	defer lock.release()
	// It was moved there when it was whole.
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	return binary, t.build(ctx, binary, output)
}

// build builds the tool in a folder of its own, and moves it to its place.
func (t Tool) build(ctx context.Context, binary string, output io.Writer) error {
	goTool, err := exec.LookPath("go")
	if err != nil {
		return fmt.Errorf("%w: install Go (https://go.dev/dl) so that %s can be built: %w", ErrNoTool, t.Package, err)
	}
	program := goProgram{
		name: t.Package, module: t.Package, version: t.Version, wait: toolBuildWait, hint: "(only once)",
		failed: func(err error) error { return fmt.Errorf("%w: building %s failed: %w", ErrNoTool, t.Package, err) },
	}
	return program.install(ctx, goTool, binary, output)
}

// ToolServerConfig says how a tool is run.
type ToolServerConfig struct {
	Tool Tool
	// Arguments returns the tool's arguments, so that it listens on a host:port. Required.
	Arguments func(address string) []string
	// Env is added to the environment.
	Env []string
	// LogFile receives what the tool prints. Required.
	LogFile string
	// Ready returns nil once the server at the address serves. Required.
	Ready func(ctx context.Context, address string) error
	// Output receives the progress of the tool's build. Nil: it is dropped.
	Output io.Writer
}

// ToolServer is a tool that runs. It ends with this process, even if that is killed.
type ToolServer struct {
	process *process
	address string
}

// StartTool runs a tool on a free port of loopback, and returns once it serves. The end of
// ctx ends the start, not the server: use Stop.
func StartTool(ctx context.Context, config ToolServerConfig) (*ToolServer, error) {
	binary, err := config.Tool.Binary(ctx, config.Output)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, toolStartWait, errors.New("starting "+filepath.Base(binary)+" took too long"))
	defer cancel()
	for attempt := 1; ; attempt++ {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		server := &ToolServer{address: loopback(port)}
		server.process, err = startProcess(processConfig{
			name: filepath.Base(binary), path: binary, args: config.Arguments(server.address),
			env: append(os.Environ(), config.Env...), logFile: config.LogFile, stop: syscall.SIGTERM,
		})
		if err != nil {
			return nil, err
		}
		err = server.process.awaitReady(ctx, func(ctx context.Context) error { return config.Ready(ctx, server.address) })
		if err == nil {
			return server, nil
		}
		err = errors.Join(err, server.process.kill())
		// Another program may have taken the port first.
		if ended := (*exitError)(nil); errors.As(err, &ended) && strings.Contains(ended.tail, "address already in use") && attempt < bindAttempts {
			continue
		}
		return nil, err
	}
}

// Address returns the host:port that the tool listens on.
func (s *ToolServer) Address() string { return s.address }

// Stop ends the tool, and kills it when ctx ends first.
func (s *ToolServer) Stop(ctx context.Context) error { return s.process.stop(ctx) }
