package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/billing"
)

// note says why somebody decides.
type note struct {
	Note string `help:"Why, for the audit trail. Required to review, reject and reopen." placeholder:"TEXT"`
}

type decided struct {
	Period string        `json:"period"`
	Stage  billing.Stage `json:"stage"`
}

// decide tells the API of a decision and shows what became of it.
func decide(ctx context.Context, c financeAccess, f format, out *output, period, step string, body map[string]any) error {
	var d decided
	if err := c.client().call(ctx, http.MethodPost, path("billing", "exports", period, step), body, &d); err != nil {
		return err
	}
	return f.print(out, d, "PERIOD\tSTAGE", func(row func(...any)) { row(d.Period, d.Stage) })
}

type exportReview struct {
	financeAccess
	format
	periodFlag
	note
}

// Run accepts the variances.
func (c exportReview) Run(ctx context.Context, out *output) error {
	return decide(ctx, c.financeAccess, c.format, out, c.period(), "review", map[string]any{"note": c.Note})
}

type exportApprove struct {
	financeAccess
	format
	periodFlag
	note
	WithoutParked bool `help:"Approve although organizations are parked: what they used is billed as a correction in the next period."`
}

// Run approves an export.
func (c exportApprove) Run(ctx context.Context, out *output) error {
	return decide(ctx, c.financeAccess, c.format, out, c.period(), "approve", map[string]any{"note": c.Note, "without_parked": c.WithoutParked})
}

type exportReject struct {
	financeAccess
	format
	periodFlag
	note
}

// Run rejects an export.
func (c exportReject) Run(ctx context.Context, out *output) error {
	return decide(ctx, c.financeAccess, c.format, out, c.period(), "reject", map[string]any{"note": c.Note})
}

type exportRetry struct {
	financeAccess
	format
	periodFlag
	note
}

// Run has what is parked rated again.
func (c exportRetry) Run(ctx context.Context, out *output) error {
	return decide(ctx, c.financeAccess, c.format, out, c.period(), "retry", map[string]any{"note": c.Note})
}

type exportReopen struct {
	financeAccess
	format
	periodFlag
	note
	exportSettings
}

// Run opens a closed period again.
func (c exportReopen) Run(ctx context.Context, out *output) error {
	body := c.body()
	body["note"] = c.Note
	var run started
	if err := c.client().call(ctx, http.MethodPost, path("billing", "exports", c.period(), "reopen"), body, &run); err != nil {
		return err
	}
	return c.print(out, run, "PERIOD\tWORKFLOW\tRUN\tTEMPORAL UI", func(row func(...any)) {
		row(run.Period, run.WorkflowID, run.RunID, run.TemporalURL)
	})
}

// exportSettings are those of a run.
type exportSettings struct {
	VariancePercent int64  `default:"50" help:"Differences from the period before that have to be reviewed, in percent."`
	VarianceLeast   string `default:"1" help:"The smallest such difference, in the statement's currency."`
	Compress        bool   `help:"Write files with gzip."`
	Focus           string `enum:"1.2,1.3,1.4" default:"1.2" help:"The version of FOCUS: 1.2, 1.3 or 1.4."`
	Issuer          string `default:"Tollgate" help:"Who issues the statements, for FOCUS."`
}

func (s exportSettings) body() map[string]any {
	return map[string]any{
		"variance":  billing.VarianceThreshold{Percent: s.VariancePercent, Least: s.VarianceLeast},
		"documents": billing.DocumentOptions{Compress: s.Compress, Focus: billing.FocusVersion(s.Focus), Issuer: s.Issuer},
	}
}

// revisionFlag names a revision of an export.
type revisionFlag struct {
	Revision int `placeholder:"N" help:"A revision of the period's export, from 1. Default: the one that counts."`
}

// of adds the revision to a path of the API.
func (r revisionFlag) of(path string) string {
	if r.Revision == 0 {
		return path
	}
	return fmt.Sprintf("%s?revision=%d", path, r.Revision)
}

type exportVariances struct {
	financeAccess
	format
	periodFlag
	revisionFlag
}

