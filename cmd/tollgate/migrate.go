package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/riverline/tollgate/cmd/internal/app"
	"github.com/riverline/tollgate/internal/config"
	"github.com/riverline/tollgate/migrations"
)

type migrateCommand struct {
	Up     migrateUp     `cmd:"" help:"Apply what is pending, under a lock: any number may run at once."`
	Down   migrateDown   `cmd:"" help:"Undo the last migration, and lose the data of its tables."`
	Status migrateStatus `cmd:"" help:"List the migrations."`
}

// ownerDatabase is how migrations reach Postgres: as the owner of the schema.
type ownerDatabase struct {
	config.Transport
	DatabaseURL string `required:"" secret:"" env:"TOLLGATE_OWNER_DATABASE_URL,DATABASE_URL" placeholder:"URL" help:"Postgres, as the role that owns the schema and may create roles; not through a pooler in transaction mode."`
}

// Validate checks the settings.
func (d ownerDatabase) Validate() error {
	return app.CheckTransport("--database-url", d.DatabaseURL, d.Transport)
}

type migrateUp struct {
	ownerDatabase
	APIPassword string `secret:"" env:"TOLLGATE_API_PASSWORD" placeholder:"PASSWORD" help:"Let the role tollgate_api log in with this password (8 to 200 characters)."`
}

// Run applies what is pending.
func (c migrateUp) Run(ctx context.Context, out *output) error {
	if err := migrations.Up(ctx, c.DatabaseURL); err != nil {
		return err
	}
	if c.APIPassword != "" {
		if err := migrations.EnableLogin(ctx, c.DatabaseURL, c.APIPassword); err != nil {
			return fmt.Errorf("--api-password: %w", err)
		}
	}
	_, err := fmt.Fprintln(out, "The schema is up to date.")
	return err
}

type migrateDown struct {
	ownerDatabase
	Yes bool `help:"Confirm that the data of the last migration's tables is lost. Without it, nothing is done but to say what data goes."`
}

// Run says what goes and undoes one migration.
func (c migrateDown) Run(ctx context.Context, out *output) error {
	migration, losses, err := migrations.Losses(ctx, c.DatabaseURL)
	if err != nil {
		return err
	}
	if migration == "" {
		_, err := fmt.Fprintln(out, "There is no migration to undo.")
		return err
	}
	_, _ = fmt.Fprintf(out, "Undoing %s drops:\n", migration)
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, loss := range losses {
		rows := fmt.Sprintf("%d rows", loss.Rows)
		if loss.Rows == migrations.MaxLoss {
			rows = fmt.Sprintf("%d rows or more", loss.Rows)
		}
		_, _ = fmt.Fprintf(table, "  %s\t%s\n", loss.Table, rows)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if !c.Yes {
		return errors.New("nothing was done: --yes confirms that this data is lost")
	}
	if err := migrations.Down(ctx, c.DatabaseURL); err != nil {
		return err
	}
	return migrateStatus{c.ownerDatabase}.Run(ctx, out)
}

type migrateStatus struct{ ownerDatabase }

// Run lists the migrations.
func (c migrateStatus) Run(ctx context.Context, out *output) error {
	list, err := migrations.Status(ctx, c.DatabaseURL)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, m := range list {
		applied := "pending"
		if m.AppliedAt != nil {
			applied = m.AppliedAt.UTC().Format(time.RFC3339)
		}
		_, _ = fmt.Fprintf(table, "%d\t%s\t%s\n", m.Version, m.Name, applied)
	}
	return table.Flush()
}
