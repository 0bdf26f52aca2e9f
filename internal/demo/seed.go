package demo

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
)

// Store keeps organizations and keys.
type Store interface {
	CreateOrganization(ctx context.Context, o accounts.NewOrganization) (accounts.Organization, error)
	Organization(ctx context.Context, id uuid.UUID) (accounts.Organization, error)
	CreateKey(ctx context.Context, key accounts.Key, hash accounts.SecretHash) (accounts.Key, error)
	KeyByHash(ctx context.Context, hash accounts.SecretHash) (accounts.Key, error)
}

// demoOrganization is one of the organizations to try: its variables are
// TOLLGATE_<NAME>_ORG and TOLLGATE_<NAME>_KEY.
type demoOrganization struct{ variable, name, plan string }

var organizations = []demoOrganization{
	{"FREE", "Demo Free", "free"},
	{"PRO", "Demo Pro", "pro"},
	{"ENTERPRISE", "Demo Enterprise", "enterprise"},
}

var staff = []struct {
	variable, name string
	role           accounts.Role
}{
	{"TOLLGATE_ADMIN_KEY", "Demo admin", accounts.RoleAdmin},
	{"TOLLGATE_FINANCE_KEY", "Demo finance", accounts.RoleFinance},
	{"TOLLGATE_FINANCE2_KEY", "Demo finance, second pair of eyes", accounts.RoleFinance},
}

// Seed makes the demo organizations and keys that env doesn't have, or whose
// identity the store doesn't know any more, and writes them into env.
func Seed(ctx context.Context, store Store, env Env) error {
	for _, demo := range organizations {
		id, err := ensureOrganization(ctx, store, env["TOLLGATE_"+demo.variable+"_ORG"], demo)
		if err != nil {
			return err
		}
		env["TOLLGATE_"+demo.variable+"_ORG"] = id.String()
		key := accounts.Key{Organization: id, Role: accounts.RoleTenant, Name: demo.name}
		if err := ensureKey(ctx, store, env, "TOLLGATE_"+demo.variable+"_KEY", key); err != nil {
			return err
		}
	}
	for _, s := range staff {
		if err := ensureKey(ctx, store, env, s.variable, accounts.Key{Role: s.role, Name: s.name}); err != nil {
			return err
		}
	}
	return nil
}

func ensureOrganization(ctx context.Context, store Store, known string, demo demoOrganization) (uuid.UUID, error) {
	if id, err := uuid.Parse(known); err == nil {
		_, err := store.Organization(ctx, id)
		if err == nil {
			return id, nil
		}
		if !errors.Is(err, accounts.ErrNotFound) {
			return uuid.Nil, fmt.Errorf("look up %s: %w", demo.name, err)
		}
	}
	made, err := store.CreateOrganization(ctx, accounts.NewOrganization{Name: demo.name, Plan: demo.plan})
	if err != nil {
		return uuid.Nil, fmt.Errorf("make %s: %w", demo.name, err)
	}
	return made.ID, nil
}

func ensureKey(ctx context.Context, store Store, env Env, variable string, key accounts.Key) error {
	if secret := env[variable]; secret != "" {
		there, err := store.KeyByHash(ctx, accounts.HashSecret(secret))
		if err == nil && there.RevokedAt == nil && there.Organization == key.Organization {
			return nil
		}
		if err != nil && !errors.Is(err, accounts.ErrNotFound) {
			return fmt.Errorf("look up the key of %s: %w", key.Name, err)
		}
	}
	secret := accounts.NewSecret(key.Role)
	key.Prefix = accounts.SecretPrefix(secret)
	if _, err := store.CreateKey(ctx, key, accounts.HashSecret(secret)); err != nil {
		return fmt.Errorf("make the key of %s: %w", key.Name, err)
	}
	env[variable] = secret
	return nil
}
