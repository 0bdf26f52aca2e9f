package app

import (
	"context"
	"fmt"

	"github.com/riverline/tollgate/internal/config"
	"github.com/riverline/tollgate/pgstore"
)

// ListenDatabase says where changes are listened for.
type ListenDatabase struct {
	ListenDatabaseURL string `secret:"" env:"TOLLGATE_LISTEN_DATABASE_URL" placeholder:"URL" help:"The same database as --database-url and the same role, where it can be listened for changes: past a pooler in transaction mode. Default: --database-url."`
}

// Validate checks the setting.
func (l ListenDatabase) Validate() error {
	if l.ListenDatabaseURL == "" {
		return nil
	}
	return config.CheckDatabaseURL("--listen-database-url", l.ListenDatabaseURL)
}

// check tries whether changes are heard of. Its error names the setting.
func (l ListenDatabase) check(ctx context.Context, store *pgstore.Store) error {
	err := store.CheckListen(ctx)
	switch {
	case err == nil:
		return nil
	case l.ListenDatabaseURL == "":
		return fmt.Errorf("--listen-database-url (TOLLGATE_LISTEN_DATABASE_URL) isn't set, and --database-url doesn't do for it: "+
			"set it to Postgres's own address, or to a pooler's in session mode: %w", err)
	default:
		return fmt.Errorf("--listen-database-url (TOLLGATE_LISTEN_DATABASE_URL) must be Postgres's own address of the database of --database-url, "+
			"or a pooler's in session mode: %w", err)
	}
}
