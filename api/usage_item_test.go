package api

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/plans"
)

func TestKeyedUsageCountsOnce(t *testing.T) {
	r := newRig(t)
	const body = `{"meter":"evaluations","quantity":600,"idempotency_key":"job-1","properties":{"a":[1,2]}}`
	first := r.do("free", "POST", "/api/v1/usage", body)
	require.Equal(t, http.StatusOK, first.Code, first.Body)
	require.Empty(t, first.Header().Get("Idempotency-Replayed"))
	require.JSONEq(t, `{"allowed":true,"meter":"evaluations","plan":"free","mode":"hard","current":600,"held":0,"max":1000,"remaining":400,"over_limit":false,`+window+`}`, first.Body.String())
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","quantity":100}`).Code)

	for _, tt := range []struct {
		name, body string
		headers    []string
	}{
		{name: "the same bytes", body: body},
		{name: "written in another way", body: ` {"properties":{"a": [1, 2]}, "idempotency_key":"job-\u0031","quantity":600,"meter":"evaluations"} `},
		{name: "numbers in another spelling", body: `{"meter":"evaluations","quantity":"600.0","idempotency_key":"job-1","properties":{"a":[10e-1,2.0]}}`},
		{name: "the key in the header", body: `{"meter":"evaluations","quantity":600,"properties":{"a":[1,2]}}`, headers: []string{"Idempotency-Key", "job-1"}},
		{name: "the key in the header, quoted", body: `{"meter":"evaluations","quantity":600,"properties":{"a":[1,2]}}`, headers: []string{"Idempotency-Key", `"job-1"`}},
		{name: "the key in both", body: body, headers: []string{"Idempotency-Key", "job-1"}},
	} {
		again := r.do("free", "POST", "/api/v1/usage", tt.body, tt.headers...)
		require.Equal(t, http.StatusOK, again.Code, "%s: %s", tt.name, again.Body)
		require.Equal(t, "true", again.Header().Get("Idempotency-Replayed"), tt.name)
		require.JSONEq(t, first.Body.String(), again.Body.String(), "%s: the first answer again", tt.name)
	}
	require.InDelta(t, 700, r.current("free", "evaluations"), 0)

	for _, other := range []string{
		`{"meter":"evaluations","quantity":601,"idempotency_key":"job-1","properties":{"a":[1,2]}}`,
		`{"meter":"evaluations","quantity":600,"idempotency_key":"job-1","properties":{"a":[1,3]}}`,
		`{"meter":"flow_executions","quantity":600,"idempotency_key":"job-1","properties":{"a":[1,2]}}`,
		`{"meter":"evaluations","quantity":600,"idempotency_key":"job-1","properties":{"a":[2,1]}}`,
		`{"meter":"evaluations","quantity":600,"idempotency_key":"job-1"}`,
		`{"meter":"evaluations","quantity":600,"idempotency_key":"job-1","properties":{"a":[1,2]},"timestamp":"2026-11-24T12:00:00Z"}`,
	} {
		r.problem(422, "idempotency_key_reused", "free", "POST", "/api/v1/usage", other)
	}
	require.Empty(t, r.do("pro", "POST", "/api/v1/usage", body).Header().Get("Idempotency-Replayed"), "a key belongs to its organization")
	require.InDelta(t, 700, r.current("free", "evaluations"), 0)
}

// TestOneInstantIsOneReport sends the same instant in other spellings.
func TestOneInstantIsOneReport(t *testing.T) {
	r := newRig(t)
	for i, spelling := range []string{
		"2026-11-24T10:00:00Z", "2026-11-24t10:00:00z", "2026-11-24T12:00:00+02:00", "2026-11-24T10:00:00.000Z", "2026-11-24T10:00:00.0000000000001Z", "2026-11-23T10:01:00-23:59",
	} {
		a := r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","idempotency_key":"k","timestamp":"`+spelling+`"}`)
		require.Equal(t, 200, a.Code, "%s: %s", spelling, a.Body)
		require.Equal(t, i > 0, a.Header().Get("Idempotency-Replayed") == "true", spelling)
	}
	r.problem(422, "idempotency_key_reused", "free", "POST", "/api/v1/usage", `{"meter":"evaluations","idempotency_key":"k","timestamp":"2026-11-24T10:00:01Z"}`)
	require.InDelta(t, 1, r.current("free", "evaluations"), 0)
	for _, bad := range []string{"2026-11-24T9:00:00Z", "2026-11-24T10:00:00,5Z", "2026-11-24T10:00:00+24:00", "2026-11-24 10:00:00Z", "2026-11-24T10:00:60Z"} {
		require.Equal(t, "timestamp", r.problem(400, "invalid_request", "free", "POST", "/api/v1/usage", `{"meter":"evaluations","timestamp":"`+bad+`"}`)["field"], bad)
	}
}

