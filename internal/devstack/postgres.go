package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// superuser is the role that owns everything in a private Postgres.
	superuser = "postgres"
	// postgresStartWait bounds a start, crash recovery included.
	postgresStartWait = 60 * time.Second
	// bindAttempts is how many free ports are tried when others take them first.
	bindAttempts = 3
)

// PostgresConfig says how a private Postgres is run.
type PostgresConfig struct {
	// DataDir is the data folder. It is made if it is missing or empty, and kept
	// when the server stops. Required.
	DataDir string
	// DataDirFlag is what error messages call DataDir, for example "--data-dir".
	// Empty: "another data folder".
	DataDirFlag string
	// Port is the TCP port on 127.0.0.1; 0 takes a free one.
	Port int
	// PortFlag is what error messages call Port. Empty: "--postgres-port".
	PortFlag string
	// Durable makes a commit survive a loss of power. False (for tests) is faster, and
	// a crash of the machine may lose the data.
	Durable bool
	// LogFile receives the server's log. Empty: DataDir with ".log" at its end.
	LogFile string
	// Output receives lines for the person who waits: what is installed, and where
	// the data is if it can't be in DataDir. Nil: they are dropped.
	Output io.Writer
}

// Postgres is a running private Postgres server.
type Postgres struct {
	process  *process
	lock     *fileLock
	data     postgresData
	port     int
	password string
}

// StartPostgres starts a private Postgres on a data folder, and returns once it
// answers. It uses the newest server programs that are installed, or those with
// which existing data was made. If there are none it installs them, if the user may
// (root with apt-get, anyone with Homebrew); else the error wraps
// ErrPostgresNotInstalled and says what to type. When root starts it, the server
// runs as user "postgres" or "nobody".
//
// The error wraps ErrFolderInUse if another process runs a server on the folder,
// and ErrPortTaken if another program has the port. The end of ctx ends the start,
// not the server: use Stop.
func StartPostgres(ctx context.Context, config PostgresConfig) (*Postgres, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, installWait, errors.New("starting Postgres took too long"))
	defer cancel()

	data, err := placeData(config.DataDir, config.Output)
	if errors.Is(err, errForeignData) {
		return nil, fmt.Errorf("%w: give %s, or remove the folder", err, config.DataDirFlag)
	}
	if err != nil {
		return nil, err
	}
	lock, err := tryLock(data.dir + ".lock")
	if err != nil {
		return nil, fmt.Errorf("the data folder %s: %w", data.dir, err)
	}
	server, err := startOn(ctx, config, data)
	if err != nil {
		lock.release()
		return nil, err
	}
	server.lock = lock
	return server, nil
}

// installWait bounds a start that has to install Postgres first.
const installWait = 15 * time.Minute

// withDefaults checks the settings and fills in those left out.
func (c PostgresConfig) withDefaults() (PostgresConfig, error) {
	if c.DataDir == "" {
		return c, errors.New("PostgresConfig.DataDir is required")
	}
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return c, fmt.Errorf("find the data folder: %w", err)
	}
	c.DataDir = dir
	if c.PortFlag == "" {
		c.PortFlag = "--postgres-port"
	}
	if c.DataDirFlag == "" {
		c.DataDirFlag = "another data folder"
	}
	if c.Output == nil {
		c.Output = io.Discard
	}
	return c, nil
}

// startOn starts a server on a data folder of which the caller holds the lock.
func startOn(ctx context.Context, config PostgresConfig, data postgresData) (*Postgres, error) {
	if err := data.endOrphan(ctx); err != nil {
		return nil, err
	}
	install, err := findOrInstallPostgres(ctx, data, config.Output)
	if err != nil {
		return nil, err
	}
	if data.major == 0 {
		if err := data.create(ctx, install, config.Durable); err != nil {
			return nil, err
		}
	}
	password, err := data.password()
	if err != nil {
		return nil, err
	}
	server := &Postgres{data: data, password: password}
	for attempt := 1; ; attempt++ {
		server.port, err = givenOrFreePort(config.Port, config.PortFlag)
		if err != nil {
			return nil, err
		}
		err = server.launch(ctx, install, config)
		// Somebody may have taken a free port since we looked.
		if errors.Is(err, ErrPortTaken) && config.Port == 0 && attempt < bindAttempts {
			continue
		}
		if err != nil {
			return nil, err
		}
		return server, nil
	}
}

// findOrInstallPostgres returns the server programs for the data folder.
func findOrInstallPostgres(ctx context.Context, data postgresData, output io.Writer) (postgresInstall, error) {
	find := func() (postgresInstall, error) {
		return choosePostgres(findPostgres(ctx, os.Getenv("PATH"), postgresFolders), data.dir, data.major)
	}
	install, err := find()
	if !errors.Is(err, ErrPostgresNotInstalled) {
		return install, err
	}
	if err := installablePostgres.install(ctx, output); err != nil {
		return postgresInstall{}, err
	}
	return find()
}

