package migrations_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/migrations"
)

// A migration is not undone under programs that run, and what goes with it is said.
func TestDownRefusesWhileProgramsAreConnected(t *testing.T) {
	db := pgtest.NewEmptyDatabase(t)
	name, losses, err := migrations.Losses(t.Context(), db.URL)
	require.NoError(t, err)
	require.Empty(t, name, "there is nothing to undo")
	require.Empty(t, losses)
	require.NoError(t, migrations.Up(t.Context(), db.URL))
	latest := migrations.Latest()
	owner := connect(t, db.URL)
	fill(t, owner)
	name, losses, err = migrations.Losses(t.Context(), db.URL)
	require.NoError(t, err)
	require.Equal(t, "00010_audit.sql", name)
	var entries int64
	require.NoError(t, owner.QueryRow(t.Context(), `SELECT count(*) FROM audit_entries`).Scan(&entries))
	require.Positive(t, entries)
	require.Equal(t, []migrations.TableLoss{{Table: "audit_digests"}, {Table: "audit_entries", Rows: entries}}, losses)

	// The role's password belongs to the cluster: it is that of the other tests.
	api, err := pgx.ParseConfig(db.APIURL)
	require.NoError(t, err)
	for what, program := range map[string]func(*pgx.ConnConfig){
		"by its name": func(c *pgx.ConnConfig) { c.RuntimeParams["application_name"] = migrations.ApplicationName },
		"by its role": func(c *pgx.ConnConfig) { c.User, c.Password = api.User, api.Password },
	} {
		require.NoError(t, migrations.EnableLogin(t.Context(), db.URL, api.Password))
		config, err := pgx.ParseConfig(db.URL)
		require.NoError(t, err)
		program(config)
		conn, err := pgx.ConnectConfig(t.Context(), config)
		require.NoError(t, err, what)
		require.ErrorIs(t, migrations.Down(t.Context(), db.URL), migrations.ErrInUse, what)
		err = migrations.DownTo(t.Context(), db.URL, 0)
		require.ErrorIs(t, err, migrations.ErrInUse, what)
		require.ErrorContains(t, err, "1 sessions", what)
		version, err := migrations.Version(t.Context(), db.URL)
		require.NoError(t, err)
		require.Equal(t, latest, version, what)
		require.NoError(t, conn.Close(t.Context()))
	}
	require.Eventually(t, func() bool { return migrations.Down(t.Context(), db.URL) == nil }, 30*time.Second, 50*time.Millisecond)
}

// A migration that waits for a lock gives up, before all that asks for the table waits behind it for long.
func TestMigrationsWaitForLocksForABoundedTime(t *testing.T) {
	db := pgtest.NewEmptyDatabase(t)
	require.NoError(t, migrations.Up(t.Context(), db.URL))
	tx, err := connect(t, db.URL).Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE audit_entries IN ACCESS SHARE MODE`)
	require.NoError(t, err)
	config, err := pgx.ParseConfig(db.URL)
	require.NoError(t, err)
	require.NotContains(t, config.RuntimeParams, "lock_timeout")
	impatient := withParameter(t, db.URL, "lock_timeout", "200ms")
	began := time.Now()
	err = migrations.Down(t.Context(), impatient)
	require.ErrorContains(t, err, "somebody holds a lock")
	require.Less(t, time.Since(began), 20*time.Second)
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, migrations.Down(t.Context(), impatient))
}

func withParameter(t *testing.T, database, name, value string) string {
	t.Helper()
	u, err := url.Parse(database)
	require.NoError(t, err)
	query := u.Query()
	query.Set(name, value)
	u.RawQuery = query.Encode()
	return u.String()
}
