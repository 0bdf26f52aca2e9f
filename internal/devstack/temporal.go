package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

const (
	// TemporalNamespace is the namespace that a dev server has from its start.
	TemporalNamespace = "default"
	// temporalStartWait bounds a start, without the build of the CLI.
	temporalStartWait = 60 * time.Second
	// temporalHealthService is the name under which the frontend reports its health.
	temporalHealthService = "temporal.api.workflowservice.v1.WorkflowService"
)

// TemporalConfig says how a Temporal dev server is run.
type TemporalConfig struct {
	// DatabaseFile keeps the server's state. It is made if it is missing. Required.
	DatabaseFile string
	// DatabaseFlag is what error messages call DatabaseFile. Empty: "another database file".
	DatabaseFlag string
	// Port is the gRPC port on 127.0.0.1; 0 takes a free one.
	Port int
	// PortFlag is what error messages call Port. Empty: "--temporal-port".
	PortFlag string
	// UIPort is the port of Temporal's web pages on 127.0.0.1; 0 takes a free one.
	UIPort int
	// UIPortFlag is what error messages call UIPort. Empty: "--temporal-ui-port".
	UIPortFlag string
	// Headless leaves the web pages out.
	Headless bool
	// Durable makes what the server acknowledges survive a loss of power. False (for
	// tests) is faster, and a crash of the machine may lose the state; a new namespace is
	// then usable at once instead of after two seconds.
	Durable bool
	// LogFile receives the server's log. Empty: DatabaseFile with ".log" at its end.
	LogFile string
	// Output receives the progress of the one-time build of the Temporal CLI. Nil: it
	// is dropped.
	Output io.Writer
}

// Temporal is a running Temporal dev server.
type Temporal struct {
	process *process
	lock    *fileLock
	config  TemporalConfig
}

// StartTemporal starts a Temporal dev server and returns once it is healthy and its
// namespace has Tollgate's search attributes. The CLI is found or built as
// TemporalBinary says.
//
// The error wraps ErrFolderInUse if another process runs a server on the database
// file, and ErrPortTaken if another program has one of the ports. The end of ctx
// ends the start, not the server: use Stop.
func StartTemporal(ctx context.Context, config TemporalConfig) (*Temporal, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	binary, err := TemporalBinary(ctx, config.Output)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(config.DatabaseFile), 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of Temporal's database file: %w", err)
	}
	lock, err := tryLock(config.DatabaseFile + ".lock")
	if err != nil {
		return nil, fmt.Errorf("temporal's database file %s: %w", config.DatabaseFile, err)
	}
	server := &Temporal{lock: lock, config: config}
	if err := server.start(ctx, binary); err != nil {
		lock.release()
		return nil, err
	}
	return server, nil
}

// withDefaults checks the settings and fills in those left out.
func (c TemporalConfig) withDefaults() (TemporalConfig, error) {
	if c.DatabaseFile == "" {
		return c, errors.New("TemporalConfig.DatabaseFile is required")
	}
	file, err := filepath.Abs(c.DatabaseFile)
	if err != nil {
		return c, fmt.Errorf("find Temporal's database file: %w", err)
	}
	c.DatabaseFile = file
	for _, setting := range []struct {
		value    *string
		fallback string
	}{
		{&c.DatabaseFlag, "another database file"},
		{&c.PortFlag, "--temporal-port"},
		{&c.UIPortFlag, "--temporal-ui-port"},
		{&c.LogFile, c.DatabaseFile + ".log"},
	} {
		if *setting.value == "" {
			*setting.value = setting.fallback
		}
	}
	return c, nil
}

// start launches the server. Where ports are free to choose, others may take them
// first, also those that the server chooses itself; then it tries again.
func (t *Temporal) start(ctx context.Context, binary string) error {
	if err := t.endOrphan(ctx); err != nil {
		return err
	}
	chosen := t.config
	for attempt := 1; ; attempt++ {
		var err error
		if t.config.Port, err = givenOrFreePort(chosen.Port, chosen.PortFlag); err != nil {
			return err
		}
		if !chosen.Headless {
			if t.config.UIPort, err = givenOrFreePort(chosen.UIPort, chosen.UIPortFlag); err != nil {
				return err
			}
		}
		err = t.launch(ctx, binary)
		if ended := (*exitError)(nil); errors.As(err, &ended) && strings.Contains(ended.tail, "address already in use") && attempt < bindAttempts {
			continue
		}
		return t.explain(err)
	}
}

// pidFile holds the number of the server's process.
func (t *Temporal) pidFile() string { return t.config.DatabaseFile + ".pid" }

