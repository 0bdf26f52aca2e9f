package pgstore

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// BeginSignIn begins a sign-in that acts for a key, under the hash of its token, and ends the one
// of the token before, where there is one: [accounts.SecretHash] zero is none. A key that isn't
// there, or was revoked, is [accounts.ErrKeyNotFound].
func (s *Store) BeginSignIn(ctx context.Context, key, token, before accounts.SecretHash) (accounts.SignIn, error) {
	var begun accounts.SignIn
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) (err error) {
		begun, err = beginSignIn(ctx, tx, key, token, before)
		return err
	})
	return begun, wrap(err, "begin a sign-in")
}

// maxPersonKeys is how many keys of one person there may be that were revoked.
const maxPersonKeys = 1000

// BeginPersonSignIn is [Store.BeginSignIn] for a person of an identity provider: it acts for his key, which is made where he
// has none that works. An organization that isn't there is [accounts.ErrOrganizationNotFound].
func (s *Store) BeginPersonSignIn(ctx context.Context, p accounts.Person, token, before accounts.SecretHash) (accounts.SignIn, error) {
	var begun accounts.SignIn
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		k := accounts.Key{Role: p.Role, Organization: p.Organization, Name: p.Name, Owner: p.Owner}
		if err := checkKey(&k); err != nil {
			return err
		}
		for number := range uint32(maxPersonKeys) {
			hash := p.KeyHash(number)
			id, err := uuid.NewV7()
			if err != nil {
				return err
			}
			_, err = tx.InsertPersonKey(ctx, db.InsertPersonKeyParams{
				ID: id, OrganizationID: optional(k.Organization), Role: string(k.Role), Name: k.Name, Prefix: accounts.PersonPrefix, SecretHash: hash[:], Owner: k.Owner,
			})
			if hasCode(err, foreignKeyViolation) {
				return accounts.ErrOrganizationNotFound.Of(k.Organization)
			}
			if err != nil {
				return err
			}
			// One that was revoked stays so: there is no such key.
			if begun, err = beginSignIn(ctx, tx, hash, token, before); !errors.Is(err, accounts.ErrKeyNotFound) {
				return err
			}
		}
		return accounts.ErrKeyNotFound.Of("of this person")
	})
	return begun, wrap(err, "begin the sign-in of a person")
}

func beginSignIn(ctx context.Context, tx scoped, key, token, before accounts.SecretHash) (accounts.SignIn, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return accounts.SignIn{}, err
	}
	if _, err := tx.EndSignIn(ctx, before[:]); err != nil {
		return accounts.SignIn{}, err
	}
	row, err := tx.InsertSignIn(ctx, id, token[:], key[:])
	if err != nil {
		return accounts.SignIn{}, orNotFound(err, accounts.ErrKeyNotFound, "of this secret")
	}
	return signIn(db.SignInRow{ID: row.ID, KeyID: row.KeyID, CreatedAt: row.CreatedAt, SeenAt: row.SeenAt, SecretHash: key[:]}), nil
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
