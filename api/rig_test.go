package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	goleak.VerifyTestMain(m)
}

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// rig is a server on fakes and a real meter, with an organization on each plan.
type rig struct {
	t         testing.TB
	store     *fakeStore
	workflows *fakeWorkflows
	blobs     fakeBlobs
	hooks     fakeHooks
	meter     *meter.Meter
	server    *Server
	log       *logBuffer

	organizations map[string]uuid.UUID
	secrets       map[string]string
	keyIDs        map[string]uuid.UUID

	mu  sync.Mutex
	now time.Time
}

func newRig(t testing.TB, changes ...func(*Config)) *rig {
	t.Helper()
	r := &rig{
		t: t, store: newFakeStore(), workflows: &fakeWorkflows{}, blobs: fakeBlobs{}, log: &logBuffer{}, now: noon,
		organizations: map[string]uuid.UUID{}, secrets: map[string]string{}, keyIDs: map[string]uuid.UUID{},
	}
	r.store.now = r.Now
	for _, plan := range []string{"free", "pro", "enterprise"} {
		made, err := r.store.CreateOrganization(t.Context(), accounts.NewOrganization{Name: strings.ToUpper(plan) + " & Sons", Plan: plan})
		require.NoError(t, err)
		r.organizations[plan] = made.ID
		r.addKey(plan, accounts.Key{Role: roleTenant, Organization: made.ID, Name: plan})
	}
	r.addKey("finance", accounts.Key{Role: roleFinance, Name: "month-end", Owner: "month-end"})
	r.addKey("admin", accounts.Key{Role: roleAdmin, Name: "root", Owner: "root"})

	logger := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.meter = meter.New(meter.Config{Catalog: plans.Default(), Store: r.store.meterStore(), Logger: logger, Now: r.Now})
	r.hooks.store = r.store
	config := Config{
		Meter: r.meter, Refresher: meter.NewRefresher(meter.RefresherConfig{Meter: r.meter, Catalog: r.store.CatalogSeen, Now: r.Now}),
		Store: r.store, Workflows: r.workflows, Blobs: r.blobs, Now: r.Now, Logger: logger, RecordWait: time.Millisecond,
		WebhooksConfig: WebhooksConfig{Webhooks: &r.hooks, Redeliverer: &r.hooks},
		TemporalURL:    func(workflowID, runID string) string { return "http://temporal/" + workflowID + "/" + runID },
	}
	for _, change := range changes {
		change(&config)
	}
	r.server = New(config)
	r.server.SetReady(true)
	t.Cleanup(func() { r.server.Close(); r.meter.Close() })
	return r
}

func (r *rig) addKey(name string, k accounts.Key) {
	r.t.Helper()
	secret := accounts.NewSecret(k.Role)
	k.Prefix = accounts.SecretPrefix(secret)
	made, err := r.store.CreateKey(context.Background(), k, accounts.HashSecret(secret))
	require.NoError(r.t, err)
	r.secrets[name], r.keyIDs[name] = secret, made.ID
}

func (r *rig) Now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

// answer is a response that was held against the document.
type answer struct {
	*httptest.ResponseRecorder
	t testing.TB
}

func (a answer) json() map[string]any {
	a.t.Helper()
	var out map[string]any
	require.NoError(a.t, json.Unmarshal(a.Body.Bytes(), &out), a.Body.String())
	return out
}

// do sends a request with a key of the rig ("" is none), and holds the answer
// against the document.
func (r *rig) do(key, method, path, body string, headers ...string) answer {
	r.t.Helper()
	var reader io.Reader = http.NoBody
	if body != "" {
		reader = strings.NewReader(body)
	}
	request := httptest.NewRequest(method, path, reader)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		secret, ok := r.secrets[key]
		require.True(r.t, ok, "no key %q", key)
		request.Header.Set("Authorization", "Bearer "+secret)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	recorder := httptest.NewRecorder()
	r.server.Handler().ServeHTTP(recorder, request)
	requireConforms(r.t, method, path, recorder)
	return answer{recorder, r.t}
}

// problem sends a request that must be refused, and returns the problem.
func (r *rig) problem(status int, code, key, method, path, body string, headers ...string) map[string]any {
	r.t.Helper()
	a := r.do(key, method, path, body, headers...)
	require.Equal(r.t, status, a.Code, "%s %s: %s", method, path, a.Body)
	require.Equal(r.t, "application/problem+json", a.Header().Get("Content-Type"))
	problem := a.json()
	require.Equal(r.t, code, problem["error"], a.Body.String())
	require.Equal(r.t, "urn:tollgate:problem:"+code, problem["type"])
	require.InDelta(r.t, status, problem["status"], 0)
	require.Equal(r.t, http.StatusText(status), problem["title"])
	require.Equal(r.t, problem["message"], problem["detail"])
	return problem
}

type logBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
