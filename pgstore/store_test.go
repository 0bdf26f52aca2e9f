package pgstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/migrations"
	"github.com/riverline/tollgate/pgstore"
)

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := pgstore.Open(t.Context(), pgstore.Config{})
	require.ErrorContains(t, err, "Config.URL")
	_, err = pgstore.Open(t.Context(), pgstore.Config{URL: "postgres://user:hunter2@host:port/x"})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")

	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := closed.Addr().String()
	require.NoError(t, closed.Close())
	_, err = pgstore.Open(t.Context(), pgstore.Config{URL: "postgres://user:hunter2@" + address + "/x"})
	require.ErrorContains(t, err, "connect")
	require.NotContains(t, err.Error(), "hunter2")
	require.True(t, pgstore.Retryable(err), "the server may start later")
}

// requireUnbound refuses each way in which row-level security doesn't bind.
func requireUnbound(t *testing.T, f *fixture) {
	t.Helper()
	owner := f.open(pgstore.Config{URL: f.db.URL})
	err := owner.CheckSchema(t.Context())
	require.ErrorIs(t, err, pgstore.ErrUnbound, "a superuser sees everything")
	require.ErrorContains(t, err, "connect as tollgate_api")
	require.False(t, pgstore.Retryable(err))
	require.NoError(t, owner.CheckSchemaVersion(t.Context()), "what a running process asks again and again is the version alone")

	// As a role of a managed service: it owns the tables, through a role that it is a member of, and is no superuser.
	role, password := "owner_"+f.db.Name, "x"
	member := strings.Replace(f.db.APIURL, "//"+apiUser(t, f.db.APIURL)+"@", "//"+role+":"+password+"@", 1)
	f.exec(fmt.Sprintf(`CREATE ROLE %[1]s_all NOLOGIN; CREATE ROLE %[1]s LOGIN PASSWORD '%[2]s' IN ROLE %[1]s_all; GRANT SELECT ON goose_db_version TO %[1]s`, role, password))
	t.Cleanup(func() {
		_, err := f.owner.Exec(context.WithoutCancel(t.Context()), fmt.Sprintf(`
			ALTER TABLE organizations OWNER TO CURRENT_USER; DROP OWNED BY %[1]s, %[1]s_all; DROP ROLE %[1]s, %[1]s_all`, role))
		require.NoError(t, err)
	})
	require.NoError(t, f.open(pgstore.Config{URL: member}).CheckSchema(t.Context()), "it owns nothing yet")
	f.exec(fmt.Sprintf(`ALTER TABLE organizations OWNER TO %s_all`, role))
	require.ErrorContains(t, f.open(pgstore.Config{URL: member}).CheckSchema(t.Context()), "sees all rows of 1 tables (organizations")

	f.exec(`ALTER TABLE webhook_attempts DISABLE ROW LEVEL SECURITY`)
	require.ErrorContains(t, f.CheckSchema(t.Context()), "sees all rows of 1 tables (webhook_attempts", "somebody has turned it off")
	f.exec(`ALTER TABLE webhook_attempts ENABLE ROW LEVEL SECURITY`)
	require.NoError(t, f.CheckSchema(t.Context()))
}

// apiUser returns the user and password of a URL.
func apiUser(t *testing.T, database string) string {
	t.Helper()
	u, err := url.Parse(database)
	require.NoError(t, err)
	return u.User.String()
}

