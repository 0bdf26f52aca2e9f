package main

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
)

type proposalCommand struct {
	List    proposalList    `cmd:"" help:"List what waits for a second person, or all of it."`
	Show    proposalShow    `cmd:"" help:"Show a proposal; --json shows all of what is proposed."`
	Approve proposalApprove `cmd:"" help:"Carry out what somebody else proposed: credit by finance, plans by an administrator."`
	Reject  proposalReject  `cmd:"" help:"Reject a proposal, or take your own back."`
}

func (f format) proposals(out *output, value any, list ...accounts.Proposal) error {
	return f.print(out, value, "ID\tKIND\tSTATE\tPROPOSED BY\tAT\tDECIDED BY\tNOTE", func(row func(...any)) {
		for _, p := range list {
			decided := "–"
			if p.DecidedBy != nil {
				decided = p.DecidedBy.Owner
			}
			row(p.ID, p.Kind, p.State, p.ProposedBy.Owner, p.ProposedAt.Format(time.RFC3339), decided, p.Note)
		}
	})
}

// proposalPage is a page of proposals.
type proposalPage struct {
	Proposals []accounts.Proposal `json:"proposals"`
	cursor
}

type proposalList struct {
	anyAccess
	format
	All bool `help:"List what was decided on, too."`
}

// Run lists, page by page.
func (c proposalList) Run(ctx context.Context, out *output) error {
	query := url.Values{}
	if !c.All {
		query.Set("state", string(accounts.ProposalPending))
	}
	list := []accounts.Proposal{}
	err := eachPage(ctx, c.client(), pageQuery{method: http.MethodGet, path: path("proposals"), query: query}, func(page proposalPage) error {
		list = append(list, page.Proposals...)
		return nil
	})
	if err != nil {
		return err
	}
	return c.proposals(out, list, list...)
}

type proposalShow struct {
	anyAccess
	format
	ID uuid.UUID `arg:"" name:"proposal" help:"Which: its ID." of:"proposal"`
}

// Run shows one.
func (c proposalShow) Run(ctx context.Context, out *output) error {
	var found accounts.Proposal
	if err := c.client().call(ctx, http.MethodGet, path("proposals", c.ID.String()), nil, &found); err != nil {
		return err
	}
	return c.proposals(out, found, found)
}

type proposalApprove struct {
	anyAccess
	format
	ID   uuid.UUID `arg:"" name:"proposal" help:"Which: its ID." of:"proposal"`
	Note string    `help:"Why, at most 1,000 characters."`
}

// Run approves one.
func (c proposalApprove) Run(ctx context.Context, out *output) error {
	return c.decideProposal(ctx, out, c.client(), c.ID, "approve", c.Note)
}

type proposalReject struct {
	anyAccess
	format
	ID   uuid.UUID `arg:"" name:"proposal" help:"Which: its ID." of:"proposal"`
	Note string    `required:"" help:"Why, 1 to 1,000 characters."`
}

// Run rejects one.
func (c proposalReject) Run(ctx context.Context, out *output) error {
	return c.decideProposal(ctx, out, c.client(), c.ID, "reject", c.Note)
}

func (f format) decideProposal(ctx context.Context, out *output, client *client, id uuid.UUID, decision, note string) error {
	var decided accounts.Proposal
	if err := client.call(ctx, http.MethodPost, path("proposals", id.String(), decision), map[string]any{"note": note}, &decided); err != nil {
		return err
	}
	return f.proposals(out, decided, decided)
}