// launch starts the server and waits until it answers.
func (p *Postgres) launch(ctx context.Context, install postgresInstall, config PostgresConfig) error {
	logFile := config.LogFile
	if logFile == "" {
		logFile = p.data.dir + ".log"
	}
	child, err := startProcess(processConfig{
		name:    "Postgres",
		path:    install.program("postgres"),
		args:    p.arguments(config.Durable),
		env:     postgresEnvironment(),
		account: p.data.account,
		logFile: logFile,
		stop:    syscall.SIGINT,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, postgresStartWait, errors.New("starting Postgres took too long"))
	defer cancel()
	if err := child.awaitReady(ctx, p.ping); err != nil {
		return errors.Join(p.explain(err, config), child.kill())
	}
	p.process = child
	return nil
}

// arguments are those of the postgres program. They override the settings in the
// data folder, so that those can't move the server elsewhere.
func (p *Postgres) arguments(durable bool) []string {
	settings := []string{
		"listen_addresses=127.0.0.1",
		"port=" + strconv.Itoa(p.port),
		"unix_socket_directories=",
		"max_connections=360",
		"timezone=UTC",
		"log_timezone=UTC",
		"logging_collector=off",
		"log_destination=stderr",
	}
	if !durable {
		settings = append(settings, "fsync=off", "synchronous_commit=off", "full_page_writes=off",
			// Hundreds of databases, each for seconds: a worker for every one of them would take their time.
			"autovacuum_naptime=10min")
	}
	arguments := []string{"-D", p.data.dir}
	for _, setting := range settings {
		arguments = append(arguments, "-c", setting)
	}
	return arguments
}

// postgresEnvironment is the environment of the server programs: messages in
// English, and none of libpq's variables.
func postgresEnvironment() []string {
	return append(environmentWithout("PG", "LC_", "LANG"), "LC_ALL=C")
}

// ping asks the server for a first answer.
func (p *Postgres) ping(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.URL(superuser))
	if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) && refused.Code == pgInvalidPassword {
		return permanentError{fmt.Errorf("the data folder %s has another superuser password than its %s says: %w", p.data.dir, passwordFile, err)}
	}
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	if err := conn.Close(ctx); err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	return nil
}

// SQLSTATEs that Postgres answers with.
const (
	pgInvalidPassword   = "28P01"
	pgDuplicateDatabase = "42P04"
)

// explain turns the failure of a start into what the person can do about it.
func (p *Postgres) explain(err error, config PostgresConfig) error {
	ended := (*exitError)(nil)
	switch {
	case !errors.As(err, &ended):
		return err
	case strings.Contains(ended.tail, "Address already in use"):
		return &portTakenError{port: strconv.Itoa(p.port), flag: config.PortFlag}
	default:
		return fmt.Errorf("the data folder %s can't be used: %w\nrestore the folder, give %s, or remove the folder to begin anew (all that is stored in it is then lost)",
			p.data.dir, err, config.DataDirFlag)
	}
}

// URL returns the superuser's connection URL of a database, which need not exist.
func (p *Postgres) URL(database string) string {
	location := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, p.password),
		Host:     loopback(p.port),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return location.String()
}

// CreateDatabase makes a database unless it is there.
func (p *Postgres) CreateDatabase(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, p.URL(superuser))
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) && refused.Code == pgDuplicateDatabase {
		return nil
	}
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// Port returns the TCP port on 127.0.0.1.
func (p *Postgres) Port() int { return p.port }

// DataDir returns the folder in which the data is: that of the config, or the one
// taken because the server's user can't reach that.
func (p *Postgres) DataDir() string { return p.data.dir }

// LogFile returns the file that the server logs to.
func (p *Postgres) LogFile() string { return p.process.config.logFile }

// Done is closed when the server has ended, whether it was asked to or not.
func (p *Postgres) Done() <-chan struct{} { return p.process.done }

// Stop shuts the server down: it ends all sessions, writes everything to disk and
// returns when the server has ended. If ctx ends first, the server is killed, which
// loses nothing that was committed durably, and an error is returned. A second
// Stop does nothing.
func (p *Postgres) Stop(ctx context.Context) error {
	err := p.process.stop(ctx)
	p.lock.release()
	return err
}

// Crash ends the server at once, as a crash would: it writes nothing more, and the
// next start recovers from the write-ahead log. It is meant for tests.
func (p *Postgres) Crash(ctx context.Context) error {
	err := p.process.crash(ctx)
	p.lock.release()
	return err
}
