package main

import (
	"context"

	"github.com/riverline/tollgate/cmd/internal/app"
	"github.com/riverline/tollgate/internal/config"
	"github.com/riverline/tollgate/pgstore"
)

// openStore connects to a database whose schema is this program's. The caller closes it.
func openStore(ctx context.Context, database config.Database) (*pgstore.Store, error) {
	if err := app.CheckTransport("--database-url", database.DatabaseURL, database.Transport); err != nil {
		return nil, err
	}
	store, err := pgstore.Open(ctx, pgstore.Config{URL: database.DatabaseURL, MaxConns: database.MaxConnections})
	if err != nil {
		return nil, err
	}
	if err := store.CheckSchema(ctx); err != nil {
		store.Close()
		return nil, err
	}
	return store, nil
}
