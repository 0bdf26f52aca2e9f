package main

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/sinks"
)

type orgCommand struct {
	Create orgCreate `cmd:"" help:"Make an organization."`
	List   orgList   `cmd:"" help:"List the organizations."`
	Show   orgShow   `cmd:"" help:"Show one organization."`
	Set    orgSet    `cmd:"" help:"Change an organization's name, currency or plan; a plan takes effect at once."`
	Plan   orgPlan   `cmd:"" help:"Change an organization's plan, at once or later, or take a pending change back."`
	End    orgEnd    `cmd:"" help:"End an organization's contract, at once or later, or take a pending end back."`

	Customer orgCustomer `cmd:"" help:"Say how another system knows an organization, so that its statements are delivered there."`
}

func (f format) organizations(out *output, value any, list ...accounts.Organization) error {
	return f.print(out, value, "ID\tNAME\tPLAN\tSINCE\tTO COME", func(row func(...any)) {
		for _, o := range list {
			row(o.ID, o.Name, cmp.Or(o.Plan, "-"), o.CreatedAt.Format(time.DateOnly), toCome(o))
		}
	})
}

// toCome says what of an organization's contract is pending, and that it has ended.
func toCome(o accounts.Organization) string {
	var parts []string
	if o.PendingFrom != nil {
		parts = append(parts, o.PendingPlan+" from "+o.PendingFrom.Format(time.RFC3339))
	}
	switch {
	case o.EndsAt == nil:
	case o.Plan == "" && o.PendingFrom == nil:
		parts = append(parts, "ended "+o.EndsAt.Format(time.RFC3339))
	default:
		parts = append(parts, "ends "+o.EndsAt.Format(time.RFC3339))
	}
	return strings.Join(parts, ", ")
}

type orgCreate struct {
	adminAccess
	format
	Name     string `required:"" help:"What people and exports show, 1 to 200 characters."`
	Plan     string `help:"Key of the plan. Default: the catalog's default_plan."`
	Currency string `default:"USD" help:"ISO 4217 code of the currency in which it is billed."`
	// EffectiveAt goes to the API as it was written.
	EffectiveAt string `placeholder:"TIME" help:"From when it has its plan, by RFC 3339; the past too, in no closed month. Default: now."`
}

// Run makes an organization.
func (c orgCreate) Run(ctx context.Context, out *output) error {
	var made accounts.Organization
	in := map[string]string{"name": c.Name, "currency": c.Currency}
	if c.Plan != "" {
		in["plan"] = c.Plan
	}
	if c.EffectiveAt != "" {
		in["effective_at"] = c.EffectiveAt
	}
	if err := c.client().call(ctx, http.MethodPost, path("organizations"), in, &made); err != nil {
		return err
	}
	return c.organizations(out, made, made)
}

type orgList struct {
	adminAccess
	format
	Search string `help:"Only those whose name or ID begins so."`
}

// Run lists all organizations, page by page.
func (c orgList) Run(ctx context.Context, out *output) error {
	list := []accounts.Organization{}
	query := url.Values{}
	if c.Search != "" {
		query.Set("search", c.Search)
	}
	err := eachPage(ctx, c.client(), pageQuery{method: http.MethodGet, path: path("organizations"), query: query}, func(page organizationPage) error {
		list = append(list, page.Organizations...)
		return nil
	})
	if err != nil {
		return err
	}
	return c.organizations(out, list, list...)
}

// organizationPage is a page of organizations.
type organizationPage struct {
	Organizations []accounts.Organization `json:"organizations"`
	cursor
}

type orgShow struct {
	adminAccess
	format
	ID uuid.UUID `arg:"" name:"organization" help:"The organization." of:"organization"`
}

// Run shows one organization.
func (c orgShow) Run(ctx context.Context, out *output) error {
	var found accounts.Organization
	if err := c.client().call(ctx, http.MethodGet, path("organizations", c.ID.String()), nil, &found); err != nil {
		return err
	}
	return c.organizations(out, found, found)
}

type orgSet struct {
	adminAccess
	format
	ID       uuid.UUID `arg:"" name:"organization" help:"The organization." of:"organization"`
	Name     *string   `help:"Its new name."`
	Plan     *string   `help:"Key of its new plan."`
	Currency *string   `help:"ISO 4217 code of its new currency."`
}

// Run changes an organization.
func (c orgSet) Run(ctx context.Context, out *output) error {
	in := map[string]string{}
	if c.Name != nil {
		in["name"] = *c.Name
	}
	if c.Plan != nil {
		in["plan"] = *c.Plan
	}
	if c.Currency != nil {
		in["currency"] = *c.Currency
	}
	var changed accounts.Organization
	if err := c.client().call(ctx, http.MethodPatch, path("organizations", c.ID.String()), in, &changed); err != nil {
		return err
	}
	return c.organizations(out, changed, changed)
}

type orgCustomer struct {
	adminAccess
	format
	ID         uuid.UUID `arg:"" name:"organization" help:"The organization." of:"organization"`
	Sink       string    `arg:"" enum:"stripe" help:"The system: stripe."`
	ExternalID string    `arg:"" name:"customer" help:"How it knows the organization: cus_… in Stripe."`
}

// Run sets how a sink knows an organization.
func (c orgCustomer) Run(ctx context.Context, out *output) error {
	var put sinks.Customer
	in := map[string]string{"external_id": c.ExternalID}
	if err := c.client().call(ctx, http.MethodPut, path("organizations", c.ID.String(), "customers", c.Sink), in, &put); err != nil {
		return err
	}
	return c.print(out, put, "ORGANIZATION\tSINK\tCUSTOMER", func(row func(...any)) {
		row(put.Organization, put.Sink, put.ExternalID)
	})
}
