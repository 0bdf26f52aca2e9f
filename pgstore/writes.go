package pgstore

import (
	"bytes"
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/riverline/tollgate/accounts"
)

// BeginWrite says what becomes of a write that bears an Idempotency-Key: nil means
// that the caller carries it out, and then finishes or abandons it; an answer, that it
// was carried out before and was answered so. One that is under way is
// [accounts.ErrWriteUnderWay], a key that came with another request
// [accounts.ErrWriteReused]. What was begun [accounts.WriteTimeout] ago and has no
// answer is the caller's: its process has ended.
func (s *Store) BeginWrite(ctx context.Context, w accounts.Write) (*accounts.WriteAnswer, error) {
	var answer *accounts.WriteAnswer
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		tag, err := tx.Exec(ctx, `
			INSERT INTO idempotent_writes AS w (caller, key, fingerprint, begun_at) VALUES ($1, $2, $3, clock_timestamp())
			ON CONFLICT (caller, key) DO UPDATE SET begun_at = clock_timestamp()
			WHERE w.status IS NULL AND w.fingerprint = excluded.fingerprint
				AND w.begun_at < clock_timestamp() - make_interval(secs => $4)`,
			w.Caller, w.Key[:], w.Fingerprint[:], accounts.WriteTimeout.Seconds())
		if err != nil || tag.RowsAffected() > 0 {
			return err
		}
		answer, err = readWrite(ctx, tx, w)
		return err
	})
	return answer, wrap(err, "begin a write of key %s", w.Caller)
}

// readWrite returns the answer to a write that was begun before.
func readWrite(ctx context.Context, tx scoped, w accounts.Write) (*accounts.WriteAnswer, error) {
	var fingerprint []byte
	var status *int
	var contentType *string
	answer := accounts.WriteAnswer{}
	err := tx.QueryRow(ctx, `SELECT fingerprint, status, content_type, body FROM idempotent_writes WHERE caller = $1 AND key = $2`,
		w.Caller, w.Key[:]).Scan(&fingerprint, &status, &contentType, &answer.Body)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		// It was abandoned just now: the caller may ask again.
		return nil, accounts.ErrWriteUnderWay
	case err != nil:
		return nil, err
	case !bytes.Equal(fingerprint, w.Fingerprint[:]):
		return nil, accounts.ErrWriteReused
	case status == nil:
		return nil, accounts.ErrWriteUnderWay
	}
	answer.Status, answer.ContentType = *status, *contentType
	return &answer, nil
}

// FinishWrite keeps the answer to a write that [Store.BeginWrite] has given to the caller.
func (s *Store) FinishWrite(ctx context.Context, w accounts.Write, answer accounts.WriteAnswer) error {
	body := answer.Body
	if body == nil {
		body = []byte{}
	}
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		_, err := tx.Exec(ctx, `
			UPDATE idempotent_writes SET status = $4, content_type = $5, body = $6
			WHERE caller = $1 AND key = $2 AND fingerprint = $3 AND status IS NULL`,
			w.Caller, w.Key[:], w.Fingerprint[:], answer.Status, answer.ContentType, body)
		return err
	})
	return wrap(err, "finish a write of key %s", w.Caller)
}

// AbandonWrite forgets a write that was not carried out: it may come again.
func (s *Store) AbandonWrite(ctx context.Context, w accounts.Write) error {
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		_, err := tx.Exec(ctx, `DELETE FROM idempotent_writes WHERE caller = $1 AND key = $2 AND fingerprint = $3 AND status IS NULL`,
			w.Caller, w.Key[:], w.Fingerprint[:])
		return err
	})
	return wrap(err, "abandon a write of key %s", w.Caller)
}
