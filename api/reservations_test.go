package api

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

const reservationsPath = "/api/v1/reservations"

// hold makes a reservation and returns where it is.
func (r *rig) hold(key, body string, headers ...string) (at string, answer answer) {
	r.t.Helper()
	answer = r.do(key, "POST", reservationsPath, body, headers...)
	want := http.StatusCreated
	if answer.Header().Get("Idempotency-Replayed") != "" {
		want = http.StatusOK
	}
	require.Equal(r.t, want, answer.Code, answer.Body)
	return reservationsPath + "/" + answer.json()["id"].(string), answer
}

func TestReservationIsHeldAndCommitted(t *testing.T) {
	r := newRig(t)
	at, held := r.hold("free", `{"meter":"evaluations","quantity":250,"ttl_seconds":600}`)
	id := uuid.MustParse(held.json()["id"].(string))
	require.Equal(t, uuid.Version(7), id.Version())
	want := map[string]any{
		"id": id.String(), "meter": "evaluations", "quantity": 250.0, "state": "held", "created_at": "2026-11-24T12:00:00Z", "expires_at": "2026-11-24T12:10:00Z",
		"plan": "free", "mode": "hard", "current": 0.0, "held": 250.0, "max": 1000.0, "remaining": 750.0, "over_limit": false,
		"window": map[string]any{"start": "2026-11-24T00:00:00Z", "end": "2026-11-25T00:00:00Z"},
	}
	require.Empty(t, cmp.Diff(want, held.json()))
	require.Empty(t, cmp.Diff(want, r.do("free", "GET", at, "").json()))

	want["state"], want["committed"] = "committed", 231.0
	for range 2 {
		a := r.do("free", "POST", at+"/commit", `{"quantity":231}`, "Idempotency-Key", "ignored")
		require.Equal(t, http.StatusOK, a.Code)
		require.Empty(t, cmp.Diff(want, a.json()), "the same again is answered alike")
	}
	require.Equal(t, 200, r.do("free", "POST", at+"/commit", ``).Code, "whatever was committed")
	require.Empty(t, cmp.Diff(want, r.do("free", "GET", at, "").json()))
	problem := r.problem(409, "reservation_ended", "free", "POST", at+"/commit", `{"quantity":230}`)
	require.Equal(t, "The reservation has ended.", problem["message"])
	r.problem(409, "reservation_ended", "free", "DELETE", at, "")

	at, _ = r.hold("free", `{"meter":"evaluations","quantity":7}`)
	require.InDelta(t, 7, r.do("free", "POST", at+"/commit", `{}`).json()["committed"], 0)
	at, _ = r.hold("free", `{"meter":"evaluations","quantity":7}`)
	require.InDelta(t, 0, r.do("free", "POST", at+"/commit", `{"quantity":0}`).json()["committed"], 0)
}

func TestReservationIsReleasedOrExpires(t *testing.T) {
	r := newRig(t)
	at, _ := r.hold("free", `{"meter":"evaluations","quantity":1000}`)
	r.problem(402, "plan_limit_exceeded", "free", "POST", reservationsPath, `{"meter":"evaluations","quantity":1}`)
	for range 2 {
		a := r.do("free", "DELETE", at, "")
		require.Equal(t, http.StatusOK, a.Code)
		require.Equal(t, "released", a.json()["state"])
	}
	r.problem(409, "reservation_ended", "free", "POST", at+"/commit", "")
	at, _ = r.hold("free", `{"meter":"evaluations","quantity":1000}`)
	r.advance(59 * time.Second)
	require.Equal(t, "held", r.do("free", "GET", at, "").json()["state"])
	r.advance(time.Second)
	require.Equal(t, "expired", r.do("free", "GET", at, "").json()["state"], "a minute is the default")
}

