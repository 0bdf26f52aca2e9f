package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// root is the product's folder, from the one that this program runs in.
const root = ".."

// databaseVariable has the address of the Postgres that withstack has started.
const databaseVariable = "TOLLGATE_TEST_DATABASE_URL"

// partTime bounds a part: one that hangs fails.
const partTime = 40 * time.Minute

// run runs a part, on servers of its own where it needs any, and passes its benchmark lines on.
func (p *part) run(ctx context.Context, args []string, s sizes, lines io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, partTime)
	defer cancel()
	if !p.servers || os.Getenv(databaseVariable) != "" {
		return p.inside(ctx, s, lines)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	folder, err := os.MkdirTemp("", "tollgate-bench-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(folder) }()
	stack := filepath.Join(folder, "withstack")
	if err := build(ctx, root, "build", "-o", stack, "./internal/devstack/withstack"); err != nil {
		return err
	}
	return passOn(exec.CommandContext(ctx, stack, append(append([]string{"-durable", self}, args...), "-inside", p.name)...), lines)
}

// inside runs a part whose servers run.
func (p *part) inside(ctx context.Context, s sizes, lines io.Writer) error {
	if url := os.Getenv(databaseVariable); p.servers && url != "" {
		version, err := postgresVersion(ctx, url)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(lines, "postgres: %s\n", version); err != nil {
			return fmt.Errorf("pass the version on: %w", err)
		}
	}
	folder, err := os.MkdirTemp("", "tollgate-bench-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(folder) }()
	var ready []func() *exec.Cmd
	for i, c := range p.commands(s) {
		program := filepath.Join(folder, fmt.Sprintf("program%d", i))
		where, err := c.build(ctx, program)
		if err != nil {
			return err
		}
		begin := func() *exec.Cmd {
			command := exec.CommandContext(ctx, program, c.args...)
			command.Dir, command.Env = where, append(os.Environ(), c.environment...)
			return command
		}
		ready = append(ready, begin)
		if !c.inner {
			for range s.rounds - 1 {
				ready = append(ready, begin)
			}
		}
	}
	for _, begin := range ready {
		if err := passOn(begin(), lines); err != nil {
			return err
		}
	}
	return nil
}

// build builds a command's program, and returns the folder that it runs in.
func (c *command) build(ctx context.Context, program string) (where string, err error) {
	if c.program != "" {
		return ".", build(ctx, ".", "build", "-o", program, c.program)
	}
	module, name := root, c.test
	if inside, found := strings.CutPrefix(c.test, "bench/"); found {
		module, name = ".", "./"+inside
	}
	return filepath.Join(module, name), build(ctx, module, "test", "-c", "-tags", c.tags, "-o", program, name)
}

func build(ctx context.Context, where string, args ...string) error {
	command := exec.CommandContext(ctx, "go", args...)
	command.Dir = where
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// tail is how much of what a program has said is shown where it has failed.
const tail = 4000

// passOn runs a program and passes its benchmark lines on. What else it says is shown where it fails.
func passOn(command *exec.Cmd, lines io.Writer) error {
	var said bytes.Buffer
	command.Stderr = &said
	out, err := command.StdoutPipe()
	if err != nil {
		return fmt.Errorf("run %s: %w", command.Path, err)
	}
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = time.Minute
	if err := command.Start(); err != nil {
		return fmt.Errorf("run %s: %w", command.Path, err)
	}
	reader := bufio.NewScanner(out)
	reader.Buffer(nil, 1<<20)
	var other bytes.Buffer
	var lost error
	for reader.Scan() {
		to := io.Writer(&other)
		if measured(reader.Text()) {
			to = lines
		}
		_, err := fmt.Fprintln(to, reader.Text())
		lost = errors.Join(lost, err)
	}
	if err := errors.Join(reader.Err(), lost, command.Wait()); err != nil {
		text := other.String() + said.String()
		return fmt.Errorf("%w\n%s", err, text[max(0, len(text)-tail):])
	}
	return nil
}

// measured says whether a line is for the results: that of a benchmark, or of the servers' version.
func measured(line string) bool {
	if strings.HasPrefix(line, "postgres: ") {
		return true
	}
	fields := strings.Fields(line)
	return strings.HasPrefix(line, "Benchmark") && len(fields) >= 4 && len(fields)%2 == 0
}

func postgresVersion(ctx context.Context, url string) (string, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", fmt.Errorf("ask Postgres for its version: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var version string
	if err := conn.QueryRow(ctx, `SELECT split_part(current_setting('server_version'), ' ', 1) || ', fsync ' || current_setting('fsync')`).Scan(&version); err != nil {
		return "", fmt.Errorf("ask Postgres for its version: %w", err)
	}
	return version, nil
}

// commit is what is measured, as git knows it.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
