// Package migrations holds the database schema as numbered SQL files and runs
// them. Every run holds a session lock, so that processes that start together
// don't run a migration twice.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/riverline/tollgate/pgstore/pooler"
)

// FS holds the migrations, NNNNN_name.sql.
//
//go:embed *.sql
var FS embed.FS

// The session lock is asked for once a second, for five minutes.
const (
	lockPeriodSeconds = 1
	lockAttempts      = 300
)

// Migration is one migration and whether the database has it.
type Migration struct {
	// Version is the number in the file's name.
	Version int64 `json:"version"`
	// Name is the file's name.
	Name string `json:"name"`
	// AppliedAt is when it was applied, UTC; nil where it is pending.
	AppliedAt *time.Time `json:"applied_at,omitempty"`
}

// Up applies every pending migration, each in a transaction of its own. The URL's
// role must own the database's schema and may create roles, or tollgate_api must
// exist already.
func Up(ctx context.Context, url string) error {
	return with(ctx, url, func(p *goose.Provider) error {
		_, err := p.Up(ctx)
		return err
	})
}

// Down undoes the last migration, with the data that its tables hold. A database
// without migrations is left as it is. It is [ErrInUse] while programs are connected to the database.
func Down(ctx context.Context, url string) error {
	return withNobody(ctx, url, func(p *goose.Provider) error {
		_, err := p.Down(ctx)
		if errors.Is(err, goose.ErrNoNextVersion) {
			return nil
		}
		return err
	})
}

// DownTo undoes every migration above version, with the data that its tables
// hold; 0 undoes all. It is [ErrInUse] while programs are connected to the database.
func DownTo(ctx context.Context, url string, version int64) error {
	return withNobody(ctx, url, func(p *goose.Provider) error {
		_, err := p.DownTo(ctx, version)
		return err
	})
}

// Status returns all migrations in their order.
func Status(ctx context.Context, url string) ([]Migration, error) {
	var out []Migration
	err := with(ctx, url, func(p *goose.Provider) error {
		status, err := p.Status(ctx)
		for _, s := range status {
			m := Migration{Version: s.Source.Version, Name: s.Source.Path}
			if s.State == goose.StateApplied {
				at := s.AppliedAt.UTC()
				m.AppliedAt = &at
			}
			out = append(out, m)
		}
		return err
	})
	return out, err
}

// Version returns the database's last applied migration, 0 where it has none.
func Version(ctx context.Context, url string) (int64, error) {
	var version int64
	err := with(ctx, url, func(p *goose.Provider) (err error) {
		version, err = p.GetDBVersion(ctx)
		return err
	})
	return version, err
}

// Latest returns the version of the newest migration in [FS].
func Latest() int64 { return latest }

var latest = func() int64 {
	entries, err := FS.ReadDir(".")
	if err != nil || len(entries) == 0 {
		panic("migrations: the embedded files cannot be read")
	}
	// Entries are sorted by name, and names begin with a number of fixed width.
	version, err := goose.NumericComponent(entries[len(entries)-1].Name())
	if err != nil {
		panic("migrations: " + err.Error())
	}
	return version
}()

// ErrPooled says that the URL leads through a pooler that gives sessions away between transactions.
var ErrPooled = errors.New("a pooler in transaction mode is between this program and Postgres, and migrations hold a lock of a session: " +
	"give Postgres's own address, or a pooler's in session mode")

// lockTimeout bounds how long a statement of a migration waits for a lock, and has all that asks for the same
// table wait behind it.
const lockTimeout = "10s"

func with(ctx context.Context, url string, fn func(*goose.Provider) error) error {
	return withDatabase(ctx, url, func(db *sql.DB) error {
		provider, err := newProvider(db)
		if err != nil {
			return err
		}
		return fn(provider)
	})
}

// withNobody is with, where no program of Tollgate is connected.
func withNobody(ctx context.Context, url string, fn func(*goose.Provider) error) error {
	return withDatabase(ctx, url, func(db *sql.DB) error {
		if err := checkUnused(ctx, db); err != nil {
			return err
		}
		provider, err := newProvider(db)
		if err != nil {
			return err
		}
		return fn(provider)
	})
}

func withDatabase(ctx context.Context, url string, fn func(*sql.DB) error) (err error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		// pgx leaves the password out of its error.
		return fmt.Errorf("migrate: %w", err)
	}
	pooler.ToPrimary(config)
	kind, err := pooler.Find(ctx, config)
	if err == nil && kind == pooler.Transaction {
		err = ErrPooled
	}
	if err != nil {
		return fmt.Errorf("migrate: connect: %w", err)
	}
	_, set := config.RuntimeParams["lock_timeout"]
	db := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		if set {
			return nil
		}
		_, err := conn.Exec(ctx, `SET lock_timeout = '`+lockTimeout+`'`)
		return err
	}))
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.PingContext(ctx); err != nil {
		return fmt.Errorf("migrate: connect: %w", err)
	}
	err = fn(db)
	if failed := (*pgconn.PgError)(nil); errors.As(err, &failed) && failed.Code == lockNotAvailable {
		return fmt.Errorf("migrate: %w: somebody holds a lock that a migration needs; nothing of that migration is done, and it may be tried again", err)
	}
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// lockNotAvailable is Postgres's code of a wait for a lock that took too long.
const lockNotAvailable = "55P03"

func newProvider(db *sql.DB) (*goose.Provider, error) {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(lockPeriodSeconds, lockAttempts))
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, FS,
		goose.WithSessionLocker(locker),
		goose.WithDisableGlobalRegistry(true))
}
