package main

import (
	"context"
	"net/http"
	"net/url"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

type usageCommand struct {
	Show    usageShow    `cmd:"" default:"withargs" help:"Current windows with their limits."`
	History usageHistory `cmd:"" help:"Usage by day or month."`
	Import  usageImport  `cmd:"" help:"Write past usage by organization, meter and day from a file, once however often it is run."`
}

type usageShow struct {
	tenantAccess
	format
}

// usageAnswer is what GET /usage answers.
type usageAnswer struct {
	Organization string `json:"organization_id"`
	Plan         string `json:"plan"`
	Meters       []struct {
		Meter     string          `json:"meter"`
		Unit      string          `json:"unit"`
		Mode      plans.Mode      `json:"mode"`
		Current   int64           `json:"current"`
		Held      int64           `json:"held"`
		Pending   int64           `json:"pending"`
		Max       *int64          `json:"max"`
		Remaining *int64          `json:"remaining"`
		OverLimit bool            `json:"over_limit"`
		Window    calendar.Window `json:"window"`
	} `json:"meters"`
}

// Run shows where an organization stands.
func (c usageShow) Run(ctx context.Context, out *output) error {
	var usage usageAnswer
	if err := c.client().call(ctx, http.MethodGet, path("usage"), nil, &usage); err != nil {
		return err
	}
	return c.print(out, usage, "METER\tCURRENT\tHELD\tMAX\tREMAINING\tMODE\tUNTIL", func(row func(...any)) {
		for _, m := range usage.Meters {
			row(m.Meter, m.Current, m.Held, orNone(m.Max), orNone(m.Remaining), m.Mode, m.Window.End.Format("2006-01-02"))
		}
	})
}

func orNone(n *int64) any {
	if n == nil {
		return "–"
	}
	return *n
}

type usageHistory struct {
	tenantAccess
	format
	Meter       string `required:"" help:"Key of the meter."`
	From        string `required:"" placeholder:"YYYY-MM-DD" help:"First day."`
	To          string `required:"" placeholder:"YYYY-MM-DD" help:"Last day, included."`
	Granularity string `enum:"day,month" default:"day" help:"One value a ${enum}."`
}

// Run shows the past.
func (c usageHistory) Run(ctx context.Context, out *output) error {
	query := url.Values{"meter": {c.Meter}, "from": {c.From}, "to": {c.To}, "granularity": {c.Granularity}}
	var history struct {
		Meter  string `json:"meter"`
		Points []struct {
			Start string `json:"start"`
			Value int64  `json:"value"`
		} `json:"points"`
	}
	if err := c.client().call(ctx, http.MethodGet, path("usage", "history")+"?"+query.Encode(), nil, &history); err != nil {
		return err
	}
	return c.print(out, history, "FROM\t"+c.Meter, func(row func(...any)) {
		for _, p := range history.Points {
			row(p.Start, p.Value)
		}
	})
}