func TestReservationsUnderOtherLimits(t *testing.T) {
	r := newRig(t)
	require.Equal(t, 200, r.do("pro", "POST", "/api/v1/usage", `{"meter":"simulations","quantity":4999}`).Code)
	_, a := r.hold("pro", `{"meter":"simulations","quantity":1}`)
	require.Equal(t, false, a.json()["over_limit"])
	require.InDelta(t, 4999, a.json()["current"], 0)
	_, a = r.hold("pro", `{"meter":"simulations","quantity":2}`)
	require.Equal(t, true, a.json()["over_limit"])
	require.Equal(t, "true", a.Header().Get("Tollgate-Over-Limit"))
	require.InDelta(t, 0, a.json()["remaining"], 0)
	_, a = r.hold("enterprise", `{"meter":"simulations","quantity":1000000000000000,"ttl_seconds":86400}`)
	require.Nil(t, a.json()["max"])
	require.Nil(t, a.json()["remaining"])
	require.Equal(t, "2026-11-25T12:00:00Z", a.json()["expires_at"])
}

func TestReservationsBeyondAHardLimit(t *testing.T) {
	r := newRig(t)
	quota := &fakeQuota{max: 1000, used: 400, idle: 300}
	r.store.quota[quotaOf{r.organizations["free"], "evaluations"}] = quota

	problem := r.problem(402, "plan_limit_exceeded", "free", "POST", reservationsPath, `{"meter":"evaluations","quantity":601}`)
	require.InDelta(t, 400, problem["current"], 0)
	require.InDelta(t, 1000, problem["max"], 0)
	require.Equal(t, "free", problem["plan"])
	require.Equal(t, "evaluations", problem["limit"])
	require.Contains(t, problem["upgrade_url"], r.organizations["free"].String())
	require.Equal(t, 2, r.store.holds, "tried again while instances give back, and not after")

	quota.idle = 300
	r.store.holds = 0
	_, a := r.hold("free", `{"meter":"evaluations","quantity":600}`)
	require.InDelta(t, 400, a.json()["current"], 0)
	require.InDelta(t, 600, a.json()["held"], 0)
	require.Equal(t, 2, r.store.holds, "what instances gave back is enough")

	quota.used = 1200
	problem = r.problem(402, "plan_limit_exceeded", "free", "POST", reservationsPath, `{"meter":"evaluations","quantity":1}`)
	require.InDelta(t, 1200, problem["current"], 0, "also beyond the limit")

	quota.used = 990
	at, _ := r.hold("free", `{"meter":"evaluations","quantity":5}`)
	problem = r.problem(402, "plan_limit_exceeded", "free", "POST", at+"/commit", `{"quantity":11}`)
	require.InDelta(t, 995, problem["current"], 0)
	require.Equal(t, "held", r.do("free", "GET", at, "").json()["state"], "it stays held")
	require.Equal(t, 200, r.do("free", "POST", at+"/commit", `{"quantity":10}`).Code)
}

// TestReservationsThatNobodyCanDecideOn holds that what instances hold, and don't give back in
// time, is no refusal by the plan.
func TestReservationsThatNobodyCanDecideOn(t *testing.T) {
	r := newRig(t)
	at, _ := r.hold("free", `{"meter":"evaluations","quantity":5}`)
	r.store.quota[quotaOf{r.organizations["free"], "evaluations"}] = &fakeQuota{max: 1000, used: 405, idle: 300, kept: true}
	r.problem(503, "unavailable", "free", "POST", reservationsPath, `{"meter":"evaluations","quantity":595}`)
	r.problem(503, "unavailable", "free", "POST", at+"/commit", `{"quantity":600}`)
	r.problem(402, "plan_limit_exceeded", "free", "POST", reservationsPath, `{"meter":"evaluations","quantity":596}`)
	require.Equal(t, "held", r.do("free", "GET", at, "").json()["state"])
}

// TestWaitingForQuotaEnds holds that who waits for quota that never comes is told so.
func TestWaitingForQuotaEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var attempts []int64
		_, err := awaitQuota(t.Context(), func() (meter.StoredReservation, error) {
			attempts = append(attempts, time.Since(began).Milliseconds())
			return meter.StoredReservation{}, &meter.QuotaShortError{Waiting: true}
		})
		var short *meter.QuotaShortError
		require.ErrorAs(t, err, &short)
		require.Equal(t, []int64{0, 20, 60, 140, 300, 620, 1000}, attempts)
	})
}

