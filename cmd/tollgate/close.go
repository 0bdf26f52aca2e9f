package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
)

// note says why somebody decides.
type note struct {
	Note string `help:"Why, for the audit trail. Required to review, reject and reopen." placeholder:"TEXT"`
}

// exportDecision is a decision on an export that waits for one.
type exportDecision struct {
	financeAccess
	format
	periodFlag
	note
}

// exportDone says in a word what each decision has done.
var exportDone = map[string]string{
	"review": "reviewed", "approve": "approved", "reject": "rejected", "continue": "goes on", "cancel": "canceled", "retry": "is rated again",
}

// decide tells the API of the decision and shows what was done. The stage is the one that the decision was made in: the run goes
// on from there by itself.
func (c exportDecision) decide(ctx context.Context, out *output, step string, body map[string]any) error {
	body["note"] = c.Note
	var decided struct {
		Period string        `json:"period"`
		Done   string        `json:"done"`
		Stage  billing.Stage `json:"stage"`
	}
	if err := c.client().call(ctx, http.MethodPost, path("billing", "exports", c.period(), step), body, &decided); err != nil {
		return err
	}
	decided.Done = exportDone[step]
	return c.print(out, decided, "PERIOD\tDONE\tDECIDED IN", func(row func(...any)) { row(decided.Period, decided.Done, decided.Stage) })
}

type exportReview struct{ exportDecision }

// Run accepts the variances.
func (c exportReview) Run(ctx context.Context, out *output) error {
	return c.decide(ctx, out, "review", map[string]any{})
}

type exportApprove struct {
	exportDecision
	WithoutParked bool `help:"Approve although organizations are parked: what they used is billed as a correction in the next period."`
}

// Run approves an export.
func (c exportApprove) Run(ctx context.Context, out *output) error {
	return c.decide(ctx, out, "approve", map[string]any{"without_parked": c.WithoutParked})
}

type exportReject struct{ exportDecision }

// Run rejects an export.
func (c exportReject) Run(ctx context.Context, out *output) error {
	return c.decide(ctx, out, "reject", map[string]any{})
}

type exportContinue struct{ exportDecision }

// Run has a run go on without the instances that it waits for.
func (c exportContinue) Run(ctx context.Context, out *output) error {
	return c.decide(ctx, out, "continue", map[string]any{})
}

type exportCancel struct{ exportDecision }

// Run cancels a run in any stage before issuing.
func (c exportCancel) Run(ctx context.Context, out *output) error {
	return c.decide(ctx, out, "cancel", map[string]any{})
}

type exportRetry struct{ exportDecision }

// Run has what is parked rated again.
func (c exportRetry) Run(ctx context.Context, out *output) error {
	return c.decide(ctx, out, "retry", map[string]any{})
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
	return c.started(out, run)
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
		"documents": documents.Options{Compress: s.Compress, Focus: documents.FocusVersion(s.Focus), Issuer: s.Issuer},
	}
}

// revisionFlag names a revision of an export.
type revisionFlag struct {
	Revision int `placeholder:"N" help:"A revision of the period's export, from 1. Default: the one that counts."`
}

// path returns where the API has the revision of a period's export, or a part of it.
func (r revisionFlag) path(period string, part ...string) string {
	at := path(append([]string{"billing", "exports", period}, part...)...)
	if r.Revision == 0 {
		return at
	}
	return fmt.Sprintf("%s?revision=%d", at, r.Revision)
}

// exportQuery is a question about an export.
type exportQuery struct {
	financeAccess
	format
	periodFlag
	revisionFlag
}

// get reads a part of the export, or the export itself.
func (c exportQuery) get(ctx context.Context, into any, part ...string) error {
	return c.client().call(ctx, http.MethodGet, c.path(c.period(), part...), nil, into)
}

// pages asks for a list of the export, page by page.
func (c exportQuery) pages(list string) pageQuery {
	q := pageQuery{method: http.MethodGet, path: path("billing", "exports", c.period(), list), query: url.Values{}}
	if c.Revision != 0 {
		q.query.Set("revision", strconv.Itoa(c.Revision))
	}
	return q
}

type exportVariances struct{ exportQuery }

// variancePage is a page of variances.
type variancePage struct {
	Variances []billing.StatementVariance `json:"variances"`
	cursor
}

// Run lists variances.
func (c exportVariances) Run(ctx context.Context, out *output) error {
	found, err := everyPage(ctx, c.client(), c.pages("variances"), func(page variancePage) []billing.StatementVariance { return page.Variances })
	if err != nil {
		return err
	}
	list := variancePage{Variances: found}
	return c.print(out, list, "ORGANIZATION\tNAME\tPREVIOUS\tCURRENT\tCURRENCY\tPERCENT\tREASONS", func(row func(...any)) {
		for _, v := range list.Variances {
			reasons := make([]string, len(v.Reasons))
			for i, r := range v.Reasons {
				reasons[i] = fmt.Sprintf("%s %s", r.Cause, r.Amount)
			}
			row(v.Organization, v.OrganizationName, v.Previous, v.Current, v.Currency, v.Percent, strings.Join(reasons, ", "))
		}
	})
}

type exportParked struct{ exportQuery }

// parkedPage is a page of organizations that could not be rated.
type parkedPage struct {
	Parked []billing.ParkedOrganization `json:"parked"`
	cursor
}

// Run lists organizations that could not be rated.
func (c exportParked) Run(ctx context.Context, out *output) error {
	found, err := everyPage(ctx, c.client(), c.pages("parked"), func(page parkedPage) []billing.ParkedOrganization { return page.Parked })
	if err != nil {
		return err
	}
	list := parkedPage{Parked: found}
	return c.print(out, list, "ORGANIZATION\tNAME\tATTEMPTS\tREASON", func(row func(...any)) {
		for _, p := range list.Parked {
			row(p.Organization, p.OrganizationName, p.Attempts, p.Reason)
		}
	})
}

type exportDecisions struct{ exportQuery }

// Run shows the audit trail.
func (c exportDecisions) Run(ctx context.Context, out *output) error {
	var list struct {
		Decisions []billing.ExportDecision `json:"decisions"`
	}
	if err := c.get(ctx, &list, "decisions"); err != nil {
		return err
	}
	return c.print(out, list, "AT\tACTION\tBY\tNOTE", func(row func(...any)) {
		for _, d := range list.Decisions {
			row(d.At.Format("2006-01-02 15:04:05"), d.Action, d.Actor.Name, d.Note)
		}
	})
}

type exportCorrections struct{ exportQuery }

// correctionPage is a page of statements that correct closed periods.
type correctionPage struct {
	Statements []billing.Statement `json:"statements"`
	cursor
}

// Run lists corrections of closed periods: a preview, until the export is issued.
func (c exportCorrections) Run(ctx context.Context, out *output) error {
	found, err := everyPage(ctx, c.client(), c.pages("corrections"), func(page correctionPage) []billing.Statement { return page.Statements })
	if err != nil {
		return err
	}
	list := correctionPage{Statements: found}
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
	exportQuery
	Organization uuid.UUID `arg:"" help:"The organization's ID." of:"organization"`
}

// Run shows a statement with its arithmetic.
func (c exportExplain) Run(ctx context.Context, out *output) error {
	var answer struct {
		Statement   billing.Statement `json:"statement"`
		Explanation [][]string        `json:"explanation"`
	}
	if err := c.get(ctx, &answer, "statements", c.Organization.String()); err != nil {
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
