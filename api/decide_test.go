package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
)

const octoberPath = "/api/v1/billing/exports/2026-10"

// at returns an export that has come to a stage.
func at(e billing.Export, stage billing.Stage) billing.Export {
	e.Stage = stage
	if stage.Ended() {
		finished := noon
		e.FinishedAt = &finished
	}
	return e
}

// TestDecisions tells a run what finance decided, in each way.
func TestDecisions(t *testing.T) {
	period := anExport(t).Period
	for _, tt := range []struct {
		route, body string
		stage       billing.Stage
		want        ExportDecision
	}{
		{"review", `{"note":"A large customer came."}`, billing.StageApproving, ExportDecision{Action: billing.ActionReviewed, Note: "A large customer came."}},
		{"approve", `{}`, billing.StageIssuing, ExportDecision{Action: billing.ActionApproved}},
		{"approve", `{"note":"Fine.","without_parked":true}`, billing.StageIssuing, ExportDecision{Action: billing.ActionApproved, Note: "Fine.", WithoutParked: true}},
		{"reject", `{"note":"The prices are wrong."}`, billing.StageRejected, ExportDecision{Action: billing.ActionRejected, Note: "The prices are wrong."}},
		{"continue", `{"note":"The disk is gone."}`, billing.StageWaiting, ExportDecision{Action: billing.ActionContinued, Note: "The disk is gone."}},
		{"retry", `{"note":"They have a currency now."}`, billing.StageRating, ExportDecision{Action: billing.ActionRetried, Note: "They have a currency now."}},
		{"retry", `{"without_parked":false}`, billing.StageRating, ExportDecision{Action: billing.ActionRetried}},
	} {
		t.Run(tt.route+" "+tt.body, func(t *testing.T) {
			r := newRig(t)
			r.workflows.stage = tt.stage
			a := r.do("finance", "POST", octoberPath+"/"+tt.route, tt.body)
			require.Equal(t, http.StatusOK, a.Code, a.Body)
			require.JSONEq(t, `{"period":"2026-10","stage":"`+string(tt.stage)+`","status_url":"`+octoberPath+`"}`, a.Body.String())
			tt.want.Period, tt.want.Actor = period, billing.Actor{ID: r.keyIDs["finance"], Name: "month-end"}
			require.Equal(t, []ExportDecision{tt.want}, r.workflows.decided, "it is the key that decides")
		})
	}
}

// A decision that is sent again bears the same id, by which the run knows it, also where the answer
// of the first one was lost and is not kept.
func TestADecisionThatIsSentAgainIsTheSame(t *testing.T) {
	r := newRig(t)
	r.workflows.stage, r.workflows.err = billing.StageIssuing, ErrWorkflowsAway
	approve := func(body string, headers ...string) {
		r.do("finance", "POST", octoberPath+"/approve", body, headers...)
	}
	approve(`{}`, "Idempotency-Key", "a")
	approve(`{}`, "Idempotency-Key", "a")
	approve(`{"note":"Fine."}`, "Idempotency-Key", "a")
	approve(`{}`, "Idempotency-Key", "b")
	approve(`{}`)
	decided := r.workflows.decided
	require.Len(t, decided, 5)
	require.NotEqual(t, uuid.Nil, decided[0].ID)
	require.Equal(t, decided[0].ID, decided[1].ID)
	ids := map[uuid.UUID]bool{decided[1].ID: true, decided[2].ID: true, decided[3].ID: true, decided[4].ID: true}
	require.Len(t, ids, 4, "another body, another key and none are other decisions")
	require.Equal(t, uuid.Nil, decided[4].ID)
}

