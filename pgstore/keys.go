package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/pgstore/internal/db"
)

// CreateKey adds a key: Role, Organization, Name, Owner, MadeBy and Prefix are taken from k,
// and so is ID where it is not [uuid.Nil]. It returns the key as it is kept. A tenant key of an
// organization that doesn't exist is [accounts.ErrOrganizationNotFound]; a field that breaks its
// rule is an [*fault.FieldError].
func (s *Store) CreateKey(ctx context.Context, k accounts.Key, hash accounts.SecretHash) (accounts.Key, error) {
	var created accounts.Key
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		if err := checkKey(&k); err != nil {
			return err
		}
		if k.ID == uuid.Nil {
			id, err := uuid.NewV7()
			if err != nil {
				return err
			}
			k.ID = id
		}
		row, err := tx.InsertKey(ctx, db.InsertKeyParams{
			ID:             k.ID,
			OrganizationID: optional(k.Organization),
			Role:           string(k.Role),
			Name:           k.Name,
			Prefix:         k.Prefix,
			SecretHash:     hash[:],
			Owner:          k.Owner,
			MadeBy:         optional(k.MadeBy),
		})
		if hasCode(err, foreignKeyViolation) {
			return accounts.ErrOrganizationNotFound.Of(k.Organization)
		}
		created = key(row)
		return err
	})
	return created, wrap(err, "create a key")
}

// checkKey checks a key, and puts its owner into the form that is kept.
func checkKey(k *accounts.Key) error {
	if !k.Role.Valid() {
		return &fault.FieldError{Field: "role", Rule: fmt.Sprintf("must be tenant, finance or admin, %q is not", k.Role)}
	}
	if (k.Role == accounts.RoleTenant) != (k.Organization != uuid.Nil) {
		return &fault.FieldError{Field: "organization_id", Rule: "must be given for a tenant key, and for no other"}
	}
	if err := accounts.ValidateName("name", k.Name); err != nil {
		return err
	}
	if k.Role == accounts.RoleTenant && k.Owner == "" {
		return nil
	}
	var err error
	k.Owner, err = accounts.ParseOwner(k.Owner)
	return err
}

// ListKeys returns the keys of an organization or, where that is nil, all keys, in
// the order of their creation. Revoked keys are among them.
func (s *Store) ListKeys(ctx context.Context, organization *uuid.UUID) ([]accounts.Key, error) {
	var found []accounts.Key
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.ListKeys(ctx, organization)
		found = convert(rows, key)
		return err
	})
	return found, wrap(err, "list keys")
}

// StaffKeys returns the keys that are no organization's, in the order of their creation. Revoked keys
// are among them.
func (s *Store) StaffKeys(ctx context.Context) ([]accounts.Key, error) {
	var found []accounts.Key
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		rows, err := tx.StaffKeys(ctx)
		found = convert(rows, key)
		return err
	})
	return found, wrap(err, "list the keys that are no organization's")
}

// RevokeKey ends a key. A revoked key stays as it is; one that doesn't exist is
// [accounts.ErrKeyNotFound].
func (s *Store) RevokeKey(ctx context.Context, id uuid.UUID) error {
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		n, err := tx.RevokeKey(ctx, id)
		if err == nil && n == 0 {
			return accounts.ErrKeyNotFound.Of(id)
		}
		return err
	})
	return wrap(err, "revoke key %s", id)
}

// KeysRevokedSince returns the keys that were revoked at a time or after it, none for the zero time,
// and the time as of which that is said. Times are those at which transactions began, by Postgres's
// clock.
func (s *Store) KeysRevokedSince(ctx context.Context, since time.Time) (ids []uuid.UUID, asOf time.Time, err error) {
	err = s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		var from *time.Time
		if !since.IsZero() {
			from = &since
		}
		row, err := tx.KeysRevokedSince(ctx, from)
		ids, asOf = row.Ids, row.AsOf
		return err
	})
	return ids, asOf, wrap(err, "read which keys were revoked")
}

// KeyByHash returns the key of a secret, or [accounts.ErrKeyNotFound]. A revoked key is
// returned, with RevokedAt.
func (s *Store) KeyByHash(ctx context.Context, hash accounts.SecretHash) (accounts.Key, error) {
	var found accounts.Key
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) error {
		row, err := tx.KeyByHash(ctx, hash[:])
		found = key(row)
		return orNotFound(err, accounts.ErrKeyNotFound, "of this secret")
	})
	return found, wrap(err, "look up a key")
}

// KeyBegins reports whether there is a key, revoked ones included, whose secret begins so:
// [accounts.SecretPrefix].
func (s *Store) KeyBegins(ctx context.Context, prefix string) (bool, error) {
	var begins bool
	err := s.asPlatform(ctx, func(ctx context.Context, tx scoped) (err error) {
		begins, err = tx.KeyBegins(ctx, prefix)
		return err
	})
	return begins, wrap(err, "look for keys that begin so")
}
