package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/devstack"
)

// environmentOf runs a command that writes down the two variables.
func environmentOf(t *testing.T, tail string) (code int, database, temporal string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "environment")
	t.Setenv("FILE", file)
	code, err := run(t.Context(), false, []string{"sh", "-c", `echo "$` + databaseVariable + ` $` + temporalVariable + `" >"$FILE"; ` + tail})
	require.NoError(t, err)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	database, temporal, _ = strings.Cut(strings.TrimSpace(string(text)), " ")
	return code, database, temporal
}

func TestRunGivesTheCommandItsServersAndStopsThem(t *testing.T) {
	t.Setenv(databaseVariable, "")
	t.Setenv(temporalVariable, "")
	code, database, temporal := environmentOf(t, "exit 7")
	require.Equal(t, 7, code, "the exit code must be the command's")
	require.Regexp(t, `^postgres://postgres:\w+@127\.0\.0\.1:\d+/postgres`, database)
	require.Regexp(t, `^127\.0\.0\.1:\d+$`, temporal)

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := pgx.Connect(ctx, database)
	require.Error(t, err, "the server must have been stopped")
}

func TestRunHasADurablePostgresWhereItIsAskedFor(t *testing.T) {
	for _, durable := range []bool{false, true} {
		folder := t.TempDir()
		require.NoError(t, os.Chmod(folder, 0o755), "Postgres runs as a user of its own")
		_, running, err := postgresService(folder, durable).start(t.Context())
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, stopServer(context.WithoutCancel(t.Context()), running)) })
		conn, err := pgx.Connect(t.Context(), running.(*devstack.Postgres).URL("postgres"))
		require.NoError(t, err)
		var fsync string
		require.NoError(t, conn.QueryRow(t.Context(), `SHOW fsync`).Scan(&fsync))
		require.Equal(t, map[bool]string{false: "off", true: "on"}[durable], fsync)
		require.NoError(t, conn.Close(t.Context()))
	}
}

func TestRunKeepsServersThatTheEnvironmentNames(t *testing.T) {
	t.Setenv(databaseVariable, "postgres://given")
	t.Setenv(temporalVariable, "given:7233")
	code, database, temporal := environmentOf(t, "exit 0")
	require.Zero(t, code)
	require.Equal(t, "postgres://given", database)
	require.Equal(t, "given:7233", temporal)
}

func TestRunEndsTheCommandWithItself(t *testing.T) {
	t.Setenv(databaseVariable, "postgres://given")
	t.Setenv(temporalVariable, "given:7233")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	code, err := run(ctx, false, []string{"sleep", "3600"})
	require.NoError(t, err)
	require.Equal(t, interruptedCode, code)
	require.Less(t, time.Since(begin), stopWait)

	_, err = run(t.Context(), false, []string{"no-such-program"})
	require.ErrorContains(t, err, "run no-such-program")
}
