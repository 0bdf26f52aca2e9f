package main

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
)

type creditCommand struct {
	Grant   creditGrant   `cmd:"" help:"Grant prepaid credit to an organization (finance)."`
	List    creditList    `cmd:"" help:"Show an organization's balances and grants."`
	Entries creditEntries `cmd:"" help:"List what was granted, burned, given back and voided, and what expired."`
	Void    creditVoid    `cmd:"" help:"Take away what remains of a grant (finance)."`
}

// credit is what the API says of a grant. Amounts are text: they are never floats.
type credit struct {
	ID           uuid.UUID  `json:"id"`
	Organization uuid.UUID  `json:"organization_id"`
	Currency     string     `json:"currency"`
	Amount       string     `json:"amount"`
	Remaining    string     `json:"remaining"`
	Priority     int        `json:"priority"`
	EffectiveAt  time.Time  `json:"effective_at"`
	ExpiresAt    *time.Time `json:"expires_at"`
	Note         string     `json:"note"`
	CreatedAt    time.Time  `json:"created_at"`
	ExpiredAt    *time.Time `json:"expired_at"`
	VoidedAt     *time.Time `json:"voided_at"`
}

func (f format) credits(out *output, value any, list ...credit) error {
	return f.print(out, value, "ID\tREMAINING\tOF\tCURRENCY\tPRIORITY\tEFFECTIVE\tEXPIRES\tNOTE", func(row func(...any)) {
		for _, c := range list {
			expires := "never"
			if c.ExpiresAt != nil {
				expires = c.ExpiresAt.Format(time.RFC3339)
			}
			row(c.ID, c.Remaining, c.Amount, c.Currency, c.Priority, c.EffectiveAt.Format(time.RFC3339), expires, c.Note)
		}
	})
}

type creditGrant struct {
	financeAccess
	format
	Organization uuid.UUID  `arg:"" help:"Whose credit it is." of:"organization"`
	Amount       string     `arg:"" help:"How much, a decimal number: 5000.00."`
	Currency     string     `required:"" help:"An ISO 4217 code: USD."`
	Note         string     `required:"" help:"Why, 1 to 500 characters."`
	Priority     *int       `help:"0 to 100, lower is burned first. Default: 50."`
	EffectiveAt  *time.Time `help:"From when it can be used (RFC 3339). Default: now."`
	ExpiresAt    *time.Time `help:"From when it can't any more (RFC 3339). Default: never."`
}

// Run grants credit, or proposes it, where that takes a second person.
func (c creditGrant) Run(ctx context.Context, out *output) error {
	in := map[string]any{"amount": c.Amount, "currency": c.Currency, "note": c.Note}
	if c.Priority != nil {
		in["priority"] = *c.Priority
	}
	if c.EffectiveAt != nil {
		in["effective_at"] = *c.EffectiveAt
	}
	if c.ExpiresAt != nil {
		in["expires_at"] = *c.ExpiresAt
	}
	var granted credit
	var proposed accounts.Proposal
	if err := c.client().callOr(ctx, http.MethodPost, path("organizations", c.Organization.String(), "credits"), in, &granted, &proposed); err != nil {
		return err
	}
	if proposed.ID != uuid.Nil {
		return c.proposals(out, proposed, proposed)
	}
	return c.credits(out, granted, granted)
}

type creditList struct {
	anyAccess
	format
	Organization uuid.UUID `arg:"" help:"Whose credits." of:"organization"`
}

// Run shows balances for programs, and grants for both.
func (c creditList) Run(ctx context.Context, out *output) error {
	var list struct {
		Balances []struct {
			Currency  string `json:"currency"`
			Remaining string `json:"remaining"`
			Usable    string `json:"usable"`
		} `json:"balances"`
		Grants []credit `json:"grants"`
	}
	if err := c.client().call(ctx, http.MethodGet, path("organizations", c.Organization.String(), "credits"), nil, &list); err != nil {
		return err
	}
	return c.credits(out, list, list.Grants...)
}

// creditEntry is what the API says of an entry.
type creditEntry struct {
	ID       uuid.UUID             `json:"id"`
	Grant    uuid.UUID             `json:"grant_id"`
	Kind     billing.CreditKind    `json:"kind"`
	Debit    billing.CreditAccount `json:"debit"`
	Credit   billing.CreditAccount `json:"credit"`
	Amount   string                `json:"amount"`
	Currency string                `json:"currency"`
	Export   *uuid.UUID            `json:"export_id"`
	At       time.Time             `json:"at"`
	Note     string                `json:"note"`
}

// creditEntryPage is a page of entries.
type creditEntryPage struct {
	Entries []creditEntry `json:"entries"`
	cursor
}

type creditEntries struct {
	anyAccess
	format
	Organization uuid.UUID `arg:"" help:"Whose entries." of:"organization"`
}

// Run lists all entries, page by page.
func (c creditEntries) Run(ctx context.Context, out *output) error {
	entries := pageQuery{method: http.MethodGet, path: path("organizations", c.Organization.String(), "credits", "entries")}
	list, err := everyPage(ctx, c.client(), entries, func(page creditEntryPage) []creditEntry { return page.Entries })
	if err != nil {
		return err
	}
	return c.print(out, list, "AT\tKIND\tDEBIT\tCREDIT\tAMOUNT\tCURRENCY\tGRANT\tNOTE", func(row func(...any)) {
		for _, e := range list {
			row(e.At.Format(time.RFC3339), e.Kind, e.Debit, e.Credit, e.Amount, e.Currency, e.Grant, e.Note)
		}
	})
}

type creditVoid struct {
	financeAccess
	format
	Grant uuid.UUID `arg:"" help:"The grant." of:"grant"`
	Note  string    `required:"" help:"Why, 1 to 500 characters."`
}

// Run voids a grant.
func (c creditVoid) Run(ctx context.Context, out *output) error {
	var voided credit
	if err := c.client().call(ctx, http.MethodPost, path("credits", c.Grant.String(), "void"), map[string]string{"note": c.Note}, &voided); err != nil {
		return err
	}
	return c.credits(out, voided, voided)
}
