// Package postgrestest_test runs the API on a real Postgres: what is metered over
// HTTP, written, enforced, exported, and heard of by the other replica.
package postgrestest_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/plans"
	"github.com/riverline/tollgate/webhooks"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// noWorkflows is a Temporal that is away, and a blob store that is empty.
type noWorkflows struct{}

func (noWorkflows) StartExport(context.Context, api.ExportRequest) (api.ExportRun, error) {
	return api.ExportRun{}, api.ErrWorkflowsAway
}

func (noWorkflows) DeliverExport(context.Context, api.DeliveryRequest) (api.ExportRun, error) {
	return api.ExportRun{}, api.ErrWorkflowsAway
}

func (noWorkflows) Decide(context.Context, api.ExportDecision) (billing.Stage, error) {
	return "", api.ErrWorkflowsAway
}

func (noWorkflows) ExportProgress(context.Context, calendar.Period) (api.ExportProgress, error) {
	return api.ExportProgress{}, api.ErrWorkflowsAway
}

func (noWorkflows) FlushNow(context.Context, uuid.UUID) (meter.FlushSummary, error) {
	return meter.FlushSummary{}, api.ErrWorkflowsAway
}

func (noWorkflows) Redeliver(context.Context, webhooks.Delivery) (api.DeliveryRun, error) {
	return api.DeliveryRun{}, api.ErrWorkflowsAway
}

func (noWorkflows) Open(context.Context, string) (io.ReadCloser, error) {
	return nil, errors.New("there are no files")
}

func now() time.Time { return time.Now().UTC() }

// replica is one API on a database.
type replica struct {
	t       *testing.T
	store   *pgstore.Store
	flusher *meter.Flusher
	changes *meter.Takeover
	due     chan<- struct{}
	// refresher reads again what has changed, out of reads.
	refresher *meter.Refresher
	reads     *countedReads
	// id is the instance's; heard counts the changes of organizations and plans that it was told of.
	id    uuid.UUID
	heard atomic.Int64
	http  *httptest.Server
	// stop ends the replica; it writes nothing more.
	stop func()
}

func newReplica(t *testing.T, database *pgtest.Database) *replica {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	store := database.Open(t, pgstore.Config{Logger: logger})
	require.NoError(t, store.PublishCatalog(t.Context(), plans.Default()))
	id := uuid.Must(uuid.NewV7())
	require.NoError(t, store.RegisterInstance(t.Context(), meter.Instance{
		ID: id, Host: "test", Status: meter.InstanceLive, StartedAt: now(), SeenAt: now(), Watermark: now(),
	}))
	reads := &countedReads{Store: store}
	m := meter.New(meter.Config{
		Catalog: plans.Default(), Store: reads, Logger: logger, Now: now, Leases: store, Instance: id, LeaseFor: time.Minute, Identities: store,
	})
	r := &replica{t: t, id: id, store: store, reads: reads, flusher: meter.NewFlusher(meter.FlusherConfig{Meter: m, Store: store, Instance: id, Now: now})}
	r.refresher = meter.NewRefresher(meter.RefresherConfig{Meter: m, Catalog: reads.CatalogSeen, Now: now})
	r.changes = meter.NewTakeover(meter.TakeoverConfig{Refresher: r.refresher, Flusher: r.flusher, Store: store, Instance: id, Now: now})
	server := api.New(api.Config{
		Meter: m, Refresher: r.refresher, Store: store, Workflows: noWorkflows{}, Blobs: noWorkflows{}, Now: now, Logger: logger,
		WebhooksConfig: api.WebhooksConfig{Webhooks: store, Redeliverer: noWorkflows{}},
	})
	r.http = httptest.NewServer(server.Handler())
	ctx, cancel := context.WithCancel(context.Background())
	var listening sync.WaitGroup
	due := make(chan struct{}, 1)
	r.due = due
	listening.Go(func() { r.takeOver(ctx, due) })
	// The first change says that the connection is there: from then on none is missed.
	connected := make(chan struct{})
	first := sync.OnceFunc(func() { close(connected) })
	listening.Go(func() {
		_ = store.Listen(ctx, id, func(c pgstore.Change) {
			first()
			r.follow(ctx, c, m, server)
		})
	})
	r.stop = sync.OnceFunc(func() {
		r.http.Close()
		cancel()
		listening.Wait()
		server.Close()
		m.Close()
		store.Close()
	})
	t.Cleanup(r.stop)
	select {
	case <-connected:
	case <-time.After(30 * time.Second):
		t.Fatal("the replica does not listen for changes")
	}
	return r
}

