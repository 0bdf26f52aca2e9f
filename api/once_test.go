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

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/meter"
)

// TestWritesHappenOnce sends every write twice under one key.
func TestWritesHappenOnce(t *testing.T) {
	r := newRig(t)
	instance := uuid.Must(uuid.NewV7())
	r.store.instances = []meter.Instance{{ID: instance, Status: meter.InstanceLive}}
	r.store.exports = []billing.Export{at(anExport(t), billing.StageClosed)}
	r.workflows.stage = billing.StageIssuing
	free := "/api/v1/organizations/" + r.organizations["free"].String()
	r.addKey("spare", accounts.Key{Role: roleTenant, Organization: r.organizations["free"], Name: "spare"})
	var secrets []string
	for _, tt := range []struct {
		key, method, path, body string
		status                  int
	}{
		{"admin", "POST", "/api/v1/organizations", `{"name":"New","plan":"free"}`, 201},
		{"admin", "POST", "/api/v1/organizations", `{"name":"","plan":"free"}`, 400},
		{"admin", "PATCH", free, `{"name":"Renamed"}`, 200},
		{"admin", "PATCH", "/api/v1/organizations/" + uuid.NewString(), `{"name":"Renamed"}`, 404},
		{"admin", "PATCH", "/api/v1/organizations/x", `{"name":"Renamed"}`, 400},
		{"finance", "PUT", free + "/customers/stripe", `{"external_id":"cus_1"}`, 200},
		{"free", "POST", free + "/upgrade", `{"plan":"pro"}`, 200},
		{"admin", "POST", free + "/keys", `{"name":"k"}`, 201},
		{"admin", "POST", "/api/v1/keys", `{"name":"k","owner":"ada","role":"finance"}`, 201},
		{"admin", "DELETE", "/api/v1/keys/" + r.keyIDs["spare"].String(), "", 204},
		{"admin", "PUT", "/api/v1/plans", `{"key":"team","name":"Team","entitlements":[]}`, 200},
		{"finance", "POST", "/api/v1/billing/exports", `{"period":"2026-10"}`, 202},
		{"finance", "POST", "/api/v1/billing/exports/2026-10/review", `{"note":"n"}`, 200},
		{"finance", "POST", "/api/v1/billing/exports/2026-10/approve", `{"note":"n"}`, 200},
		{"finance", "POST", "/api/v1/billing/exports/2026-10/reject", `{"note":"n"}`, 200},
		{"finance", "POST", "/api/v1/billing/exports/2026-10/cancel", `{"note":"n"}`, 200},
		{"finance", "POST", "/api/v1/billing/exports/2026-10/continue", `{"note":"n"}`, 200},
		{"finance", "POST", "/api/v1/billing/exports/2026-10/retry", `{"note":"n"}`, 200},
		{"finance", "POST", "/api/v1/billing/exports/2026-10/reopen", `{"note":"n"}`, 202},
		{"finance", "POST", "/api/v1/billing/exports/2026-10/deliver", "", 202},
		{"admin", "POST", "/api/v1/instances/" + instance.String() + "/flush", "", 200},
	} {
		t.Run(tt.method+" "+tt.path+" "+tt.body, func(t *testing.T) {
			key := []string{"Idempotency-Key", tt.method + tt.path + tt.body}
			first := r.do(tt.key, tt.method, tt.path, tt.body, key...)
			require.Equal(t, tt.status, first.Code, first.Body)
			require.Empty(t, first.Header().Get("Idempotency-Replayed"))
			asked := len(r.workflows.asked)
			organizations, keys := len(r.store.organizations), len(r.store.keys)

			again := r.do(tt.key, tt.method, tt.path, tt.body, key...)
			require.Equal(t, tt.status, again.Code)
			require.Equal(t, "true", again.Header().Get("Idempotency-Replayed"))
			require.Equal(t, first.Header().Get("Content-Type"), again.Header().Get("Content-Type"))
			if strings.HasSuffix(tt.path, "/keys") && tt.status == 201 {
				want := first.json()
				require.NotEmpty(t, want["secret"])
				require.NotContains(t, again.Body.String(), want["secret"])
				secrets = append(secrets, want["secret"].(string))
				delete(want, "secret")
				require.Equal(t, want, again.json())
			} else {
				require.Equal(t, first.Body.String(), again.Body.String())
			}
			require.Len(t, r.store.organizations, organizations)
			require.Len(t, r.store.keys, keys)
			require.Len(t, r.workflows.asked, asked)

			if tt.body != "" {
				spaced := r.do(tt.key, tt.method, tt.path, " "+tt.body+"\n", key...)
				require.Equal(t, "true", spaced.Header().Get("Idempotency-Replayed"), "however it is written")
				other := r.do(tt.key, tt.method, tt.path, strings.Replace(tt.body, `":"`, `":"x`, 1), key...)
				require.Equal(t, http.StatusUnprocessableEntity, other.Code)
				require.Equal(t, "idempotency_key_reused", other.json()["error"])
			}
		})
	}
	require.Len(t, secrets, 2)
	for _, w := range r.store.writes {
		for _, secret := range secrets {
			require.NotContains(t, string(w.answer.Body), secret)
		}
	}
}

