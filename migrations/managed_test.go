package migrations_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/migrations"
)

// The owner of a database on a managed service is no superuser: it may make roles, and has what it
// made.
func TestMigrationsNeedNoSuperuser(t *testing.T) {
	// A server of its own: roles belong to all databases of one.
	db := pgtest.NewVirginServer(t).NewEmptyDatabase(t)
	admin := connect(t, db.URL)
	var database string
	var roles int
	require.NoError(t, admin.QueryRow(t.Context(), `SELECT current_database(), (SELECT count(*) FROM pg_roles WHERE rolname = $1)`, migrations.APIRole).Scan(&database, &roles))
	require.Zero(t, roles, "the owner makes the role")
	for _, statement := range []string{
		`CREATE ROLE owner LOGIN PASSWORD 'trial-of-an-owner' CREATEROLE`,
		`ALTER DATABASE "` + database + `" OWNER TO owner`,
	} {
		_, err := admin.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	as, err := url.Parse(db.URL)
	require.NoError(t, err)
	as.User = url.UserPassword("owner", "trial-of-an-owner")
	require.NoError(t, migrations.Up(t.Context(), as.String()))
	const password = "trial-of-the-api"
	require.NoError(t, migrations.EnableLogin(t.Context(), as.String(), password))
	as.User = url.UserPassword(migrations.APIRole, password)
	require.NoError(t, connect(t, as.String()).Ping(t.Context()))
}
