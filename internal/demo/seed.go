package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/plans"
)

// Store keeps organizations and keys.
type Store interface {
	CreateOrganization(ctx context.Context, o accounts.NewOrganization) (accounts.Organization, error)
	Organization(ctx context.Context, id uuid.UUID) (accounts.Organization, error)
	CreateKey(ctx context.Context, key accounts.Key, hash accounts.SecretHash) (accounts.Key, error)
	KeyByHash(ctx context.Context, hash accounts.SecretHash) (accounts.Key, error)
}

// Organization is one of the organizations to try: there is one on each plan.
type Organization struct {
	// Name is what people read: "Demo Pro".
	Name string
	// Plan is the key of its plan.
	Plan string
	// Currency is one in which the plan can be had; empty is the default one.
	Currency string
}

// OrgVariable is the name of the variable with the organization's ID: TOLLGATE_PRO_ORG.
func (o Organization) OrgVariable() string { return o.variable() + "_ORG" }

// KeyVariable is the name of the variable with the organization's key: TOLLGATE_PRO_KEY.
func (o Organization) KeyVariable() string { return o.variable() + "_KEY" }

func (o Organization) variable() string {
	name := "TOLLGATE_" + strings.ToUpper(o.Plan)
	for _, s := range staff {
		if s.variable == name+"_KEY" {
			return name + "_PLAN"
		}
	}
	return name
}

// Organizations returns an organization on each plan of a catalog: Demo Free, Demo Pro and
// Demo Enterprise by the built-in one.
func Organizations(catalog *plans.Catalog) []Organization {
	var out []Organization
	for _, p := range catalog.InForce() {
		o := Organization{Name: "Demo " + cmp.Or(p.Name, p.Key), Plan: p.Key}
		if len(p.PriceBooks) > 0 {
			o.Currency = string(p.PriceBooks[0].Currency)
		}
		out = append(out, o)
	}
	return out
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
// identity the store doesn't know any more, and writes them into env. Organizations have
// had their plans since before their past usage ([SeedUsage]), which goes to the day before now.
func Seed(ctx context.Context, store Store, organizations []Organization, env Env, now time.Time) error {
	if !slices.ContainsFunc(organizations, func(o Organization) bool { return env[o.OrgVariable()] != "" }) {
		env[untilVariable] = (calendar.DayOf(now) - 1).String()
	}
	for _, demo := range organizations {
		id, err := ensureOrganization(ctx, store, env, demo)
		if err != nil {
			return err
		}
		env[demo.OrgVariable()] = id.String()
		key := accounts.Key{Organization: id, Role: accounts.RoleTenant, Name: demo.Name}
		if err := ensureKey(ctx, store, env, demo.KeyVariable(), key); err != nil {
			return err
		}
	}
	for _, s := range staff {
		if err := ensureKey(ctx, store, env, s.variable, accounts.Key{Role: s.role, Name: s.name, Owner: s.name}); err != nil {
			return err
		}
	}
	return nil
}

func ensureOrganization(ctx context.Context, store Store, env Env, demo Organization) (uuid.UUID, error) {
	var since time.Time
	if until, ok := usageUntil(env); ok {
		since = beginning(until).Start()
	}
	if id, err := uuid.Parse(env[demo.OrgVariable()]); err == nil {
		_, err := store.Organization(ctx, id)
		if err == nil {
			return id, nil
		}
		if !errors.Is(err, fault.ErrNotFound) {
			return uuid.Nil, fmt.Errorf("look up %s: %w", demo.Name, err)
		}
	}
	wanted := accounts.NewOrganization{Name: demo.Name, Plan: demo.Plan, Currency: demo.Currency, EffectiveAt: since}
	made, err := store.CreateOrganization(ctx, wanted)
	var refused *accounts.Refusal
	if errors.As(err, &refused) && !since.IsZero() {
		// Another demo's months are closed here: this one begins now, without past usage.
		delete(env, untilVariable)
		wanted.EffectiveAt = time.Time{}
		made, err = store.CreateOrganization(ctx, wanted)
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("make %s: %w", demo.Name, err)
	}
	return made.ID, nil
}

func ensureKey(ctx context.Context, store Store, env Env, variable string, key accounts.Key) error {
	if secret := env[variable]; secret != "" {
		there, err := store.KeyByHash(ctx, accounts.HashSecret(secret))
		if err == nil && there.RevokedAt == nil && there.Organization == key.Organization {
			return nil
		}
		if err != nil && !errors.Is(err, fault.ErrNotFound) {
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
