package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/plans"
)

const dryRunPath = octoberPath + "/dry-run"

// dearerPro is Pro with another fee, at the prices of no meter.
const dearerPro = `{"plans":[{"key":"pro","version":2,"name":"Pro","price_books":[{"currency":"USD","base_fee":{"amount":"60"}}]}]}`

// billedRig has an export of three organizations on Pro: two were billed 49.00, of which one
// can't be rated in its currency, and the third was parked.
func billedRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	_, second := revisions(t, r)
	r.store.close = fakeClose{of: second.ID}
	billed := usd("49")
	for i, name := range []string{"Acme", "Bolt", "Core"} {
		period := billing.OrganizationPeriod{
			Organization: uuid.UUID{byte(i + 1)}, OrganizationName: name, Currency: "USD", Period: second.Period, Cut: second.Period.End(),
			Meters:   plans.Default().Meters,
			Segments: []billing.Segment{{Start: second.Period.Start(), End: second.Period.End(), Plan: plans.Plan{Key: "pro", Version: 1}}},
		}
		r.store.close.billed = append(r.store.close.billed, billing.BilledPeriod{OrganizationPeriod: period, Billed: &billed})
	}
	r.store.close.billed[1].OrganizationPeriod.Currency = "NOK"
	r.store.close.billed[2].Billed = nil
	return r
}

func TestDryRun(t *testing.T) {
	r := billedRig(t)
	a := r.do("finance", "POST", dryRunPath, dearerPro)
	require.Equal(t, http.StatusOK, a.Code, a.Body)
	run, err := json.Marshal(r.store.exports[0].RunID)
	require.NoError(t, err)
	require.JSONEq(t, `{"period":"2026-10","revision":2,"run_id":`+string(run)+`,"organizations":[
		{"organization_id":"01000000-0000-0000-0000-000000000000","organization_name":"Acme","plans":["pro"],"currency":"USD",
			"billed":"49.00","proposed":"60.00","difference":"11.00","percent":"22.4"},
		{"organization_id":"02000000-0000-0000-0000-000000000000","organization_name":"Bolt","plans":["pro"],"currency":"NOK",
			"billed":"49.00","reason":"can't be rated: plan pro version 2 has no prices in NOK"},
		{"organization_id":"03000000-0000-0000-0000-000000000000","organization_name":"Core","plans":["pro"],"currency":"USD",
			"proposed":"60.00","reason":"was not billed: it was parked"}]}`, a.Body.String())

	// What GET /plans answers is a catalog that can be tried.
	published := r.do("finance", "GET", "/api/v1/plans", "").Body.String()
	first := r.do("finance", "POST", dryRunPath, published).json()["organizations"].([]any)[0].(map[string]any)
	require.Equal(t, "0.00", first["difference"])
	// So is a catalog of the form of the file.
	file, err := json.Marshal(plans.Default())
	require.NoError(t, err)
	first = r.do("finance", "POST", dryRunPath, string(file)).json()["organizations"].([]any)[0].(map[string]any)
	require.Equal(t, "0.00", first["difference"])
	require.NotContains(t, first, "kept_plans")

	free := strings.Replace(dearerPro, `"pro"`, `"free"`, 1)
	first = r.do("finance", "POST", dryRunPath, free).json()["organizations"].([]any)[0].(map[string]any)
	require.Equal(t, []any{"0.00", []any{"pro"}}, []any{first["difference"], first["kept_plans"]}, "a plan that isn't named keeps its prices")
}

