package pgtest

import (
	"context"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/migrations"
)

func TestMain(m *testing.M) { Main(m) }

// connect opens a session that ends with the test.
func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// one runs SQL that answers one value.
func one[T any](t *testing.T, conn *pgx.Conn, sql string) T {
	t.Helper()
	var got T
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&got))
	return got
}

func TestNewDatabaseIsMigrated(t *testing.T) {
	t.Parallel()
	database := NewDatabase(t)
	version, err := migrations.Version(t.Context(), database.URL)
	require.NoError(t, err)
	require.Equal(t, migrations.Latest(), version)

	owner := connect(t, database.URL)
	require.Equal(t, database.Name, one[string](t, owner, "SELECT current_database()"))
	require.True(t, one[bool](t, owner, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))
	api := connect(t, database.APIURL)
	require.Equal(t, database.Name, one[string](t, api, "SELECT current_database()"))
	require.Equal(t, migrations.APIRole, one[string](t, api, "SELECT current_user"))
	require.False(t, one[bool](t, api, "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"))
}

// Tests that run at the same time don't see each other's data, and a test's database
// goes with it even if a session is still open.
func TestDatabasesAreSeparateAndDropped(t *testing.T) {
	t.Parallel()
	admin := connect(t, sharedCluster(t).admin.String())
	var names []string
	t.Run("separate", func(t *testing.T) {
		for range 2 {
			database := NewDatabase(t)
			names = append(names, database.Name)
			conn, err := pgx.Connect(t.Context(), database.URL)
			require.NoError(t, err)
			_, err = conn.Exec(t.Context(), "CREATE TABLE mine ()")
			require.NoError(t, err, "the table of the other test must not be there")
		}
	})
	require.Len(t, names, 2)
	var left int
	require.NoError(t, admin.QueryRow(t.Context(), "SELECT count(*) FROM pg_database WHERE datname = ANY ($1)", names).Scan(&left))
	require.Zero(t, left)
}

func TestNewEmptyDatabaseHasNoMigration(t *testing.T) {
	t.Parallel()
	conn := connect(t, NewEmptyDatabase(t).URL)
	require.Zero(t, one[int](t, conn, "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"))
}

func TestTemplateIsMadeOnceAndAnewWhenItWasLeftHalfMade(t *testing.T) {
	t.Parallel()
	server := NewServer(t)
	admin := connect(t, server.cluster.admin.String())
	name, err := templateName(migrations.FS, time.Now())
	require.NoError(t, err)
	for _, statement := range []string{
		"ALTER DATABASE " + quoted(name) + " IS_TEMPLATE false", "DROP DATABASE " + quoted(name), "CREATE DATABASE " + quoted(name),
	} {
		_, err = admin.Exec(t.Context(), statement)
		require.NoError(t, err)
	}

	api := connect(t, server.NewDatabase(t).APIURL)
	require.Positive(t, one[int](t, api, "SELECT count(*) FROM goose_db_version"), "the half-made template must not be used")

	oid := func() uint32 {
		return one[uint32](t, admin, "SELECT oid FROM pg_database WHERE datistemplate AND datname LIKE 'tollgate%'")
	}
	first := oid()
	other, err := newCluster(server.cluster.admin.String())
	require.NoError(t, err)
	other.newDatabase(t, true)
	require.Equal(t, first, oid(), "another test binary must use the same template")
}

// A server of a test's own has the template from its start, and is as durable as one that was made anew.
func TestServersBeginAsACopy(t *testing.T) {
	t.Parallel()
	admin := connect(t, NewServer(t).cluster.admin.String())
	require.Equal(t, 1, one[int](t, admin, "SELECT count(*) FROM pg_database WHERE datistemplate AND datname LIKE 'tollgate%'"))
	require.Equal(t, "on", one[string](t, admin, "SHOW fsync"))
	require.Equal(t, "on", one[string](t, admin, "SHOW data_checksums"))
}

func TestTemplateNameFollowsTheMigrations(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, time.December, 31, 23, 30, 0, 0, time.FixedZone("west", -3600))
	files := fstest.MapFS{"1.sql": {Data: []byte("a")}, "2.sql": {Data: []byte("b")}}
	name, err := templateName(files, now)
	require.NoError(t, err)
	require.Regexp(t, `^tollgate_template_202701_[0-9a-f]{16}$`, name)

	for reason, changed := range map[string]fstest.MapFS{
		"another text":    {"1.sql": {Data: []byte("a")}, "2.sql": {Data: []byte("c")}},
		"another name":    {"1.sql": {Data: []byte("a")}, "3.sql": {Data: []byte("b")}},
		"another file":    {"1.sql": {Data: []byte("a")}, "2.sql": {Data: []byte("b")}, "3.sql": {}},
		"moved text":      {"1.sql": {Data: []byte("ab")}, "2.sql": {}},
		"one file of two": {"1.sql": {Data: []byte("a")}},
	} {
		other, err := templateName(changed, now)
		require.NoError(t, err)
		require.NotEqual(t, name, other, reason)
	}
	again, err := templateName(files, now.Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, name, again)
}

func TestServerStopsCrashesAndStarts(t *testing.T) {
	t.Parallel()
	server := NewServer(t)
	database := server.NewDatabase(t)
	conn := connect(t, database.URL)
	_, err := conn.Exec(t.Context(), "CREATE TABLE kept AS SELECT 1 AS v")
	require.NoError(t, err)

	server.Stop(t)
	_, err = pgx.Connect(t.Context(), database.URL)
	require.Error(t, err)
	server.Start(t)
	conn = connect(t, database.APIURL)
	require.Equal(t, 1, one[int](t, connect(t, database.URL), "SELECT v FROM kept"))

	server.Crash(t)
	_, err = conn.Exec(t.Context(), "SELECT 1")
	require.Error(t, err)
	server.Start(t)
	require.Equal(t, 1, one[int](t, connect(t, database.URL), "SELECT v FROM kept"))
	server.Restart(t)
	require.Equal(t, 1, one[int](t, connect(t, database.URL), "SELECT v FROM kept"))
}

func TestServerIsSuspendedAndResumed(t *testing.T) {
	t.Parallel()
	server := NewServer(t)
	conn := connect(t, server.NewDatabase(t).URL)
	server.Suspend(t)
	answered := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), "SELECT 1")
		answered <- err
	}()
	select {
	case err := <-answered:
		require.Fail(t, "a suspended server answers", "%v", err)
	case <-time.After(200 * time.Millisecond):
	}
	server.Resume(t)
	require.NoError(t, <-answered)
}

func TestABackupIsRestored(t *testing.T) {
	t.Parallel()
	server := NewServer(t)
	database := server.NewDatabase(t)
	conn := connect(t, database.URL)
	_, err := conn.Exec(t.Context(), "CREATE TABLE kept AS SELECT 1 AS v")
	require.NoError(t, err)
	backup := server.BackUp(t)
	for range 2 {
		_, err = connect(t, database.URL).Exec(t.Context(), "UPDATE kept SET v = v + 1")
		require.NoError(t, err)
		server.Restore(t, backup)
		require.Equal(t, 1, one[int](t, connect(t, database.URL), "SELECT v FROM kept"))
	}
}

func TestNewClusterRefusesWhatIsNoURL(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "host=localhost", "mysql://localhost/db", "postgres:///db", "postgres://user:secret@host:port"} {
		_, err := newCluster(bad)
		require.EqualError(t, err, "the database URL must have the form postgres://user:password@host:port/database", bad)
	}
}

func BenchmarkNewDatabase(b *testing.B) {
	for b.Loop() {
		sharedCluster(b).newDatabase(b, true)
	}
}
