package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/pressly/goose/v3"
)

// ErrInUse says that programs are connected whose tables a migration down would drop.
var ErrInUse = errors.New("programs of Tollgate are connected to the database")

// ApplicationName is how the programs' sessions are called in Postgres, where their URL doesn't say otherwise.
const ApplicationName = "tollgate"

// checkUnused is [ErrInUse] where a program is connected: by its name, or as the role that programs have.
func checkUnused(ctx context.Context, db *sql.DB) error {
	var sessions int
	var who sql.NullString
	err := db.QueryRowContext(ctx, `
		SELECT count(*), string_agg(DISTINCT coalesce(nullif(application_name, ''), 'no name') || ' as ' || usename, ', ')
		FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND (application_name = $1 OR usename = $2 OR usesysid IN (
			SELECT member FROM pg_auth_members JOIN pg_roles r ON r.oid = roleid WHERE r.rolname = $2))`,
		ApplicationName, APIRole).Scan(&sessions, &who)
	if err != nil {
		return fmt.Errorf("look who is connected: %w", err)
	}
	if sessions > 0 {
		return fmt.Errorf("%w: %d sessions (%s); stop them first, and end the sessions that a pooler keeps for them (PgBouncer: KILL and RESUME of the database)", ErrInUse, sessions, who.String)
	}
	return nil
}

// TableLoss is a table that a migration down drops, with its data.
type TableLoss struct {
	// Table is its name.
	Table string
	// Rows is how many rows it has, at most [MaxLoss]: it may have more then.
	Rows int64
}

// MaxLoss is as far as rows are counted that a migration down drops.
const MaxLoss = 1_000_000

var (
	downPart   = regexp.MustCompile(`(?s)-- \+goose Down(.*)`)
	dropTables = regexp.MustCompile(`(?s)DROP TABLE (?:IF EXISTS )?([^;]*?)(?: CASCADE)?;`)
)

// Losses returns what [Down] would drop with its data, and the name of that migration; "" where there is
// nothing to undo.
func Losses(ctx context.Context, url string) (migration string, losses []TableLoss, err error) {
	err = withDatabase(ctx, url, func(db *sql.DB) error {
		provider, err := newProvider(db)
		if err != nil {
			return err
		}
		status, err := provider.Status(ctx)
		if err != nil {
			return err
		}
		for _, s := range status {
			if s.State == goose.StateApplied {
				migration = s.Source.Path
			}
		}
		if migration == "" {
			return nil
		}
		losses, err = lossesOf(ctx, db, migration)
		return err
	})
	return migration, losses, err
}

func lossesOf(ctx context.Context, db *sql.DB, migration string) ([]TableLoss, error) {
	document, err := fs.ReadFile(FS, migration)
	if err != nil {
		return nil, err
	}
	var losses []TableLoss
	for _, dropped := range dropTables.FindAllStringSubmatch(string(downPart.Find(document)), -1) {
		for table := range strings.SplitSeq(dropped[1], ",") {
			loss := TableLoss{Table: strings.TrimSpace(table)}
			// The name is one of our own files'.
			query := `SELECT count(*) FROM (SELECT FROM ` + loss.Table + ` LIMIT $1) AS counted`
			if err := db.QueryRowContext(ctx, query, MaxLoss).Scan(&loss.Rows); err != nil {
				return nil, fmt.Errorf("count the rows of %s: %w", loss.Table, err)
			}
			losses = append(losses, loss)
		}
	}
	return losses, nil
}
