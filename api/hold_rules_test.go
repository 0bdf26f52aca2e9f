package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/plans"
)

// TestARepeatedHoldIsShownAsItIs holds that the same request again makes nothing, which
// its status and header say, and shows the reservation as it is now.
func TestARepeatedHoldIsShownAsItIs(t *testing.T) {
	r := newRig(t)
	const body = `{"meter":"evaluations","quantity":600}`
	first := r.do("free", "POST", reservationsPath, body, "Idempotency-Key", "k")
	require.Equal(t, http.StatusCreated, first.Code, first.Body)
	require.Empty(t, first.Header().Values("Idempotency-Replayed"))
	require.Equal(t, "2026-11-24T12:00:00Z", first.json()["created_at"])
	again := r.do("free", "POST", reservationsPath, body, "Idempotency-Key", "k")
	require.Equal(t, http.StatusOK, again.Code, again.Body)
	require.Equal(t, "true", again.Header().Get("Idempotency-Replayed"))
	require.Equal(t, first.json(), again.json())

	released := r.do("free", "DELETE", reservationsPath+"/"+first.json()["id"].(string), "")
	require.Equal(t, http.StatusOK, released.Code)
	again = r.do("free", "POST", reservationsPath, body, "Idempotency-Key", "k")
	require.Equal(t, http.StatusOK, again.Code)
	require.Equal(t, "released", again.json()["state"])
	require.Len(t, r.store.reservations, 1)
}

// TestAHoldThatTheStoreRefusesHasTakenItsToken holds that nobody at the limit reaches the
// store faster than the rate limit allows, and that a quantity that no window has room
// for doesn't reach it at all.
func TestAHoldThatTheStoreRefusesHasTakenItsToken(t *testing.T) {
	catalog := plans.Default()
	for i := range catalog.Plans {
		catalog.Plans[i].RateLimit = plans.RateLimit{RequestsPerSecond: 1, Burst: 2}
	}
	r := newRig(t)
	r.store.catalog = catalog
	require.NoError(t, r.meter.SetCatalog(catalog))
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","quantity":1000}`).Code)
	r.store.quota[quotaOf{r.organizations["free"], "evaluations"}] = &fakeQuota{max: 1000, used: 1000}
	for range 3 {
		problem := r.problem(402, "plan_limit_exceeded", "free", "POST", reservationsPath, `{"meter":"evaluations","quantity":1001}`)
		require.InDelta(t, 1000, problem["current"], 0)
	}
	require.Zero(t, r.store.holds)
	r.problem(402, "plan_limit_exceeded", "free", "POST", reservationsPath, `{"meter":"evaluations","quantity":1}`)
	r.problem(429, "rate_limited", "free", "POST", reservationsPath, `{"meter":"evaluations","quantity":1}`)
	require.Equal(t, 1, r.store.holds)
}

// TestAHoldUnderAnEarlierPlanIsFoundAgain holds that a key finds its reservation where the
// plan of today would not have room for it.
func TestAHoldUnderAnEarlierPlanIsFoundAgain(t *testing.T) {
	r := newRig(t)
	const body = `{"meter":"evaluations","quantity":5000}`
	made := r.do("pro", "POST", reservationsPath, body, "Idempotency-Key", "k")
	require.Equal(t, http.StatusCreated, made.Code, made.Body)
	require.Equal(t, 200, r.do("admin", "PATCH", "/api/v1/organizations/"+r.organizations["pro"].String(), `{"plan":"free"}`).Code)
	again := r.do("pro", "POST", reservationsPath, body, "Idempotency-Key", "k")
	require.Equal(t, http.StatusOK, again.Code, again.Body)
	require.Equal(t, made.json(), again.json())
	r.problem(402, "plan_limit_exceeded", "pro", "POST", reservationsPath, body, "Idempotency-Key", "another")
}

func TestKeysInHeadersAreASCII(t *testing.T) {
	r := newRig(t)
	for _, key := range []string{"ø", "k\x7f", "\xff", "", strings.Repeat("k", 256)} {
		for _, request := range []struct{ key, path, body string }{
			{"admin", "/api/v1/organizations", `{"name":"New","plan":"free"}`},
			{"free", reservationsPath, `{"meter":"evaluations","quantity":1}`},
		} {
			problem := r.problem(400, "invalid_request", request.key, "POST", request.path, request.body, "Idempotency-Key", key)
			require.Equal(t, "Idempotency-Key", problem["field"], "%q", key)
			require.Contains(t, problem["message"], "1 to 255 printable", "%q", key)
		}
	}
	require.Len(t, r.store.organizations, 3)
	require.Empty(t, r.store.reservations)
}

// TestWritesAreToldApart holds what the fingerprint of a write covers.
func TestWritesAreToldApart(t *testing.T) {
	request := func(method, target string) *http.Request {
		made, err := http.NewRequestWithContext(t.Context(), method, target, http.NoBody)
		require.NoError(t, err)
		return made
	}
	seen := map[[32]byte]string{}
	for _, one := range []struct{ method, target, body string }{
		{"POST", "/a", "b"}, {"PUT", "/a", "b"}, {"POST", "/ab", ""}, {"POST", "/a?b", ""}, {"POST", "/a?", "b "}, {"POST", "/a%2Fb", ""}, {"POST", "/a/b", ""},
	} {
		fingerprint := writeFingerprint(request(one.method, one.target), []byte(one.body))
		name := one.method + " " + one.target + " " + one.body
		require.Empty(t, seen[fingerprint], name)
		seen[fingerprint] = name
		require.Equal(t, fingerprint, writeFingerprint(request(one.method, one.target), []byte(one.body)), name)
	}
}
