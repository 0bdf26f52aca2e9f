package devstack

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// query runs SQL as the superuser and returns its first value.
func query(t *testing.T, server *Postgres, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL("postgres"))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	var got string
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&got))
	return got
}

// execute runs SQL as the superuser.
func execute(t *testing.T, server *Postgres, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL("postgres"))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func TestPostgresKeepsItsDataAcrossStarts(t *testing.T) {
	t.Parallel()
	config := PostgresConfig{DataDir: filepath.Join(sharedTempDir(t), "nested", "data"), Durable: true}
	server, err := StartPostgres(t.Context(), config)
	require.NoError(t, err)
	require.Equal(t, "on", query(t, server, "SHOW fsync"))
	require.Equal(t, "on", query(t, server, "SHOW data_checksums"))
	require.Equal(t, "UTC", query(t, server, "SHOW timezone"))
	require.Equal(t, "127.0.0.1", query(t, server, "SHOW listen_addresses"))
	execute(t, server, "CREATE TABLE t AS SELECT 'kept' AS v")
	for range 2 {
		require.NoError(t, server.CreateDatabase(t.Context(), "odd name"))
	}
	require.Equal(t, "1", query(t, server, "SELECT count(*)::text FROM pg_database WHERE datname = 'odd name'"))
	pid := server.process.child.Pid
	stop(t, server)
	requireGone(t, pid)
	stop(t, server)

	config.Port = server.Port()
	begin := time.Now()
	server, err = StartPostgres(t.Context(), config)
	require.NoError(t, err)
	require.Less(t, time.Since(begin), time.Minute)
	require.Equal(t, config.Port, server.Port())
	require.Equal(t, "kept", query(t, server, "SELECT v FROM t"))

	_, err = StartPostgres(t.Context(), PostgresConfig{DataDir: config.DataDir})
	require.ErrorIs(t, err, ErrFolderInUse)
	require.ErrorContains(t, err, "the data folder "+server.DataDir()+": in use by another process (process "+strconv.Itoa(os.Getpid()))

	require.NoError(t, server.Crash(t.Context()))
	server, err = StartPostgres(t.Context(), config)
	require.NoError(t, err)
	require.Equal(t, "kept", query(t, server, "SELECT v FROM t"), "a crash must lose nothing that is committed")
	stop(t, server)
}

func TestPostgresForTestsIsNotDurable(t *testing.T) {
	t.Parallel()
	server, err := StartPostgres(t.Context(), PostgresConfig{DataDir: filepath.Join(sharedTempDir(t), "data")})
	require.NoError(t, err)
	defer stop(t, server)
	for _, setting := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		require.Equal(t, "off", query(t, server, "SHOW "+setting), setting)
	}
	_, err = pgx.Connect(t.Context(), "postgres://postgres:wrong@127.0.0.1:"+strconv.Itoa(server.Port())+"/postgres?sslmode=disable")
	require.ErrorContains(t, err, "password authentication failed")
}

// The server must end with the process that started it, however that ends.
func TestPostgresEndsWithAKilledProcess(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(sharedTempDir(t), "data")
	helper, pid := startHelper(t, "postgres", dir)
	killHard(t, helper)
	requireGone(t, pid)
	require.NoFileExists(t, filepath.Join(dir, "postmaster.pid"), "the server must have shut down in order")
}

// A start ends a server that nobody owns any more.
func TestPostgresEndsAnOrphan(t *testing.T) {
	t.Parallel()
	config := PostgresConfig{DataDir: filepath.Join(sharedTempDir(t), "data")}
	server, err := StartPostgres(t.Context(), config)
	require.NoError(t, err)
	config.Port = server.Port()
	server.lock.release()

	next, err := StartPostgres(t.Context(), config)
	require.NoError(t, err)
	requireGone(t, server.process.child.Pid)
	require.Equal(t, "1", query(t, next, "SELECT '1'"))
	stop(t, next)
}

// A number in postmaster.pid that another program has got since must not stop a start.
func TestPostgresIgnoresAStalePidFile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(sharedTempDir(t), "data")
	server, err := StartPostgres(t.Context(), PostgresConfig{DataDir: dir})
	require.NoError(t, err)
	stop(t, server)
	pidFile := filepath.Join(dir, "postmaster.pid")
	require.NoError(t, os.WriteFile(pidFile, []byte(strconv.Itoa(os.Getpid())+"\n"+dir+"\n"), 0o644))
	server, err = StartPostgres(t.Context(), PostgresConfig{DataDir: dir})
	require.NoError(t, err)
	stop(t, server)

	require.NoError(t, os.WriteFile(pidFile, []byte("garbage"), 0o644))
	_, err = StartPostgres(t.Context(), PostgresConfig{DataDir: dir})
	require.EqualError(t, err, "the data folder "+dir+` is broken: its postmaster.pid begins with "garbage"`)
}

func TestStartPostgresRefuses(t *testing.T) {
	t.Parallel()
	_, err := StartPostgres(t.Context(), PostgresConfig{})
	require.EqualError(t, err, "PostgresConfig.DataDir is required")

	dir := filepath.Join(sharedTempDir(t), "data")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	taken := listener.Addr().(*net.TCPAddr).Port
	_, err = StartPostgres(t.Context(), PostgresConfig{DataDir: dir, Port: taken})
	require.ErrorIs(t, err, ErrPortTaken)
	require.ErrorContains(t, err, "pass another with --postgres-port")

	// The folder's lock was given back, and the data that was made is whole.
	server, err := StartPostgres(t.Context(), PostgresConfig{DataDir: dir})
	require.NoError(t, err)
	stop(t, server)

	control := filepath.Join(dir, "global", "pg_control")
	require.NoError(t, os.WriteFile(control, []byte("not a control file"), 0o600))
	_, err = StartPostgres(t.Context(), PostgresConfig{DataDir: dir, DataDirFlag: "--data-dir"})
	require.ErrorContains(t, err, "the data folder "+dir+" can't be used: Postgres ended while it was starting (log: "+dir+".log)")
	require.ErrorContains(t, err, "pg_control")
	require.ErrorContains(t, err, "restore the folder, give --data-dir, or remove the folder")

	require.NoError(t, os.Remove(filepath.Join(dir, passwordFile)))
	_, err = StartPostgres(t.Context(), PostgresConfig{DataDir: dir})
	require.ErrorContains(t, err, "was not made by Tollgate (it has no tollgate.password)")
}
