package main

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"
)

type quarantineCommand struct {
	List  quarantineList  `cmd:"" help:"List what was set aside and waits for a decision, or all of it."`
	Show  quarantineShow  `cmd:"" help:"Show one of it, with the reason."`
	Apply quarantineApply `cmd:"" help:"Write it, with its own day and plan: after what refused it has been mended (admin)."`
	Drop  quarantineDrop  `cmd:"" help:"Give it up: it counts nowhere (admin)."`
}

// quarantined is what the API says of usage that was set aside.
type quarantined struct {
	ID            uuid.UUID  `json:"id"`
	Instance      uuid.UUID  `json:"instance_id"`
	Seq           int64      `json:"seq"`
	Organization  uuid.UUID  `json:"organization_id"`
	Meter         string     `json:"meter"`
	Aggregation   string     `json:"aggregation"`
	Day           string     `json:"day"`
	Plan          string     `json:"plan"`
	PlanVersion   int        `json:"plan_version"`
	Value         int64      `json:"value"`
	At            time.Time  `json:"at"`
	LeasedDay     int64      `json:"leased_day"`
	LeasedMonth   int64      `json:"leased_month"`
	Reports       int        `json:"reports"`
	Identity      *string    `json:"identity"`
	Reason        string     `json:"reason"`
	SQLState      string     `json:"sqlstate"`
	QuarantinedAt time.Time  `json:"quarantined_at"`
	State         string     `json:"state"`
	DecidedBy     string     `json:"decided_by"`
	DecidedAt     *time.Time `json:"decided_at"`
	Note          string     `json:"note"`
}

func (f format) quarantined(out *output, value any, list ...quarantined) error {
	return f.print(out, value, "ID\tORGANIZATION\tMETER\tDAY\tVALUE\tSTATE\tREASON\tDECIDED BY\tNOTE", func(row func(...any)) {
		for _, q := range list {
			row(q.ID, q.Organization, q.Meter, q.Day, q.Value, q.State, q.Reason, q.DecidedBy, q.Note)
		}
	})
}

type quarantineList struct {
	adminAccess
	format
	All          bool       `help:"List what was decided on, too."`
	Organization *uuid.UUID `help:"Only that of one organization." of:"organization"`
}

// Run lists, page by page.
func (c quarantineList) Run(ctx context.Context, out *output) error {
	query := url.Values{}
	if !c.All {
		query.Set("state", "quarantined")
	}
	if c.Organization != nil {
		query.Set("organization_id", c.Organization.String())
	}
	list := []quarantined{}
	err := eachPage(ctx, c.client(), pageQuery{method: http.MethodGet, path: path("quarantine"), query: query}, func(page quarantinePage) error {
		list = append(list, page.Quarantined...)
		return nil
	})
	if err != nil {
		return err
	}
	return c.quarantined(out, list, list...)
}

// quarantinePage is a page of what was set aside.
type quarantinePage struct {
	Quarantined []quarantined `json:"quarantined"`
	cursor
}

type quarantineShow struct {
	adminAccess
	format
	ID uuid.UUID `arg:"" name:"quarantine" help:"What: its ID." of:"quarantine"`
}

// Run shows one.
func (c quarantineShow) Run(ctx context.Context, out *output) error {
	var found quarantined
	if err := c.client().call(ctx, http.MethodGet, path("quarantine", c.ID.String()), nil, &found); err != nil {
		return err
	}
	return c.quarantined(out, found, found)
}

type quarantineApply struct {
	adminAccess
	format
	ID   uuid.UUID `arg:"" name:"quarantine" help:"What: its ID." of:"quarantine"`
	Note string    `required:"" help:"Why, 1 to 500 bytes."`
}

// Run writes it.
func (c quarantineApply) Run(ctx context.Context, out *output) error {
	return c.decide(ctx, out, c.client(), c.ID, "apply", c.Note)
}

type quarantineDrop struct {
	adminAccess
	format
	ID   uuid.UUID `arg:"" name:"quarantine" help:"What: its ID." of:"quarantine"`
	Note string    `required:"" help:"Why, 1 to 500 bytes."`
}

// Run gives it up.
func (c quarantineDrop) Run(ctx context.Context, out *output) error {
	return c.decide(ctx, out, c.client(), c.ID, "drop", c.Note)
}

func (f format) decide(ctx context.Context, out *output, client *client, id uuid.UUID, decision, note string) error {
	var decided quarantined
	if err := client.call(ctx, http.MethodPost, path("quarantine", id.String(), decision), map[string]any{"note": note}, &decided); err != nil {
		return err
	}
	return f.quarantined(out, decided, decided)
}