func TestWriteKeysBelongToTheirCaller(t *testing.T) {
	r := newRig(t)
	r.addKey("admin2", accounts.Key{Role: roleAdmin, Name: "other", Owner: "other"})
	const body = `{"name":"New","plan":"free"}`
	for range 2 {
		for _, key := range []string{"admin", "admin2"} {
			require.Equal(t, 201, r.do(key, "POST", "/api/v1/organizations", body, "Idempotency-Key", "k").Code)
		}
	}
	require.Len(t, r.store.organizations, 3+2)
	require.Equal(t, 201, r.do("admin", "POST", "/api/v1/organizations", body).Code)
	require.Equal(t, 201, r.do("admin", "POST", "/api/v1/organizations", body).Code)
	require.Len(t, r.store.organizations, 3+4, "without a key nothing is kept")
	r.problem(422, "idempotency_key_reused", "admin", "POST", "/api/v1/keys", `{"name":"k","owner":"ada","role":"admin"}`, "Idempotency-Key", "k")
	require.Equal(t, "Idempotency-Key", r.problem(400, "invalid_request", "admin", "POST", "/api/v1/organizations", body, "Idempotency-Key", strings.Repeat("k", 256))["field"])
	r.problem(403, "forbidden", "free", "POST", "/api/v1/organizations", body, "Idempotency-Key", "k")
}

func TestFailedWritesMayComeAgain(t *testing.T) {
	r := newRig(t)
	const path, body = "/api/v1/billing/exports", `{"period":"2026-10"}`
	for _, failure := range []error{ErrWorkflowsAway, errDefect} {
		r.workflows.err = failure
		require.GreaterOrEqual(t, r.do("finance", "POST", path, body, "Idempotency-Key", "k").Code, 500)
		require.Empty(t, r.store.writes, "nothing is kept")
	}
	r.workflows.err = nil
	a := r.do("finance", "POST", path, body, "Idempotency-Key", "k")
	require.Equal(t, 202, a.Code)
	require.Empty(t, a.Header().Get("Idempotency-Replayed"))

	r.store.fail(awayError{})
	r.problem(503, "unavailable", "finance", "POST", path, body, "Idempotency-Key", "k2")
}

// panickingWorkflows are those of a defect.
type panickingWorkflows struct{ *fakeWorkflows }

func (panickingWorkflows) StartExport(context.Context, ExportRequest) (ExportRun, error) {
	panic("bad day")
}

func TestPanickingWritesMayComeAgain(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Workflows = panickingWorkflows{} })
	for range 2 {
		r.problem(500, "internal_error", "finance", "POST", "/api/v1/billing/exports", `{"period":"2026-10"}`, "Idempotency-Key", "k")
		require.Empty(t, r.store.writes)
	}
}

