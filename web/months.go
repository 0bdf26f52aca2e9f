package web

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/gate"
)

// monthsPage lists the closes, and begins another one.
type monthsPage struct {
	Exports []gen.Export
	// Next leads to those before these; empty at the end.
	Next string
	// Last is the month that ended last: the one that is to be closed.
	Last    string
	Refusal string
}

func (v *visit) monthsPage() (monthsPage, error) {
	var found gen.ExportList
	err := v.get(&found, "/billing/exports", "limit", "60", "before", v.r.URL.Query().Get("before"))
	return monthsPage{Exports: found.Exports, Next: pageAfter(found.Next), Last: calendar.PeriodOf(v.now).Previous().String()}, err
}

func (v *visit) months() error {
	return showPage(v, "months", v.monthsPage)
}

func (v *visit) startMonth() error {
	period := v.r.PostFormValue("period")
	err := v.send("POST", "/billing/exports", gen.ExportStart{Period: period}, nil)
	return v.after(err, "/months/"+url.PathEscape(period)+"?done=started",
		showAgain(v, "months", v.monthsPage, func(p *monthsPage, says string) { p.Refusal = says }))
}

// monthPage shows how far a close is, what differs, and who has to decide what.
type monthPage struct {
	Export    gen.Export
	Variances []billing.StatementVariance
	Parked    []billing.ParkedOrganization
	Decisions []billing.ExportDecision
	// MoreVariances and MoreParked lead to those after these; empty at the end.
	MoreVariances, MoreParked string
	Refusal                   string
	// Note is what was typed to a decision that was refused.
	Note string
	// Moved says that the stage is another one than a moment ago: what can be decided is, too.
	Moved bool
}

// Money is what the statements come to, by currency: none until they are all there.
func (p monthPage) Money() []billing.MoneyTotal {
	if p.Export.Manifest == nil {
		return nil
	}
	return p.Export.Manifest.Money
}

// Live is where the stage is shown anew; empty where nothing moves.
func (p monthPage) Live() string {
	if p.Export.Stage.Ended() {
		return ""
	}
	return "/months/" + p.Export.Period + "/live?from=" + string(p.Export.Stage)
}

// step is one of the way to a closed month.
type step struct {
	Stage billing.Stage
	// State is done, now or ahead.
	State string
}

// Steps is the way of the run, with where it is. Of a run that failed or was ended there is none.
func (p monthPage) Steps() []step {
	stages := append(billing.OpenStages(), billing.StageClosed)
	if p.Export.Provisional {
		stages = append(stages[:slices.Index(stages, billing.StageReviewing)], billing.StageDone)
	}
	at := slices.Index(stages, p.Export.Stage)
	if at < 0 {
		return nil
	}
	out := make([]step, len(stages))
	for i, s := range stages {
		switch {
		case i < at || p.Export.Stage.Ended():
			out[i] = step{s, "done"}
		case i == at:
			out[i] = step{s, "now"}
		default:
			out[i] = step{s, "ahead"}
		}
	}
	return out
}

// varianceView is a statement beside the one of the month before.
type varianceView struct {
	billing.StatementVariance
}

// Difference is what the statement has more.
func (v varianceView) Difference() signedMoney { return difference(v.Current, v.Previous, v.Currency) }

// reasonView is a part of a difference.
type reasonView struct {
	signedMoney
	Cause billing.VarianceCause
}

// Because are the parts of the difference, by cause.
func (v varianceView) Because() []reasonView {
	out := make([]reasonView, len(v.Reasons))
	for i, r := range v.Reasons {
		out[i] = reasonView{signedMoney{r.Amount, v.Currency}, r.Cause}
	}
	return out
}

// Differences are the variances with their differences.
func (p monthPage) Differences() []varianceView {
	out := make([]varianceView, len(p.Variances))
	for i, one := range p.Variances {
		out[i] = varianceView{one}
	}
	return out
}

// Awaits says what the run waits for from somebody: review, approve, continue; empty for nothing.
func (p monthPage) Awaits() string {
	switch p.Export.Stage {
	case billing.StageReviewing:
		return "review"
	case billing.StageApproving:
		return "approve"
	case billing.StageWaiting:
		if p.Export.WaitingFor != nil && len(*p.Export.WaitingFor) > 0 {
			return "continue"
		}
	}
	return ""
}

// Open says that the run can still be ended.
func (p monthPage) Open() bool {
	return !p.Export.Stage.Ended() && p.Export.Stage != billing.StageIssuing && p.Export.Stage != billing.StageDelivering
}

