package pgtest

import (
	"context"
	"net/url"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/devstack"
)

// Pooler is a PgBouncer that belongs to one test, in front of a database's server.
type Pooler struct {
	config  devstack.PgBouncerConfig
	process *devstack.PgBouncer
}

// NewPooler starts a PgBouncer in a pool mode, with at most size sessions of Postgres for a user
// in a database. settings are more lines of its settings. It ends with the test.
func NewPooler(t testing.TB, database *Database, mode devstack.PoolMode, size int, settings ...string) *Pooler {
	t.Helper()
	folder, err := newFolder()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(folder)) })
	p := &Pooler{config: devstack.PgBouncerConfig{
		Folder: folder, Target: database.URL, Users: map[string]string{}, Mode: mode, PoolSize: size, Settings: settings, Output: os.Stderr,
	}}
	for _, text := range []string{database.URL, database.APIURL} {
		u, err := url.Parse(text)
		require.NoError(t, err)
		p.config.Users[u.User.Username()], _ = u.User.Password()
	}
	p.Start(t)
	t.Cleanup(func() { p.Stop(t) })
	return p
}

// URL returns a database's URL, through the pooler.
func (p *Pooler) URL(t testing.TB, database string) string {
	t.Helper()
	u, err := p.process.URL(database)
	require.NoError(t, err)
	return u
}

// Start starts a pooler that was stopped or killed, on its port.
func (p *Pooler) Start(t testing.TB) {
	t.Helper()
	process, err := devstack.StartPgBouncer(t.Context(), p.config)
	require.NoError(t, err)
	p.process = process
	p.config.Port = process.Port()
}

// Stop ends the pooler after the transactions that are under way.
func (p *Pooler) Stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), stopWait)
	defer cancel()
	require.NoError(t, p.process.Stop(ctx))
}

// Follow points the pooler at another server, which has the database, too.
func (p *Pooler) Follow(t testing.TB, database *Database) {
	t.Helper()
	p.config.Target = database.URL
	require.NoError(t, p.process.Follow(p.config))
}

// SetMode sets the pool mode of connections that come after.
func (p *Pooler) SetMode(t testing.TB, mode devstack.PoolMode) {
	t.Helper()
	p.config.Mode = mode
	require.NoError(t, p.process.Follow(p.config))
}

// Kill ends the pooler and all connections through it at once.
func (p *Pooler) Kill(t testing.TB) {
	t.Helper()
	require.NoError(t, p.process.Kill())
}
