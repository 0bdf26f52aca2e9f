package api

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

const window = `"window":{"start":"2026-11-24T00:00:00Z","end":"2026-11-25T00:00:00Z"}`

func TestFreeWithinTheLimit(t *testing.T) {
	r := newRig(t)
	a := r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","quantity":999}`)
	require.Equal(t, http.StatusOK, a.Code)
	require.JSONEq(t, `{"allowed":true,"meter":"evaluations","plan":"free","mode":"hard","current":999,"held":0,"max":1000,"remaining":1,"over_limit":false,`+window+`}`, a.Body.String())
	a = r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`)
	require.Equal(t, http.StatusOK, a.Code, "one is the default, and the limit itself is within it")
	require.InDelta(t, 0, a.json()["remaining"], 0)
}

func TestFreeOverTheLimit(t *testing.T) {
	r := newRig(t)
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","quantity":1000}`).Code)
	a := r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`)
	require.Equal(t, http.StatusPaymentRequired, a.Code)
	require.Equal(t, "application/problem+json", a.Header().Get("Content-Type"))
	message := "The plan's limit of evaluations is reached. Upgrade the plan, or wait for the next window."
	require.Empty(t, cmp.Diff(map[string]any{
		"error": "plan_limit_exceeded", "plan": "free", "limit": "evaluations", "current": 1000.0, "held": 0.0, "max": 1000.0, "remaining": 0.0,
		"upgrade_url": "/api/v1/organizations/" + r.organizations["free"].String() + "/upgrade",
		"type":        "urn:tollgate:problem:plan_limit_exceeded", "title": "Payment Required", "status": 402.0,
		"detail": message, "message": message,
	}, a.json()))

	a = r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","quantity":500}`)
	require.InDelta(t, 1000, a.json()["current"], 0, "a refused quantity isn't counted")
	r.advance(12 * time.Hour)
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`).Code, "a new day starts from zero")
}

func TestProOverTheLimit(t *testing.T) {
	r := newRig(t)
	a := r.do("pro", "POST", "/api/v1/usage", `{"meter":"simulations","quantity":5000}`)
	require.Equal(t, false, a.json()["over_limit"])
	require.Empty(t, a.Header().Values("Tollgate-Over-Limit"))
	for range 3 {
		a = r.do("pro", "POST", "/api/v1/usage", `{"meter":"simulations"}`)
		require.Equal(t, http.StatusOK, a.Code)
		require.Equal(t, true, a.json()["over_limit"])
		require.InDelta(t, 0, a.json()["remaining"], 0)
		require.Equal(t, "true", a.Header().Get("Tollgate-Over-Limit"))
	}
	require.Equal(t, 1, strings.Count(r.log.String(), "Usage is over a soft limit"), "logged once a window")
}

func TestEnterpriseIsUnlimited(t *testing.T) {
	r := newRig(t)
	for range 3 {
		a := r.do("enterprise", "POST", "/api/v1/usage", `{"meter":"evaluations","quantity":1000000000000000}`)
		require.Equal(t, http.StatusOK, a.Code)
		require.Nil(t, a.json()["max"])
		require.Nil(t, a.json()["remaining"])
		require.Equal(t, "unlimited", a.json()["mode"])
	}
}

// TestStoreAwayAllows is C5: a fault of ours never refuses a request.
func TestStoreAwayAllows(t *testing.T) {
	r := newRig(t)
	require.Equal(t, 200, r.do("enterprise", "GET", "/api/v1/usage", "").Code, "the key is known from here on")
	r.store.fail(awayError{})
	require.Equal(t, 200, r.do("enterprise", "POST", "/api/v1/usage", `{"meter":"evaluations"}`).Code)

	r.store.fail(nil)
	_, err := r.server.keys.principal(t.Context(), r.secrets["free"], "", noon)
	require.NoError(t, err)
	r.store.fail(awayError{})
	a := r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","quantity":5000}`)
	require.Equal(t, http.StatusOK, a.Code, "the organization can't be loaded, and is allowed")
	require.Empty(t, a.json()["plan"])
	require.Nil(t, a.json()["max"])

	r.store.fail(nil)
	r.advance(time.Minute)
	require.Eventually(t, func() bool {
		return r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`).Code == http.StatusPaymentRequired
	}, 30*time.Second, 10*time.Millisecond, "what was used meanwhile counts as soon as the limit is known")
}

func TestLevels(t *testing.T) {
	r := newRig(t)
	for _, step := range []struct {
		body    string
		status  int
		current float64
	}{
		{`{"meter":"storage_bytes","quantity":1000}`, 200, 1000},
		{`{"meter":"storage_bytes","quantity":400}`, 200, 400},
		{`{"meter":"storage_bytes","quantity":0}`, 200, 0},
		{`{"meter":"storage_bytes","quantity":1073741825}`, 402, 0},
		{`{"meter":"entity_instances","quantity":100}`, 200, 100},
		{`{"meter":"entity_instances","quantity":10}`, 200, 100},
		{`{"meter":"entity_instances","quantity":101}`, 402, 100},
	} {
		a := r.do("free", "POST", "/api/v1/usage", step.body)
		require.Equal(t, step.status, a.Code, step.body)
		require.InDelta(t, step.current, a.json()["current"], 0, step.body)
	}
}

// TestQuantitiesAsOtherSystemsSendThem counts whole numbers however they are written.
func TestQuantitiesAsOtherSystemsSendThem(t *testing.T) {
	r := newRig(t)
	for i, quantity := range []string{`3`, `3.0`, `3e0`, `"3"`, `30e-1`, `0.3E+1`, `"3.0"`} {
		a := r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","quantity":`+quantity+`}`)
		require.Equal(t, 200, a.Code, "%s: %s", quantity, a.Body)
		require.InDelta(t, 3*(i+1), a.json()["current"], 0, quantity)
		_, held := r.hold("free", `{"meter":"simulations","quantity":`+quantity+`}`)
		require.InDelta(t, 3, held.json()["quantity"], 0, quantity)
	}
	for _, nothing := range []string{`0`, `0.0`, `"0"`, `-0`, `0e5`} {
		a := r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","quantity":`+nothing+`}`)
		require.Equal(t, 200, a.Code, "%s: %s", nothing, a.Body)
		require.InDelta(t, 21, a.json()["current"], 0, nothing)
	}
	require.InDelta(t, 1000, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","quantity":979}`).json()["current"], 0)
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","quantity":0}`).Code, "what adds nothing is within an exhausted limit")
	keyed := r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","quantity":0,"idempotency_key":"nothing"}`)
	require.Equal(t, 200, keyed.Code, keyed.Body)
	r.problem(402, "plan_limit_exceeded", "free", "POST", "/api/v1/usage", `{"meter":"evaluations","quantity":1}`)
}

