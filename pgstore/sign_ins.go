package pgstore

import (
	"context"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// BeginSignIn begins a sign-in that acts for a key, under the hash of its token, and ends the one
// of the token before, where there is one: [accounts.SecretHash] zero is none. A key that isn't
// there, or was revoked, is [accounts.ErrKeyNotFound].
func (s *Store) BeginSignIn(ctx context.Context, key, token, before accounts.SecretHash) (accounts.SignIn, error) {
	var begun accounts.SignIn
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		if _, err := tx.EndSignIn(ctx, before[:]); err != nil {
			return err
		}
		row, err := tx.InsertSignIn(ctx, id, token[:], key[:])
		if err != nil {
			return orNotFound(err, accounts.ErrKeyNotFound, "of this secret")
		}
		begun = signIn(db.SignInRow{ID: row.ID, KeyID: row.KeyID, CreatedAt: row.CreatedAt, SeenAt: row.SeenAt, SecretHash: key[:]})
		return nil
	})
	return begun, wrap(err, "begin a sign-in")
}

// SignIn returns the sign-in of a token, or [accounts.ErrSignInNotFound] where there is none that is
// open, and notes that it is used.
func (s *Store) SignIn(ctx context.Context, token accounts.SecretHash) (accounts.SignIn, error) {
	var found accounts.SignIn
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		row, err := tx.SignIn(ctx, token[:])
		if err != nil {
			return orNotFound(err, accounts.ErrSignInNotFound, "of this token")
		}
		if found = signIn(row); !found.OpenAt(row.ReadAt) {
			return accounts.ErrSignInNotFound.Of("of this token that is open")
		}
		if row.ReadAt.Sub(found.SeenAt) < accounts.SignInSeenEvery {
			return nil
		}
		return tx.SeeSignIn(ctx, found.ID)
	})
	return found, wrap(err, "look up a sign-in")
}

// EndSignIn ends the sign-in of a token. One that has ended, or isn't there, stays so.
func (s *Store) EndSignIn(ctx context.Context, token accounts.SecretHash) error {
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		_, err := tx.EndSignIn(ctx, token[:])
		return err
	})
	return wrap(err, "end a sign-in")
}

func signIn(r db.SignInRow) accounts.SignIn {
	return accounts.SignIn{
		ID: r.ID, Key: r.KeyID, Secret: accounts.SecretHash(r.SecretHash), CreatedAt: r.CreatedAt.UTC(), SeenAt: r.SeenAt.UTC(), EndedAt: r.EndedAt,
	}
}