// waitingWorkflows don't answer before they are told to.
type waitingWorkflows struct {
	*fakeWorkflows
	entered, leave chan struct{}
}

func (w *waitingWorkflows) StartExport(ctx context.Context, start ExportRequest) (ExportRun, error) {
	w.entered <- struct{}{}
	<-w.leave
	if ctx.Err() != nil {
		return ExportRun{}, ctx.Err()
	}
	return w.fakeWorkflows.StartExport(ctx, start)
}

// TestAWriteOutlivesItsClient cuts the client off while its write is under way: another
// one waits, and then finds its answer.
func TestAWriteOutlivesItsClient(t *testing.T) {
	workflows := &waitingWorkflows{fakeWorkflows: &fakeWorkflows{run: ExportRun{WorkflowID: "export/2026-10", Started: true}}, entered: make(chan struct{}), leave: make(chan struct{})}
	r := newRig(t, func(c *Config) { c.Workflows = workflows })
	const path, body = "/api/v1/billing/exports", `{"period":"2026-10"}`
	ctx, cutOff := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		request := httptest.NewRequestWithContext(ctx, "POST", path, strings.NewReader(body))
		request.Header.Set("Authorization", "Bearer "+r.secrets["finance"])
		request.Header.Set("Idempotency-Key", "k")
		r.server.Handler().ServeHTTP(httptest.NewRecorder(), request)
	})
	<-workflows.entered
	a := r.do("finance", "POST", path, body, "Idempotency-Key", "k")
	require.Equal(t, http.StatusConflict, a.Code)
	require.Equal(t, "request_under_way", a.json()["error"])
	require.Equal(t, "1", a.Header().Get("Retry-After"))
	cutOff()
	close(workflows.leave)
	wg.Wait()
	a = r.do("finance", "POST", path, body, "Idempotency-Key", "k")
	require.Equal(t, 202, a.Code)
	require.Equal(t, "true", a.Header().Get("Idempotency-Replayed"))
	require.Len(t, workflows.asked, 1)
}

// TestKeepNoSecret holds that what isn't of the known form is not kept at all.
func TestKeepNoSecret(t *testing.T) {
	for _, body := range []string{``, `{}`, `nonsense`, `{"secret":"s","token":"s"}`, `{"id":"0199d4c5-8b7e-7c3a-9a51-3f0c5b1f6a01"}`} {
		_, err := keepNoSecret(accounts.WriteAnswer{Status: 201, Body: []byte(body)})
		require.ErrorIs(t, err, errSecretKept, body)
	}
	kept, err := keepNoSecret(accounts.WriteAnswer{Status: 201, Body: []byte(`{"name":"n","secret":"hidden"}`)})
	require.NoError(t, err)
	require.NotContains(t, string(kept.Body), "hidden")
	kept, err = keepNoSecret(accounts.WriteAnswer{Status: 404, Body: []byte(`{"error":"not_found"}`)})
	require.NoError(t, err)
	require.JSONEq(t, `{"error":"not_found"}`, string(kept.Body))
}

// forgetfulWrites can't keep an answer.
type forgetfulWrites struct{ *fakeStore }

func (forgetfulWrites) FinishWrite(context.Context, accounts.Write, accounts.WriteAnswer) error {
	return awayError{}
}

// TestAWriteIsAnsweredThoughItsAnswerIsNotKept holds that what was made is said to be made;
// the same again isn't carried out while nobody knows that.
func TestAWriteIsAnsweredThoughItsAnswerIsNotKept(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Store = forgetfulWrites{c.Store.(*fakeStore)} })
	const body = `{"name":"New","plan":"free"}`
	require.Equal(t, http.StatusCreated, r.do("admin", "POST", "/api/v1/organizations", body, "Idempotency-Key", "k").Code)
	require.Contains(t, r.log.String(), "could not be kept")
	r.problem(409, "request_under_way", "admin", "POST", "/api/v1/organizations", body, "Idempotency-Key", "k")
	require.Len(t, r.store.organizations, 3+1)
}
