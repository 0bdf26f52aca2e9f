package api

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
)

// TestRoles calls every route with every role, and without a key.
func TestRoles(t *testing.T) {
	r := newRig(t)
	free, instance := r.organizations["free"].String(), uuid.Must(uuid.NewV7())
	r.store.instances = []meter.Instance{{ID: instance, Status: meter.InstanceLive}}
	period, err := calendar.ParsePeriod("2026-10")
	require.NoError(t, err)
	r.store.exports = []billing.Export{{ID: uuid.New(), Period: period, Revision: 1, Stage: billing.StageFailed}}
	r.workflows.stage = billing.StageApproving
	spare := func() string {
		r.addKey("spare", accounts.Key{Role: roleTenant, Organization: r.organizations["free"], Name: "spare"})
		return r.keyIDs["spare"].String()
	}
	// Nobody's key is of the organization that is ended.
	ending := func() string {
		made, err := r.store.CreateOrganization(t.Context(), accounts.NewOrganization{Name: "Ending", Plan: "free"})
		require.NoError(t, err)
		return made.ID.String()
	}
	const tenant, otherTenant, finance, admin = "free", "pro", "finance", "admin"
	for _, tt := range []struct {
		method, path, body string
		status             int
		may                []string
	}{
		{"POST", "/api/v1/usage", `{"meter":"evaluations"}`, 200, []string{tenant, otherTenant}},
		{"POST", "/api/v1/usage/batch", `[{"meter":"evaluations"}]`, 200, []string{tenant, otherTenant}},
		{"POST", "/api/v1/reservations", `{"meter":"evaluations","quantity":1}`, 201, []string{tenant, otherTenant}},
		{"GET", "/api/v1/usage?organization_id=" + free, "", 200, []string{tenant, finance, admin}},
		{"GET", "/api/v1/usage/history?meter=evaluations&from=2026-11-01&to=2026-11-02&organization_id=" + free, "", 200, []string{tenant, finance, admin}},
		{"POST", "/api/v1/organizations", `{"name":"New","plan":"free"}`, 201, []string{admin}},
		{"GET", "/api/v1/organizations", "", 200, []string{finance, admin}},
		{"GET", "/api/v1/organizations/" + free, "", 200, []string{tenant, finance, admin}},
		{"PATCH", "/api/v1/organizations/" + free, `{"name":"Renamed"}`, 200, []string{admin}},
		{"PUT", "/api/v1/organizations/" + free + "/customers/stripe", `{"external_id":"cus_1"}`, 200, []string{finance, admin}},
		{"POST", "/api/v1/organizations/" + free + "/upgrade", `{"plan":"free"}`, 200, []string{tenant, admin}},
		{"DELETE", "/api/v1/organizations/" + free + "/upgrade", "", 200, []string{tenant, admin}},
		{"POST", "/api/v1/organizations/" + ending() + "/end", "", 200, []string{admin}},
		{"DELETE", "/api/v1/organizations/" + free + "/end", "", 200, []string{admin}},
		{"POST", "/api/v1/organizations/" + free + "/keys", `{"name":"k"}`, 201, []string{admin}},
		{"GET", "/api/v1/organizations/" + free + "/keys", "", 200, []string{tenant, admin}},
		{"GET", "/api/v1/organizations/" + free + "/bill", "", 200, []string{tenant, finance, admin}},
		{"GET", "/api/v1/organizations/" + free + "/plans", "", 200, []string{tenant, finance, admin}},
		{"GET", "/api/v1/organizations/" + free + "/statements", "", 200, []string{tenant, finance, admin}},
		{"POST", "/api/v1/keys", `{"name":"k","owner":"ada","role":"finance"}`, 201, []string{admin}},
		{"GET", "/api/v1/keys", "", 200, []string{admin}},
		{"DELETE", "/api/v1/keys/" + spare(), "", 204, []string{admin}},
		{"GET", "/api/v1/plans", "", 200, []string{finance, admin}},
		{"PUT", "/api/v1/plans", `{"key":"team","name":"Team","entitlements":[]}`, 200, []string{admin}},
		{"GET", "/api/v1/billing/export?from=2026-11-01&to=2026-11-02", "", 200, []string{finance, admin}},
		{"GET", "/api/v1/billing/export?from=2026-11-01&to=2026-11-02&format=csv", "", 200, []string{finance, admin}},
		{"POST", "/api/v1/billing/exports", `{"period":"2026-10"}`, 202, []string{finance}},
		{"GET", "/api/v1/billing/exports", "", 200, []string{finance}},
		{"GET", "/api/v1/billing/exports/2026-10", "", 200, []string{finance}},
		{"GET", "/api/v1/billing/exports/2026-10/files/usage.jsonl", "", 409, []string{finance}},
		{"POST", "/api/v1/webhooks", `{"url":"https://example.com/"}`, 201, []string{tenant, otherTenant, finance, admin}},
		{"GET", "/api/v1/webhooks", "", 200, []string{tenant, otherTenant, finance, admin}},
		{"GET", "/api/v1/events", "", 200, []string{tenant, otherTenant, finance, admin}},
		{"POST", "/api/v1/billing/exports/2026-10/review", `{"note":"n"}`, 200, []string{finance}},
		{"POST", "/api/v1/billing/exports/2026-10/approve", `{}`, 200, []string{finance}},
		{"POST", "/api/v1/billing/exports/2026-10/reject", `{"note":"n"}`, 200, []string{finance}},
		{"POST", "/api/v1/billing/exports/2026-10/cancel", `{"note":"n"}`, 200, []string{finance}},
		{"POST", "/api/v1/billing/exports/2026-10/continue", `{"note":"n"}`, 200, []string{finance}},
		{"POST", "/api/v1/billing/exports/2026-10/retry", `{}`, 200, []string{finance}},
		{"POST", "/api/v1/billing/exports/2026-10/reopen", `{"note":"n"}`, 409, []string{finance}},
		{"POST", "/api/v1/billing/exports/2026-10/deliver", "", 409, []string{finance}},
		{"GET", "/api/v1/billing/exports/2026-10/deliveries", "", 200, []string{finance}},
		{"GET", "/api/v1/billing/exports/2026-10/variances", "", 200, []string{finance}},
		{"GET", "/api/v1/billing/exports/2026-10/parked", "", 200, []string{finance}},
		{"GET", "/api/v1/billing/exports/2026-10/decisions", "", 200, []string{finance}},
		{"GET", "/api/v1/billing/exports/2026-10/corrections", "", 200, []string{finance}},
		{"GET", "/api/v1/billing/exports/2026-10/control-totals", "", 200, []string{finance}},
		{"GET", "/api/v1/billing/exports/2026-10/statements/" + free, "", 404, []string{finance}},
		{"GET", "/api/v1/instances", "", 200, []string{admin}},
		{"GET", "/api/v1/operations", "", 200, []string{admin}},
		{"GET", "/api/v1/reconciliation?from=2026-11-01&to=2026-11-02", "", 200, []string{admin}},
		{"GET", "/api/v1/plans/pro/versions", "", 200, []string{finance, admin}},
		{"POST", "/api/v1/instances/" + instance.String() + "/flush", "", 200, []string{admin}},
		{"GET", "/healthz", "", 200, []string{tenant, otherTenant, finance, admin, ""}},
		{"GET", "/livez", "", 200, []string{tenant, otherTenant, finance, admin, ""}},
		{"GET", "/readyz", "", 200, []string{tenant, otherTenant, finance, admin, ""}},
		{"GET", "/metrics", "", 404, []string{tenant, otherTenant, finance, admin, ""}},
		{"GET", "/openapi.yaml", "", 200, []string{tenant, otherTenant, finance, admin, ""}},
		{"GET", "/docs/api", "", 200, []string{tenant, otherTenant, finance, admin, ""}},
	} {
		for _, key := range []string{tenant, otherTenant, finance, admin, ""} {
			t.Run(fmt.Sprintf("%s %s by %q", tt.method, tt.path, key), func(t *testing.T) {
				allowed := false
				for _, m := range tt.may {
					allowed = allowed || m == key
				}
				got := r.do(key, tt.method, tt.path, tt.body)
				switch {
				case allowed:
					require.Equal(t, tt.status, got.Code, got.Body)
				case key == "":
					require.Equal(t, http.StatusUnauthorized, got.Code)
					require.Equal(t, "unauthorized", got.json()["error"])
				default:
					require.Equal(t, http.StatusForbidden, got.Code)
					require.Equal(t, "forbidden", got.json()["error"])
				}
			})
		}
	}
}

