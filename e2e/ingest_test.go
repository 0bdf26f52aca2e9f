package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
)

// post sends a body of a content type, with headers, and returns the status, the headers
// and the decoded answer.
func (p *process) post(path, key, contentType string, in any, headers ...string) (int, http.Header, map[string]any) {
	p.t.Helper()
	request, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.url+path, jsonBody(in))
	require.NoError(p.t, err)
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Content-Type", contentType)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(p.t, err)
	defer func() { _ = response.Body.Close() }()
	answer := map[string]any{}
	require.NoError(p.t, json.NewDecoder(response.Body).Decode(&answer))
	return response.StatusCode, response.Header, answer
}

// TestKeysAndBatchesAcrossReplicas sends the same reports to two replicas, before and after
// they were flushed, and after a restart: each counts once.
func TestKeysAndBatchesAcrossReplicas(t *testing.T) {
	t.Parallel()
	s := newSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	s.startWorker()
	first, second := s.startAPI(), s.startAPI()
	free := s.newTenant("Free", "free")

	step(t, "a report with a key counts once, wherever it is sent")
	body := map[string]any{"meter": "evaluations", "quantity": 3, "idempotency_key": "order-1"}
	status, _, answer := first.post("/api/v1/usage", free.key, "application/json", body)
	require.Equal(t, http.StatusOK, status, answer)
	status, header, again := first.post("/api/v1/usage", free.key, "application/json", body)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "true", header.Get("Idempotency-Replayed"))
	require.Equal(t, answer, again, "the first one's answer")
	status, _, elsewhere := second.post("/api/v1/usage", free.key, "application/json", body)
	require.Equal(t, http.StatusOK, status, "the other replica doesn't know yet: its flush finds out")
	require.Eventually(t, func() bool { return s.recorded(free) == 3 }, patience, flushInterval/2)
	time.Sleep(3 * flushInterval)
	require.EqualValues(t, 3, s.recorded(free))
	_, header, again = second.post("/api/v1/usage", free.key, "application/json", body)
	require.Equal(t, "true", header.Get("Idempotency-Replayed"), "once it is stored, every replica knows it")
	require.Contains(t, []any{answer, elsewhere}, any(again), "the answer of the one that flushed first")
	body["quantity"] = 4
	status, _, answer = second.post("/api/v1/usage", free.key, "application/json", body)
	require.Equal(t, http.StatusUnprocessableEntity, status)
	require.Equal(t, "idempotency_key_reused", answer["error"])

	step(t, "so do the reports of a batch")
	var events []map[string]any
	for n := range 4 {
		events = append(events, map[string]any{
			"specversion": "1.0", "id": fmt.Sprint(n % 3), "source": "/shop", "type": "com.example.evaluations", "data": map[string]any{"quantity": 10},
		})
	}
	events = append(events, map[string]any{
		"specversion": "1.0", "id": "late", "source": "/shop", "type": "evaluations",
		"time": time.Now().AddDate(0, 0, -60).Format(time.RFC3339),
	})
	events = append(events, map[string]any{"specversion": "1.0", "id": "bad", "source": "/shop", "type": "nothing"})
	events = append(events, map[string]any{"specversion": "1.0", "id": "much", "source": "/shop", "type": "evaluations", "data": map[string]any{"quantity": 990}})
	for n, replica := range []*process{first, second} {
		status, _, answer = replica.post("/api/v1/usage/batch", free.key, "application/cloudevents-batch+json", events)
		require.Equal(t, http.StatusOK, status, answer)
		require.InDelta(t, []float64{3, 0}[n], answer["accepted"], 0, answer)
		require.InDelta(t, []float64{1, 4}[n], answer["duplicate"], 0)
		require.InDelta(t, 1, answer["denied"], 0)
		require.InDelta(t, 1, answer["late"], 0)
		require.InDelta(t, 1, answer["invalid"], 0)
		require.Eventually(t, func() bool { return s.recorded(free) == 33 }, patience, flushInterval/2)
	}
	first.stop()
	second.stop()
	require.EqualValues(t, 33, s.recorded(free))
	s.requireReconciled()
}