func TestKeyAloneInTheHeader(t *testing.T) {
	r := newRig(t)
	for i := range 3 {
		a := r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`, "Idempotency-Key", "k")
		require.Equal(t, 200, a.Code)
		require.Equal(t, i > 0, a.Header().Get("Idempotency-Replayed") == "true")
	}
	require.InDelta(t, 1, r.current("free", "evaluations"), 0, "the common form doesn't pass the key by")
}

func TestRefusedUsageMayComeAgain(t *testing.T) {
	r := newRig(t)
	const body = `{"meter":"evaluations","quantity":1001,"idempotency_key":"k"}`
	r.problem(402, "plan_limit_exceeded", "free", "POST", "/api/v1/usage", body)
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/organizations/"+r.organizations["free"].String()+"/upgrade", `{"plan":"pro"}`).Code)
	a := r.do("free", "POST", "/api/v1/usage", body)
	require.Equal(t, 200, a.Code, "what was refused was not counted")
	require.Empty(t, a.Header().Get("Idempotency-Replayed"))
}

func TestOverTheLimitIsRepeatedToo(t *testing.T) {
	r := newRig(t)
	const body = `{"meter":"simulations","quantity":5001,"idempotency_key":"k"}`
	for range 2 {
		a := r.do("pro", "POST", "/api/v1/usage", body)
		require.Equal(t, true, a.json()["over_limit"])
		require.Equal(t, "true", a.Header().Get("Tollgate-Over-Limit"))
	}
	require.Equal(t, 1, strings.Count(r.log.String(), "Usage is over a soft limit"))
}

func TestLateUsageCountsOnItsDay(t *testing.T) {
	r := newRig(t)
	a := r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","quantity":7,"timestamp":"2026-11-23T23:59:59.5-00:30"}`)
	require.Equal(t, 200, a.Code, a.Body)
	require.Equal(t, map[string]any{"start": "2026-11-24T00:00:00Z", "end": "2026-11-25T00:00:00Z"}, a.json()["window"], "00:29 UTC on the next day")
	require.InDelta(t, 7, r.current("free", "evaluations"), 0)

	a = r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","quantity":9,"timestamp":"2026-11-23T23:59:59Z"}`)
	require.Equal(t, 200, a.Code, a.Body)
	require.Equal(t, map[string]any{"start": "2026-11-23T00:00:00Z", "end": "2026-11-24T00:00:00Z"}, a.json()["window"])
	require.InDelta(t, 7, r.current("free", "evaluations"), 0, "another day's usage isn't today's")

	a = r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","timestamp":"2026-11-24T12:05:00Z"}`)
	require.Equal(t, 200, a.Code, "a clock that is a little ahead")
	require.InDelta(t, 8, a.json()["current"], 0)
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","timestamp":"2026-10-20T12:00:00Z"}`).Code, "35 days to the second")
}

