package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// revisions gives the store two revisions of October, and returns them: the second one
// is closed, the first one superseded.
func revisions(t *testing.T, r *rig) (first, second billing.Export) {
	t.Helper()
	first, second = done(anExport(t)), done(anExport(t))
	issued := noon
	first.Stage, first.IssuedAt = billing.StageSuperseded, &issued
	second.ID = uuid.MustParse("0199d4c5-8b7e-7c3a-9a51-3f0c5b1f6a02")
	second.Stage, second.IssuedAt, second.Revision, second.Reason = billing.StageClosed, &issued, 2, "A price was wrong."
	for _, e := range []*billing.Export{&first, &second} {
		e.Manifest.Format, e.Manifest.Revision = documents.ManifestFormat, e.Revision
	}
	r.store.exports = []billing.Export{second, first}
	return first, second
}

func usd(text string) money.Amount {
	return money.NewAmount(decimal.RequireFromString(text), "USD")
}

// aStatement is of an organization on Pro that used a little more than is included.
func aStatement(t *testing.T, organization uuid.UUID) billing.Statement {
	t.Helper()
	pro, ok := plans.Default().Plan("pro")
	require.True(t, ok)
	period := anExport(t).Period
	s, err := billing.NewStatement(billing.OrganizationPeriod{
		Organization: organization, OrganizationName: "PRO & Sons", Currency: "USD", Period: period, Cut: period.End(), Meters: plans.Default().Meters,
		Segments: []billing.Segment{{Start: period.Start(), End: period.End(), Plan: pro, Usage: []billing.SegmentUsage{{Meter: "evaluations", Value: 110_001}}}},
	})
	require.NoError(t, err)
	s.Number, s.Replaces = "TG-2026-10-R2-000001", "TG-2026-10-000001"
	return s
}

// closeRoutes are those that show what finance reviews.
func closeRoutes(r *rig) []string {
	return []string{"variances", "parked", "deliveries", "decisions", "corrections", "control-totals", "statements/" + r.organizations["pro"].String()}
}

func TestShowClose(t *testing.T) {
	r := newRig(t)
	_, second := revisions(t, r)
	pro, key := r.organizations["pro"], r.keyIDs["finance"]
	id := pro.String()
	r.store.close = fakeClose{
		of:     second.ID,
		counts: billing.RatingCounts{Organizations: 3, Statements: 2, Parked: 1, Variances: 1},
		variances: []billing.StatementVariance{
			{
				Organization: pro, OrganizationName: "PRO & Sons", Currency: "USD", Previous: usd("10"), Current: usd("51.5"), Percent: "415.0",
				Reasons: []billing.VarianceReason{{Cause: billing.CauseUsage, Amount: usd("42")}, {Cause: billing.CausePrice, Amount: usd("-0.5")}},
			},
			{Organization: pro, OrganizationName: "PRO & Sons", Currency: "JPY", Current: money.NewAmount(decimal.NewFromInt(700), "JPY"), Reasons: []billing.VarianceReason{}},
		},
		parked: []billing.ParkedOrganization{{Organization: pro, OrganizationName: "PRO & Sons", Reason: "no price book in NOK", Attempts: 2, ParkedAt: noon}},
		decisions: []billing.ExportDecision{
			{ID: uuid.New(), Action: billing.ActionRequested, Actor: billing.Actor{Name: "schedule"}, At: noon},
			{ID: uuid.New(), Action: billing.ActionApproved, Actor: billing.Actor{ID: key, Name: "month-end"}, Note: "Fine.", At: noon},
		},
		moneyTotals: []billing.MoneyTotal{{Currency: "USD", Statements: 2, Lines: 5, Subtotal: usd("123456789012345678.5"), Credits: usd("0"), Due: usd("123456789012345678.5")}},
		usageTotals: []billing.ControlTotal{{Meter: "evaluations", Organizations: 2, Value: "123456789012345678901234567890"}},
		statements:  []billing.Statement{aStatement(t, pro)},
	}
	for route, want := range map[string]string{
		"variances": `{"variances":[
			{"organization_id":"` + id + `","organization_name":"PRO & Sons","currency":"USD","previous":"10.00","current":"51.50","percent":"415.0",
				"reasons":[{"cause":"usage","amount":"42.00"},{"cause":"price","amount":"-0.50"}]},
			{"organization_id":"` + id + `","organization_name":"PRO & Sons","currency":"JPY","previous":"0","current":"700","reasons":[]}]}`,
		"parked": `{"parked":[{"organization_id":"` + id + `","organization_name":"PRO & Sons","reason":"no price book in NOK","attempts":2,"parked_at":"2026-11-24T12:00:00Z"}]}`,
		"decisions": `{"decisions":[{"action":"requested","actor":{"name":"schedule"},"at":"2026-11-24T12:00:00Z"},
			{"action":"approved","actor":{"id":"` + key.String() + `","name":"month-end"},"note":"Fine.","at":"2026-11-24T12:00:00Z"}]}`,
	} {
		a := r.do("finance", "GET", octoberPath+"/"+route, "")
		require.Equal(t, http.StatusOK, a.Code, a.Body)
		require.JSONEq(t, want, a.Body.String(), route)
	}
	// As text: a number that is read as a float would hide what it has lost.
	require.Equal(t, `{"control_totals":[{"meter":"evaluations","organizations":2,"value":123456789012345678901234567890}],`+
		`"money_totals":[{"currency":"USD","statements":2,"lines":5,"subtotal":"123456789012345678.50","credits":"0.00","due":"123456789012345678.50"}]}`,
		strings.TrimSpace(r.do("finance", "GET", octoberPath+"/control-totals", "").Body.String()))

	corrections := r.do("finance", "GET", octoberPath+"/corrections", "").json()["statements"].([]any)
	require.Len(t, corrections, 1)
	require.Equal(t, "51.00", corrections[0].(map[string]any)["due"], "49 and 10,001 × 0.0002")

	shown := r.do("finance", "GET", octoberPath, "").json()
	require.Equal(t, map[string]any{"organizations": 3.0, "statements": 2.0, "parked": 1.0, "variances": 1.0}, shown["counts"])
	require.Equal(t, "A price was wrong.", shown["reason"])
	require.Equal(t, "2026-11-24T12:00:00Z", shown["issued_at"])
}