// Issued says that there are statements to deliver.
func (p monthPage) Issued() bool { return p.Export.IssuedAt != nil }

// Closed says that the month can be opened again.
func (p monthPage) Closed() bool { return p.Export.Stage == billing.StageClosed }

func (v *visit) export() (gen.Export, error) {
	var found gen.Export
	return found, v.get(&found, "/billing/exports/"+url.PathEscape(v.r.PathValue("period")))
}

func (v *visit) monthPage() (monthPage, error) {
	p := monthPage{}
	var err error
	if p.Export, err = v.export(); err != nil {
		return p, err
	}
	path := "/billing/exports/" + p.Export.Period
	var variances gen.VarianceList
	var parked gen.ParkedList
	var decisions gen.DecisionList
	query := v.r.URL.Query()
	for _, one := range []struct {
		part         string
		out          any
		limit, after string
	}{
		{"/variances", &variances, "100", query.Get("variances_after")},
		{"/parked", &parked, "100", query.Get("parked_after")},
		{"/decisions", &decisions, "", ""},
	} {
		if err := v.get(one.out, path+one.part, "limit", one.limit, "after", one.after); err != nil {
			return p, err
		}
	}
	p.Variances, p.Parked, p.Decisions = variances.Variances, parked.Parked, decisions.Decisions
	p.MoreVariances, p.MoreParked = pageAfter(variances.Next), pageAfter(parked.Next)
	return p, nil
}

func (v *visit) month() error {
	return showPage(v, "month", v.monthPage)
}

// monthLive sends the stage each time that it moves; the first time, from the one that the page has.
func (v *visit) monthLive() error {
	stage := billing.Stage(v.r.URL.Query().Get("from"))
	return v.stream("month", "progress", func() (any, error) {
		found, err := v.export()
		p := monthPage{Export: found, Moved: found.Stage != stage}
		stage = found.Stage
		return p, err
	})
}

// decisions are what can be decided on a month, each a route of the API.
var decisions = []string{"review", "approve", "reject", "cancel", "continue", "retry", "reopen", "deliver"}

// decide does what a button of a month's page says.
func (v *visit) decide() error {
	period, do, note := v.r.PathValue("period"), v.r.PostFormValue("do"), v.r.PostFormValue("note")
	path := "/billing/exports/" + url.PathEscape(period) + "/" + do
	if !slices.Contains(decisions, do) {
		return notFound("such button")
	}
	var err error
	if do != "reopen" {
		err = v.sameRun()
	}
	switch {
	case err != nil:
	case do == "deliver":
		err = v.send("POST", path, nil, nil)
	case do == "reopen":
		err = v.send("POST", path, gen.ExportReopen{Note: note}, nil)
	default:
		decision := gen.Decide{}
		if note != "" {
			decision.Note = &note
		}
		if do == "approve" && v.r.PostFormValue("without_parked") != "" {
			without := true
			decision.WithoutParked = &without
		}
		err = v.send("POST", path, decision, nil)
	}
	return v.after(err, "/months/"+url.PathEscape(period)+"?done=decided",
		showAgain(v, "month", v.monthPage, func(p *monthPage, says string) { p.Refusal, p.Note = says, note }))
}

// sameRun holds that a decision is on the run that was shown: what somebody has looked at isn't what another run comes to. To open
// the month again makes another run; sent twice, it must not be taken for a decision on that one.
func (v *visit) sameRun() error {
	shown := v.r.PostFormValue("run")
	if shown == "" {
		return nil
	}
	found, err := v.export()
	if err == nil && found.Id.String() != shown {
		err = gate.NewProblem(http.StatusConflict, "conflict", "Another run of this month has begun since you have seen it. Nothing was decided: look at it below, and decide anew.")
	}
	return err
}

// monthStatementPage is one organization's statement of a month.
type monthStatementPage struct {
	Period string
	statementView
}

func (v *visit) monthStatement() error {
	id, err := uuid.Parse(v.r.PathValue("organization"))
	if err != nil {
		return notFound("organization " + v.r.PathValue("organization"))
	}
	var found gen.ExplainedStatement
	period := v.r.PathValue("period")
	if err := v.get(&found, "/billing/exports/"+url.PathEscape(period)+"/statements/"+id.String(), "revision", v.r.URL.Query().Get("revision")); err != nil {
		return err
	}
	return v.page("month_statement", monthStatementPage{Period: period, statementView: newStatementView(found)})
}
