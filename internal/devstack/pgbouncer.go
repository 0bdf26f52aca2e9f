package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// ErrPgBouncerNotInstalled says that the machine has no PgBouncer. The message says what to type.
var ErrPgBouncerNotInstalled = errors.New("PgBouncer is not installed")

var installablePgBouncer = installable{
	name: "PgBouncer", program: "pgbouncer", packageOf: func(m packageManager) string { return m.pgBouncer }, missing: ErrPgBouncerNotInstalled,
	page: "https://www.pgbouncer.org/install.html",
}

// pgBouncerStartWait bounds a start.
const pgBouncerStartWait = 20 * time.Second

// PoolMode says for how long PgBouncer gives a client a session of Postgres.
type PoolMode string

// The pool modes.
const (
	PoolSession     PoolMode = "session"
	PoolTransaction PoolMode = "transaction"
	PoolStatement   PoolMode = "statement"
)

// PgBouncerConfig says how a PgBouncer is run.
type PgBouncerConfig struct {
	// Folder receives its settings and its log. Required.
	Folder string
	// Target is a URL of the Postgres behind it. Required.
	Target string
	// Users are the passwords of those who may connect.
	Users map[string]string
	// Mode is its pool mode. Required.
	Mode PoolMode
	// PoolSize is how many sessions of Postgres a user has at most for each database. Required.
	PoolSize int
	// Port is the TCP port on 127.0.0.1; 0 takes a free one.
	Port int
	// Settings are more lines of its settings, "name = value".
	Settings []string
	// Output receives lines for the person who waits. Nil: they are dropped.
	Output io.Writer
}

// PgBouncer is a running PgBouncer. It ends with this process, even if that is killed.
type PgBouncer struct {
	process *process
	port    int
}

// StartPgBouncer starts a PgBouncer in front of a Postgres, and returns once it accepts
// connections. It is installed if it is missing and the user may, as by [StartPostgres]; else
// the error wraps [ErrPgBouncerNotInstalled]. When root starts it, it runs as the user as
// which Postgres would. The end of ctx ends the start, not PgBouncer: use Stop.
func StartPgBouncer(ctx context.Context, config PgBouncerConfig) (*PgBouncer, error) {
	if config.Output == nil {
		config.Output = io.Discard
	}
	binary, err := installablePgBouncer.findOrInstall(ctx, config.Output)
	if err != nil {
		return nil, err
	}
	account, err := postgresAccount(config.Folder)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, pgBouncerStartWait, errors.New("starting PgBouncer took too long"))
	defer cancel()
	for attempt := 1; ; attempt++ {
		p := &PgBouncer{}
		if p.port, err = givenOrFreePort(config.Port, "another port"); err != nil {
			return nil, err
		}
		settings, err := config.write(p.port, account)
		if err != nil {
			return nil, err
		}
		p.process, err = startProcess(processConfig{
			name: "PgBouncer", path: binary, args: []string{settings}, env: postgresEnvironment(), account: account,
			logFile: filepath.Join(config.Folder, "pgbouncer.log"), stop: syscall.SIGINT,
		})
		if err != nil {
			return nil, err
		}
		err = p.process.awaitReady(ctx, p.ready)
		if err == nil {
			return p, nil
		}
		err = errors.Join(err, p.process.kill())
		// Another program may have taken the port first.
		if ended := (*exitError)(nil); errors.As(err, &ended) && config.Port == 0 && attempt < bindAttempts {
			continue
		}
		return nil, err
	}
}

// write writes the settings and the users, and returns the settings' path.
func (c PgBouncerConfig) write(port int, account *account) (string, error) {
	target, err := url.Parse(c.Target)
	if err != nil {
		return "", errors.New("PgBouncerConfig.Target must have the form postgres://user:password@host:port/database")
	}
	users := filepath.Join(c.Folder, "users.txt")
	lines := slices.Concat([]string{
		"[databases]",
		// The one that is named follows a change of the settings, those that the star stands for don't.
		fmt.Sprintf("%s = host=%s port=%s", strings.TrimPrefix(target.Path, "/"), target.Hostname(), target.Port()),
		fmt.Sprintf("* = host=%s port=%s", target.Hostname(), target.Port()),
		"[pgbouncer]", "listen_addr = 127.0.0.1", fmt.Sprintf("listen_port = %d", port), "unix_socket_dir =",
		"auth_type = scram-sha-256", "auth_file = " + users,
		"pool_mode = " + string(c.Mode), fmt.Sprintf("default_pool_size = %d", c.PoolSize),
		"max_client_conn = 1000", "server_login_retry = 1",
	}, c.Settings)
	var passwords strings.Builder
	for user, password := range c.Users {
		fmt.Fprintf(&passwords, "%q %q\n", user, password)
	}
	settings := filepath.Join(c.Folder, "pgbouncer.ini")
	for path, text := range map[string]string{settings: strings.Join(lines, "\n") + "\n", users: passwords.String()} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("write PgBouncer's settings: %w", err)
		}
		if account == nil {
			continue
		}
		if err := account.own(path); err != nil {
			return "", err
		}
	}
	return settings, nil
}

// ready reports whether it accepts connections.
func (p *PgBouncer) ready(ctx context.Context) error {
	conn, err := (&net.Dialer{Timeout: dialWait}).DialContext(ctx, "tcp", loopback(p.port))
	if err != nil {
		return fmt.Errorf("connect to PgBouncer: %w", err)
	}
	return conn.Close()
}

// URL returns a URL of a database's, with its address in place of Postgres's.
func (p *PgBouncer) URL(database string) (string, error) {
	u, err := url.Parse(database)
	if err != nil {
		return "", errors.New("the database URL must have the form postgres://user:password@host:port/database")
	}
	u.Host = loopback(p.port)
	return u.String(), nil
}

// Follow points it at another Postgres, as after a failover: connections to it stay.
func (p *PgBouncer) Follow(config PgBouncerConfig) error {
	account, err := postgresAccount(config.Folder)
	if err != nil {
		return err
	}
	if _, err := config.write(p.port, account); err != nil {
		return err
	}
	p.process.signal(syscall.SIGHUP)
	return nil
}

// Port returns the port on which it listens.
func (p *PgBouncer) Port() int { return p.port }

// Stop ends it after the transactions under way, and kills it when ctx ends first.
func (p *PgBouncer) Stop(ctx context.Context) error { return p.process.stop(ctx) }

// Kill ends it at once, as kill -9 does.
func (p *PgBouncer) Kill() error { return p.process.kill() }