func TestShowStatement(t *testing.T) {
	r := newRig(t)
	_, second := revisions(t, r)
	pro := r.organizations["pro"]
	r.store.close = fakeClose{of: second.ID, statements: []billing.Statement{aStatement(t, pro)}}
	a := r.do("finance", "GET", octoberPath+"/statements/"+pro.String(), "")
	require.Equal(t, http.StatusOK, a.Code, a.Body)
	shown := a.json()
	statement := shown["statement"].(map[string]any)
	require.Equal(t, "TG-2026-10-R2-000001", statement["number"])
	require.Equal(t, "TG-2026-10-000001", statement["replaces"])
	for field, want := range map[string]string{"subtotal": "51.00", "credits": "0.00", "due": "51.00"} {
		require.Equal(t, want, statement[field], field)
	}
	lines, explained := statement["lines"].([]any), shown["explanation"].([]any)
	require.Len(t, explained, len(lines), "each line is explained")
	require.Equal(t, []any{"49", "2.0002"}, []any{lines[0].(map[string]any)["exact"], lines[1].(map[string]any)["exact"]})
	last := explained[1].([]any)
	require.Equal(t, "2.0002 = 2.00 USD (rounded; rest 0.0002)", last[len(last)-1])

	r.problem(404, "not_found", "finance", "GET", octoberPath+"/statements/"+r.organizations["free"].String(), "")
	r.problem(404, "not_found", "finance", "GET", octoberPath+"/statements/"+uuid.NewString(), "")
	r.problem(404, "not_found", "finance", "GET", octoberPath+"/statements/"+pro.String()+"?revision=1", "")
	require.Equal(t, "organization", r.problem(400, "invalid_request", "finance", "GET", octoberPath+"/statements/me", "")["field"])
}

// TestShowCloseOfNothing holds that what isn't there is an empty list, never null.
func TestShowCloseOfNothing(t *testing.T) {
	r := newRig(t)
	r.store.exports = []billing.Export{anExport(t)}
	for route, want := range map[string]string{
		"variances":      `{"variances":[]}`,
		"parked":         `{"parked":[]}`,
		"decisions":      `{"decisions":[]}`,
		"corrections":    `{"statements":[]}`,
		"control-totals": `{"control_totals":[],"money_totals":[]}`,
	} {
		require.JSONEq(t, want, r.do("finance", "GET", octoberPath+"/"+route, "").Body.String(), route)
	}
}