func TestCheckSchema(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	store := f.open(pgstore.Config{URL: f.db.APIURL, Logger: logger})
	require.NoError(t, store.CheckSchema(t.Context()))
	require.Empty(t, log.String())

	requireUnbound(t, f)

	f.exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)`)
	require.ErrorIs(t, store.CheckSchema(t.Context()), pgstore.ErrSchemaNewer, "the migration doesn't say that it works with this program")
	declare := func(version, worksWith int64) {
		f.exec(fmt.Sprintf(`CREATE OR REPLACE FUNCTION tollgate_schema(OUT version bigint, OUT works_with bigint) LANGUAGE sql IMMUTABLE
			AS 'SELECT %d::bigint, %d::bigint'`, version, worksWith))
	}
	declare(99999, migrations.Latest()+1)
	require.ErrorIs(t, store.CheckSchemaVersion(t.Context()), pgstore.ErrSchemaNewer, "it works with newer ones alone")
	require.NotContains(t, log.String(), "newer than this program")
	declare(99999, migrations.Latest())
	require.NoError(t, store.CheckSchema(t.Context()), "an old program runs while a new one is rolled out")
	require.Contains(t, log.String(), "newer than this program")

	latest := migrations.Latest()
	f.exec(`DELETE FROM goose_db_version WHERE version_id >= $1`, latest)
	err := store.CheckSchema(t.Context())
	require.ErrorIs(t, err, pgstore.ErrSchema)
	require.ErrorContains(t, err, fmt.Sprintf("the database is at migration %d, this program needs %d: run `tollgate migrate`", latest-1, latest))
	require.False(t, pgstore.Retryable(err))

	empty := f.open(pgstore.Config{URL: pgtest.NewEmptyDatabase(t).URL})
	err = empty.CheckSchema(t.Context())
	require.ErrorIs(t, err, pgstore.ErrSchema)
	require.ErrorContains(t, err, "is at migration 0")
}

func TestQueryTimeout(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free")
	store := f.open(pgstore.Config{URL: f.db.APIURL, QueryTimeout: time.Second})
	tx := f.begin()
	_, err := tx.Exec(t.Context(), `LOCK TABLE organizations IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	_, err = store.Organization(t.Context(), o.ID)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.True(t, pgstore.Retryable(err))
	require.NoError(t, tx.Rollback(t.Context()))
	require.Eventually(t, func() bool {
		_, err := store.Organization(t.Context(), o.ID)
		return err == nil
	}, 30*time.Second, 50*time.Millisecond)
}

// The pool outlives its connections.
func TestStoreSurvivesLostConnections(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free")
	f.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'tollgate_api'`)
	require.Eventually(t, func() bool {
		_, err := f.Organization(t.Context(), o.ID)
		if err != nil && !pgstore.Retryable(err) {
			t.Errorf("%v is not retryable", err)
		}
		return err == nil
	}, 30*time.Second, 10*time.Millisecond)
	require.NoError(t, f.Ping(t.Context()))
}

func TestErrorsSayWhetherARetryMayHelp(t *testing.T) {
	t.Parallel()
	code := func(code string) error { return fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code}) }
	for _, err := range []error{
		code("40001"), code("40P01"), code("55P03"), code("57P01"), code("57P03"), code("08006"), code("53300"), code("53100"), code("25006"),
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, context.DeadlineExceeded, &net.OpError{Op: "read", Err: errors.New("reset")},
	} {
		require.True(t, pgstore.Retryable(err), "%v", err)
		require.True(t, (&pgstore.Error{Op: "x", Err: err}).Retryable(), "%v", err)
	}
	madeMeanwhile := &pgconn.PgError{Code: "23514", TableName: "usage_daily", Message: "new row for relation violates partition constraint"}
	require.True(t, pgstore.Retryable(madeMeanwhile))
	for _, err := range []error{
		nil, code("23505"), &pgconn.PgError{Code: "23514", ConstraintName: "usage_daily_value_check"},
		// A trigger's.
		code("23514"), code("22003"), code("42501"), code("42P01"), context.Canceled, errors.New("other"),
		fmt.Errorf("%w: %w", context.Canceled, io.EOF),
	} {
		require.False(t, pgstore.Retryable(err), "%v", err)
	}
}

func TestClosedStoreIsNoReasonToGiveUp(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	store := f.open(pgstore.Config{URL: f.db.APIURL})
	store.Close()
	require.True(t, pgstore.Retryable(store.Ping(t.Context())), "another process may go on")
}

func TestRefusedLoginMayBeMended(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, err := pgstore.Open(t.Context(), pgstore.Config{URL: strings.Replace(f.db.APIURL, migrations.APIRole, "nobody_known", 1)})
	require.Error(t, err)
	require.True(t, pgstore.Retryable(err))
}

// What a package that can't import this one does.
func TestErrorsCanBeAskedByInterface(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	err := fmt.Errorf("flush: %w", f.EnsurePartitions(ctx, today, 0))
	var asked fault.Retryable
	require.ErrorAs(t, err, &asked)
	require.True(t, asked.Retryable())
	require.ErrorContains(t, err, "make the partitions from 2026-10-15")
}
