package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
)

func evaluationsOf(quantities ...string) string {
	var items []string
	for _, q := range quantities {
		items = append(items, `{"meter":"evaluations","quantity":`+q+`}`)
	}
	return "[" + strings.Join(items, ",") + "]"
}

// TestABatchKeyCoversItsBody sends other bodies under the key of a batch: none of them counts.
func TestABatchKeyCoversItsBody(t *testing.T) {
	const path = "/api/v1/usage/batch"
	for _, tt := range []struct{ name, first, other string }{
		{"shorter", evaluationsOf("5", "-1", "7"), evaluationsOf("5", "7")},
		{"longer", evaluationsOf("5", "7"), evaluationsOf("5", "7", "9")},
		{"in another order", evaluationsOf("5", "7"), evaluationsOf("7", "5")},
		{"another quantity", evaluationsOf("5", "7"), evaluationsOf("5", "8")},
		{"empty", evaluationsOf("12"), `[]`},
		{"of an empty one", `[]`, evaluationsOf("5")},
		{"another item that is invalid", evaluationsOf("12", "-1"), evaluationsOf("12", "-2")},
		{"where nothing was counted", evaluationsOf("-1"), evaluationsOf("1")},
		{"another meter", evaluationsOf("12"), `[{"meter":"simulations","quantity":12}]`},
		{"a time", evaluationsOf("12"), `[{"meter":"evaluations","quantity":12,"timestamp":"2026-11-24T11:00:00Z"}]`},
		{"a property", evaluationsOf("12"), `[{"meter":"evaluations","quantity":12,"properties":{"a":1}}]`},
		{"a key of its own", evaluationsOf("12"), `[{"meter":"evaluations","quantity":12,"idempotency_key":"a"}]`},
		{"another key of its own", `[{"meter":"evaluations","idempotency_key":"a"}]`, `[{"meter":"evaluations","idempotency_key":"b"}]`},
		{"another event", `[{"specversion":"1.0","id":"1","source":"s","type":"evaluations"}]`, `[{"specversion":"1.0","id":"2","source":"s","type":"evaluations"}]`},
	} {
		r := newRig(t)
		receipts := r.batch("free", tt.first, "Idempotency-Key", "b")
		counted := r.current("free", "evaluations")
		r.problem(422, "idempotency_key_reused", "free", "POST", path, tt.other, "Idempotency-Key", "b")
		require.InDelta(t, counted, r.current("free", "evaluations"), 0, tt.name)
		require.Zero(t, r.current("free", "simulations"), tt.name)
		require.Equal(t, receipts, r.batch("free", tt.first, "Idempotency-Key", `"b"`), "%s: the first receipts again", tt.name)
	}
}

// TestABatchIsKnownHoweverItIsWritten sends one batch in other spellings.
func TestABatchIsKnownHoweverItIsWritten(t *testing.T) {
	r := newRig(t)
	first := r.do("free", "POST", "/api/v1/usage/batch", `[{"meter":"evaluations","quantity":5,"timestamp":"2026-11-24T10:00:00Z","properties":{"a":1,"b":[2]}},{"meter":"evaluations"},7]`, "Idempotency-Key", "b")
	require.Equal(t, 200, first.Code)
	require.Empty(t, first.Header().Get("Idempotency-Replayed"))
	for _, body := range []string{
		`[ {"properties":{"b":[2.0],"a":1e0}, "timestamp":"2026-11-24t12:00:00.0+02:00","quantity":"5","meter":"evaluations"}, {"meter":"evaluations","quantity":1},7.0 ]`,
		packed(t, `[{"meter":"evaluations","quantity":5.0,"timestamp":"2026-11-24T10:00:00z","properties":{"a":1,"b":[2]}},{"quantity":1e0,"meter":"evaluations"},7]`, "gzip"),
	} {
		headers := []string{"Idempotency-Key", `"b";v=1`}
		if body[0] != '[' {
			headers = append(headers, "Content-Encoding", "gzip")
		}
		again := r.do("free", "POST", "/api/v1/usage/batch", body, headers...)
		require.Equal(t, 200, again.Code, again.Body)
		require.Equal(t, "true", again.Header().Get("Idempotency-Replayed"))
		require.Equal(t, first.Body.String(), again.Body.String())
	}
	require.Equal(t, "accepted", statuses(r.batch("pro", `[{"meter":"evaluations","quantity":9}]`, "Idempotency-Key", "b")), "a key is its organization's")
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","quantity":2}`, "Idempotency-Key", "b").Code, "keys of batches are their own")
	require.InDelta(t, 8, r.current("free", "evaluations"), 0)
}

// TestWhatWasDeniedIsDecidedAnew sends a batch again after an upgrade.
func TestWhatWasDeniedIsDecidedAnew(t *testing.T) {
	r := newRig(t)
	body := evaluationsOf("600", "600", "-1")
	require.Equal(t, "accepted denied invalid", statuses(r.batch("free", body, "Idempotency-Key", "b")))
	r.problem(422, "idempotency_key_reused", "free", "POST", "/api/v1/usage/batch", evaluationsOf("600", "1"), "Idempotency-Key", "b")
	require.Equal(t, "duplicate denied invalid", statuses(r.batch("free", body, "Idempotency-Key", "b")))
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/organizations/"+r.organizations["free"].String()+"/upgrade", `{"plan":"pro"}`).Code)
	require.Equal(t, "duplicate accepted invalid", statuses(r.batch("free", body, "Idempotency-Key", "b")))
	require.Equal(t, "duplicate accepted invalid", statuses(r.batch("free", body, "Idempotency-Key", "b")), "the receipts of the last time, now that all is decided")
	require.InDelta(t, 1200, r.current("free", "evaluations"), 0)
}

