package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/webhooks"
)

type webhookCommand struct {
	List       webhookList       `cmd:"" help:"List the endpoints of the key's owner: an organization, or the platform."`
	Create     webhookCreate     `cmd:"" help:"Make an endpoint. Its secret is shown once."`
	Rotate     webhookRotate     `cmd:"" help:"Put a new secret in force; the one before signs along for 24 hours. It is shown once."`
	Delete     webhookDelete     `cmd:"" help:"Delete an endpoint."`
	Deliveries webhookDeliveries `cmd:"" help:"Show what was sent to an endpoint, the newest first."`
	Redeliver  webhookRedeliver  `cmd:"" help:"Try a delivery again, now."`
}

// anyAccess reaches the API with a key of any role: what it has depends on whose key it is.
type anyAccess struct {
	server
	Key string `required:"" secret:"" env:"TOLLGATE_KEY,TOLLGATE_FINANCE_KEY,TOLLGATE_ADMIN_KEY" placeholder:"KEY" help:"A key of the organization, or of finance or an administrator for the platform."`
}

// Validate checks the address and that there is a key.
func (a anyAccess) Validate() error { return a.check(a.Key) }

func (a anyAccess) client() *client { return newClient(a.URL, a.Key) }

// webhookEndpoint is what the API says of an endpoint.
type webhookEndpoint struct {
	ID                  uuid.UUID     `json:"id"`
	Organization        *uuid.UUID    `json:"organization_id"`
	URL                 string        `json:"url"`
	Kinds               []events.Kind `json:"kinds"`
	Description         string        `json:"description"`
	CreatedAt           time.Time     `json:"created_at"`
	UpdatedAt           time.Time     `json:"updated_at"`
	DisabledAt          *time.Time    `json:"disabled_at"`
	PreviousSecretUntil *time.Time    `json:"previous_secret_until,omitempty"`
	Secret              string        `json:"secret,omitempty"`
}

type webhookList struct {
	anyAccess
	format
}

// Run lists endpoints.
func (c webhookList) Run(ctx context.Context, out *output) error {
	var list struct {
		Webhooks []webhookEndpoint `json:"webhooks"`
	}
	if err := c.client().call(ctx, http.MethodGet, path("webhooks"), nil, &list); err != nil {
		return err
	}
	return c.print(out, list.Webhooks, "ID\tURL\tKINDS\tSTATE", func(row func(...any)) {
		for _, e := range list.Webhooks {
			state := "works"
			if e.DisabledAt != nil {
				state = "disabled " + e.DisabledAt.Format(time.RFC3339)
			}
			row(e.ID, e.URL, kindList(e.Kinds), state)
		}
	})
}

func kindList(kinds []events.Kind) string {
	if len(kinds) == 0 {
		return "all"
	}
	texts := make([]string, len(kinds))
	for i, k := range kinds {
		texts[i] = string(k)
	}
	return strings.Join(texts, " ")
}

type webhookCreate struct {
	anyAccess
	format
	To          string   `arg:"" help:"Where events are sent, https://…."`
	Kinds       []string `placeholder:"KIND,…" help:"Kinds of events. Default: all."`
	Description string   `help:"What the endpoint is for."`
}

// Run makes an endpoint.
func (c webhookCreate) Run(ctx context.Context, out *output) error {
	in := map[string]any{"url": c.To}
	if len(c.Kinds) > 0 {
		in["kinds"] = c.Kinds
	}
	if c.Description != "" {
		in["description"] = c.Description
	}
	var made webhookEndpoint
	if err := c.client().call(ctx, http.MethodPost, path("webhooks"), in, &made); err != nil {
		return err
	}
	return c.printSecret(out, made)
}

// printSecret shows an endpoint with its secret.
func (f format) printSecret(out *output, e webhookEndpoint) error {
	return f.print(out, e, "ID\tURL\tSECRET (shown once)", func(row func(...any)) { row(e.ID, e.URL, e.Secret) })
}

type webhookRotate struct {
	anyAccess
	format
	ID uuid.UUID `arg:"" name:"endpoint" help:"The endpoint." of:"endpoint"`
}

