package api

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/webhooks"
)

const hooksPath = "/api/v1/webhooks"

// endpoint makes an endpoint and returns its path and its secret.
func (r *rig) endpoint(key string) (path, secret string) {
	r.t.Helper()
	a := r.do(key, "POST", hooksPath, `{"url":"https://example.com/hooks","kinds":["plan.limit_exceeded"],"description":"d"}`)
	require.Equal(r.t, 201, a.Code, a.Body)
	made := a.json()
	return hooksPath + "/" + made["id"].(string), made["secret"].(string)
}

func TestWebhooksOfAnOwner(t *testing.T) {
	r := newRig(t)
	mine, secret := r.endpoint("free")
	require.True(t, strings.HasPrefix(secret, "whsec_"))
	theirs, _ := r.endpoint("pro")
	platform, _ := r.endpoint("finance")
	for key, own := range map[string]string{"free": mine, "pro": theirs, "finance": platform, "admin": platform} {
		list := r.do(key, "GET", hooksPath, "")
		require.Len(t, list.json()["webhooks"], 1)
		require.NotContains(t, list.Body.String(), "whsec_")
		for _, path := range []string{mine, theirs, platform} {
			if path == own {
				a := r.do(key, "GET", path, "")
				require.Equal(t, 200, a.Code)
				require.NotContains(t, a.Body.String(), "whsec_")
				continue
			}
			r.problem(404, "not_found", key, "GET", path, "")
			r.problem(404, "not_found", key, "PATCH", path, `{"disabled":true}`)
			r.problem(404, "not_found", key, "POST", path+"/rotate", "")
			r.problem(404, "not_found", key, "GET", path+"/deliveries", "")
			r.problem(404, "not_found", key, "POST", path+"/deliveries/"+uuid.NewString()+"/redeliver", "")
			r.problem(404, "not_found", key, "DELETE", path, "")
		}
	}
	require.Nil(t, r.do("finance", "GET", platform, "").json()["organization_id"])
	require.Equal(t, r.organizations["free"].String(), r.do("free", "GET", mine, "").json()["organization_id"])
	require.Equal(t, 204, r.do("free", "DELETE", mine, "").Code)
	r.problem(404, "not_found", "free", "GET", mine, "")
	require.NotContains(t, r.log.String(), "whsec_", "no log has a secret")
}

func TestWebhookRules(t *testing.T) {
	r := newRig(t)
	path, _ := r.endpoint("free")
	for body, field := range map[string]string{
		`{"url":"http://example.com/"}`:                                            "url",
		`{"url":"https://127.0.0.1/"}`:                                             "url",
		`{"url":"https://localhost/"}`:                                             "url",
		`{"url":"https://example.com/","kinds":["x"]}`:                             "kinds",
		`{"url":"https://example.com/","kinds":["export.issued","export.issued"]}`: "kinds",
		`{"url":"https://example.com/","description":"\u0007"}`:                    "description",
		`{"url":"https://example.com/","secret":"mine"}`:                           "secret",
	} {
		require.Equal(t, field, r.problem(400, "invalid_request", "free", "POST", hooksPath, body)["field"], body)
	}
	require.Equal(t, "url", r.problem(400, "invalid_request", "free", "PATCH", path, `{"url":"https://10.0.0.1/"}`)["field"])
	require.Equal(t, "body", r.problem(400, "invalid_request", "free", "PATCH", path, `{}`)["field"])
	require.Equal(t, "kind", r.problem(400, "invalid_request", "free", "GET", "/api/v1/events?kind=x", "")["field"])
	require.Equal(t, "before", r.problem(400, "invalid_request", "free", "GET", "/api/v1/events?before=x", "")["field"])

	open := newRig(t, func(c *Config) { c.AllowPrivateWebhooks = true })
	require.Equal(t, 201, open.do("free", "POST", hooksPath, `{"url":"http://127.0.0.1:8080/"}`).Code)
}

func TestWebhookChangesAndRotation(t *testing.T) {
	r := newRig(t)
	path, secret := r.endpoint("free")
	changed := r.do("free", "PATCH", path, `{"url":"https://example.org/","kinds":[],"disabled":true}`).json()
	require.Equal(t, "https://example.org/", changed["url"])
	require.Equal(t, []any{}, changed["kinds"])
	require.Equal(t, "d", changed["description"])
	require.NotNil(t, changed["disabled_at"])

	rotated := r.do("free", "POST", path+"/rotate", "").json()
	require.NotEqual(t, secret, rotated["secret"])
	require.Equal(t, noon.Add(24*time.Hour).Format(time.RFC3339), rotated["previous_secret_until"])
	r.advance(24 * time.Hour)
	require.NotContains(t, r.do("free", "GET", path, "").json(), "previous_secret_until")
}

