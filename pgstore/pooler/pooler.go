// Package pooler finds out, by its behaviour, whether a pooler such as PgBouncer is between a
// program and Postgres, and for how long it gives a connection a session of Postgres. What lives in
// a session (LISTEN, locks of a session, SET, prepared statements) needs one that stays.
package pooler

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Kind says who gives a connection its session of Postgres, and for how long.
type Kind string

// The kinds.
const (
	// None: the connection is one to Postgres itself.
	None Kind = "none"
	// Session: a pooler does, until the connection ends.
	Session Kind = "session"
	// Transaction: a pooler does, until the end of a transaction.
	Transaction Kind = "transaction"
)

var (
	// ErrStatement says that a pooler gives sessions away between two statements: there are no transactions.
	ErrStatement = errors.New("a pooler in statement mode is between this program and Postgres, and allows no transactions: " +
		"set its pool mode to transaction or session (PgBouncer: pool_mode), or give Postgres's own address")
	// ErrParameter says that a pooler refuses a parameter of the URL.
	ErrParameter = errors.New("a pooler refuses a parameter of the database's URL: take it out of the URL and set it for the role " +
		"in Postgres (ALTER ROLE … SET …), or let the pooler ignore it (PgBouncer: ignore_startup_parameters)")
	// ErrFull says that a pooler has no second session for this program.
	ErrFull = errors.New("the pooler gives this program no second session: its pool is too small for its clients (PgBouncer: default_pool_size)")
	// ErrStandby says that what was reached is a standby, which can be read only.
	ErrStandby = errors.New("the database is a read-only standby: give the primary's address, or all hosts " +
		"(postgres://user@host1:5432,host2:5432/database), of which the primary is chosen")
)

const (
	// rounds is how often two connections compare their sessions. A pooler of transactions that many
	// use might give each the same one again, but not so often.
	rounds = 10
	// sessionWait bounds how long a pooler may take to give a session.
	sessionWait = 5 * time.Second
)

// Find returns what is between the program and Postgres. It makes up to two connections, and ends them.
// Its error is that of a connection, [ErrStatement], [ErrParameter], [ErrFull] or [ErrStandby].
func Find(ctx context.Context, config *pgx.ConnConfig) (Kind, error) {
	first, err := dial(ctx, config)
	if err != nil {
		return "", err
	}
	defer first.close()
	own, err := first.backend(ctx)
	if err != nil {
		return "", err
	}
	// Postgres tells each connection the number of its backend, with which it can be asked to cancel a
	// query. A pooler has to tell another one, by which it finds the connection.
	if own == fmt.Sprint(first.PID()) {
		return None, nil
	}
	if err := first.checkTransactions(ctx); err != nil {
		return "", err
	}
	second, err := dial(ctx, config)
	if err != nil {
		return "", err
	}
	defer second.close()
	return compare(ctx, first, second, own)
}

// compare finds out whether two connections through a pooler have sessions of their own.
func compare(ctx context.Context, first, second *connection, own string) (Kind, error) {
	for range rounds {
		waiting, cancel := context.WithTimeout(ctx, sessionWait)
		others, err := second.backend(waiting)
		cancel()
		if err != nil && ctx.Err() == nil && waiting.Err() != nil {
			return "", fmt.Errorf("%w: %w", ErrFull, err)
		}
		if err != nil {
			return "", err
		}
		again, err := first.backend(ctx)
		if err != nil {
			return "", err
		}
		if others == own || again != own {
			return Transaction, nil
		}
	}
	return Session, nil
}

// KeepsStatements reports whether a pooler of transactions finds the prepared statements of a connection
// again in whatever session it gives it, as PgBouncer does from 1.21 on with max_prepared_statements.
func KeepsStatements(ctx context.Context, config *pgx.ConnConfig) (bool, error) {
	first, err := dial(ctx, config)
	if err != nil {
		return false, err
	}
	defer first.close()
	second, err := dial(ctx, config)
	if err != nil {
		return false, err
	}
	defer second.close()
	name := "tollgate_probe_" + strings.ToLower(rand.Text())
	if _, err := first.Prepare(ctx, name, "SELECT 1", nil); err != nil {
		return false, err
	}
	// The other takes the session in which it was prepared, if that is the next one to be given.
	if err := second.run(ctx, "BEGIN"); err != nil {
		return false, err
	}
	waiting, cancel := context.WithTimeout(ctx, sessionWait)
	defer cancel()
	err = first.ExecPrepared(waiting, name, nil, nil, nil).Read().Err
	if failed := (*pgconn.PgError)(nil); errors.As(err, &failed) && failed.Code == unknownStatement {
		return false, nil
	}
	if err != nil && ctx.Err() == nil && waiting.Err() != nil {
		return false, fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err == nil, err
}

// unknownStatement is Postgres's code for a prepared statement that the session doesn't have.
const unknownStatement = "26000"

// connection is one of a few queries.
type connection struct{ *pgconn.PgConn }

func dial(ctx context.Context, config *pgx.ConnConfig) (*connection, error) {
	conn, err := pgconn.ConnectConfig(ctx, &config.Copy().Config)
	if err != nil {
		return nil, Explain(err)
	}
	return &connection{conn}, nil
}

func (c *connection) close() {
	ctx, cancel := context.WithTimeout(context.Background(), sessionWait)
	defer cancel()
	_ = c.Close(ctx)
}

func (c *connection) run(ctx context.Context, sql string) error {
	_, err := c.Exec(ctx, sql).ReadAll()
	return err
}

// backend returns the number of the backend that answers.
func (c *connection) backend(ctx context.Context) (string, error) {
	results, err := c.Exec(ctx, "SELECT pg_backend_pid()").ReadAll()
	if err != nil {
		return "", err
	}
	return string(results[0].Rows[0][0]), nil
}

// checkTransactions is [ErrStatement] where there are none.
func (c *connection) checkTransactions(ctx context.Context) error {
	for _, statement := range []string{"BEGIN", "COMMIT"} {
		err := c.run(ctx, statement)
		if failed := (*pgconn.PgError)(nil); errors.As(err, &failed) && strings.Contains(failed.Message, "statement pooling") {
			return fmt.Errorf("%w (it says: %s)", ErrStatement, failed.Message)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Explain says what to do about an error of a connection, where that is known: it is then [ErrParameter] or [ErrStandby], too.
func Explain(err error) error {
	failed := (*pgconn.PgError)(nil)
	switch {
	case errors.Is(err, pgconn.ErrStandbyConnection):
		return fmt.Errorf("%w: %w", ErrStandby, err)
	case errors.As(err, &failed) && strings.Contains(failed.Message, "unsupported startup parameter"):
		return fmt.Errorf("%w: %w", ErrParameter, err)
	default:
		return err
	}
}

// ToPrimary makes connections choose the primary of several hosts, and refuse a standby, where the URL asks for
// no other choice: after a failover none goes on reading from the server that was the primary.
func ToPrimary(config *pgx.ConnConfig) {
	if config.ValidateConnect == nil {
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
}