// Run lists variances.
func (c exportVariances) Run(ctx context.Context, out *output) error {
	var list struct {
		Variances []billing.StatementVariance `json:"variances"`
	}
	if err := c.client().call(ctx, http.MethodGet, c.of(path("billing", "exports", c.period(), "variances")), nil, &list); err != nil {
		return err
	}
	return c.print(out, list, "ORGANIZATION\tNAME\tPREVIOUS\tCURRENT\tCURRENCY\tPERCENT", func(row func(...any)) {
		for _, v := range list.Variances {
			row(v.Organization, v.OrganizationName, v.Previous, v.Current, v.Currency, v.Percent)
		}
	})
}

type exportParked struct {
	financeAccess
	format
	periodFlag
	revisionFlag
}

// Run lists organizations that could not be rated.
func (c exportParked) Run(ctx context.Context, out *output) error {
	var list struct {
		Parked []billing.ParkedAccount `json:"parked"`
	}
	if err := c.client().call(ctx, http.MethodGet, c.of(path("billing", "exports", c.period(), "parked")), nil, &list); err != nil {
		return err
	}
	return c.print(out, list, "ORGANIZATION\tNAME\tATTEMPTS\tREASON", func(row func(...any)) {
		for _, p := range list.Parked {
			row(p.Organization, p.OrganizationName, p.Attempts, p.Reason)
		}
	})
}

type exportDecisions struct {
	financeAccess
	format
	periodFlag
	revisionFlag
}

// Run shows the audit trail.
func (c exportDecisions) Run(ctx context.Context, out *output) error {
	var list struct {
		Decisions []billing.Decision `json:"decisions"`
	}
	if err := c.client().call(ctx, http.MethodGet, c.of(path("billing", "exports", c.period(), "decisions")), nil, &list); err != nil {
		return err
	}
	return c.print(out, list, "AT\tACTION\tBY\tNOTE", func(row func(...any)) {
		for _, d := range list.Decisions {
			row(d.At.Format("2006-01-02 15:04:05"), d.Action, d.Actor.Name, d.Note)
		}
	})
}

type exportCorrections struct {
	financeAccess
	format
	periodFlag
	revisionFlag
}

// Run lists corrections of closed periods: a preview, until the export is issued.
func (c exportCorrections) Run(ctx context.Context, out *output) error {
	var list struct {
		Statements []billing.Statement `json:"statements"`
	}
	if err := c.client().call(ctx, http.MethodGet, c.of(path("billing", "exports", c.period(), "corrections")), nil, &list); err != nil {
		return err
	}
	return c.print(out, list, "ORGANIZATION\tNAME\tCORRECTS\tAMOUNT\tCURRENCY\tWHAT", func(row func(...any)) {
		for _, s := range list.Statements {
			for _, l := range s.Lines {
				if l.Kind == billing.LineCorrection {
					row(s.Organization, s.OrganizationName, l.Corrects, l.Amount, s.Currency, l.Basis)
				}
			}
		}
	})
}

type exportExplain struct {
	financeAccess
	format
	periodFlag
	revisionFlag
	Organization uuid.UUID `arg:"" help:"The organization's ID."`
}

// Run shows a statement with its arithmetic.
func (c exportExplain) Run(ctx context.Context, out *output) error {
	var answer struct {
		Statement   billing.Statement `json:"statement"`
		Explanation [][]string        `json:"explanation"`
	}
	at := c.of(path("billing", "exports", c.period(), "statements", c.Organization.String()))
	if err := c.client().call(ctx, http.MethodGet, at, nil, &answer); err != nil {
		return err
	}
	if c.JSON || !out.terminal {
		return c.print(out, answer, "", nil)
	}
	s := answer.Statement
	_, _ = fmt.Fprintf(out, "%s %s · %s · %s\n\n", s.Number, s.OrganizationName, s.Period, s.Plan)
	for i, line := range s.Lines {
		_, _ = fmt.Fprintf(out, "%s\n    %s\n", line.Description, strings.Join(answer.Explanation[i], "\n    "))
	}
	_, _ = fmt.Fprintf(out, "\nSubtotal %s, credits %s, due %s %s\n", s.Subtotal, s.Credits, s.Due, s.Currency)
	return nil
}