func TestReservationKeys(t *testing.T) {
	r := newRig(t)
	const body = `{"meter":"evaluations","quantity":600,"ttl_seconds":60}`
	at, first := r.hold("free", body, "Idempotency-Key", "k")
	require.Empty(t, first.Header().Get("Idempotency-Replayed"))
	for _, again := range []string{`{"meter":"evaluations","quantity":600,"idempotency_key":"k"}`, body} {
		there, a := r.hold("free", again, "Idempotency-Key", "k")
		require.Equal(t, at, there)
		require.Equal(t, "true", a.Header().Get("Idempotency-Replayed"))
		require.Empty(t, cmp.Diff(first.json(), a.json()))
	}
	r.problem(422, "idempotency_key_reused", "free", "POST", reservationsPath, `{"meter":"evaluations","quantity":601}`, "Idempotency-Key", "k")
	require.Equal(t, 200, r.do("free", "POST", at+"/commit", "").Code)
	_, a := r.hold("free", body, "Idempotency-Key", "k")
	require.Equal(t, "committed", a.json()["state"], "as it is now")
	there, _ := r.hold("pro", body, "Idempotency-Key", "k")
	require.NotEqual(t, at, there, "a key belongs to its organization")
}

// TestLostHoldIsMadeOnce loses the answer of the store: what is tried again is the same.
func TestLostHoldIsMadeOnce(t *testing.T) {
	r := newRig(t)
	r.store.loseHold = true
	_, a := r.hold("free", `{"meter":"evaluations","quantity":600}`)
	require.Empty(t, a.Header().Get("Idempotency-Replayed"))
	require.Equal(t, 2, r.store.holds)
	require.Len(t, r.store.reservations, 1)
}

func TestReservationsNeedTheStore(t *testing.T) {
	r := newRig(t)
	at, _ := r.hold("free", `{"meter":"evaluations","quantity":1}`)
	_, err := r.server.keys.principal(t.Context(), r.secrets["pro"], "", noon)
	require.NoError(t, err)
	r.store.fail(awayError{})
	for _, request := range []struct{ key, method, path, body string }{
		{"free", "POST", reservationsPath, `{"meter":"evaluations","quantity":1}`},
		{"free", "POST", reservationsPath, `{"meter":"evaluations","quantity":1000}`},
		{"pro", "POST", reservationsPath, `{"meter":"evaluations","quantity":1}`},
		{"free", "POST", at + "/commit", ""},
		{"free", "DELETE", at, ""},
		{"free", "GET", at, ""},
	} {
		r.problem(503, "unavailable", request.key, request.method, request.path, request.body)
	}
}

func TestReservationsAreTheTenantsOwn(t *testing.T) {
	r := newRig(t)
	at, _ := r.hold("free", `{"meter":"evaluations","quantity":1}`)
	for _, tt := range []struct{ method, path string }{{"GET", at}, {"DELETE", at}, {"POST", at + "/commit"}} {
		r.problem(404, "not_found", "pro", tt.method, tt.path, "")
		r.problem(403, "forbidden", "admin", tt.method, tt.path, "")
		r.problem(403, "forbidden", "finance", tt.method, tt.path, "")
		r.problem(401, "unauthorized", "", tt.method, tt.path, "")
	}
	r.problem(404, "not_found", "free", "GET", reservationsPath+"/"+uuid.NewString(), "")
	require.Equal(t, "held", r.do("free", "GET", at, "").json()["state"])
}

