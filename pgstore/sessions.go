package pgstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/pgstore/pooler"
)

var (
	// ErrExecMode says that the URL asks for a way of executing queries that can't work.
	ErrExecMode = errors.New("the database's URL asks for a default_query_exec_mode that can't work")
	// ErrListen says that a connection can't hear of changes.
	ErrListen = errors.New("changes can't be heard of")
)

// execModeParameter is how pgx calls the way of executing queries, in a URL.
const execModeParameter = "default_query_exec_mode"

// chooseExecMode has connections do without prepared statements where a pooler is between: it may give a connection
// a session that doesn't have them, or that has another connection's. What the URL asks for is checked.
func (s *Store) chooseExecMode(ctx context.Context, url string, connection *pgx.ConnConfig) error {
	mode := connection.DefaultQueryExecMode
	if mode != pgx.QueryExecModeCacheStatement && mode != pgx.QueryExecModeCacheDescribe {
		return fmt.Errorf("%w: cache_statement or cache_describe do; left out, the right one is chosen", ErrExecMode)
	}
	kind, err := pooler.Find(ctx, connection)
	if err != nil {
		return err
	}
	if kind == pooler.None || mode == pgx.QueryExecModeCacheDescribe {
		return nil
	}
	if !strings.Contains(url, execModeParameter) {
		s.describes.Store(true)
		return nil
	}
	if kind == pooler.Session {
		return nil
	}
	kept, err := pooler.KeepsStatements(ctx, connection)
	if err == nil && !kept {
		err = fmt.Errorf("%w: the pooler doesn't keep prepared statements (PgBouncer does from 1.21 on, with max_prepared_statements): "+
			"leave cache_statement out", ErrExecMode)
	}
	return err
}

const (
	// hearTimeout bounds how long a change may be on its way while it is tried whether it is heard of.
	hearTimeout = 5 * time.Second
	// probeChannel begins the name of the channel of that.
	probeChannel = "tollgate_probe_"
)

// CheckListen tries whether [Store.Listen] hears of what is changed through this store. It is [ErrListen] where it
// doesn't: a pooler gives its session away, or it is connected to another database.
func (s *Store) CheckListen(ctx context.Context) error {
	return wrap(s.checkListen(ctx), "listen for changes")
}

func (s *Store) checkListen(ctx context.Context) error {
	conn, err := s.connectToListen(ctx)
	if err != nil {
		return err
	}
	defer closeSoon(ctx, conn)
	channel := probeChannel + strings.ToLower(rand.Text())
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	err = s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		_, err := tx.Exec(ctx, "SELECT pg_notify($1, '')", channel)
		return err
	})
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, hearTimeout)
	defer cancel()
	_, err = conn.WaitForNotification(waiting)
	if err != nil && ctx.Err() == nil && waiting.Err() != nil {
		return fmt.Errorf("%w: it leads to another database, or to another server", ErrListen)
	}
	return err
}

// connectToListen connects by a session that stays. It is [ErrListen] where a pooler would give it away.
func (s *Store) connectToListen(ctx context.Context) (*pgx.Conn, error) {
	kind, err := pooler.Find(ctx, s.listen)
	if err != nil {
		return nil, err
	}
	if kind == pooler.Transaction {
		return nil, fmt.Errorf("%w: a pooler in transaction mode is between, which gives the session that listens to others", ErrListen)
	}
	return pgx.ConnectConfig(ctx, s.listen.Copy())
}

// closeSoon ends a connection, also after the end of ctx.
func closeSoon(ctx context.Context, conn *pgx.Conn) {
	ended, cancel := context.WithTimeout(context.WithoutCancel(ctx), listenPingTimeout)
	defer cancel()
	_ = conn.Close(ended)
}

// dropEvery is the least time between two times at which connections are dropped because the server is read-only.
const dropEvery = time.Second

// noticed drops all connections after an error that each of them may meet: the server is a standby, whose place
// another one has taken; or a pooler has come between, and prepared statements are not those of the connection.
func (s *Store) noticed(err error) {
	switch {
	case hasCode(err, readOnlyTransaction):
		// A primary may be read-only for long, too: its connections are not made anew by each call.
		now, last := time.Now().UnixNano(), s.dropped.Load()
		if now-last >= int64(dropEvery) && s.dropped.CompareAndSwap(last, now) {
			s.pool.Reset()
		}
	case hasCode(err, duplicateStatement), hasCode(err, unknownStatement):
		if !s.describes.Swap(true) {
			s.log.Warn("Sessions of Postgres don't keep their prepared statements: a pooler is between; none are used from here on", "error", err)
		}
		s.pool.Reset()
	}
}