func TestBadCredentials(t *testing.T) {
	r := newRig(t)
	for _, header := range []string{
		"", "Bearer", "Bearer ", "Basic " + r.secrets["free"], r.secrets["free"], "Bearer " + r.secrets["free"] + "x",
		"Bearer tg_" + strings.Repeat("x", 200), "Bearer not-a-key", "Bearer tg_admin_" + strings.Repeat("A", 43),
	} {
		a := r.do("", "GET", "/api/v1/usage", "", "Authorization", header)
		require.Equal(t, http.StatusUnauthorized, a.Code, header)
		require.Equal(t, `Bearer realm="tollgate"`, a.Header().Get("WWW-Authenticate"))
		require.Equal(t, "The request needs a key that works: Authorization: Bearer tg_…", a.json()["message"], "every wrong key is told the same")
	}
	require.Equal(t, 200, r.do("", "GET", "/api/v1/usage", "", "Authorization", "bearer   "+r.secrets["free"]).Code, "the scheme's case and spaces don't matter")
	require.NotContains(t, r.log.String(), r.secrets["free"][len("tg_tenant_"):], "no log has a secret")
}

func TestKeysAreChecked(t *testing.T) {
	t.Run("before anything else is looked at", func(t *testing.T) {
		r := newRig(t)
		r.problem(401, "unauthorized", "", "POST", "/api/v1/usage", `nonsense`)
		r.problem(401, "unauthorized", "", "GET", "/api/v1/organizations/not-a-uuid", "")
		r.problem(403, "forbidden", "free", "POST", "/api/v1/organizations", "nonsense")
	})
	t.Run("once, and then from memory", func(t *testing.T) {
		r := newRig(t)
		for range 10 {
			require.Equal(t, 200, r.do("free", "GET", "/api/v1/usage", "").Code)
		}
		require.Equal(t, 1, r.store.lookups)
	})
	t.Run("wrong ones once in a while", func(t *testing.T) {
		r := newRig(t)
		wrong := "Bearer " + accounts.NewSecret(roleTenant)
		for range 10 {
			require.Equal(t, 401, r.do("", "GET", "/api/v1/usage", "", "Authorization", wrong).Code)
		}
		require.Equal(t, 1, r.store.lookups)
		r.advance(unknownFor)
		require.Equal(t, 401, r.do("", "GET", "/api/v1/usage", "", "Authorization", wrong).Code)
		require.Equal(t, 2, r.store.lookups)
	})
	t.Run("revoked by this instance: at once", func(t *testing.T) {
		r := newRig(t)
		require.Equal(t, 200, r.do("free", "GET", "/api/v1/usage", "").Code)
		require.Equal(t, 204, r.do("admin", "DELETE", "/api/v1/keys/"+r.keyIDs["free"].String(), "").Code)
		r.problem(401, "unauthorized", "free", "GET", "/api/v1/usage", "")
		require.Equal(t, 204, r.do("admin", "DELETE", "/api/v1/keys/"+r.keyIDs["free"].String(), "").Code, "again changes nothing")
	})
	t.Run("revoked elsewhere: as soon as that is heard", func(t *testing.T) {
		r := newRig(t)
		require.Equal(t, 200, r.do("free", "GET", "/api/v1/usage", "").Code)
		require.NoError(t, r.store.RevokeKey(t.Context(), r.keyIDs["free"]))
		r.server.ForgetKey(r.keyIDs["free"])
		r.problem(401, "unauthorized", "free", "GET", "/api/v1/usage", "")
	})
	t.Run("revoked elsewhere and never heard: with the recheck", func(t *testing.T) {
		r := newRig(t)
		require.Equal(t, 200, r.do("free", "GET", "/api/v1/usage", "").Code)
		require.NoError(t, r.store.RevokeKey(t.Context(), r.keyIDs["free"]))
		r.advance(time.Minute)
		require.Eventually(t, func() bool { return r.do("free", "GET", "/api/v1/usage", "").Code == 401 }, 30*time.Second, time.Millisecond)
	})
	t.Run("not used for long: rechecked before they are served", func(t *testing.T) {
		r := newRig(t)
		require.Equal(t, 200, r.do("free", "GET", "/api/v1/usage", "").Code)
		require.NoError(t, r.store.RevokeKey(t.Context(), r.keyIDs["free"]))
		r.advance(time.Hour)
		r.problem(401, "unauthorized", "free", "GET", "/api/v1/usage", "")
	})
}

