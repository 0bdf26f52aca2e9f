//go:build pooler

// The tag is for PgBouncer, which has to be installed: make test-pooler.

package pooler_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/devstack"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/pgstore/pooler"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func config(t *testing.T, url string) *pgx.ConnConfig {
	t.Helper()
	c, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	return c
}

func TestFind(t *testing.T) {
	t.Parallel()
	database := pgtest.NewEmptyDatabase(t)
	for _, tt := range []struct {
		name string
		mode devstack.PoolMode
		// settings are PgBouncer's, parameters the URL's.
		settings   []string
		parameters string
		size       int
		want       pooler.Kind
		wantErr    error
	}{
		{name: "Postgres itself", want: pooler.None},
		{name: "session", mode: devstack.PoolSession, size: 4, want: pooler.Session},
		{name: "session, of which there is one", mode: devstack.PoolSession, size: 1, settings: []string{"query_wait_timeout = 1"}, wantErr: pooler.ErrFull},
		{name: "transaction", mode: devstack.PoolTransaction, size: 4, want: pooler.Transaction},
		{name: "transaction, of which there is one", mode: devstack.PoolTransaction, size: 1, want: pooler.Transaction},
		{name: "transaction, in turn", mode: devstack.PoolTransaction, size: 4, settings: []string{"server_round_robin = 1"}, want: pooler.Transaction},
		{name: "statement", mode: devstack.PoolStatement, size: 4, wantErr: pooler.ErrStatement},
		{name: "a parameter", mode: devstack.PoolTransaction, size: 4, parameters: "&statement_timeout=1000", wantErr: pooler.ErrParameter},
		{
			name: "a parameter that is ignored", mode: devstack.PoolTransaction, size: 4, parameters: "&statement_timeout=1000",
			settings: []string{"ignore_startup_parameters = statement_timeout"}, want: pooler.Transaction,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := database.URL
			if tt.mode != "" {
				url = pgtest.NewPooler(t, database, tt.mode, tt.size, tt.settings...).URL(t, url)
			}
			kind, err := pooler.Find(t.Context(), config(t, url+tt.parameters))
			require.ErrorIs(t, err, tt.wantErr)
			require.Equal(t, tt.want, kind)
		})
	}
}

// Many who share few sessions hide nothing.
func TestFindAmidTraffic(t *testing.T) {
	t.Parallel()
	database := pgtest.NewEmptyDatabase(t)
	url := pgtest.NewPooler(t, database, devstack.PoolTransaction, 8).URL(t, database.URL)
	done := make(chan struct{})
	ended := make(chan error, 16)
	for range cap(ended) {
		go func() {
			conn, err := pgx.Connect(t.Context(), url)
			if err != nil {
				ended <- err
				return
			}
			defer func() { ended <- errors.Join(err, conn.Close(t.Context())) }()
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err = conn.Exec(t.Context(), "SELECT pg_sleep(0.001)"); err != nil {
					return
				}
			}
		}()
	}
	for range 20 {
		kind, err := pooler.Find(t.Context(), config(t, url))
		require.NoError(t, err)
		require.Equal(t, pooler.Transaction, kind)
	}
	close(done)
	for range cap(ended) {
		require.NoError(t, <-ended)
	}
}

// PgBouncer 1.18 doesn't keep prepared statements in transaction mode; in session mode it has no need to.
func TestKeepsStatements(t *testing.T) {
	t.Parallel()
	database := pgtest.NewEmptyDatabase(t)
	for mode, want := range map[devstack.PoolMode]bool{devstack.PoolTransaction: false, devstack.PoolSession: true} {
		url := pgtest.NewPooler(t, database, mode, 4).URL(t, database.URL)
		kept, err := pooler.KeepsStatements(t.Context(), config(t, url))
		require.NoError(t, err)
		require.Equal(t, want, kept, mode)
	}
}
