package pgstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"

	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/meter"
)

// ErrUnknownMeter says that a batch has usage of a meter that is not published, or
// is published with another aggregation.
var ErrUnknownMeter = errors.New("unknown meter")

// Why a part of a batch is refused before Postgres has to.
var (
	errStranger   = errors.New("there is no such organization")
	errTwice      = errors.New("the batch has a row twice")
	errUnstorable = errors.New("it has text that can't be stored")
	errNegative   = errors.New("a quantity is less than 0")
	errBeyond     = errors.New("the sum of the row and its reports is beyond an int64")
)

// refusedForGood reports whether a call failed because of what it was to write, and not
// because of a state that passes or of a schema that doesn't fit: data exceptions (22), broken
// constraints (23, 44), values too long for an index (54), what triggers raise (P0), and
// what is refused before it is sent.
func refusedForGood(err error) bool {
	for _, known := range []error{ErrUnknownMeter, errStranger, errTwice, errUnstorable, errNegative, errBeyond} {
		if errors.Is(err, known) {
			return true
		}
	}
	var server *pgconn.PgError
	if !errors.As(err, &server) || Retryable(err) {
		return false
	}
	switch server.Code[:min(2, len(server.Code))] {
	case "22", "23", "44", "54", "P0":
		return true
	default:
		return false
	}
}

// answered turns what Postgres refuses of an ask for quota, or a load of an organization, into the
// meter's words for a store that answers: [meter.ErrAskRefused] for good, [meter.ErrAskContested]
// for now (a lock that isn't had in time, a deadlock, a statement that was stopped, a schema that
// doesn't fit). What says that it can't be asked stays as it is: connections (08), resources that
// are used up (53), a server that starts, stops or only reads.
func answered(err error) error {
	var server *pgconn.PgError
	var connect *pgconn.ConnectError
	switch {
	case refusedForGood(err):
		return fmt.Errorf("%w: %w", meter.ErrAskRefused, err)
	case !errors.As(err, &server), errors.As(err, &connect), notServing[server.Code]:
		return err
	}
	switch server.Code[:min(2, len(server.Code))] {
	case "08", "53":
		return err
	default:
		return fmt.Errorf("%w: %w", meter.ErrAskContested, err)
	}
}

// notServing are the failures of a server that starts, stops or only reads.
var notServing = map[string]bool{"57P01": true, "57P02": true, "57P03": true, "57P05": true, "25P03": true, "25006": true}

// Error is what every method of [Store] returns when it fails. The domain's errors
// are found in it with errors.Is and errors.As.
type Error struct {
	// Op says what failed: "apply batch 3 of instance …".
	Op string
	// Err is why.
	Err error
}

// Error returns what failed and why.
func (e *Error) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap returns why it failed.
func (e *Error) Unwrap() error { return e.Err }

// Retryable reports whether the same call may succeed later, as [Retryable] does.
// It lets packages that don't import this one ask by interface.
func (e *Error) Retryable() bool { return Retryable(e.Err) }

// wrap adds what failed to an error; nil stays nil.
func wrap(err error, op string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{Op: fmt.Sprintf(op, args...), Err: err}
}

// SQLSTATE codes and classes (PostgreSQL documentation, appendix A).
const (
	uniqueViolation     = "23505"
	foreignKeyViolation = "23503"
	undefinedTable      = "42P01"
	checkViolation      = "23514"
	readOnlyTransaction = "25006"
	unknownStatement    = "26000"
	duplicateStatement  = "42P05"
)

// retryableCodes are the failures that pass: the server stops, starts or fails
// over, is out of a resource for now, or chose this transaction as a victim.
var retryableCodes = map[string]bool{
	"40001": true, // serialization_failure
	"40P01": true, // deadlock_detected
	"55P03": true, // lock_not_available
	"57014": true, // query_canceled: a statement timeout
	"57P01": true, // admin_shutdown
	"57P02": true, // crash_shutdown
	"57P03": true, // cannot_connect_now
	"57P05": true, // idle_session_timeout
	"25P03": true, // idle_in_transaction_session_timeout
	// A replica, until the failover is over.
	readOnlyTransaction: true,
	// A pooler has come between: the next attempt does without prepared statements.
	unknownStatement: true, duplicateStatement: true,
}

// Retryable reports whether the call that failed with err may succeed when it is
// made again: after a serialization failure, a deadlock, a timeout, a lost
// connection, or while the server can't be reached or is out of a resource. Bad input, a
// broken constraint and a canceled context are permanent.
func Retryable(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	// Whatever kept it from connecting, a changed password included, is mended without
	// this program.
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		return true
	}
	var server *pgconn.PgError
	if errors.As(err, &server) {
		class := server.Code[:min(2, len(server.Code))]
		// 08: connection exception. 53: insufficient resources.
		return retryableCodes[server.Code] || class == "08" || class == "53" || partitionMade(err)
	}
	var network net.Error
	return errors.Is(err, errRolledMeanwhile) || errors.Is(err, errTermBegan) ||
		// The process ends: another one may succeed.
		errors.Is(err, puddle.ErrClosedPool) ||
		errors.As(err, &network) ||
		errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) ||
		errors.Is(err, pgx.ErrTxCommitRollback) ||
		pgconn.SafeToRetry(err) ||
		pgconn.Timeout(err)
}

// orNotFound turns the absence of a row into the domain's error about what was looked for.
func orNotFound(err error, kind *fault.NotFoundError, id any) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return kind.Of(id)
	}
	return err
}

func hasCode(err error, code string) bool {
	var server *pgconn.PgError
	return errors.As(err, &server) && server.Code == code
}

// partitionMade reports whether a row was refused because its partition was made
// meanwhile. Postgres says that by the code of a broken CHECK, with the name of a table and
// none of a constraint. What a trigger raises by that code names no table, and stays refused.
func partitionMade(err error) bool {
	var server *pgconn.PgError
	return errors.As(err, &server) && server.Code == checkViolation && server.ConstraintName == "" && server.TableName != ""
}