// No word comes of anything: keys are confirmed together, and what was revoked stops with that.
func TestKeysAreConfirmedTogether(t *testing.T) {
	names := []string{"free", "pro", "enterprise", "admin"}
	r := newRig(t)
	use := func(status int, names ...string) {
		t.Helper()
		for _, name := range names {
			_, err := r.server.keys.principal(t.Context(), r.secrets[name], "", r.Now())
			if status == 200 {
				require.NoError(t, err, name)
			} else {
				require.ErrorIs(t, err, errNoKey, name)
			}
		}
		r.server.keys.background.Wait()
	}
	require.NoError(t, r.server.ConfirmKeys(t.Context()))
	r.advance(time.Second)
	use(200, names...)
	require.Equal(t, len(names), r.store.lookups)
	for range 100 {
		r.advance(15 * time.Second)
		require.NoError(t, r.server.ConfirmKeys(t.Context()))
		use(200, names...)
	}
	require.Equal(t, len(names), r.store.lookups, "none is looked up by itself while all are confirmed")

	require.NoError(t, r.store.RevokeKey(t.Context(), r.keyIDs["pro"]))
	require.NoError(t, r.store.RevokeKey(t.Context(), r.keyIDs["admin"]))
	r.advance(15 * time.Second)
	require.NoError(t, r.server.ConfirmKeys(t.Context()))
	use(401, "pro", "admin")
	use(200, "free", "enterprise")
	require.Equal(t, len(names)+2, r.store.lookups, "only what was revoked is read again")

	r.advance(time.Second)
	r.server.ForgetKey(uuid.Nil)
	use(200, "free")
	require.Equal(t, len(names)+3, r.store.lookups, "after a reconnect each is, when it is used")
	use(200, "free")
	require.Equal(t, len(names)+4, r.store.lookups, "at that very moment")
	r.advance(time.Second)
	use(200, "free", "free", "enterprise")
	require.Equal(t, len(names)+6, r.store.lookups, "and then no more")
}