// A request that is sent again changes nothing again, and its answer has no secret.
func TestWebhookWritesHappenOnce(t *testing.T) {
	r := newRig(t)
	key := []string{"Idempotency-Key", "k1"}
	body := `{"url":"https://example.com/"}`
	first := r.do("free", "POST", hooksPath, body, key...)
	again := r.do("free", "POST", hooksPath, body, key...)
	require.Equal(t, "true", again.Header().Get("Idempotency-Replayed"))
	require.Equal(t, 201, again.Code)
	require.Equal(t, first.json()["id"], again.json()["id"])
	require.NotContains(t, again.Body.String(), "whsec_")
	require.Len(t, r.hooks.endpoints, 1)

	path := hooksPath + "/" + first.json()["id"].(string)
	key[1] = "k2"
	rotated := r.do("free", "POST", path+"/rotate", "", key...)
	again = r.do("free", "POST", path+"/rotate", "", key...)
	require.Equal(t, 200, again.Code)
	require.NotContains(t, again.Body.String(), "whsec_")
	require.Equal(t, rotated.json()["secret"], r.hooks.endpoints[0].Secrets.Current, "rotated once")
}

func TestEventsAndDeliveries(t *testing.T) {
	r := newRig(t)
	path, _ := r.endpoint("free")
	endpoint := r.hooks.endpoints[0].ID
	free := r.organizations["free"]
	for i, kind := range []events.Kind{events.UsageThresholdReached, events.PlanLimitExceeded, events.OrganizationUpgraded} {
		e := events.Event{ID: uuid.Must(uuid.NewV7()), Kind: kind, Organization: free, OccurredAt: noon, Data: json.RawMessage(`{"n":1}`)}
		r.hooks.events = append(r.hooks.events, e)
		d := webhooks.ListedDelivery{Kind: kind, Delivery: webhooks.Delivery{
			Event: e.ID, Endpoint: endpoint, Organization: free, State: webhooks.Delivered, Attempts: i, CreatedAt: noon, UpdatedAt: noon,
		}}
		if i == 1 {
			d.State, d.LastStatus, d.LastError, d.NextAttemptAt = webhooks.Pending, 503, "503 Service Unavailable", &noon
		}
		r.hooks.deliveries = append(r.hooks.deliveries, d)
	}
	r.hooks.events = append(r.hooks.events, events.Event{ID: uuid.Must(uuid.NewV7()), Kind: events.ExportIssued, OccurredAt: noon, Data: json.RawMessage(`{}`)})

	require.Len(t, r.do("free", "GET", "/api/v1/events", "").json()["events"], 3)
	require.Empty(t, r.do("pro", "GET", "/api/v1/events", "").json()["events"])
	require.Len(t, r.do("finance", "GET", "/api/v1/events", "").json()["events"], 4)
	require.Len(t, r.do("finance", "GET", "/api/v1/events?kind=export.issued", "").json()["events"], 1)

	page := r.do("free", "GET", path+"/deliveries?limit=2", "").json()
	require.Len(t, page["deliveries"], 2)
	require.Equal(t, "503 Service Unavailable", page["deliveries"].([]any)[1].(map[string]any)["last_error"])
	page = r.do("free", "GET", path+"/deliveries?limit=2&before="+page["next"].(string), "").json()
	require.Len(t, page["deliveries"], 1)
	require.NotContains(t, page, "next")
	first := r.do("free", "GET", "/api/v1/events?limit=2", "").json()
	require.Len(t, r.do("free", "GET", "/api/v1/events?limit=2&before="+first["next"].(string), "").json()["events"], 1)

	again := path + "/deliveries/" + r.hooks.events[0].ID.String() + "/redeliver"
	a := r.do("free", "POST", again, "")
	require.Equal(t, 202, a.Code, a.Body)
	require.Equal(t, "deliver/"+r.hooks.events[0].ID.String(), a.json()["workflow_id"])
	require.Len(t, r.hooks.asked, 1)
	r.hooks.admitErr = &webhooks.RedeliveredTooOftenError{RetryAfter: 1500 * time.Millisecond}
	refused := r.do("free", "POST", again, "")
	require.Equal(t, 429, refused.Code)
	require.Equal(t, "redelivered_too_often", refused.json()["error"])
	require.Equal(t, "2", refused.Header().Get("Retry-After"))
	require.Len(t, r.hooks.asked, 1)
	r.hooks.admitErr = nil
	r.hooks.askErr = ErrWorkflowsAway
	r.problem(503, "unavailable", "free", "POST", again, "")
	require.Equal(t, 200, r.do("free", "PATCH", path, `{"disabled":true}`).Code)
	r.problem(409, "conflict", "free", "POST", again, "")
	r.store.fail(awayError{})
	r.problem(503, "unavailable", "free", "GET", "/api/v1/events", "")
}