func (r *replica) follow(ctx context.Context, c pgstore.Change, m *meter.Meter, server *api.Server) {
	id, _ := uuid.Parse(c.ID)
	switch c.Kind {
	case pgstore.ChangeOrganization:
		server.ForgetOrganization(id)
		_ = r.refresher.Organization(ctx, id, c.Transaction)
		r.changed()
		r.heard.Add(1)
	case pgstore.ChangeKey:
		server.ForgetKey(id)
	case pgstore.ChangePlans:
		_ = r.refresher.Catalog(ctx, c.Transaction)
		r.changed()
		r.heard.Add(1)
	case pgstore.ChangeQuota:
		if window, ok := c.QuotaWindow(); ok {
			if c.Look {
				m.Tell(window)
			} else {
				m.Recall(window)
			}
		}
	case pgstore.ChangeUsage:
		_ = m.Refresh(ctx, id, now())
	case pgstore.ChangeResync:
	}
}

func (r *replica) changed() {
	select {
	case r.due <- struct{}{}:
	default:
	}
}

// takeOver takes changes of plans over.
func (r *replica) takeOver(ctx context.Context, due <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-due:
		}
		for ctx.Err() == nil {
			next, err := r.changes.Follow(ctx)
			if err == nil && (next.IsZero() || time.Until(next) > time.Minute) {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// call sends a request as a client does: again where it is told to, for at most a minute. Replicas that
// hand quota over on a busy machine may take longer than a request waits.
func (r *replica) call(key, method, path, body string) (int, map[string]any) {
	r.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		status, _, out, err := r.send(key, method, path, body, "")
		require.NoError(r.t, err)
		if status != http.StatusServiceUnavailable || time.Now().After(end) {
			return status, out
		}
	}
}

// send sends a request, with an Idempotency-Key unless that is empty.
func (r *replica) send(key, method, path, body, once string) (int, http.Header, map[string]any, error) {
	request, err := http.NewRequestWithContext(r.t.Context(), method, r.http.URL+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+key)
	if once != "" {
		request.Header.Set("Idempotency-Key", once)
	}
	response, err := r.http.Client().Do(request)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	var out map[string]any
	if response.StatusCode != http.StatusNoContent {
		err = json.NewDecoder(response.Body).Decode(&out)
	}
	return response.StatusCode, response.Header, out, err
}

func (r *replica) adminKey() string {
	r.t.Helper()
	secret := accounts.NewSecret(accounts.RoleAdmin)
	_, err := r.store.CreateKey(r.t.Context(), accounts.Key{Role: accounts.RoleAdmin, Name: "admin", Owner: "admin"}, accounts.HashSecret(secret))
	require.NoError(r.t, err)
	return secret
}

// tenant makes an organization and a key of it over HTTP.
func (r *replica) tenant(admin, name, plan string) (id, key string) {
	r.t.Helper()
	status, made := r.call(admin, http.MethodPost, "/api/v1/organizations", `{"name":"`+name+`","plan":"`+plan+`"}`)
	require.Equal(r.t, http.StatusCreated, status, made)
	id = made["id"].(string)
	status, made = r.call(admin, http.MethodPost, "/api/v1/organizations/"+id+"/keys", `{"name":"key"}`)
	require.Equal(r.t, http.StatusCreated, status, made)
	return id, made["secret"].(string)
}

func (r *replica) use(key, meterKey string, quantity string) (int, map[string]any) {
	r.t.Helper()
	return r.call(key, http.MethodPost, "/api/v1/usage", `{"meter":"`+meterKey+`","quantity":`+quantity+`}`)
}

// TestEnforcementAndExport is C10 over HTTP: Free within and over the limit, Pro
// over, Enterprise unlimited; a flush writes and a second doesn't count again; the
// export adds up every meter.
func TestEnforcementAndExport(t *testing.T) {
	r := newReplica(t, pgtest.NewDatabase(t))
	admin := r.adminKey()
	freeID, free := r.tenant(admin, "Free & Sons", "free")
	_, pro := r.tenant(admin, "Pro", "pro")
	_, enterprise := r.tenant(admin, "Enterprise", "enterprise")

	status, answer := r.use(free, "evaluations", "1000")
	require.Equal(t, http.StatusOK, status, answer)
	status, answer = r.use(free, "evaluations", "1")
	require.Equal(t, http.StatusPaymentRequired, status)
	require.Equal(t, "plan_limit_exceeded", answer["error"])
	status, answer = r.use(pro, "evaluations", "100001")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, true, answer["over_limit"])
	status, answer = r.use(enterprise, "evaluations", "1000000000000000")
	require.Equal(t, http.StatusOK, status)
	require.Nil(t, answer["max"])
	for _, m := range []string{"flow_executions", "simulations", "entity_instances", "storage_bytes"} {
		status, answer = r.use(free, m, "7")
		require.Equal(t, http.StatusOK, status, answer)
	}

	summary, err := r.flusher.Flush(t.Context())
	require.NoError(t, err)
	require.Equal(t, 7, summary.Rows)
	again, err := r.flusher.Flush(t.Context())
	require.NoError(t, err)
	require.Zero(t, again.Rows)

	today := now().Format(time.DateOnly)
	status, export := r.call(admin, http.MethodGet, "/api/v1/billing/export?from="+today+"&to="+today, "")
	require.Equal(t, http.StatusOK, status)
	organizations := export["organizations"].([]any)
	require.Len(t, organizations, 3)
	first := organizations[0].(map[string]any)
	require.Equal(t, freeID, first["organization_id"])
	require.Equal(t, "Free & Sons", first["organization_name"])
	values := map[string]float64{}
	for _, u := range first["usage"].([]any) {
		values[u.(map[string]any)["meter"].(string)] = u.(map[string]any)["value"].(float64)
	}
	require.Equal(t, map[string]float64{"evaluations": 1000, "flow_executions": 7, "simulations": 7, "entity_instances": 7, "storage_bytes": 7}, values)

	status, history := r.call(free, http.MethodGet, "/api/v1/usage/history?meter=evaluations&from="+today+"&to="+today, "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, []any{map[string]any{"start": today, "value": 1000.0}}, history["points"])
}

// TestStoreErrorsAreAnswered holds that the real store's errors are told apart.
func TestStoreErrorsAreAnswered(t *testing.T) {
	r := newReplica(t, pgtest.NewDatabase(t))
	admin := r.adminKey()
	id, _ := r.tenant(admin, "x", "free")
	missing := uuid.NewString()
	for _, tt := range []struct {
		method, path, body string
		status             int
		field              any
	}{
		{"POST", "/api/v1/organizations", `{"name":" ","plan":"free"}`, 400, "name"},
		{"POST", "/api/v1/organizations", `{"name":"x","plan":"gold"}`, 400, "plan"},
		{"POST", "/api/v1/organizations/" + id + "/upgrade", `{"plan":"gold"}`, 400, "plan"},
		{"POST", "/api/v1/organizations/" + id + "/keys", `{"name":""}`, 400, "name"},
		{"PUT", "/api/v1/plans", `{"key":"x","name":"x","entitlements":[{"meter":"y","mode":"unlimited"}]}`, 400, nil},
		{"GET", "/api/v1/organizations/" + missing, "", 404, nil},
		{"PATCH", "/api/v1/organizations/" + missing, `{"name":"x"}`, 404, nil},
		{"POST", "/api/v1/organizations/" + missing + "/upgrade", `{"plan":"pro"}`, 404, nil},
		{"POST", "/api/v1/organizations/" + missing + "/keys", `{"name":"x"}`, 404, nil},
		{"DELETE", "/api/v1/keys/" + missing, "", 404, nil},
		{"GET", "/api/v1/usage?organization_id=" + missing, "", 404, nil},
		{"POST", "/api/v1/instances/" + missing + "/flush", "", 404, nil},
	} {
		status, answer := r.call(admin, tt.method, tt.path, tt.body)
		require.Equal(t, tt.status, status, "%s %s: %v", tt.method, tt.path, answer)
		require.Equal(t, tt.field, answer["field"], "%s %s: %v", tt.method, tt.path, answer)
	}
}

// TestChangesReachTheOtherReplica holds that an upgrade, a new version of a plan and a
// revocation are in force on every replica in under a second.
func TestChangesReachTheOtherReplica(t *testing.T) {
	database := pgtest.NewDatabase(t)
	here, there := newReplica(t, database), newReplica(t, database)
	admin := here.adminKey()
	id, key := here.tenant(admin, "x", "free")
	soon := func(condition func() bool) {
		t.Helper()
		// The promise is a second; a machine that compiles beside the test gets more.
		began := time.Now()
		require.Eventually(t, condition, 30*time.Second, 5*time.Millisecond)
		t.Logf("in force after %s", time.Since(began).Round(time.Millisecond))
	}

	status, _ := there.use(key, "evaluations", "1000")
	require.Equal(t, http.StatusOK, status)
	status, _ = there.use(key, "evaluations", "1")
	require.Equal(t, http.StatusPaymentRequired, status)
	status, _ = here.call(key, http.MethodPost, "/api/v1/organizations/"+id+"/upgrade", `{"plan":"pro"}`)
	require.Equal(t, http.StatusOK, status)
	soon(func() bool { status, _ := there.use(key, "evaluations", "1"); return status == http.StatusOK })

	plan := `{"key":"pro","name":"Pro","entitlements":[{"meter":"simulations","mode":"hard","window":"day","max":0}]}`
	status, answer := here.call(admin, http.MethodPut, "/api/v1/plans", plan)
	require.Equal(t, http.StatusOK, status, answer)
	require.InDelta(t, 2, answer["version"], 0)
	soon(func() bool {
		status, _ := there.use(key, "simulations", "1")
		return status == http.StatusPaymentRequired
	})
	_, answer = there.call(admin, http.MethodPut, "/api/v1/plans", plan)
	require.InDelta(t, 2, answer["version"], 0, "the same again changes nothing")

	leaving, leavingKey := here.tenant(admin, "y", "pro")
	status, _ = there.use(leavingKey, "evaluations", "1")
	require.Equal(t, http.StatusOK, status)
	status, _ = here.call(admin, http.MethodPost, "/api/v1/organizations/"+leaving+"/end", `{"note":"moved away"}`)
	require.Equal(t, http.StatusOK, status)
	status, answer = here.use(leavingKey, "evaluations", "1")
	require.Equal(t, http.StatusForbidden, status)
	require.Equal(t, "contract_ended", answer["error"])
	soon(func() bool {
		status, _ := there.use(leavingKey, "evaluations", "1")
		return status == http.StatusForbidden
	})

	_, keys := here.call(admin, http.MethodGet, "/api/v1/organizations/"+id+"/keys", "")
	keyID := keys["keys"].([]any)[0].(map[string]any)["id"].(string)
	status, _ = here.call(admin, http.MethodDelete, "/api/v1/keys/"+keyID, "")
	require.Equal(t, http.StatusNoContent, status)
	status, _ = here.use(key, "evaluations", "1")
	require.Equal(t, http.StatusUnauthorized, status)
	soon(func() bool { status, _ := there.use(key, "evaluations", "1"); return status == http.StatusUnauthorized })
}
