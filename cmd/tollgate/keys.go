package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/internal/config"
)

type keysCommand struct {
	Create     keysCreate     `cmd:"" help:"Make a key. Its secret is shown once."`
	List       keysList       `cmd:"" help:"List keys: an organization's, or those of finance and administrators."`
	Revoke     keysRevoke     `cmd:"" help:"Make a key stop working, on every replica."`
	FirstAdmin keysFirstAdmin `cmd:"" help:"Print the first admin key of a new installation. It talks to the database itself."`
}

// apiKey is what the API says of a key.
type apiKey struct {
	ID           uuid.UUID     `json:"id"`
	Organization *uuid.UUID    `json:"organization_id"`
	Role         accounts.Role `json:"role"`
	Name         string        `json:"name"`
	Owner        string        `json:"owner"`
	MadeBy       *uuid.UUID    `json:"made_by"`
	Prefix       string        `json:"prefix"`
	CreatedAt    time.Time     `json:"created_at"`
	RevokedAt    *time.Time    `json:"revoked_at"`
}

type keysCreate struct {
	adminAccess
	format
	Role         string     `enum:"tenant,finance,admin" default:"tenant" help:"What the key may do: ${enum}."`
	Name         string     `required:"" help:"What people call the key."`
	Owner        string     `help:"The person who uses the key: an e-mail address, or a name. Required for finance and admin."`
	Organization *uuid.UUID `help:"Whose key it is, for the role tenant." of:"organization"`
}

// Validate checks that just a tenant's key has an organization, and any other an owner.
func (c keysCreate) Validate() error {
	if (c.Role == string(accounts.RoleTenant)) != (c.Organization != nil) {
		return errors.New("--organization is needed for the role tenant, and for no other")
	}
	if c.Role != string(accounts.RoleTenant) && c.Owner == "" {
		return errors.New("--owner is needed for the roles finance and admin: the person who uses the key")
	}
	return c.adminAccess.Validate()
}

// Run makes a key.
func (c keysCreate) Run(ctx context.Context, out *output) error {
	var made struct {
		apiKey
		Secret string `json:"secret"`
	}
	to, in := path("keys"), map[string]string{"name": c.Name, "role": c.Role}
	if c.Owner != "" {
		in["owner"] = c.Owner
	}
	if c.Organization != nil {
		to = path("organizations", c.Organization.String(), "keys")
		delete(in, "role")
	}
	if err := c.client().call(ctx, http.MethodPost, to, in, &made); err != nil {
		return err
	}
	return c.print(out, made, "ID\tROLE\tSECRET (shown once)", func(row func(...any)) { row(made.ID, made.Role, made.Secret) })
}

type keysList struct {
	adminAccess
	format
	Organization *uuid.UUID `help:"Whose keys. Default: those of finance and administrators." of:"organization"`
}

// Run lists keys.
func (c keysList) Run(ctx context.Context, out *output) error {
	var list struct {
		Keys []apiKey `json:"keys"`
	}
	from := path("keys")
	if c.Organization != nil {
		from = path("organizations", c.Organization.String(), "keys")
	}
	if err := c.client().call(ctx, http.MethodGet, from, nil, &list); err != nil {
		return err
	}
	return c.print(out, list.Keys, "ID\tROLE\tPREFIX\tNAME\tOWNER\tSTATE", func(row func(...any)) {
		for _, k := range list.Keys {
			state := "works"
			if k.RevokedAt != nil {
				state = "revoked " + k.RevokedAt.Format(time.RFC3339)
			}
			row(k.ID, k.Role, k.Prefix+"…", k.Name, k.Owner, state)
		}
	})
}

type keysRevoke struct {
	adminAccess
	ID uuid.UUID `arg:"" name:"key" help:"The key." of:"key"`
}

// Run revokes a key.
func (c keysRevoke) Run(ctx context.Context, out *output) error {
	if err := c.client().call(ctx, http.MethodDelete, path("keys", c.ID.String()), nil, nil); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "Revoked.")
	return err
}

type keysFirstAdmin struct {
	config.Database
	Owner string `default:"first admin" help:"The person who uses the key: an e-mail address, or a name."`
}

// errAdminExists keeps the command from being a way around the roles.
var errAdminExists = errors.New("there is an admin key that works; make further keys with it: tollgate keys create --role admin")

// Run makes the first admin key.
func (c keysFirstAdmin) Run(ctx context.Context, out *output) error {
	store, err := openStore(ctx, c.Database)
	if err != nil {
		return err
	}
	defer store.Close()
	list, err := store.ListKeys(ctx, nil)
	if err != nil {
		return err
	}
	for _, k := range list {
		if k.Role == accounts.RoleAdmin && k.RevokedAt == nil {
			return errAdminExists
		}
	}
	secret := accounts.NewSecret(accounts.RoleAdmin)
	_, err = store.CreateKey(ctx, accounts.Key{
		Role: accounts.RoleAdmin, Name: "first admin", Owner: c.Owner, Prefix: accounts.SecretPrefix(secret),
	}, accounts.HashSecret(secret))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, secret)
	return err
}