func TestBadUsageReportsNameTheField(t *testing.T) {
	r := newRig(t)
	for _, tt := range []struct{ body, field, message string }{
		{`{"meter":"evaluations","quantity":-1}`, "quantity", "must be a whole number, 0 to 1000000000000000; -1 is not"},
		{`{"meter":"evaluations","quantity":1000000000000001}`, "quantity", "0 to 1000000000000000"},
		{`{"meter":"evaluations","quantity":1e30}`, "quantity", "1e30 is not"},
		{`{"meter":"evaluations","quantity":0.3}`, "quantity", "0.3 is not"},
		{`{"meter":"evaluations","quantity":99999999999999999999}`, "quantity", "must be a whole number"},
		{`{"meter":"evaluations","quantity":1.5}`, "quantity", "1.5 is not"},
		{`{"meter":"evaluations","quantity":""}`, "quantity", `"" is not`},
		{`{"meter":"evaluations","quantity":" 5"}`, "quantity", `" 5" is not`},
		{`{"meter":"evaluations","quantity":"NaN"}`, "quantity", `"NaN" is not`},
		{`{"meter":"evaluations","quantity":"05"}`, "quantity", `"05" is not`},
		{`{"meter":"evaluations","quantity":05}`, "body", "must be JSON"},
		{`{"meter":"evaluations","quantity":true}`, "quantity", "must be a whole number"},
		{`{"meter":"evaluations","quantity":[5]}`, "quantity", "must be a whole number"},
		{`{"meter":"evaluations","quantity":null}`, "quantity", "must be a whole number"},
		{`{"meter":"evaluations","quantity":1,"quantity":2}`, "quantity", "must not be given twice"},
		{`{"meter":"storage_bytes","quantity":-1}`, "quantity", "0 to 1000000000000000"},
		{`{"meter":"storage_bytes"}`, "quantity", "must be given: storage_bytes is a level"},
		{`{"meter":"nothing"}`, "meter", "must be one of the catalog's: evaluations, flow_executions"},
		{`{"meter":""}`, "meter", "must be one of the catalog's"},
		{`{"meter":7}`, "meter", "must be a string"},
		{`{"quantity":7}`, "meter", "must be given"},
		{`{}`, "meter", "must be given"},
		{`{"meter":"evaluations","meter":"simulations"}`, "meter", "must not be given twice"},
		{`{"Meter":"evaluations"}`, "Meter", "is not a field of this request; its fields are meter, quantity, idempotency_key, timestamp and properties"},
		{`{"meter":"evaluations"} {}`, "body", "must end after the JSON object"},
		{`{"meter":"evaluations"`, "body", "ends too early"},
		{`{"meter":"evaluations",}`, "body", "must be JSON"},
		{`[]`, "body", "must be a JSON object"},
		{`"meter"`, "body", "must be a JSON object"},
		{`nonsense`, "body", "must be JSON"},
		{` `, "body", "ends too early"},
	} {
		problem := r.problem(400, "invalid_request", "free", "POST", "/api/v1/usage", tt.body)
		require.Equal(t, tt.field, problem["field"], tt.body)
		require.Contains(t, problem["message"], tt.message, tt.body)
		require.Contains(t, problem["message"], tt.field, tt.body)
	}
	require.InDelta(t, 0, r.do("free", "GET", "/api/v1/usage", "").json()["meters"].([]any)[0].(map[string]any)["current"], 0, "nothing was counted")
}