func TestDecisionsMustBeOfTheForm(t *testing.T) {
	r := newRig(t)
	r.store.exports = []billing.Export{at(anExport(t), billing.StageClosed)}
	long := strings.Repeat("ø", 1001)
	for _, tt := range []struct{ route, body, field, rule string }{
		{"review", `{}`, "note", "must say why"},
		{"continue", `{"note":" "}`, "note", "must say why"},
		{"review", `{"note":" \n"}`, "note", "must say why"},
		{"review", `{"note":null}`, "note", "must say why"},
		{"review", `{"note":7}`, "note", "must be a string"},
		{"review", `{"note":"n","without_parked":true}`, "without_parked", "approve alone"},
		{"reject", `{}`, "note", "must say why"},
		{"approve", `{"note":"` + long + `"}`, "note", "at most 1000 characters"},
		{"approve", `{"without_parked":"yes"}`, "without_parked", "true or false"},
		{"approve", `{"actor":"somebody else"}`, "actor", "is not a field"},
		{"approve", `[]`, "body", "JSON object"},
		{"approve", ``, "body", "ends too early"},
		{"retry", `{"note":"` + long + `"}`, "note", "at most 1000 characters"},
		{"approve?force=true", `{}`, "force", "is not a parameter"},
		{"reopen", `{}`, "note", "must say why"},
		{"reopen", `{"note":"  "}`, "note", "must say why"},
		{"reopen", `{"note":"` + long + `"}`, "note", "at most 1000 characters"},
		{"reopen", `{"note":"n","without_parked":true}`, "without_parked", "is not a field"},
		{"reopen", `{"note":"n","variance":{"percent":100001}}`, "variance.percent", "1 to 100000"},
		{"reopen", `{"note":"n","variance":{"percent":-1}}`, "variance.percent", "1 to 100000"},
		{"reopen", `{"note":"n","variance":{"least":"1e3"}}`, "variance.least", "decimal number"},
		{"reopen", `{"note":"n","variance":{"least":"-1"}}`, "variance.least", "0 or more"},
		{"reopen", `{"note":"n","variance":{"least":1}}`, "variance.least", "must be a string"},
		{"reopen", `{"note":"n","documents":{"focus":"0.9"}}`, "documents.focus", "must be one of"},
		{"reopen", `{"note":"n","documents":{"compress":1}}`, "documents.compress", "true or false"},
	} {
		problem := r.problem(400, "invalid_request", "finance", "POST", octoberPath+"/"+tt.route, tt.body)
		require.Equal(t, tt.field, problem["field"], "%s %s", tt.route, tt.body)
		require.Contains(t, problem["message"], tt.rule, "%s %s", tt.route, tt.body)
	}
	for _, route := range []string{"review", "approve", "reject", "retry", "reopen"} {
		for _, period := range []string{"october", "2026-13", "1999-12", "2026-1"} {
			problem := r.problem(400, "invalid_request", "finance", "POST", "/api/v1/billing/exports/"+period+"/"+route, `{"note":"n"}`)
			require.Equal(t, "period", problem["field"])
		}
	}
	require.Empty(t, r.workflows.asked)
	require.Equal(t, 200, func() int {
		r.workflows.stage = billing.StageIssuing
		return r.do("finance", "POST", octoberPath+"/approve", `{"note":"`+strings.Repeat("ø", 1000)+`"}`).Code
	}(), "1000 characters are no more than 1000, whatever their bytes")
}

// TestDecisionsAreRefused holds the status and the code of each refusal.
func TestDecisionsAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		err    error
		status int
		code   string
		says   string
	}{
		{"by who requested it", &RefusedDecision{Code: CodeSelfApproval, Message: "who requested it may not approve it"}, 403, "self_approval", "Who requested it may not approve it."},
		{"before the review", &RefusedDecision{Code: CodeNotReviewed, Message: "3 variances are not reviewed"}, 409, "variances_not_reviewed", "3 variances are not reviewed."},
		{"while some are parked", &RefusedDecision{Code: CodeParked, Message: "2 organizations are parked"}, 409, "organizations_parked", "2 organizations are parked."},
		{"too early or too late", &RefusedDecision{Code: CodeNotAwaiting, Message: "the export is rating"}, 409, "not_awaiting_decision", "The export is rating."},
		{"what no decision can be", &RefusedDecision{Code: CodeInvalid, Message: "note must say why"}, 400, "invalid_request", "Note must say why."},
		{"while Temporal is away", ErrWorkflowsAway, 503, "unavailable", "Try again"},
		{"a defect", errDefect, 500, "internal_error", "The log has the details"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.store.exports = []billing.Export{anExport(t)}
			r.workflows.err = tt.err
			for _, route := range []string{"review", "approve", "reject", "cancel", "retry"} {
				problem := r.problem(tt.status, tt.code, "finance", "POST", octoberPath+"/"+route, `{"note":"n"}`)
				require.Contains(t, problem["message"], tt.says)
				require.NotContains(t, problem["message"], "secret")
			}
		})
	}
}

// TestDecisionsWithoutARun tells what was never begun from what has ended.
func TestDecisionsWithoutARun(t *testing.T) {
	r := newRig(t)
	r.workflows.err = ErrNotRunning
	r.problem(404, "not_found", "finance", "POST", octoberPath+"/approve", `{}`)
	for _, stage := range []billing.Stage{billing.StageDone, billing.StageClosed, billing.StageRejected, billing.StageFailed, billing.StageCanceled} {
		r.store.exports = []billing.Export{at(anExport(t), stage)}
		problem := r.problem(409, "not_awaiting_decision", "finance", "POST", octoberPath+"/approve", `{}`)
		require.Contains(t, problem["message"], "The export of 2026-10 is "+string(stage))
	}
	r.store.exports = []billing.Export{anExport(t)}
	r.problem(409, "conflict", "finance", "POST", octoberPath+"/approve", `{}`)
	r.store.fail(awayError{})
	r.problem(503, "unavailable", "finance", "POST", octoberPath+"/approve", `{}`)
}