func TestBadUsageItemsNameTheField(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxAhead = 90 * time.Second })
	long := strings.Repeat("k", 256)
	for _, tt := range []struct{ body, field, message string }{
		{`{"meter":"evaluations","idempotency_key":""}`, "idempotency_key", "must be 1 to 255 printable characters"},
		{`{"meter":"evaluations","idempotency_key":"` + long + `"}`, "idempotency_key", "must be 1 to 255 printable characters"},
		{`{"meter":"evaluations","idempotency_key":"a\nb"}`, "idempotency_key", "must be 1 to 255 printable characters"},
		{`{"meter":"evaluations","idempotency_key":"a\ud83d"}`, "idempotency_key", "must be Unicode"},
		{"{\"meter\":\"evaluations\",\"idempotency_key\":\"a\xff\"}", "idempotency_key", "must be Unicode"},
		{`{"meter":"evaluations","idempotency_key":7}`, "idempotency_key", "must be a string"},
		{`{"meter":"evaluations","idempotency_key":null}`, "idempotency_key", "must be a string"},
		{`{"meter":"evaluations","idempotency_key":"a","idempotency_key":"a"}`, "idempotency_key", "must not be given twice"},
		{`{"meter":"evaluations","timestamp":"2026-10-20T11:59:59Z"}`, "timestamp", "must be at most 35 days before now"},
		{`{"meter":"evaluations","timestamp":"2026-11-24T12:01:31Z"}`, "timestamp", "must be at most 90 seconds after now"},
		{`{"meter":"evaluations","timestamp":"2026-11-24"}`, "timestamp", `(RFC 3339), "2026-11-24" is not`},
		{`{"meter":"evaluations","timestamp":""}`, "timestamp", "RFC 3339"},
		{`{"meter":"evaluations","timestamp":1764000000}`, "timestamp", "must be a string"},
		{`{"meter":"evaluations","properties":[1]}`, "properties", "must be an object"},
		{`{"meter":"evaluations","properties":null}`, "properties", "must be an object"},
		{`{"meter":"evaluations","properties":{"a":"` + strings.Repeat("x", 4089) + `"}}`, "properties", "must have at most 4096 bytes, has 4097"},
		{`{"meter":"evaluations","properties":{"a":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `}}`, "properties", "must not be nested more than 16 deep"},
		{`{"meter":"evaluations","` + long + `":1}`, strings.Repeat("k", 80) + "…", "is not a field of this request"},
	} {
		problem := r.problem(400, "invalid_request", "free", "POST", "/api/v1/usage", tt.body)
		require.Equal(t, tt.field, problem["field"], tt.body)
		require.Contains(t, problem["message"], tt.message, tt.body)
	}
	for _, tt := range []struct{ key, field, message string }{
		{"", "Idempotency-Key", "must be 1 to 255 printable characters"},
		{`""`, "Idempotency-Key", "must be 1 to 255 printable characters"},
		{long, "Idempotency-Key", "must be 1 to 255 printable characters"},
		{"other", "idempotency_key", "must be the same as the header Idempotency-Key"},
	} {
		problem := r.problem(400, "invalid_request", "free", "POST", "/api/v1/usage", `{"meter":"evaluations","idempotency_key":"k"}`, "Idempotency-Key", tt.key)
		require.Equal(t, tt.field, problem["field"], tt.key)
		require.Contains(t, problem["message"], tt.message, tt.key)
	}
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","properties":{"a":"`+strings.Repeat("x", 4088)+`"}}`).Code)
	require.InDelta(t, 1, r.current("free", "evaluations"), 0, "nothing else was counted")
}

func TestKeyedUsageAndTheRateLimit(t *testing.T) {
	catalog := plans.Default()
	for i := range catalog.Plans {
		catalog.Plans[i].RateLimit = plans.RateLimit{RequestsPerSecond: 1, Burst: 2}
	}
	r := newRig(t)
	r.store.catalog = catalog
	require.NoError(t, r.meter.SetCatalog(catalog))
	keyed := func(key string) string {
		return `{"meter":"simulations","quantity":50,"idempotency_key":"` + key + `"}`
	}

	require.Equal(t, `"requests";r=1;t=1`, r.do("free", "POST", "/api/v1/usage", keyed("a")).Header().Get("RateLimit"))
	for range 5 {
		r.problem(402, "plan_limit_exceeded", "free", "POST", "/api/v1/usage", keyed("b"))
	}
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","idempotency_key":"c"}`).Code, "a plain 402 took no token")
	r.problem(429, "rate_limited", "free", "POST", "/api/v1/usage", `{"meter":"evaluations","idempotency_key":"d"}`)
	require.InDelta(t, 1, r.current("free", "evaluations"), 0, "a 429 counted nothing")
}

// TestOneKeyInParallelCountsOnce sends the same report many times at once.
func TestOneKeyInParallelCountsOnce(t *testing.T) {
	r := newRig(t)
	var first atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 20 {
				a := r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","quantity":3}`, "Idempotency-Key", "k")
				if a.Code != http.StatusOK {
					t.Errorf("status %d: %s", a.Code, a.Body)
				} else if a.Header().Get("Idempotency-Replayed") == "" {
					first.Add(1)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(1), first.Load())
	require.InDelta(t, 3, r.current("free", "evaluations"), 0)
}
