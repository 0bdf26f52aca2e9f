package e2e_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
)

// hook is a receiver on loopback that verifies what it gets, as docs/webhooks.md says.
type hook struct {
	t   *testing.T
	url string

	mu      sync.Mutex
	secrets []string
	// failing is how many requests are answered 503.
	failing  int
	attempts int
	// got counts what was taken, by webhook-id.
	got   map[string]int
	kinds map[string]string
}

func newHook(t *testing.T, failing int) *hook {
	t.Helper()
	h := &hook{t: t, failing: failing, got: map[string]int{}, kinds: map[string]string{}}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	h.url = server.URL
	return h
}

// ServeHTTP verifies and takes one event.
func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attempts++
	body, err := io.ReadAll(r.Body)
	if err != nil {
		h.t.Error(err)
	}
	for _, secret := range h.secrets {
		verifier, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			h.t.Error(err)
			return
		}
		if err := verifier.Verify(body, r.Header); err != nil {
			h.t.Errorf("%v: %v", err, r.Header)
		}
	}
	if h.failing > 0 {
		h.failing--
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var document struct {
		Type string         `json:"type"`
		Data map[string]any `json:"data"`
	}
	if err := json.Unmarshal(body, &document); err != nil {
		h.t.Error(err)
	}
	id := r.Header.Get("webhook-id")
	h.got[id]++
	h.kinds[id] = document.Type
	if percent, ok := document.Data["percent"].(float64); ok {
		encoded, _ := json.Marshal(percent)
		h.kinds[id] += " " + string(encoded)
	}
}

func (h *hook) with(fn func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fn()
}

// counts returns how often each kind was taken.
func (h *hook) counts() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[string]int{}
	for id, n := range h.got {
		out[h.kinds[id]] += n
	}
	return out
}

// TestWebhooksArrive has receivers that fail at first, on loopback, which the setting for
// development allows.
func TestWebhooksArrive(t *testing.T) {
	t.Parallel()
	s := newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	s.environment = append(s.environment, "TOLLGATE_WEBHOOK_ALLOW_PRIVATE=true", "TOLLGATE_WEBHOOK_SCHEDULE=0s,200ms,300ms,1h")
	worker := s.startWorker()
	api := s.startAPI()
	s.financeKey = s.newKey("finance")
	acme, bolt := s.newTenant("Acme", "free"), s.newTenant("Bolt", "free")

	step(t, "a tenant and the platform are told of thresholds, limits and upgrades")
	own, platform := newHook(t, 2), newHook(t, 0)
	made := map[string]string{}
	for key, h := range map[string]*hook{acme.key: own, s.financeKey: platform} {
		var endpoint struct{ ID, Secret string }
		s.decode(s.tollgate("webhook", "create", h.url, "--key", key, "--json"), &endpoint)
		h.with(func() { h.secrets = []string{endpoint.Secret} })
		made[key] = endpoint.ID
	}
	for _, tenant := range []tenant{acme, bolt} {
		for _, quantity := range []int{799, 1, 200} {
			status, answer := api.call(http.MethodPost, "/api/v1/usage", tenant.key, map[string]any{"meter": "evaluations", "quantity": quantity})
			require.Equal(t, http.StatusOK, status, answer)
		}
		for range 3 {
			status, _ := api.call(http.MethodPost, "/api/v1/usage", tenant.key, map[string]any{"meter": "evaluations"})
			require.Equal(t, http.StatusPaymentRequired, status)
		}
	}
	status, _ := api.call(http.MethodPost, "/api/v1/organizations/"+acme.id.String()+"/upgrade", acme.key, map[string]any{"plan": "pro"})
	require.Equal(t, http.StatusOK, status)

	want := map[string]int{
		"usage.threshold_reached 80": 1, "usage.threshold_reached 100": 1, "plan.limit_exceeded": 1, "organization.upgraded": 1,
	}
	arrive := func(h *hook, want map[string]int) {
		t.Helper()
		require.Eventually(t, func() bool { return len(h.counts()) >= len(want) && total(h.counts()) >= total(want) }, patience, 50*time.Millisecond)
		require.Equal(t, want, h.counts())
	}
	arrive(own, want)
	arrive(platform, map[string]int{
		"usage.threshold_reached 80": 2, "usage.threshold_reached 100": 2, "plan.limit_exceeded": 2, "organization.upgraded": 1,
	})
	own.with(func() { require.Equal(t, 6, own.attempts, "two failed") })

	step(t, "a worker is killed, and another one takes its place")
	// A worker that is killed and one that takes its place send nothing of what is recorded
	// twice. An attempt that is under way when it is killed may come again after its timeout.
	s.awaitRecorded(made[acme.key], acme.key, api.url, 4, 6)
	worker.kill()
	s.startWorker()
	api.stop()
	api = s.startAPI()
	step(t, "the secret is changed while both sign")
	var rotated struct{ Secret string }
	s.decode(s.tollgate("webhook", "rotate", made[acme.key], "--key", acme.key, "--url", api.url, "--json"), &rotated)
	own.with(func() { own.secrets = append(own.secrets, rotated.Secret) })
	// That plan is by agreement: an administrator gives it.
	status, _ = api.call(http.MethodPost, "/api/v1/organizations/"+acme.id.String()+"/upgrade", s.adminKey, map[string]any{"plan": "enterprise"})
	require.Equal(t, http.StatusOK, status)
	want["organization.upgraded"] = 2
	arrive(own, want)

	deliveries := s.awaitRecorded(made[acme.key], acme.key, api.url, 5, 7)
	step(t, "what is asked for again comes again, under the same webhook-id")
	again := deliveries[0].Event.String()
	s.tollgate("webhook", "redeliver", made[acme.key], again, "--key", acme.key, "--url", api.url)
	require.Eventually(t, func() bool {
		own.mu.Lock()
		defer own.mu.Unlock()
		return own.got[again] == 2
	}, patience, 50*time.Millisecond)
	require.Contains(t, s.tollgate("events", "--key", acme.key, "--url", api.url, "--json"), again)
}