// endOrphan ends a server that a killed process has left on the database file. The
// caller holds the file's lock, so nobody uses that server any more.
func (t *Temporal) endOrphan(ctx context.Context) error {
	text, err := os.ReadFile(t.pidFile())
	if err != nil {
		// Without the file there is nothing to end; one that can't be read shows below,
		// when it can't be written either.
		return nil //nolint:nilerr // See above.
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 0 {
		return nil //nolint:nilerr // A torn file says nothing.
	}
	left := orphan{pid: pid, words: []string{"--db-filename", t.config.DatabaseFile}}
	running, err := left.running(ctx)
	if err != nil || !running {
		return err
	}
	return left.end(ctx, syscall.SIGINT, orphanWait)
}

// launch starts the server and waits until it is healthy.
func (t *Temporal) launch(ctx context.Context, binary string) error {
	child, err := startProcess(processConfig{
		name:    "Temporal",
		path:    binary,
		args:    t.arguments(),
		env:     environmentWithout("TEMPORAL_"),
		logFile: t.config.LogFile,
		stop:    syscall.SIGINT,
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(t.pidFile(), []byte(strconv.Itoa(child.child.Pid)+"\n"), 0o600); err != nil {
		return errors.Join(fmt.Errorf("note Temporal's process: %w", err), child.kill())
	}
	ctx, cancel := context.WithTimeoutCause(ctx, temporalStartWait, errors.New("starting Temporal took too long"))
	defer cancel()
	conn, err := grpc.NewClient(t.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return errors.Join(fmt.Errorf("connect to Temporal: %w", err), child.kill())
	}
	defer func() { _ = conn.Close() }()
	if err := child.awaitReady(ctx, func(ctx context.Context) error { return temporalReady(ctx, conn) }); err != nil {
		return errors.Join(err, child.kill())
	}
	t.process = child
	return nil
}

// arguments are those of the Temporal CLI.
func (t *Temporal) arguments() []string {
	arguments := []string{
		"server", "start-dev",
		"--ip", "127.0.0.1",
		"--port", strconv.Itoa(t.config.Port),
		"--db-filename", t.config.DatabaseFile,
		"--log-level", "warn",
		"--sqlite-pragma", "journal_mode=wal",
		// Organizations take turns in the queue of webhooks.
		"--dynamic-config-value", "matching.useNewMatcher=true",
		"--dynamic-config-value", "matching.enableFairness=true",
	}
	if t.config.Durable {
		arguments = append(arguments, "--sqlite-pragma", "synchronous=full")
	} else {
		arguments = append(arguments, "--sqlite-pragma", "synchronous=off",
			"--dynamic-config-value", `system.namespaceCacheRefreshInterval="50ms"`)
	}
	if t.config.Headless {
		arguments = append(arguments, "--headless")
	} else {
		arguments = append(arguments, "--ui-port", strconv.Itoa(t.config.UIPort))
	}
	for _, name := range SearchAttributes() {
		arguments = append(arguments, "--search-attribute", name+"=Keyword")
	}
	return arguments
}

// temporalReady returns nil once the server serves, knows its namespace and has the
// search attributes, of which an older database file may lack some.
func temporalReady(ctx context.Context, conn *grpc.ClientConn) error {
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: temporalHealthService})
	if err != nil {
		return fmt.Errorf("ask Temporal for its health: %w", err)
	}
	if answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("temporal's health is %s", answer.GetStatus())
	}
	_, err = workflowservice.NewWorkflowServiceClient(conn).DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: TemporalNamespace})
	if err != nil {
		return fmt.Errorf("ask Temporal for its namespace: %w", err)
	}
	return EnsureSearchAttributes(ctx, conn, TemporalNamespace)
}

// explain turns the failure of a start into what the person can do about it.
func (t *Temporal) explain(err error) error {
	ended := (*exitError)(nil)
	switch {
	case !errors.As(err, &ended):
		return err
	case strings.Contains(ended.tail, "address already in use"):
		return fmt.Errorf("%w: pass others with %s and %s: %w", ErrPortTaken, t.config.PortFlag, t.config.UIPortFlag, err)
	default:
		return fmt.Errorf("temporal can't run on its database file %s: %w\nrestore the file, give %s, or remove the file to begin anew (the history of all workflows is then lost)",
			t.config.DatabaseFile, err, t.config.DatabaseFlag)
	}
}

// Address returns the host:port of the gRPC service.
func (t *Temporal) Address() string { return loopback(t.config.Port) }

// Port returns the port of the gRPC service on 127.0.0.1.
func (t *Temporal) Port() int { return t.config.Port }

// UIURL returns the address of the web pages, or "" if the server has none.
func (t *Temporal) UIURL() string {
	if t.config.Headless {
		return ""
	}
	return "http://" + loopback(t.config.UIPort)
}

// LogFile returns the file that the server logs to.
func (t *Temporal) LogFile() string { return t.config.LogFile }

// Done is closed when the server has ended, whether it was asked to or not.
func (t *Temporal) Done() <-chan struct{} { return t.process.done }

// Stop asks the server to end and returns when it has ended. If ctx ends first, the
// server is killed and an error is returned. A second Stop does nothing.
func (t *Temporal) Stop(ctx context.Context) error {
	err := t.process.stop(ctx)
	if t.process.ended() {
		_ = os.Remove(t.pidFile())
	}
	t.lock.release()
	return err
}

// Crash kills the server without giving it time to end in an orderly way. It is
// meant for tests.
func (t *Temporal) Crash() error {
	err := t.process.kill()
	t.lock.release()
	return err
}
