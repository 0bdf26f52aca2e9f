package pgtest

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/devstack"
)

// NewStandby starts a standby of the server, which follows it. It ends with the test.
func (s *Server) NewStandby(t testing.TB) *Server {
	t.Helper()
	b := s.BackUp(t)
	admin := s.cluster.admin
	password, _ := admin.User.Password()
	follow := fmt.Sprintf("primary_conninfo = 'host=%s port=%s user=%s password=%s'\n", admin.Hostname(), admin.Port(), admin.User.Username(), password)
	for name, text := range map[string]string{"postgresql.auto.conf": follow, "standby.signal": ""} {
		path := filepath.Join(b.dir, name)
		// Written over a copy, it belongs to whom the server runs as.
		copyFolder(t, filepath.Join(b.dir, "PG_VERSION"), path)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	standby := &Server{config: devstack.PostgresConfig{DataDir: b.dir, Durable: true, Output: os.Stderr}}
	standby.Start(t)
	t.Cleanup(func() { standby.Stop(t) })
	var err error
	standby.cluster, err = newCluster(standby.process.URL("postgres"))
	require.NoError(t, err)
	return standby
}

// Promote makes a standby the primary.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.process.URL("postgres"))
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	_, err = conn.Exec(t.Context(), "SELECT pg_promote()")
	require.NoError(t, err)
}

// Of returns where a database of the primary is on its standby.
func (s *Server) Of(database *Database) *Database { return s.cluster.database(database.Name) }

// Hosts returns a URL of a database that names several servers.
func Hosts(t testing.TB, urls ...string) string {
	t.Helper()
	var all *url.URL
	for _, text := range urls {
		u, err := url.Parse(text)
		require.NoError(t, err)
		if all == nil {
			all = u
			continue
		}
		all.Host += "," + u.Host
	}
	return all.String()
}