// TestReservationsOutliveTheirInstance holds at one replica, which is killed, and settles
// at another.
func TestReservationsOutliveTheirInstance(t *testing.T) {
	t.Parallel()
	s := newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	s.startWorker()
	first, second := s.startAPI(), s.startAPI()
	free := s.newTenant("Free", "free")
	hold := func(at *process, quantity int64, ttl int) (int, map[string]any) {
		return at.call(http.MethodPost, "/api/v1/reservations", free.key, map[string]any{"meter": "evaluations", "quantity": quantity, "ttl_seconds": ttl})
	}
	status, held := hold(first, 600, 600)
	require.Equal(t, http.StatusCreated, status, held)
	status, short := hold(first, 300, 1)
	require.Equal(t, http.StatusCreated, status)
	status, answer := second.call(http.MethodPost, "/api/v1/usage", free.key, map[string]any{"meter": "evaluations", "quantity": 101})
	require.Equal(t, http.StatusPaymentRequired, status, "what is held can't be used: %v", answer)
	require.Equal(t, "plan_limit_exceeded", answer["error"])
	first.kill()

	path := "/api/v1/reservations/" + held["id"].(string)
	status, answer = second.call(http.MethodPost, path+"/commit", free.key, map[string]any{"quantity": 650})
	require.Equal(t, http.StatusOK, status, answer)
	require.Equal(t, "committed", answer["state"])
	status, _ = second.call(http.MethodPost, path+"/commit", free.key, map[string]any{"quantity": 650})
	require.Equal(t, http.StatusOK, status, "a commit that is repeated counts once")
	status, answer = second.call(http.MethodPost, path+"/commit", free.key, map[string]any{"quantity": 1})
	require.Equal(t, http.StatusConflict, status, answer)
	status, _ = second.call(http.MethodDelete, path, free.key, nil)
	require.Equal(t, http.StatusConflict, status)
	require.EqualValues(t, 650, s.recorded(free))

	step(t, "the short one expires by itself, and its quantity is free again")
	require.Eventually(t, func() bool {
		_, answer := second.call(http.MethodGet, "/api/v1/reservations/"+short["id"].(string), free.key, nil)
		return answer["state"] == "expired"
	}, patience, 100*time.Millisecond)
	require.Eventually(t, func() bool {
		status, _ := second.call(http.MethodPost, "/api/v1/usage", free.key, map[string]any{"meter": "evaluations", "quantity": 350})
		return status == http.StatusOK
	}, patience, 50*time.Millisecond)
	status, _ = hold(second, 1, 60)
	require.Equal(t, http.StatusPaymentRequired, status)
	second.stop()
	require.EqualValues(t, 1_000, s.recorded(free))
	s.requireReconciled()
}

// TestAdministrationHappensOnce repeats a write with an Idempotency-Key.
func TestAdministrationHappensOnce(t *testing.T) {
	t.Parallel()
	s := newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	s.startWorker()
	first, second := s.startAPI(), s.startAPI()
	body := map[string]any{"name": "Once", "plan": "free"}
	status, _, made := first.post("/api/v1/organizations", s.adminKey, "application/json", body, "Idempotency-Key", "make-once")
	require.Equal(t, http.StatusCreated, status)
	status, header, again := second.post("/api/v1/organizations", s.adminKey, "application/json", body, "Idempotency-Key", "make-once")
	require.Equal(t, http.StatusCreated, status)
	require.Equal(t, "true", header.Get("Idempotency-Replayed"))
	require.Equal(t, made, again)
	body["plan"] = "pro"
	status, _, answer := second.post("/api/v1/organizations", s.adminKey, "application/json", body, "Idempotency-Key", "make-once")
	require.Equal(t, http.StatusUnprocessableEntity, status)
	require.Equal(t, "idempotency_key_reused", answer["error"])
	_, list := first.call(http.MethodGet, "/api/v1/organizations", s.adminKey, nil)
	require.Len(t, list["organizations"], 1)
}