// TestRevisions finds each revision by its number, and the newest without one.
func TestRevisions(t *testing.T) {
	r := newRig(t)
	first, _ := revisions(t, r)
	r.store.close = fakeClose{
		of: first.ID, statements: []billing.Statement{aStatement(t, r.organizations["pro"])},
		decisions: []billing.ExportDecision{{Action: billing.ActionRequested, Actor: billing.Actor{Name: "schedule"}, At: noon}},
	}
	for query, want := range map[string]int{"": 0, "?revision=2": 0, "?revision=1": 1} {
		require.Len(t, r.do("finance", "GET", octoberPath+"/decisions"+query, "").json()["decisions"], want, query)
		require.Len(t, r.do("finance", "GET", octoberPath+"/corrections"+query, "").json()["statements"], want, query)
	}
	shown := r.do("finance", "GET", octoberPath+"?revision=1", "").json()
	require.Equal(t, "superseded", shown["stage"])
	require.InDelta(t, 1, shown["revision"], 0)
	require.InDelta(t, 2, r.do("finance", "GET", octoberPath, "").json()["revision"], 0)

	for _, route := range append(closeRoutes(r), "files/usage.jsonl", "") {
		path := strings.TrimSuffix(octoberPath+"/"+route, "/")
		r.problem(404, "not_found", "finance", "GET", path+"?revision=3", "")
		r.problem(404, "not_found", "finance", "GET", strings.Replace(path, "2026-10", "2026-09", 1), "")
		for _, revision := range []string{"0", "-1", "one", "1.5", "99999999999999999999"} {
			problem := r.problem(400, "invalid_request", "finance", "GET", path+"?revision="+revision, "")
			require.Equal(t, "revision", problem["field"], path)
			require.Contains(t, problem["message"], "whole number of 1 or more", path)
		}
		problem := r.problem(400, "invalid_request", "finance", "GET", strings.Replace(path, "2026-10", "2026-13", 1), "")
		require.Equal(t, "period", problem["field"], path)
	}
}

func TestCloseListsAreBounded(t *testing.T) {
	r := newRig(t)
	first, _ := revisions(t, r)
	for _, route := range []string{"variances", "parked", "corrections"} {
		for query, want := range map[string]int{"": 101, "?limit=1": 2, "?limit=1000&revision=1": 1001} {
			require.Equal(t, 200, r.do("finance", "GET", octoberPath+"/"+route+query, "").Code, route)
			require.Equal(t, want, r.store.close.limit, route+query)
		}
		for _, limit := range []string{"0", "1001", "-1", "many"} {
			problem := r.problem(400, "invalid_request", "finance", "GET", octoberPath+"/"+route+"?limit="+limit, "")
			require.Equal(t, "limit", problem["field"])
			require.Contains(t, problem["message"], "1 to 1000")
		}
	}
	r.store.close.of = first.ID
	var ids []uuid.UUID
	for range 3 {
		id, c := uuid.Must(uuid.NewV7()), &r.store.close
		ids = append(ids, id)
		c.variances = append(c.variances, billing.StatementVariance{Organization: id, Reasons: []billing.VarianceReason{}})
		c.parked = append(c.parked, billing.ParkedOrganization{Organization: id})
		c.statements = append(c.statements, aStatement(t, id))
	}
	for route, list := range map[string]string{"variances": "variances", "parked": "parked", "corrections": "statements"} {
		page := r.do("finance", "GET", octoberPath+"/"+route+"?limit=2&revision=1", "").json()
		require.Len(t, page[list], 2, route)
		require.Equal(t, ids[1].String(), page["next"], route)
		last := r.do("finance", "GET", octoberPath+"/"+route+"?limit=2&revision=1&after="+ids[1].String(), "").json()
		require.Len(t, last[list], 1, route)
		require.NotContains(t, last, "next", route)
		require.Equal(t, "after", r.problem(400, "invalid_request", "finance", "GET", octoberPath+"/"+route+"?after=x", "")["field"])
	}
	for _, route := range []string{"decisions", "control-totals"} {
		require.Equal(t, "limit", r.problem(400, "invalid_request", "finance", "GET", octoberPath+"/"+route+"?limit=1", "")["field"])
	}
}

