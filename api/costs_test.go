package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/webhooks"
)

func TestCosts(t *testing.T) {
	t.Parallel()
	c := newCosts(100)
	a, b := uuid.New(), uuid.New()
	now := noon
	wait := func(err error) time.Duration {
		var limited *costLimitError
		require.ErrorAs(t, err, &limited)
		return limited.retryAfter
	}
	require.NoError(t, c.take(a, 900, now), "what comes in 10 s may be used at once")
	require.Equal(t, time.Second, wait(c.take(a, 200, now)))
	require.NoError(t, c.take(a, 100, now), "what was refused has cost nothing")
	require.NoError(t, c.take(b, 1_000, now), "another organization has tokens of its own")
	now = now.Add(time.Second)
	require.NoError(t, c.take(a, 100, now))
	now = now.Add(-time.Minute)
	require.Error(t, c.take(a, 1, now), "a clock that goes back makes no tokens")
	now = now.Add(time.Hour)
	require.NoError(t, c.take(a, 5_000, now), "what costs more than a bucket has is for a full one")
	require.Equal(t, 40*time.Second+10*time.Millisecond, wait(c.take(a, 1, now)), "and is paid for all the same")
	c.charge(a, 1_000_000, now)
	require.Equal(t, time.Minute+10*time.Millisecond, wait(c.take(a, 1, now)), "a debt takes no longer than a minute")

	free := newCosts(0)
	free.charge(a, 1_000_000, now)
	require.NoError(t, free.take(a, 1_000_000, now))
}

func TestRequestsCost(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.TenantCost = costRead })
	history := "/api/v1/usage/history?meter=evaluations&from=2026-11-01&to=2026-11-02"
	for range 10 {
		require.Equal(t, 200, r.do("free", "GET", history, "").Code)
	}
	refused := r.do("free", "GET", history, "")
	require.Equal(t, 429, refused.Code)
	require.Equal(t, "cost_limited", refused.json()["error"])
	require.Equal(t, "1", refused.Header().Get("Retry-After"))
	for _, request := range []string{
		"GET /api/v1/events", "POST /api/v1/reservations", "GET /api/v1/webhooks", "GET /api/v1/organizations/" + r.organizations["free"].String(),
	} {
		method, path, _ := strings.Cut(request, " ")
		r.problem(429, "cost_limited", "free", method, path, "")
	}
	require.Equal(t, 200, r.do("pro", "GET", history, "").Code, "another tenant's tokens are its own")
	for range 20 {
		require.Equal(t, 200, r.do("finance", "GET", history+"&organization_id="+r.organizations["free"].String(), "").Code)
	}
	usage := r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations","quantity":1}`)
	require.Equal(t, 200, usage.Code, "what is metered is bounded by the plan: %s", usage.Body)
	r.advance(time.Second)
	require.Equal(t, 200, r.do("free", "GET", history, "").Code)
	require.Empty(t, r.server.underWay.shards[r.organizations["free"][15]%keyShards].counts, "what was refused is not under way")
}

// A batch is taken while its organization is not in debt; what it brings is paid for.
func TestBatchItemsCost(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.TenantCost = 10 })
	items := func(n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(`{"meter":"evaluations","quantity":1},`, n), ",") + "]"
	}
	require.Len(t, r.batch("pro", items(99)), 99)
	require.Len(t, r.batch("pro", items(150)), 150)
	refused := r.do("pro", "POST", "/api/v1/usage/batch", items(1))
	require.Equal(t, 429, refused.Code)
	require.Equal(t, "cost_limited", refused.json()["error"])
	require.Equal(t, "15", refused.Header().Get("Retry-After"))
	r.advance(15 * time.Second)
	require.Len(t, r.batch("pro", items(1)), 1)
	r.advance(time.Minute)
	require.InDelta(t, 250, r.current("pro", "evaluations"), 0, "nothing was counted of what was refused")
}

// A page costs by what is on it.
func TestPagesCostByWhatIsOnThem(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.TenantCost = costRead })
	path, _ := r.endpoint("free")
	id := uuid.MustParse(path[strings.LastIndex(path, "/")+1:])
	for range 90 {
		event := uuid.Must(uuid.NewV7())
		r.hooks.deliveries = append(r.hooks.deliveries, webhooks.ListedDelivery{
			Kind:     events.ExportIssued,
			Delivery: webhooks.Delivery{Event: event, Endpoint: id, Organization: r.organizations["free"], State: webhooks.Delivered},
		})
	}
	require.Equal(t, 200, r.do("free", "GET", path+"/deliveries?limit=100", "").Code)
	// 1,000 less 200 for the endpoint, 100 for the page and 10 each for 90 deliveries.
	refused := r.do("free", "GET", path+"/deliveries?limit=1", "")
	require.Equal(t, 429, refused.Code)
	require.Equal(t, fmt.Sprint((200+100+900+costRead-1000)/costRead), refused.Header().Get("Retry-After"))
}