// Run rotates a secret.
func (c webhookRotate) Run(ctx context.Context, out *output) error {
	var changed webhookEndpoint
	if err := c.client().call(ctx, http.MethodPost, path("webhooks", c.ID.String(), "rotate"), nil, &changed); err != nil {
		return err
	}
	return c.printSecret(out, changed)
}

type webhookDelete struct {
	anyAccess
	ID uuid.UUID `arg:"" name:"endpoint" help:"The endpoint." of:"endpoint"`
}

// Run deletes an endpoint.
func (c webhookDelete) Run(ctx context.Context, out *output) error {
	if err := c.client().call(ctx, http.MethodDelete, path("webhooks", c.ID.String()), nil, nil); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "Deleted.")
	return err
}

type webhookDeliveries struct {
	anyAccess
	format
	ID    uuid.UUID `arg:"" name:"endpoint" help:"The endpoint." of:"endpoint"`
	Limit int       `default:"20" help:"The most to show, 1 to 1000."`
}

// webhookDelivery is what the API says of a delivery.
type webhookDelivery struct {
	Event         uuid.UUID      `json:"event_id"`
	Kind          events.Kind    `json:"kind"`
	State         webhooks.State `json:"state"`
	Attempts      int            `json:"attempts"`
	NextAttemptAt *time.Time     `json:"next_attempt_at"`
	LastStatus    int            `json:"last_status,omitempty"`
	LastError     string         `json:"last_error,omitempty"`
	CreatedAt     time.Time      `json:"created_at"`
	UpdatedAt     time.Time      `json:"updated_at"`
}

// Run shows deliveries.
func (c webhookDeliveries) Run(ctx context.Context, out *output) error {
	var page struct {
		Deliveries []webhookDelivery `json:"deliveries"`
	}
	from := path("webhooks", c.ID.String(), "deliveries") + "?limit=" + strconv.Itoa(c.Limit)
	if err := c.client().call(ctx, http.MethodGet, from, nil, &page); err != nil {
		return err
	}
	return c.print(out, page.Deliveries, "EVENT\tKIND\tSTATE\tTRIES\tNEXT\tLAST ERROR", func(row func(...any)) {
		for _, d := range page.Deliveries {
			next := ""
			if d.NextAttemptAt != nil {
				next = d.NextAttemptAt.Format(time.RFC3339)
			}
			row(d.Event, d.Kind, d.State, d.Attempts, next, d.LastError)
		}
	})
}

type webhookRedeliver struct {
	anyAccess
	ID    uuid.UUID `arg:"" name:"endpoint" help:"The endpoint." of:"endpoint"`
	Event uuid.UUID `arg:"" help:"The event." of:"event"`
}

// Run tries a delivery again.
func (c webhookRedeliver) Run(ctx context.Context, out *output) error {
	var run struct {
		WorkflowID string `json:"workflow_id"`
	}
	to := path("webhooks", c.ID.String(), "deliveries", c.Event.String(), "redeliver")
	if err := c.client().call(ctx, http.MethodPost, to, nil, &run); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "Trying:", run.WorkflowID)
	return err
}

type eventsCommand struct {
	anyAccess
	format
	Kind  string `help:"Only events of that kind."`
	Limit int    `default:"20" help:"The most to show, 1 to 1000."`
}

// Run shows events.
func (c eventsCommand) Run(ctx context.Context, out *output) error {
	query := url.Values{"limit": {strconv.Itoa(c.Limit)}}
	if c.Kind != "" {
		query.Set("kind", c.Kind)
	}
	var page struct {
		Events []struct {
			ID           uuid.UUID       `json:"id"`
			Kind         events.Kind     `json:"kind"`
			Organization *uuid.UUID      `json:"organization_id"`
			OccurredAt   time.Time       `json:"occurred_at"`
			Data         json.RawMessage `json:"data"`
		} `json:"events"`
	}
	if err := c.client().call(ctx, http.MethodGet, path("events")+"?"+query.Encode(), nil, &page); err != nil {
		return err
	}
	return c.print(out, page.Events, "ID\tOCCURRED\tKIND\tDATA", func(row func(...any)) {
		for _, e := range page.Events {
			row(e.ID, e.OccurredAt.Format(time.RFC3339), e.Kind, string(e.Data))
		}
	})
}
