package api

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// TestBillingExport is C8: totals per organization and meter, with names, of every meter.
func TestBillingExport(t *testing.T) {
	r := newRig(t)
	first := calendar.DayOf(noon).Month()
	for i, m := range plans.Default().Meters {
		for day, value := range []int64{5, 9, 7} {
			r.store.records = append(r.store.records, billing.UsageRecord{
				Organization: r.organizations["free"], Meter: m.Key, Day: first + calendar.Day(day), Value: value * int64(i+1),
			})
		}
	}
	free := r.organizations["free"].String()
	a := r.do("finance", "GET", "/api/v1/billing/export?from=2026-11-01&to=2026-11-03", "")
	require.Equal(t, http.StatusOK, a.Code)
	require.JSONEq(t, `{"from":"2026-11-01","to":"2026-11-03","organizations":[{"organization_id":"`+free+`","organization_name":"FREE & Sons","plan":"free","usage":[
		{"meter":"evaluations","unit":"evaluation","aggregation":"sum","value":21},
		{"meter":"flow_executions","unit":"execution","aggregation":"sum","value":42},
		{"meter":"simulations","unit":"simulation","aggregation":"sum","value":63},
		{"meter":"entity_instances","unit":"instance","aggregation":"max","value":36},
		{"meter":"storage_bytes","unit":"byte","aggregation":"last","value":35}]}]}`, a.Body.String())

	a = r.do("admin", "GET", "/api/v1/billing/export?from=2026-11-02&to=2026-11-02&format=csv", "")
	require.Equal(t, "text/csv; charset=utf-8; header=present", a.Header().Get("Content-Type"))
	require.Equal(t, `attachment; filename="tollgate-usage-2026-11-02-2026-11-02.csv"`, a.Header().Get("Content-Disposition"))
	lines := strings.Split(strings.TrimSuffix(a.Body.String(), "\r\n"), "\r\n")
	require.Len(t, lines, 6)
	require.Equal(t, "organization_id,organization_name,plan,meter,unit,aggregation,value", lines[0])
	require.Equal(t, free+",FREE & Sons,free,evaluations,evaluation,sum,9", lines[1])

	require.JSONEq(t, `{"from":"2026-12-01","to":"2026-12-01","organizations":[]}`,
		r.do("finance", "GET", "/api/v1/billing/export?from=2026-12-01&to=2026-12-01", "").Body.String())
	for query, field := range map[string]string{
		"":                                          "from",
		"?from=2026-11-01":                          "to",
		"?from=2026-11-02&to=2026-11-01":            "to",
		"?from=yesterday&to=2026-11-01":             "from",
		"?from=2026-02-30&to=2026-11-01":            "from",
		"?from=2020-01-01&to=2026-11-01":            "to",
		"?from=2026-11-01&to=2026-11-01&format=xml": "format",
	} {
		require.Equal(t, field, r.problem(400, "invalid_request", "finance", "GET", "/api/v1/billing/export"+query, "")["field"], query)
	}
}

func anExport(t *testing.T) billing.Export {
	t.Helper()
	period, err := calendar.ParsePeriod("2026-10")
	require.NoError(t, err)
	return billing.Export{
		ID: uuid.MustParse("0199d4c5-8b7e-7c3a-9a51-3f0c5b1f6a01"), Period: period, WorkflowID: "export/2026-10", RunID: "run",
		Stage: billing.StageWriting, Revision: 1, Cut: period.End(), RequestedBy: "month-end", RequestedAt: noon,
	}
}

func done(e billing.Export) billing.Export {
	finished := noon
	e.Stage, e.FinishedAt = billing.StageDone, &finished
	e.Manifest = &billing.Manifest{
		Format: 1, Period: e.Period, Cut: e.Cut, Program: "test",
		Watermark: []billing.BatchMark{{Instance: uuid.New(), Through: 4}},
		Files:     []billing.File{{Name: "usage.jsonl", SHA256: strings.Repeat("ab", 32), Bytes: 3, Rows: 1}},
		Totals:    []billing.ControlTotal{{Meter: "evaluations", Organizations: 1, Value: "123456789012345678901234567890"}},
	}
	return e
}