type webhookDelivery struct {
	Event    uuid.UUID `json:"event_id"`
	State    string    `json:"state"`
	Attempts int       `json:"attempts"`
}

// awaitRecorded waits until an endpoint's log has as many deliveries, all of them delivered
// in as many attempts.
func (s *system) awaitRecorded(endpoint, key, url string, want, attempts int) (deliveries []webhookDelivery) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		s.decode(s.tollgate("webhook", "deliveries", endpoint, "--key", key, "--url", url, "--json"), &deliveries)
		made := 0
		for _, d := range deliveries {
			if d.State == "delivered" {
				made += d.Attempts
			}
		}
		return len(deliveries) == want && made == attempts
	}, patience, 100*time.Millisecond)
	return deliveries
}

func total(counts map[string]int) (n int) {
	for _, count := range counts {
		n += count
	}
	return n
}

func TestWebhooksToPrivateAddressesAreRefused(t *testing.T) {
	t.Parallel()
	s := newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	api := s.startAPI()
	acme := s.newTenant("Acme", "free")
	h := newHook(t, 0)
	for _, url := range []string{h.url, "https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/", "https://localhost/"} {
		status, answer := api.call(http.MethodPost, "/api/v1/webhooks", acme.key, map[string]any{"url": url})
		require.Equal(t, http.StatusBadRequest, status, url)
		require.Equal(t, "url", answer["field"])
	}
	step(t, "one that was made while the setting was on is not sent to without it")
	s.environment = append(s.environment, "TOLLGATE_WEBHOOK_ALLOW_PRIVATE=true")
	lax := s.startAPI()
	status, made := lax.call(http.MethodPost, "/api/v1/webhooks", acme.key, map[string]any{"url": h.url})
	require.Equal(t, http.StatusCreated, status)
	s.environment = append(s.environment, "TOLLGATE_WEBHOOK_ALLOW_PRIVATE=false")
	s.startWorker()
	status, _ = lax.call(http.MethodPost, "/api/v1/organizations/"+acme.id.String()+"/upgrade", acme.key, map[string]any{"plan": "pro"})
	require.Equal(t, http.StatusOK, status)
	require.Eventually(t, func() bool {
		_, page := lax.call(http.MethodGet, "/api/v1/webhooks/"+made["id"].(string)+"/deliveries", acme.key, nil)
		list, _ := page["deliveries"].([]any)
		if len(list) != 1 {
			return false
		}
		reason, _ := list[0].(map[string]any)["last_error"].(string)
		return reason == "url must begin with https://"
	}, patience, 100*time.Millisecond)
	h.with(func() { require.Zero(t, h.attempts) })
}
