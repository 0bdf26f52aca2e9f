package pgstore_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/pgstore"
)

// counter counts what a store asks Postgres, and what Postgres writes for it.
type counter struct {
	t    testing.TB
	owns *pgx.Conn
	url  string

	mu sync.Mutex
	// statements are those that were sent, asks the round trips that they took, without what begins and ends
	// transactions.
	statements, asks int
}

// counter returns a counter of a fixture's database.
func (f *fixture) counter() *counter {
	f.t.Helper()
	owner, err := pgx.Connect(f.t.Context(), f.db.URL)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = owner.Close(context.Background()) })
	return &counter{t: f.t, owns: owner, url: f.db.APIURL}
}

// of counts what fn makes a store do that only fn uses.
func (c *counter) of(fn func(*pgstore.Store)) {
	c.t.Helper()
	store, err := pgstore.Open(c.t.Context(), pgstore.Config{URL: c.url, Tracer: c})
	require.NoError(c.t, err)
	defer store.Close()
	c.reset()
	fn(store)
}

// reset begins to count anew.
func (c *counter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.statements, c.asks = 0, 0
}

// written is what was written of tables.
type written struct{ inserted, updated, deleted int64 }

// read returns what was written so far of each table of which something was. Sessions say so for sure as they
// end: so all do.
func (c *counter) read() map[string]written {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		var open int
		err := c.owns.QueryRow(c.t.Context(), `
			SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`).Scan(&open)
		return err == nil && open == 0
	}, 30*time.Second, time.Millisecond)
	// Partitions count for their table.
	rows, err := c.owns.Query(c.t.Context(), `
		SELECT coalesce((SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = relid), relname) AS name,
			sum(n_tup_ins)::bigint, sum(n_tup_upd)::bigint, sum(n_tup_del)::bigint
		FROM pg_stat_user_tables GROUP BY name HAVING sum(n_tup_ins + n_tup_upd + n_tup_del) > 0`)
	require.NoError(c.t, err)
	found := map[string]written{}
	var table string
	var w written
	_, err = pgx.ForEachRow(rows, []any{&table, &w.inserted, &w.updated, &w.deleted}, func() error {
		found[table] = w
		return nil
	})
	require.NoError(c.t, err)
	return found
}

// since returns what was written since, of the tables of which something was.
func (c *counter) since(before map[string]written) map[string]written {
	c.t.Helper()
	now := c.read()
	for table, w := range now {
		b := before[table]
		w = written{w.inserted - b.inserted, w.updated - b.updated, w.deleted - b.deleted}
		if now[table] = w; w == (written{}) {
			delete(now, table)
		}
	}
	return now
}

func (c *counter) add(asks, statements int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asks += asks
	c.statements += statements
}

// TraceQueryStart implements pgx.QueryTracer.
func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	switch first, _, _ := strings.Cut(data.SQL, " "); first {
	case "begin;", "commit", "rollback":
	default:
		c.add(1, 1)
	}
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TraceBatchStart implements pgx.BatchTracer.
func (c *counter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	c.add(1, data.Batch.Len())
	return ctx
}

// TraceBatchQuery implements pgx.BatchTracer.
func (c *counter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (c *counter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}