func TestStartExport(t *testing.T) {
	r := newRig(t)
	r.workflows.run = ExportRun{WorkflowID: "export/2026-10", RunID: "run", Started: true}
	a := r.do("finance", "POST", "/api/v1/billing/exports", `{"period":"2026-10"}`)
	require.Equal(t, http.StatusAccepted, a.Code)
	require.JSONEq(t, `{"period":"2026-10","workflow_id":"export/2026-10","run_id":"run","started":true,
		"status_url":"/api/v1/billing/exports/2026-10","temporal_url":"http://temporal/export/2026-10/run"}`, a.Body.String())
	require.Equal(t, []string{"start 2026-10 by month-end"}, r.workflows.asked)
	require.Equal(t, 202, r.do("finance", "POST", "/api/v1/billing/exports", `{"period":"2026-11"}`).Code, "the running period")

	for _, body := range []string{`{"period":"2026-12"}`, `{"period":"2026-13"}`, `{"period":"1999-01"}`, `{"period":"2026-1"}`, `{"period":""}`, `{}`, `{"period":202610}`} {
		require.Equal(t, "period", r.problem(400, "invalid_request", "finance", "POST", "/api/v1/billing/exports", body)["field"], body)
	}
	r.workflows.err = ErrWorkflowsAway
	r.problem(503, "unavailable", "finance", "POST", "/api/v1/billing/exports", `{"period":"2026-10"}`)
	r.workflows.err = billing.ErrPeriodFinal
	r.problem(409, "conflict", "finance", "POST", "/api/v1/billing/exports", `{"period":"2026-10"}`)
}

// A run that was under way before is joined where it is of the kind that was asked for: a provisional
// one closes no month that is over, and none is a revision that begins now.
func TestStartExportJoinsTheRightKind(t *testing.T) {
	r := newRig(t, func(c *Config) { c.RecordWait = time.Minute })
	r.workflows.run = ExportRun{WorkflowID: "export/2026-10", RunID: "run"}
	const start = "/api/v1/billing/exports"
	under := anExport(t)
	r.store.exports = []billing.Export{under}
	require.Equal(t, false, r.do("finance", "POST", start, `{"period":"2026-10"}`).json()["started"], "a final one")
	under.Provisional = true
	r.store.exports = []billing.Export{under}
	r.problem(409, CodeNotAwaiting, "finance", "POST", start, `{"period":"2026-10"}`)
	r.workflows.run.Started = true
	require.Equal(t, 202, r.do("finance", "POST", start, `{"period":"2026-10"}`).Code, "it is the caller's own")

	under.Period, r.workflows.run.Started = under.Period.Next(), false
	r.store.exports = []billing.Export{under}
	require.Equal(t, 202, r.do("finance", "POST", start, `{"period":"2026-11"}`).Code, "the period is open")
}

// A start answers once the run is recorded, so that its status can be asked for at once; a
// period that has a final export is answered with that one, and nothing is started.
func TestStartExportIsRecorded(t *testing.T) {
	r := newRig(t, func(c *Config) { c.RecordWait = time.Minute })
	r.workflows.run = ExportRun{WorkflowID: "export/2026-10", RunID: "run", Started: true}
	r.store.exports = []billing.Export{anExport(t)}
	require.Equal(t, true, r.do("finance", "POST", "/api/v1/billing/exports", `{"period":"2026-10"}`).json()["started"])

	final := at(done(anExport(t)), billing.StageClosed)
	final.RunID = "before"
	r.store.exports = []billing.Export{final}
	answer := r.do("finance", "POST", "/api/v1/billing/exports", `{"period":"2026-10"}`).json()
	require.Equal(t, false, answer["started"])
	require.Equal(t, "before", answer["run_id"])
	require.Len(t, r.workflows.asked, 1)
	r.store.fail(awayError{})
	r.problem(503, "unavailable", "finance", "POST", "/api/v1/billing/exports", `{"period":"2026-10"}`)
}