// waitingKeys don't say that a batch has ended before they are told to.
type waitingKeys struct {
	*fakeStore
	entered, leave chan struct{}
}

func (s *waitingKeys) EndUsageKey(ctx context.Context, organization uuid.UUID, key meter.BatchKey, answer []byte) error {
	s.entered <- struct{}{}
	<-s.leave
	return s.fakeStore.EndUsageKey(ctx, organization, key, answer)
}

func TestABatchUnderWay(t *testing.T) {
	keys := &waitingKeys{entered: make(chan struct{}), leave: make(chan struct{})}
	r := newRig(t, func(c *Config) {
		keys.fakeStore = c.Store.(*fakeStore)
		c.Store = keys
	})
	const path = "/api/v1/usage/batch"
	var wg sync.WaitGroup
	var first *httptest.ResponseRecorder
	wg.Go(func() {
		request := httptest.NewRequest("POST", path, strings.NewReader(evaluationsOf("5")))
		request.Header.Set("Authorization", "Bearer "+r.secrets["free"])
		request.Header.Set("Idempotency-Key", "b")
		first = httptest.NewRecorder()
		r.server.Handler().ServeHTTP(first, request)
	})
	<-keys.entered
	a := r.do("free", "POST", path, evaluationsOf("5"), "Idempotency-Key", "b")
	require.Equal(t, http.StatusConflict, a.Code)
	require.Equal(t, "request_under_way", a.json()["error"])
	require.Equal(t, "1", a.Header().Get("Retry-After"))
	r.problem(422, "idempotency_key_reused", "free", "POST", path, evaluationsOf("6"), "Idempotency-Key", "b")
	close(keys.leave)
	wg.Wait()
	again := r.do("free", "POST", path, evaluationsOf("5"), "Idempotency-Key", "b")
	require.Equal(t, first.Body.String(), again.Body.String())
	require.InDelta(t, 5, r.current("free", "evaluations"), 0)
}

// awayKeys are those of a store that can't be asked.
type awayKeys struct{ *fakeStore }

func (awayKeys) BeginUsageKey(context.Context, uuid.UUID, meter.BatchKey) ([]byte, error) {
	return nil, awayError{}
}

func TestABatchWhileTheStoreIsAway(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Store = awayKeys{c.Store.(*fakeStore)} })
	require.Equal(t, "accepted accepted", statuses(r.batch("free", evaluationsOf("5", "7"), "Idempotency-Key", "b")), "usage is taken all the same")
	require.Equal(t, "duplicate duplicate", statuses(r.batch("free", evaluationsOf("5", "7"), "Idempotency-Key", "b")))
	r.problem(422, "idempotency_key_reused", "free", "POST", "/api/v1/usage/batch", evaluationsOf("5"), "Idempotency-Key", "b")
	require.InDelta(t, 12, r.current("free", "evaluations"), 0)
}

func TestUnquoteKey(t *testing.T) {
	for value, want := range map[string]string{
		`k`: "k", `"k"`: "k", `"a\"b\\c"`: `a"b\c`, `"k";a=1`: "k", `k;a`: "k;a", `"k`: "", `"k"x`: "", `"k\x"`: "", `"\`: "", `"`: "", `k"`: `k"`,
	} {
		got, ok := unquoteKey(value)
		require.Equal(t, want != "", ok, value)
		if ok {
			require.Equal(t, want, got, value)
		}
	}
}

// TestSettlementsTakeTheKey commits and releases under one: another body is refused.
func TestSettlementsTakeTheKey(t *testing.T) {
	r := newRig(t)
	at, _ := r.hold("free", `{"meter":"evaluations","quantity":10}`)
	first := r.do("free", "POST", at+"/commit", `{"quantity":3}`, "Idempotency-Key", "c")
	require.Equal(t, 200, first.Code, first.Body)
	again := r.do("free", "POST", at+"/commit", `{"quantity":3}`, "Idempotency-Key", "c")
	require.Equal(t, "true", again.Header().Get("Idempotency-Replayed"))
	require.Equal(t, first.Body.String(), again.Body.String())
	for _, same := range []string{` { "quantity" : 3 } `, `{"quantity":3.0}`, `{"quantity":"3"}`, `{"quantity":30e-1}`} {
		again = r.do("free", "POST", at+"/commit", same, "Idempotency-Key", "c")
		require.Equal(t, "true", again.Header().Get("Idempotency-Replayed"), "%s: %s", same, again.Body)
	}
	for _, other := range []string{`{"quantity":4}`, `{}`, ``, `{"quantity":"3 "}`} {
		r.problem(422, "idempotency_key_reused", "free", "POST", at+"/commit", other, "Idempotency-Key", "c")
	}
	r.problem(422, "idempotency_key_reused", "free", "DELETE", at, "", "Idempotency-Key", "c")
}