// TestAnApprovalHappensOnce sends it twice under one key, and then under that of another
// caller: what is kept belongs to who decided.
func TestAnApprovalHappensOnce(t *testing.T) {
	r := newRig(t)
	r.addKey("controller", accounts.Key{Role: roleFinance, Name: "controller", Owner: "controller"})
	r.workflows.stage = billing.StageIssuing
	first := r.do("finance", "POST", octoberPath+"/approve", `{"note":"Fine."}`, "Idempotency-Key", "k")
	require.Equal(t, http.StatusOK, first.Code)
	require.Empty(t, first.Header().Get("Idempotency-Replayed"))

	r.workflows.err = &RefusedDecision{Code: CodeNotAwaiting, Message: "the export is issuing"}
	again := r.do("finance", "POST", octoberPath+"/approve", `{"note":"Fine."}`, "Idempotency-Key", "k")
	require.Equal(t, http.StatusOK, again.Code)
	require.Equal(t, "true", again.Header().Get("Idempotency-Replayed"))
	require.Equal(t, first.Body.String(), again.Body.String())
	require.Len(t, r.workflows.decided, 1)

	r.problem(422, "idempotency_key_reused", "finance", "POST", octoberPath+"/reject", `{"note":"Fine."}`, "Idempotency-Key", "k")
	require.Len(t, r.workflows.decided, 1)
	r.problem(409, "not_awaiting_decision", "controller", "POST", octoberPath+"/approve", `{"note":"Fine."}`, "Idempotency-Key", "k")
	require.Equal(t, "controller", r.workflows.decided[1].Actor.Name)
	refused := r.do("controller", "POST", octoberPath+"/approve", `{"note":"Fine."}`, "Idempotency-Key", "k")
	require.Equal(t, "true", refused.Header().Get("Idempotency-Replayed"), "a refusal is an answer too")
	require.Len(t, r.workflows.decided, 2)
}

// TestWhatWasDecidedBeforeIsNotDecidedAgain loses the answers, as a process does that ends before it
// keeps them: sent again when another run of the month is open, neither a decision nor a request is
// carried out on that.
func TestWhatWasDecidedBeforeIsNotDecidedAgain(t *testing.T) {
	r := newRig(t)
	r.workflows.stage = billing.StageRejected
	r.workflows.run = ExportRun{WorkflowID: "export/2026-10", RunID: "run-2", Started: true}
	r.store.exports = []billing.Export{at(anExport(t), billing.StageClosed)}
	for path, asked := range map[string]func() []uuid.UUID{
		"/reject": func() (ids []uuid.UUID) {
			for _, d := range r.workflows.decided {
				ids = append(ids, d.ID)
			}
			return ids
		},
		"/reopen": func() (ids []uuid.UUID) {
			for _, started := range r.workflows.started {
				ids = append(ids, started.ID)
			}
			return ids
		},
	} {
		first := r.do("finance", "POST", octoberPath+path, `{"note":"A price is wrong."}`, "Idempotency-Key", "k"+path)
		require.Less(t, first.Code, 300, first.Body)
		require.Len(t, asked(), 1)
		clear(r.store.writes)
		decided := at(anExport(t), billing.StageRejected)
		decided.RequestID, decided.RunID = asked()[0], "run-2"
		r.store.exports = append(r.store.exports, decided)
		again := r.do("finance", "POST", octoberPath+path, `{"note":"A price is wrong."}`, "Idempotency-Key", "k"+path)
		require.Equal(t, first.Code, again.Code)
		require.JSONEq(t, first.Body.String(), again.Body.String())
		require.Len(t, asked(), 1)
		r.store.exports = r.store.exports[:1]
	}
}