func TestBodyLimitsAndTypes(t *testing.T) {
	r := newRig(t)
	large := `{"meter":"evaluations"` + strings.Repeat(" ", 64<<10) + `}`
	r.problem(413, "body_too_large", "free", "POST", "/api/v1/usage", large)
	r.problem(413, "body_too_large", "admin", "POST", "/api/v1/organizations", `{"name":"`+strings.Repeat("x", 64<<10)+`","plan":"free"}`)

	request := httptest.NewRequest(http.MethodPost, "/api/v1/usage", io.MultiReader(strings.NewReader(large)))
	request.ContentLength = -1
	request.Header.Set("Authorization", "Bearer "+r.secrets["free"])
	recorder := httptest.NewRecorder()
	r.server.Handler().ServeHTTP(recorder, request)
	require.Equal(t, 413, recorder.Code, "also where the length isn't declared")

	for contentType, status := range map[string]int{
		"application/json":                  200,
		"application/json; charset=utf-8":   200,
		"Application/JSON":                  200,
		"application/x-www-form-urlencoded": 200, // what curl -d says
		"application/vnd.example+json":      200,
		"":                                  415,
		"text/plain":                        415,
		"text/xml":                          415,
		"multipart/form-data":               415,
		"bad/":                              415,
	} {
		require.Equal(t, status, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`, "Content-Type", contentType).Code, contentType)
	}
}

func TestRateLimitComesAfterThePlan(t *testing.T) {
	catalog := plans.Default()
	for i := range catalog.Plans {
		catalog.Plans[i].RateLimit = plans.RateLimit{RequestsPerSecond: 1, Burst: 2}
	}
	r := newRig(t)
	r.store.catalog = catalog
	require.NoError(t, r.meter.SetCatalog(catalog))

	a := r.do("free", "POST", "/api/v1/usage", `{"meter":"simulations","quantity":50}`)
	require.Equal(t, 200, a.Code)
	require.Equal(t, `"requests";q=2;w=2`, a.Header().Get("RateLimit-Policy"))
	require.Equal(t, `"requests";r=1;t=1`, a.Header().Get("RateLimit"))
	for range 5 {
		r.problem(402, "plan_limit_exceeded", "free", "POST", "/api/v1/usage", `{"meter":"simulations"}`)
	}
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`).Code, "a 402 took no token")
	for range 3 {
		r.problem(429, "rate_limited", "free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`)
	}
	require.Equal(t, int64(3), r.server.GateCounts().RateLimited)
	meters := r.do("free", "GET", "/api/v1/usage", "").json()["meters"].([]any)
	require.InDelta(t, 1, meters[0].(map[string]any)["current"], 0, "a 429 counted nothing")
	require.Equal(t, 200, r.do("pro", "POST", "/api/v1/usage", `{"meter":"evaluations"}`).Code, "others have their own bucket")
	r.advance(time.Second)
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`).Code)
}

// TestTwoHundredClientsShareALimitOfAThousand is the hard limit over real HTTP.
func TestTwoHundredClientsShareALimitOfAThousand(t *testing.T) {
	r := newRig(t)
	server := httptest.NewUnstartedServer(nil)
	server.Config = NewHTTPServer(HTTPConfig{Handler: r.server.Handler()})
	server.Start()
	defer server.Close()
	client := server.Client()
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = 200
	var admitted, refused atomic.Int64
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			for range 10 {
				request, err := http.NewRequest(http.MethodPost, server.URL+"/api/v1/usage", strings.NewReader(`{"meter":"evaluations"}`))
				if err != nil {
					t.Error(err)
					return
				}
				request.Header.Set("Authorization", "Bearer "+r.secrets["free"])
				response, err := client.Do(request)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				switch response.StatusCode {
				case http.StatusOK:
					admitted.Add(1)
				case http.StatusPaymentRequired:
					refused.Add(1)
				default:
					t.Errorf("status %d", response.StatusCode)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(1000), admitted.Load())
	require.Equal(t, int64(1000), refused.Load())
}

func TestCurrentUsage(t *testing.T) {
	r := newRig(t)
	r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","quantity":17}`)
	r.do("pro", "POST", "/api/v1/usage", `{"meter":"simulations","quantity":6000}`)

	usage := r.do("free", "GET", "/api/v1/usage", "").json()
	require.Equal(t, r.organizations["free"].String(), usage["organization_id"])
	require.Equal(t, "free", usage["plan"])
	meters := usage["meters"].([]any)
	require.Len(t, meters, 5)
	require.Empty(t, cmp.Diff(map[string]any{
		"meter": "evaluations", "unit": "evaluation", "aggregation": "sum", "mode": "hard", "current": 17.0, "held": 0.0, "pending": 17.0,
		"max": 1000.0, "remaining": 983.0, "over_limit": false,
		"window": map[string]any{"start": "2026-11-24T00:00:00Z", "end": "2026-11-25T00:00:00Z"},
	}, meters[0]))

	simulations := r.do("admin", "GET", "/api/v1/usage?organization_id="+r.organizations["pro"].String(), "").json()["meters"].([]any)[2].(map[string]any)
	require.Equal(t, true, simulations["over_limit"])
	require.InDelta(t, 0, simulations["remaining"], 0)
	require.Nil(t, r.do("enterprise", "GET", "/api/v1/usage", "").json()["meters"].([]any)[0].(map[string]any)["max"])

	require.Equal(t, 200, r.do("free", "GET", "/api/v1/usage?organization_id="+r.organizations["free"].String(), "").Code)
	r.problem(403, "forbidden", "free", "GET", "/api/v1/usage?organization_id="+r.organizations["pro"].String(), "")
	r.problem(404, "not_found", "admin", "GET", "/api/v1/usage?organization_id="+uuid.NewString(), "")
	require.Equal(t, "organization_id", r.problem(400, "invalid_request", "finance", "GET", "/api/v1/usage", "")["field"])
	require.Equal(t, "organization_id", r.problem(400, "invalid_request", "admin", "GET", "/api/v1/usage?organization_id=x", "")["field"])
	require.Equal(t, "organisation_id", r.problem(400, "invalid_request", "admin", "GET", "/api/v1/usage?organisation_id=x", "")["field"])
}