func TestBadReservationsNameTheField(t *testing.T) {
	r := newRig(t)
	at, _ := r.hold("free", `{"meter":"evaluations","quantity":1}`)
	for _, tt := range []struct{ path, body, field, message string }{
		{reservationsPath, `{"quantity":1}`, "meter", "must be one of the catalog's"},
		{reservationsPath, `{"meter":"nothing","quantity":1}`, "meter", "must be one of the catalog's"},
		{reservationsPath, `{"meter":"storage_bytes","quantity":1}`, "meter", "storage_bytes is a level"},
		{reservationsPath, `{"meter":"evaluations"}`, "quantity", "must be given"},
		{reservationsPath, `{"meter":"evaluations","quantity":null}`, "quantity", "must be a whole number"},
		{reservationsPath, `{"meter":"evaluations","quantity":"1e"}`, "quantity", `"1e" is not`},
		{at + "/commit", `{"quantity":null}`, "quantity", "must be a whole number"},
		{at + "/commit", `{"quantity":{"a":1}}`, "quantity", "must be a whole number"},
		{reservationsPath, `{"meter":"evaluations","quantity":0}`, "quantity", "1 to 1000000000000000"},
		{reservationsPath, `{"meter":"evaluations","quantity":1000000000000001}`, "quantity", "0 to 1000000000000000"},
		{reservationsPath, `{"meter":"evaluations","quantity":1.5}`, "quantity", "must be a whole number"},
		{reservationsPath, `{"meter":"evaluations","quantity":1,"ttl_seconds":0}`, "ttl_seconds", "1 to 86400"},
		{reservationsPath, `{"meter":"evaluations","quantity":1,"ttl_seconds":86401}`, "ttl_seconds", "1 to 86400"},
		{reservationsPath, `{"meter":"evaluations","quantity":1,"idempotency_key":""}`, "idempotency_key", "1 to 255"},
		{reservationsPath, `{"meter":"evaluations","quantity":1,"ttl":5}`, "ttl", "is not a field"},
		{reservationsPath, ``, "body", "ends too early"},
		{at + "/commit", `{"quantity":-1}`, "quantity", "0 to 1000000000000000"},
		{at + "/commit", `{"quantity":1000000000000001}`, "quantity", "0 to 1000000000000000"},
		{at + "/commit", `{"amount":1}`, "amount", "is not a field"},
		{at + "/commit", `[]`, "body", "must be a JSON object"},
		{reservationsPath + "/x/commit", ``, "id", "must be a reservation's ID, a UUID"},
	} {
		problem := r.problem(400, "invalid_request", "free", "POST", tt.path, tt.body)
		require.Equal(t, tt.field, problem["field"], tt.body)
		require.Contains(t, problem["message"], tt.message, tt.body)
	}
	problem := r.problem(400, "invalid_request", "free", "POST", reservationsPath, `{"meter":"evaluations","quantity":1,"idempotency_key":"a"}`, "Idempotency-Key", "b")
	require.Equal(t, "idempotency_key", problem["field"])
	require.Len(t, r.store.reservations, 1)
}

func TestHoldsTakeATokenAndSettlementsNone(t *testing.T) {
	catalog := plans.Default()
	for i := range catalog.Plans {
		catalog.Plans[i].RateLimit = plans.RateLimit{RequestsPerSecond: 1, Burst: 2}
	}
	r := newRig(t)
	r.store.catalog = catalog
	require.NoError(t, r.meter.SetCatalog(catalog))
	at, a := r.hold("free", `{"meter":"evaluations","quantity":1}`)
	require.Equal(t, `"requests";r=1;t=1`, a.Header().Get("RateLimit"))
	for range 3 {
		require.Equal(t, 200, r.do("free", "GET", at, "").Code)
		require.Equal(t, 200, r.do("free", "POST", at+"/commit", "").Code)
		r.problem(402, "plan_limit_exceeded", "free", "POST", reservationsPath, `{"meter":"evaluations","quantity":1001}`)
	}
	r.hold("free", `{"meter":"evaluations","quantity":1}`)
	r.problem(429, "rate_limited", "free", "POST", reservationsPath, `{"meter":"evaluations","quantity":1}`)
	require.Len(t, r.store.reservations, 2, "a 429 held nothing")
}

func TestOneReservationIsHeldForOneKey(t *testing.T) {
	r := newRig(t)
	var made atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			a := r.do("free", "POST", reservationsPath, `{"meter":"evaluations","quantity":600}`, "Idempotency-Key", "k")
			switch {
			case a.Code == http.StatusCreated:
				made.Add(1)
			case a.Code != http.StatusOK || a.Header().Get("Idempotency-Replayed") != "true":
				t.Errorf("status %d: %s", a.Code, a.Body)
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(1), made.Load())
	require.Len(t, r.store.reservations, 1)
}