func TestReopenExport(t *testing.T) {
	r := newRig(t)
	reopen := octoberPath + "/reopen"
	r.problem(404, "not_found", "finance", "POST", reopen, `{"note":"n"}`)
	for _, stage := range []billing.Stage{
		billing.StageRating, billing.StageReviewing, billing.StageApproving, billing.StageIssuing, billing.StageDone,
		billing.StageSuperseded, billing.StageRejected, billing.StageFailed, billing.StageCanceled,
	} {
		r.store.exports = []billing.Export{at(anExport(t), stage)}
		problem := r.problem(409, "not_awaiting_decision", "finance", "POST", reopen, `{"note":"n"}`)
		require.Contains(t, problem["message"], "only a closed one can be opened again")
	}
	require.Empty(t, r.workflows.asked)

	closed := at(anExport(t), billing.StageClosed)
	r.store.exports = []billing.Export{closed}
	r.workflows.run = ExportRun{WorkflowID: "export/2026-10", RunID: "run-2", Started: true}
	a := r.do("finance", "POST", reopen, `{"note":"A price was wrong.","variance":{"percent":20,"least":"0.50"},"documents":{"compress":true,"focus":"1.3","issuer":"Riverline"}}`)
	require.Equal(t, http.StatusAccepted, a.Code, a.Body)
	require.JSONEq(t, `{"period":"2026-10","workflow_id":"export/2026-10","run_id":"run-2","started":true,
		"status_url":"/api/v1/billing/exports/2026-10","temporal_url":"http://temporal/export/2026-10/run-2"}`, a.Body.String())
	require.Equal(t, []ExportRequest{{
		Period: closed.Period, Actor: billing.Actor{ID: r.keyIDs["finance"], Name: "month-end"}, Reopen: true, Reason: "A price was wrong.",
		Variance:  billing.VarianceThreshold{Percent: 20, Least: "0.50"},
		Documents: documents.Options{Compress: true, Focus: documents.Focus13, Issuer: "Riverline"},
	}}, r.workflows.started)

	later := closed
	later.Period = closed.Period.Next()
	r.store.exports = []billing.Export{closed, later}
	problem := r.problem(409, "not_awaiting_decision", "finance", "POST", reopen, `{"note":"n"}`)
	require.Contains(t, problem["message"], "a later closed period")
	require.Len(t, r.workflows.started, 1)
	r.store.exports = []billing.Export{closed}

	r.workflows.err = ErrWorkflowsAway
	r.problem(503, "unavailable", "finance", "POST", reopen, `{"note":"n"}`)
	r.store.fail(errors.New("odd"))
	r.problem(500, "internal_error", "finance", "POST", reopen, `{"note":"again"}`)
}

// TestStartExportWithOptions passes on what was chosen, and no default of its own.
func TestStartExportWithOptions(t *testing.T) {
	r := newRig(t)
	r.workflows.run = ExportRun{WorkflowID: "export/2026-10", RunID: "run"}
	a := r.do("finance", "POST", "/api/v1/billing/exports", `{"period":"2026-10","variance":{"percent":10},"documents":{"compress":true}}`)
	require.Equal(t, http.StatusAccepted, a.Code, a.Body)
	require.Equal(t, false, a.json()["started"], "it was under way already")
	require.Equal(t, 202, r.do("finance", "POST", "/api/v1/billing/exports", `{"period":"2026-10"}`).Code)
	period, by := anExport(t).Period, billing.Actor{ID: r.keyIDs["finance"], Name: "month-end"}
	require.Equal(t, []ExportRequest{
		{Period: period, Actor: by, Variance: billing.VarianceThreshold{Percent: 10}, Documents: documents.Options{Compress: true}},
		{Period: period, Actor: by},
	}, r.workflows.started)
	for body, field := range map[string]string{
		`{"period":"2026-10","variance":{"percent":100001}}`:  "variance.percent",
		`{"period":"2026-10","variance":{"least":"much"}}`:    "variance.least",
		`{"period":"2026-10","documents":{"focus":"2.0"}}`:    "documents.focus",
		`{"period":"2026-10","documents":{"format":"excel"}}`: "documents.format",
		`{"period":"2026-10","revision":2}`:                   "revision",
	} {
		require.Equal(t, field, r.problem(400, "invalid_request", "finance", "POST", "/api/v1/billing/exports", body)["field"], body)
	}
}

// endingWorkflows find a run that is over and not gone yet, before they start another.
type endingWorkflows struct {
	*fakeWorkflows
	store *fakeStore
	looks int
}

func (w *endingWorkflows) StartExport(ctx context.Context, start ExportRequest) (ExportRun, error) {
	if w.looks++; w.looks < 3 {
		return ExportRun{WorkflowID: "export/2026-10", RunID: "run-1"}, nil
	}
	w.store.exports[0].RunID, w.store.exports[0].Stage = "run-2", billing.StageWaiting
	return ExportRun{WorkflowID: "export/2026-10", RunID: "run-2", Started: true}, nil
}

// TestARunThatIsOverIsNotJoined asks for another run right after one was rejected.
func TestARunThatIsOverIsNotJoined(t *testing.T) {
	var ending *endingWorkflows
	r := newRig(t, func(c *Config) {
		ending = &endingWorkflows{fakeWorkflows: c.Workflows.(*fakeWorkflows)}
		c.Workflows, c.RecordWait = ending, time.Minute
	})
	ending.store = r.store
	rejected := at(anExport(t), billing.StageRejected)
	rejected.RunID = "run-1"
	r.store.exports = []billing.Export{rejected}
	started := r.do("finance", "POST", "/api/v1/billing/exports", `{"period":"2026-10"}`).json()
	require.Equal(t, "run-2", started["run_id"])
	require.Equal(t, true, started["started"])
	require.Equal(t, 3, ending.looks)
}