// Where keys can't be confirmed together, each has its own bound.
func TestKeysThatAreNotConfirmedTogether(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.server.ConfirmKeys(t.Context()))
	r.advance(time.Second)
	principal := func(name string) error {
		_, err := r.server.keys.principal(t.Context(), r.secrets[name], "", r.Now())
		return err
	}
	require.NoError(t, principal("free"))
	require.NoError(t, principal("admin"))
	r.advance(50 * time.Second)
	require.NoError(t, r.server.ConfirmKeys(t.Context()))
	r.store.fail(awayError{})
	r.advance(staffBound - time.Second)
	require.ErrorIs(t, r.server.ConfirmKeys(t.Context()), awayError{})
	require.NoError(t, principal("admin"), "the bound begins with the last confirmation")
	r.server.keys.background.Wait()
	r.advance(time.Second)
	require.ErrorIs(t, principal("admin"), errKeyUnconfirmed)
	require.NoError(t, principal("free"))
	r.server.keys.background.Wait()

	r.store.fail(nil)
	require.NoError(t, r.store.RevokeKey(t.Context(), r.keyIDs["free"]))
	r.advance(time.Hour)
	require.ErrorIs(t, principal("free"), errNoKey, "nobody confirms: it is looked up by itself")
}

func TestKeysWhileTheStoreIsAway(t *testing.T) {
	r := newRig(t)
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`).Code)
	r.store.fail(awayError{})
	r.server.ForgetKey(uuid.Nil)
	for range 3 {
		require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`).Code, "a known key goes on working")
		r.advance(time.Hour)
	}
	problem := r.problem(503, "unavailable", "pro", "POST", "/api/v1/usage", `{"meter":"evaluations"}`)
	require.NotEmpty(t, problem["request_id"], "a key that isn't known can't be let in")

	r.server.ForgetKey(r.keyIDs["free"])
	r.problem(503, "unavailable", "free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`)
	r.store.fail(nil)
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`).Code)
}

func TestKeyCacheIsBounded(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxKeys = keyShards })
	for i := range 20 * keyShards {
		name := fmt.Sprint("key", i)
		r.addKey(name, accounts.Key{Role: roleTenant, Organization: r.organizations["free"], Name: name})
		_, err := r.server.keys.principal(t.Context(), r.secrets[name], "", noon)
		require.NoError(t, err)
	}
	kept := 0
	for i := range r.server.keys.shards {
		kept += len(r.server.keys.shards[i].keys)
	}
	require.LessOrEqual(t, kept, keyShards)
	require.Len(t, r.server.keys.hashes, kept)

	for range maxUnknown + 10 {
		_, err := r.server.keys.principal(t.Context(), accounts.NewSecret(roleTenant), "", noon)
		require.ErrorIs(t, err, errNoKey)
	}
	require.LessOrEqual(t, len(r.server.keys.unknown.secrets), maxUnknown)
}

// TestRevocationWinsTheRace revokes a key while others use it: whoever asks after
// the key was forgotten is refused, whatever was under way.
func TestRevocationWinsTheRace(t *testing.T) {
	for range 50 {
		r := newRig(t)
		var forgotten atomic.Bool
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 50 {
					after := forgotten.Load()
					_, err := r.server.keys.principal(t.Context(), r.secrets["free"], "", noon)
					if after && err == nil {
						t.Error("a revoked key was let in")
					}
				}
			})
		}
		require.NoError(t, r.store.RevokeKey(t.Context(), r.keyIDs["free"]))
		r.server.ForgetKey(r.keyIDs["free"])
		forgotten.Store(true)
		wg.Wait()
	}
}
