package pgstore

import (
	"context"
)

// dayLocks is the class of the advisory locks on days; the key in it is the day.
// Tables that share a database with Tollgate must not use it.
const dayLocks = 0x546f6c6c // "Toll"

// lockMode says whom an advisory lock shuts out.
type lockMode string

const (
	// shared is held by who adds usage of a day: any number at once.
	shared lockMode = "SELECT pg_advisory_xact_lock_shared($1, day) FROM unnest($2::int4[]) day"
	// exclusive is held by who must see all usage of a day: alone.
	exclusive lockMode = "SELECT pg_advisory_xact_lock($1, day) FROM unnest($2::int4[]) day"
)

// lockDays locks days, which must be sorted, until the transaction ends. It comes
// before every other lock of a transaction. What was committed under the lock
// is seen by the statements after this one.
func lockDays(ctx context.Context, tx scoped, mode lockMode, days []int32) error {
	_, err := tx.Exec(ctx, string(mode), int32(dayLocks), days)
	return err
}
