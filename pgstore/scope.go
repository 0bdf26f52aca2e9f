package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/pgstore/internal/db"
)

// rollbackTimeout bounds the end of a transaction whose context is over.
const rollbackTimeout = 5 * time.Second

// scoped is a transaction within one scope: pgx for statements written by hand,
// and the generated queries.
type scoped struct {
	pgx.Tx
	*db.Queries
}

// asOrganization runs fn in a transaction that sees the rows of one organization,
// within the query timeout.
func (s *Store) asOrganization(ctx context.Context, id uuid.UUID, fn func(context.Context, scoped) error) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	return s.transact(ctx, asOrganizationBegin(id), fn)
}

// asOrganizationBegin begins a transaction of one organization. A UUID's text has no quote in it. Together with BEGIN it
// costs one round trip. The scope is emptied, too: whoever has set it for a session of a pooler's would open it to every
// transaction that comes after.
func asOrganizationBegin(id uuid.UUID) string {
	return "begin; " + ownSettings + ", set_config('tollgate.scope', '', true), set_config('tollgate.organization_id', '" + id.String() + "', true)"
}

// ownSettings are what others may have left in a pooler's session and every statement stands on: pg_dump
// through the same pool leaves a search_path in which no table is found, and row-level security off,
// which makes it an error.
const ownSettings = "select set_config('search_path', 'public', true), set_config('row_security', 'on', true)"

// patience is how long an ask for quota, or a load of an organization, waits for a lock: less than
// their callers wait for the store, so that what somebody has locked is told from a store that is
// away.
const patience = "500ms"

// asOrganizationSoon is [Store.asOrganization] that waits for no lock longer than patience.
func (s *Store) asOrganizationSoon(ctx context.Context, id uuid.UUID, fn func(context.Context, scoped) error) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	return s.transact(ctx, asOrganizationBegin(id)+", "+soon, fn)
}

// asPlatformSoon is [Store.asPlatformWriting] that waits for no lock longer than patience.
func (s *Store) asPlatformSoon(ctx context.Context, fn func(context.Context, scoped) error) error {
	return s.writing(ctx, asPlatformBegin+", "+soon, fn)
}

const soon = "set_config('lock_timeout', '" + patience + "', true)"

// asPlatform runs fn in a transaction that sees the rows of all organizations,
// within the query timeout: for administration.
func (s *Store) asPlatform(ctx context.Context, fn func(context.Context, scoped) error) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	return s.asPlatformUnbounded(ctx, fn)
}

// asOwner runs fn as one organization, or as the platform where that is [uuid.Nil].
func (s *Store) asOwner(ctx context.Context, organization uuid.UUID, fn func(context.Context, scoped) error) error {
	if organization == uuid.Nil {
		return s.asPlatform(ctx, fn)
	}
	return s.asOrganization(ctx, organization, fn)
}

// asPlatformUnbounded is [Store.asPlatform] without the query timeout: for rollups and exports, whose
// statements have the bounds of [Store.bulk].
func (s *Store) asPlatformUnbounded(ctx context.Context, fn func(context.Context, scoped) error) error {
	return s.transact(ctx, asPlatformBegin+s.bulk(), fn)
}

const (
	platformScope   = ownSettings + ", set_config('tollgate.scope', 'platform', true)"
	asPlatformBegin = "begin; " + platformScope
)

// Who calls what touches much usage lives as long as its process, so that the statements bound
// themselves: a lock that isn't had within bulkPatience, and a statement that takes longer than
// bulkStatement, is an error, which is shown and tried again, and no silence for hours. Who waits for
// an exclusive lock also holds up those who come after it.
const (
	bulkPatience  = time.Minute
	bulkStatement = 2 * time.Hour
)

// bulk bounds the statements of a transaction.
func (s *Store) bulk() string {
	return fmt.Sprintf(", set_config('lock_timeout', '%dms', true), set_config('statement_timeout', '%dms', true)",
		s.bulkPatience.Milliseconds(), bulkStatement.Milliseconds())
}

// asPlatformSnapshot is [Store.asPlatformUnbounded] for what reads in several statements
// and must see one moment.
func (s *Store) asPlatformSnapshot(ctx context.Context, fn func(context.Context, scoped) error) error {
	return s.transact(ctx, "begin isolation level repeatable read read only; "+platformScope+s.bulk(), fn)
}

// partitionAttempts is how often a write begins again because its partition was made
// while it ran.
const partitionAttempts = 5

// asPlatformWriting is [Store.asPlatform] without the query timeout, for what adds usage. A row that was
// on its way to the default partition is refused when its month's partition is made
// just then: fn runs again, in a new transaction.
func (s *Store) asPlatformWriting(ctx context.Context, fn func(context.Context, scoped) error) error {
	return s.writing(ctx, asPlatformBegin, fn)
}

// asPlatformFolding is [Store.asPlatformWriting] with the bounds of [Store.bulk].
func (s *Store) asPlatformFolding(ctx context.Context, fn func(context.Context, scoped) error) error {
	return s.writing(ctx, asPlatformBegin+s.bulk(), fn)
}

func (s *Store) writing(ctx context.Context, begin string, fn func(context.Context, scoped) error) error {
	for attempt := 1; ; attempt++ {
		err := s.transact(ctx, begin, fn)
		if !partitionMade(err) || attempt == partitionAttempts {
			return err
		}
	}
}

// transact runs fn in a READ COMMITTED transaction, and commits unless fn fails.
func (s *Store) transact(ctx context.Context, begin string, fn func(context.Context, scoped) error) (err error) {
	defer func() { s.noticed(err) }()
	if begin, err = withActor(ctx, begin); err != nil {
		return err
	}
	tx, err := s.pool.BeginTx(ctx, pgx.TxOptions{BeginQuery: begin})
	if err != nil {
		return err
	}
	defer func() {
		// After a commit this does nothing.
		ended, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_ = tx.Rollback(ended)
	}()
	if err := fn(ctx, scoped{Tx: tx, Queries: db.New(tx)}); err != nil {
		return err
	}
	return tx.Commit(ctx)
}
