// Command withstack starts one Postgres and one Temporal dev server for tests, runs a
// command with their addresses in its environment, and stops them. The tests of all
// packages so share two servers, and what has to be installed or built is, once and
// beforehand:
//
//	go run ./internal/devstack/withstack go test ./...
//
// A server that the environment names already is used as it is. With -durable, before the
// command, Postgres keeps what it has committed, and cleans up by itself, as where it is not
// for tests: for measurements. The exit code is that of the command.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/riverline/tollgate/internal/devstack"
)

// The variables are those of internal/pgtest and internal/temporaltest, which a
// program can't import: they are for test binaries.
const (
	databaseVariable = "TOLLGATE_TEST_DATABASE_URL"
	temporalVariable = "TOLLGATE_TEST_TEMPORAL_ADDRESS"
	imagesVariable   = "TOLLGATE_TEST_SERVER_IMAGES"
)

// stopWait bounds the end of both servers.
const stopWait = time.Minute

// durableFlag has Postgres started as where it is not for tests.
const durableFlag = "-durable"

// usageCode is the exit code of a wrong call, and interruptedCode that of a run that a
// signal, such as Ctrl-C's, has ended.
const (
	usageCode       = 2
	interruptedCode = 130
)

func main() {
	command := os.Args[1:]
	durable := len(command) > 0 && command[0] == durableFlag
	if durable {
		command = command[1:]
	}
	if len(command) == 0 {
		fmt.Fprintln(os.Stderr, "usage: withstack ["+durableFlag+"] command [argument ...]")
		os.Exit(usageCode)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code, err := run(ctx, durable, command)
	interrupted := ctx.Err() != nil
	cancel()
	switch {
	case interrupted:
		code = interruptedCode
	case err != nil:
		fmt.Fprintln(os.Stderr, "withstack:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// run starts the servers, runs the command and stops the servers.
func run(ctx context.Context, durable bool, command []string) (code int, err error) {
	folder, err := os.MkdirTemp("", "tollgate-stack-")
	if err != nil {
		return 0, fmt.Errorf("make a folder for the servers: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	// Postgres runs as a user of its own where root starts it.
	if err := os.Chmod(folder, 0o755); err != nil {
		return 0, fmt.Errorf("open the servers' folder for Postgres's user: %w", err)
	}

	environment := append(os.Environ(), imagesVariable+"="+folder)
	for _, service := range []service{postgresService(folder, durable), temporalService(folder)} {
		if os.Getenv(service.variable) != "" {
			continue
		}
		begin := time.Now()
		address, running, startErr := service.start(ctx)
		if startErr != nil {
			return 0, startErr
		}
		defer func() { err = errors.Join(err, stopServer(ctx, running)) }() //nolint:gocritic // Both run until the command has ended.
		fmt.Fprintf(os.Stderr, "%s for the tests is ready after %.1f s\n", service.name, time.Since(begin).Seconds())
		environment = append(environment, service.variable+"="+address)
	}
	return runCommand(ctx, command, environment)
}

// server is a running server.
type server interface {
	Stop(ctx context.Context) error
}

// service is a server that can be started.
type service struct {
	name     string
	variable string
	start    func(ctx context.Context) (address string, running server, err error)
}

func postgresService(folder string, durable bool) service {
	return service{"Postgres", databaseVariable, func(ctx context.Context) (string, server, error) {
		postgres, err := devstack.StartPostgres(ctx, devstack.PostgresConfig{
			DataDir: filepath.Join(folder, "postgres"),
			Durable: durable,
			Output:  os.Stderr,
		})
		if err != nil {
			return "", nil, fmt.Errorf("start Postgres: %w", err)
		}
		return postgres.URL("postgres"), postgres, nil
	}}
}

func temporalService(folder string) service {
	return service{"Temporal", temporalVariable, func(ctx context.Context) (string, server, error) {
		temporal, err := devstack.StartTemporal(ctx, devstack.TemporalConfig{
			DatabaseFile: filepath.Join(folder, "temporal.db"),
			Headless:     true,
			Output:       os.Stderr,
		})
		if err != nil {
			return "", nil, fmt.Errorf("start Temporal: %w", err)
		}
		return temporal.Address(), temporal, nil
	}}
}

// stopServer stops a server, also when ctx has ended.
func stopServer(ctx context.Context, running server) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWait)
	defer cancel()
	return running.Stop(ctx)
}

// runCommand runs the command to its end and returns its exit code. A Ctrl-C reaches the
// command from the terminal; any other end of ctx is passed on to it.
func runCommand(ctx context.Context, command, environment []string) (int, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = environment
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopWait
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		if exit.ExitCode() < 0 {
			return interruptedCode, nil
		}
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("run %s: %w", command[0], err)
	}
	return 0, nil
}
