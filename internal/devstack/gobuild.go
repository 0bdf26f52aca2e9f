package devstack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// goProgram is a program of others that is built from its Go module.
type goProgram struct {
	// name is what messages call it, module its main package, version that of its module.
	name, module, version string
	// wait bounds the build; hint says beside the progress how long it takes.
	wait time.Duration
	hint string
	// failed says what a build that failed means.
	failed func(error) error
}

// install builds the program in a folder of its own beside the binary, and moves it to its
// place when it is whole.
func (p goProgram) install(ctx context.Context, goTool, binary string, output io.Writer) error {
	work, err := os.MkdirTemp(filepath.Dir(binary), "build-")
	if err != nil {
		return fmt.Errorf("make a folder for the build: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	ctx, cancel := context.WithTimeoutCause(ctx, p.wait, errors.New("building "+p.name+" took too long"))
	defer cancel()
	cmd := exec.CommandContext(ctx, goTool, "install", "-v", "-trimpath", "-ldflags=-s -w", p.module+"@"+p.version)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = killWait
	cmd.Dir = work
	cmd.Env = goEnvironment(work)
	printed, err := runWithProgress(cmd, output, "Building "+p.name+" "+p.version+" "+p.hint)
	if err != nil {
		return p.failed(commandError(ctx, err, printed))
	}
	if err := os.Rename(filepath.Join(work, filepath.Base(binary)), binary); err != nil {
		return fmt.Errorf("keep %s: %w", p.name, err)
	}
	return nil
}

// goEnvironment is the environment of a build for this machine into the folder,
// whatever the caller's module, workspace, flags or cross-compilation.
func goEnvironment(folder string) []string {
	return append(environmentWithout("GOFLAGS=", "GOWORK=", "GOOS=", "GOARCH=", "GOBIN=", "GO111MODULE=", "CGO_ENABLED="),
		"GOFLAGS=-mod=mod", "GOWORK=off", "GOBIN="+folder, "CGO_ENABLED=0")
}

// runWithProgress runs a build that prints a line per package, shows how far it is,
// and returns its last lines.
func runWithProgress(cmd *exec.Cmd, output io.Writer, label string) (string, error) {
	reader, writer := io.Pipe()
	cmd.Stdout = writer
	cmd.Stderr = writer
	shown := startProgress(output, label)
	tail := make(chan string)
	go func() { tail <- followBuild(reader, shown) }()
	err := cmd.Run()
	_ = writer.Close()
	last := <-tail
	shown.end()
	if err != nil {
		return last, fmt.Errorf("run %s: %w", strings.Join(cmd.Args, " "), err)
	}
	return last, nil
}

// followBuild counts the packages that a build reports, and keeps its last lines.
func followBuild(printed io.Reader, shown *progress) string {
	const kept = 20
	var last []string
	downloaded, compiled := 0, 0
	lines := bufio.NewScanner(printed)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "go: downloading ") {
			downloaded++
		} else {
			compiled++
		}
		shown.set(fmt.Sprintf(", %d modules downloaded, %d packages compiled", downloaded, compiled))
		last = append(last, lines.Text())
		last = last[max(0, len(last)-kept):]
	}
	// A line too long for the scanner must not block the build.
	_, _ = io.Copy(io.Discard, printed)
	return strings.Join(last, "\n")
}