func TestCloseWhileTheStoreIsAway(t *testing.T) {
	r := newRig(t)
	revisions(t, r)
	require.Equal(t, 200, r.do("finance", "GET", octoberPath+"/decisions", "").Code, "the key is known from here on")
	for _, tt := range []struct {
		err    error
		status int
		code   string
	}{{awayError{}, 503, "unavailable"}, {errDefect, 500, "internal_error"}} {
		r.store.fail(tt.err)
		for _, route := range closeRoutes(r) {
			problem := r.problem(tt.status, tt.code, "finance", "GET", octoberPath+"/"+route, "")
			require.NotContains(t, problem["message"], "secret")
		}
	}
}

// TestDownloadsOfARevision holds that a file's address stays that of the same bytes,
// when a later revision has taken its place.
func TestDownloadsOfARevision(t *testing.T) {
	r := newRig(t)
	first, second := revisions(t, r)
	second.Manifest.Files = []billing.File{{Name: "usage.jsonl", SHA256: strings.Repeat("cd", 32), Bytes: 4, Rows: 1}}
	r.blobs[first.Folder()+"usage.jsonl"] = "{1}"
	r.blobs[second.Folder()+"usage.jsonl"] = "{22}"
	for query, want := range map[string][2]string{
		"": {"{22}", "cd"}, "?revision=2": {"{22}", "cd"}, "?revision=1": {"{1}", "ab"},
	} {
		a := r.do("finance", "GET", octoberPath+"/files/usage.jsonl"+query, "")
		require.Equal(t, want[0], a.Body.String(), query)
		require.Equal(t, `"`+strings.Repeat(want[1], 32)+`"`, a.Header().Get("ETag"), query)
	}
	var addresses []string
	for _, e := range r.do("finance", "GET", "/api/v1/billing/exports", "").json()["exports"].([]any) {
		for _, f := range e.(map[string]any)["files"].([]any) {
			addresses = append(addresses, f.(map[string]any)["url"].(string))
		}
	}
	require.Equal(t, []string{
		octoberPath + "/files/usage.jsonl?revision=2", octoberPath + "/files/manifest.json?revision=2",
		octoberPath + "/files/usage.jsonl?revision=1", octoberPath + "/files/manifest.json?revision=1",
	}, addresses)
	require.Equal(t, "{1}", r.do("finance", "GET", addresses[2], "").Body.String())
}

// TestCurrencies is the currency in which an organization is billed.
func TestCurrencies(t *testing.T) {
	r := newRig(t)
	made := r.do("admin", "POST", "/api/v1/organizations", `{"name":"Ærø","plan":"free","currency":"DKK"}`)
	require.Equal(t, http.StatusCreated, made.Code)
	require.Equal(t, "DKK", made.json()["currency"])
	path := "/api/v1/organizations/" + made.json()["id"].(string)
	require.Equal(t, "DKK", r.do("admin", "PATCH", path, `{"name":"Ærø Analytics"}`).json()["currency"], "left out, it stays")
	require.Equal(t, "EUR", r.do("admin", "PATCH", path, `{"currency":"EUR"}`).json()["currency"])
	require.Equal(t, "EUR", r.do("admin", "GET", path, "").json()["currency"])
	require.Equal(t, accounts.DefaultCurrency, r.do("admin", "POST", "/api/v1/organizations", `{"name":"x","plan":"free"}`).json()["currency"])
	require.Equal(t, "plan", r.problem(422, "plan_without_currency", "admin", "POST", "/api/v1/organizations", `{"name":"x","plan":"pro","currency":"DKK"}`)["field"])
	for _, code := range []string{`"eur"`, `"EURO"`, `"XQQ"`, `7`} {
		require.Equal(t, "currency", r.problem(400, "invalid_request", "admin", "PATCH", path, `{"currency":`+code+`}`)["field"], code)
		require.Equal(t, "currency", r.problem(400, "invalid_request", "admin", "POST", "/api/v1/organizations", `{"name":"x","plan":"free","currency":`+code+`}`)["field"], code)
	}
}