func TestDryRunInPages(t *testing.T) {
	r := billedRig(t)
	var names []any
	after := ""
	for range 4 {
		page := r.do("finance", "POST", dryRunPath+"?limit=1"+after, dearerPro).json()
		for _, o := range page["organizations"].([]any) {
			names = append(names, o.(map[string]any)["organization_name"])
		}
		next, more := page["next"].(string)
		if !more {
			break
		}
		after = "&after=" + next
	}
	require.Equal(t, []any{"Acme", "Bolt", "Core"}, names)
	one := r.do("finance", "POST", dryRunPath+"?organization_id="+uuid.UUID{2}.String(), dearerPro).json()
	require.Len(t, one["organizations"], 1)
	require.NotContains(t, one, "next")
	r.problem(404, "not_found", "finance", "POST", dryRunPath+"?organization_id="+uuid.NewString(), dearerPro)
	require.Equal(t, "after", r.problem(400, "invalid_request", "finance", "POST",
		dryRunPath+"?organization_id="+uuid.NewString()+"&after="+uuid.NewString(), dearerPro)["field"])
	for query, field := range map[string]string{"limit=0": "limit", "limit=1001": "limit", "after=x": "after", "organization_id=x": "organization_id", "revision=0": "revision"} {
		require.Equal(t, field, r.problem(400, "invalid_request", "finance", "POST", dryRunPath+"?"+query, dearerPro)["field"], query)
	}
	r.problem(404, "not_found", "finance", "POST", dryRunPath+"?revision=3", dearerPro)
}

func TestDryRunNamesTheBrokenRule(t *testing.T) {
	r := billedRig(t)
	for body, want := range map[string]string{
		`{}`:                          "plans: must hold 1 or more",
		`{"plans":[]}`:                "plans: must hold 1 or more",
		`{"plans":7}`:                 "plans must be an array, not a number",
		`{"plans":[],"discounts":[]}`: "discounts is not a field of this request",
		strings.Replace(dearerPro, `"60"`, `"1e3"`, 1):             `plans[0].price_books[0].base_fee.amount must be a decimal number in a string`,
		strings.Replace(dearerPro, `"60"`, `60`, 1):                "amount must be a string, not a number",
		strings.Replace(dearerPro, `"60"`, `"-1"`, 1):              "plans[0].price_books[0].base_fee.amount: -1 must be 0 to",
		strings.Replace(dearerPro, `"USD"`, `"usd"`, 1):            `plans[0].price_books[0].currency: "usd" must be an ISO 4217 code`,
		strings.Replace(dearerPro, `"base_fee"`, `"base_fees"`, 1): "plans[0].price_books[0].base_fees is not a field of this request",
		strings.Replace(dearerPro, `"plans"`, `"meters":[{"key":"evaluations","name":"E","aggregation":"max","unit":"e"}],"plans"`, 1): `meters[0].aggregation: "max" must be sum, as it is published`,
	} {
		require.Contains(t, r.problem(400, "invalid_request", "finance", "POST", dryRunPath, body)["message"], want, body)
	}
	large := strings.Replace(dearerPro, `"Pro"`, `"`+strings.Repeat("x", maxBody)+`"`, 1)
	require.Equal(t, http.StatusOK, r.do("finance", "POST", dryRunPath, large).Code, "a catalog may be larger than other bodies")
	large = strings.Replace(dearerPro, `"Pro"`, `"`+strings.Repeat("x", maxCatalogBody)+`"`, 1)
	require.Contains(t, r.problem(413, "body_too_large", "finance", "POST", dryRunPath, large)["message"], "1048576 bytes")
}

func TestDryRunIsForStaffOfWhatWasRated(t *testing.T) {
	r := billedRig(t)
	r.problem(403, "forbidden", "pro", "POST", dryRunPath, dearerPro)
	require.Equal(t, http.StatusOK, r.do("admin", "POST", dryRunPath, dearerPro).Code)
	for stage, rated := range map[billing.Stage]bool{
		billing.StageWaiting: false, billing.StageFreezing: false, billing.StageRating: false, billing.StageFailed: false, billing.StageCanceled: false,
		billing.StageWriting: true, billing.StageApproving: true, billing.StageDone: true, billing.StageRejected: true, billing.StageClosed: true,
	} {
		r.store.exports[0].Stage = stage
		if rated {
			require.Equal(t, http.StatusOK, r.do("finance", "POST", dryRunPath, dearerPro).Code, stage)
			continue
		}
		require.Contains(t, r.problem(409, "conflict", "finance", "POST", dryRunPath, dearerPro)["message"], "The export is not rated", stage)
	}
}