func TestShowExport(t *testing.T) {
	r := newRig(t)
	r.problem(404, "not_found", "finance", "GET", "/api/v1/billing/exports/2026-10", "")
	r.problem(400, "invalid_request", "finance", "GET", "/api/v1/billing/exports/october", "")
	require.JSONEq(t, `{"exports":[]}`, r.do("finance", "GET", "/api/v1/billing/exports", "").Body.String())

	r.store.exports = []billing.Export{anExport(t)}
	r.workflows.progress = ExportProgress{Stage: billing.StageWriting, Note: "usage.jsonl", Done: 1, Total: 2}
	shown := r.do("finance", "GET", "/api/v1/billing/exports/2026-10", "").json()
	require.Equal(t, "writing", shown["stage"])
	require.Equal(t, map[string]any{"stage": "writing", "note": "usage.jsonl", "done": 1.0, "total": 2.0}, shown["progress"])
	require.Empty(t, shown["files"])

	for _, err := range []error{ErrNotRunning, ErrWorkflowsAway, errors.New("odd")} {
		r.workflows.err = err
		a := r.do("finance", "GET", "/api/v1/billing/exports/2026-10", "")
		require.Equal(t, http.StatusOK, a.Code, "the store knows the stage")
		require.NotContains(t, a.json(), "progress")
	}

	r.store.exports = []billing.Export{done(anExport(t))}
	shown = r.do("finance", "GET", "/api/v1/billing/exports/2026-10", "").json()
	require.Equal(t, "done", shown["stage"])
	require.Len(t, shown["files"], 2)
	require.Equal(t, "/api/v1/billing/exports/2026-10/files/manifest.json?revision=1", shown["files"].([]any)[1].(map[string]any)["url"])
	require.Contains(t, r.do("finance", "GET", "/api/v1/billing/exports/2026-10", "").Body.String(), `"value":123456789012345678901234567890`, "control totals stay exact")
	older := done(anExport(t))
	older.ID = uuid.New()
	r.store.exports = append(r.store.exports, older)
	page := r.do("finance", "GET", "/api/v1/billing/exports?limit=1", "").json()
	require.Len(t, page["exports"], 1)
	page = r.do("finance", "GET", "/api/v1/billing/exports?limit=1&before="+page["next"].(string), "").json()
	require.Len(t, page["exports"], 1)
	require.NotContains(t, page, "next")
	require.Equal(t, "limit", r.problem(400, "invalid_request", "finance", "GET", "/api/v1/billing/exports?limit=0", "")["field"])

	failed := anExport(t)
	failed.Stage, failed.Error = billing.StageFailed, "the blob store is full"
	r.store.exports = []billing.Export{failed}
	require.Equal(t, "the blob store is full", r.do("finance", "GET", "/api/v1/billing/exports/2026-10", "").json()["error"])
}

func TestDownloads(t *testing.T) {
	r := newRig(t)
	at := "/api/v1/billing/exports/2026-10/files/"
	r.problem(404, "not_found", "finance", "GET", at+"usage.jsonl", "")
	r.store.exports = []billing.Export{anExport(t)}
	r.problem(409, "conflict", "finance", "GET", at+"usage.jsonl", "")

	e := done(anExport(t))
	r.store.exports = []billing.Export{e}
	r.blobs[e.Folder()+"usage.jsonl"] = "{}\n"
	r.blobs[e.Folder()+"manifest.json"] = "{\"format\":1}\n"
	r.blobs[e.Folder()+"notes.txt"] = "not in the manifest"
	a := r.do("finance", "GET", at+"usage.jsonl", "")
	require.Equal(t, "{}\n", a.Body.String())
	require.Equal(t, `"`+strings.Repeat("ab", 32)+`"`, a.Header().Get("ETag"))
	require.Equal(t, "3", a.Header().Get("Content-Length"))
	require.Equal(t, `attachment; filename="tollgate-2026-10-usage.jsonl"`, a.Header().Get("Content-Disposition"))
	require.Equal(t, "{\"format\":1}\n", r.do("finance", "GET", at+"manifest.json", "").Body.String())

	for _, name := range []string{"notes.txt", "nothing", "..%2Fusage.jsonl", "%2e%2e"} {
		r.problem(404, "not_found", "finance", "GET", at+name, "")
	}
	delete(r.blobs, e.Folder()+"usage.jsonl")
	r.problem(404, "not_found", "finance", "GET", at+"usage.jsonl", "")
}
