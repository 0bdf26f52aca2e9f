package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
)

type orgPlan struct {
	adminAccess
	format
	ID   uuid.UUID `arg:"" name:"organization" help:"The organization." of:"organization"`
	Plan string    `arg:"" optional:"" help:"Key of the plan. The one in force takes a pending change back."`
	// At goes to the API as it was written.
	At   string `placeholder:"TIME" help:"From when it is in force, by RFC 3339. Default: at once."`
	Keep bool   `help:"Take a pending change back."`
}

// Run changes an organization's plan, or keeps the one in force.
func (c orgPlan) Run(ctx context.Context, out *output) error {
	if c.Keep == (c.Plan != "") {
		return errors.New("give either a plan or --keep")
	}
	if c.Keep {
		return c.changeContract(ctx, out, c.adminAccess, http.MethodDelete, c.ID, "upgrade", nil)
	}
	in := map[string]string{"plan": c.Plan}
	if c.At != "" {
		in["effective_at"] = c.At
	}
	return c.changeContract(ctx, out, c.adminAccess, http.MethodPost, c.ID, "upgrade", in)
}

type orgEnd struct {
	adminAccess
	format
	ID uuid.UUID `arg:"" name:"organization" help:"The organization." of:"organization"`
	// At goes to the API as it was written.
	At   string `placeholder:"TIME" help:"When the contract ends, by RFC 3339. Default: at once."`
	Note string `help:"Why, for the record: at most 2,000 characters."`
	Keep bool   `help:"Take a pending end back."`
}

// Run ends an organization's contract, or lets it go on.
func (c orgEnd) Run(ctx context.Context, out *output) error {
	if c.Keep {
		return c.changeContract(ctx, out, c.adminAccess, http.MethodDelete, c.ID, "end", nil)
	}
	in := map[string]string{}
	if c.At != "" {
		in["effective_at"] = c.At
	}
	if c.Note != "" {
		in["note"] = c.Note
	}
	return c.changeContract(ctx, out, c.adminAccess, http.MethodPost, c.ID, "end", in)
}

// changeContract changes a contract, and shows the organization as it is then.
func (f format) changeContract(ctx context.Context, out *output, access adminAccess, method string, id uuid.UUID, what string, in any) error {
	var changed accounts.Organization
	if err := access.client().call(ctx, method, path("organizations", id.String(), what), in, &changed); err != nil {
		return err
	}
	return f.organizations(out, changed, changed)
}