func TestUsageHistory(t *testing.T) {
	r := newRig(t)
	day := func(s string) calendar.Day {
		d, err := calendar.ParseDay(s)
		require.NoError(t, err)
		return d
	}
	for _, record := range []struct {
		meter, day string
		value      int64
	}{
		{"evaluations", "2026-10-30", 1},
		{"evaluations", "2026-10-31", 2},
		{"evaluations", "2026-11-01", 4},
		{"evaluations", "2026-11-24", 8},
		{"entity_instances", "2026-10-30", 9},
		{"entity_instances", "2026-10-31", 7},
		{"storage_bytes", "2026-10-30", 9},
		{"storage_bytes", "2026-10-31", 7},
	} {
		r.store.records = append(r.store.records, billing.UsageRecord{
			Organization: r.organizations["free"], Meter: record.meter, Day: day(record.day), Value: record.value,
		})
	}
	points := func(query string) string {
		encoded, err := json.Marshal(r.do("free", "GET", "/api/v1/usage/history?"+query, "").json()["points"])
		require.NoError(t, err)
		return string(encoded)
	}
	require.JSONEq(t, `[{"start":"2026-10-31","value":2},{"start":"2026-11-01","value":4}]`, points("meter=evaluations&from=2026-10-31&to=2026-11-23"))
	require.JSONEq(t, `[{"start":"2026-10-01","value":3},{"start":"2026-11-01","value":12}]`, points("meter=evaluations&from=2026-10-01&to=2026-11-30&granularity=month"))
	require.JSONEq(t, `[{"start":"2026-10-01","value":9}]`, points("meter=entity_instances&from=2026-10-01&to=2026-11-30&granularity=month"))
	require.JSONEq(t, `[{"start":"2026-10-01","value":7}]`, points("meter=storage_bytes&from=2026-10-01&to=2026-11-30&granularity=month"))
	require.JSONEq(t, `[]`, points("meter=simulations&from=2026-10-01&to=2026-11-30"))

	for _, tt := range []struct{ query, field string }{
		{"from=2026-10-01&to=2026-10-02", "meter"},
		{"meter=evaluations&to=2026-10-02", "from"},
		{"meter=evaluations&from=2026-10-01", "to"},
		{"meter=nothing&from=2026-10-01&to=2026-10-02", "meter"},
		{"meter=evaluations&from=2026-10-32&to=2026-10-02", "from"},
		{"meter=evaluations&from=2026-10-03&to=2026-10-02", "to"},
		{"meter=evaluations&from=2000-10-03&to=2026-10-02", "to"},
		{"meter=evaluations&from=2026-10-01&to=2026-10-02&granularity=week", "granularity"},
		{"meter=evaluations&from=2026-10-01&to=2026-10-02&granularty=month", "granularty"},
		{"meter=evaluations&from=2026-10-01&from=2026-10-02&to=2026-10-02", "from"},
	} {
		problem := r.problem(400, "invalid_request", "free", "GET", "/api/v1/usage/history?"+tt.query, "")
		require.Equal(t, tt.field, problem["field"], tt.query)
	}
	r.problem(404, "not_found", "finance", "GET", "/api/v1/usage/history?meter=evaluations&from=2026-10-01&to=2026-10-02&organization_id="+uuid.NewString(), "")
	r.problem(403, "forbidden", "pro", "GET", "/api/v1/usage/history?meter=evaluations&from=2026-10-01&to=2026-10-02&organization_id="+r.organizations["free"].String(), "")
}
