package postgrestest_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/audit"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/events"
)

// unauditedRoutes are the writes that leave no entry, each with the reason.
var unauditedRoutes = map[string]string{
	"POST /api/v1/usage": "usage", "POST /api/v1/usage/batch": "usage",
	"POST /api/v1/reservations": "usage", "DELETE /api/v1/reservations/{id}": "usage", "POST /api/v1/reservations/{id}/commit": "usage",
	"POST /api/v1/billing/exports/{period}/dry-run": "changes nothing",
}

// auditedWrite is a write of the document. Those before it in the list have made what it needs.
type auditedWrite struct {
	route string
	role  accounts.Role
	// body of the request; {name} in it, and in the route, stands for what is known by that name.
	body string
	// as is the name by which the id of the answer is known from then on.
	as string
	// kind is that of an entry of the request.
	kind string
}

var auditedWrites = []auditedWrite{
	{"POST /api/v1/organizations", accounts.RoleAdmin, `{"name":"Bolt","plan":"free"}`, "bolt", "organization"},
	{"PATCH /api/v1/organizations/{id}", accounts.RoleAdmin, `{"name":"Acme & Co"}`, "", "organization"},
	{"POST /api/v1/organizations/{id}/upgrade", accounts.RoleTenant, `{"plan":"free"}`, "", "contract"},
	{"DELETE /api/v1/organizations/{id}/upgrade", accounts.RoleTenant, "", "", "contract"},
	{"POST /api/v1/organizations/{id}/end", accounts.RoleAdmin, `{"effective_at":"2100-01-01T00:00:00Z"}`, "", "contract_change"},
	{"DELETE /api/v1/organizations/{id}/end", accounts.RoleAdmin, "", "", "contract_change"},
	{"PUT /api/v1/organizations/{id}/customers/{sink}", accounts.RoleFinance, `{"external_id":"cus_1"}`, "", "customer"},
	{"POST /api/v1/organizations/{id}/keys", accounts.RoleAdmin, `{"name":"second"}`, "", "key"},
	{"POST /api/v1/organizations/{id}/credits", accounts.RoleFinance, `{"amount":"5","currency":"USD","note":"paid"}`, "grant", "credit"},
	{"POST /api/v1/credits/{grant}/void", accounts.RoleFinance, `{"note":"a mistake"}`, "", "credit_entry"},
	{"POST /api/v1/keys", accounts.RoleAdmin, `{"name":"other","role":"finance","owner":"ada@example.com"}`, "key", "key"},
	{"DELETE /api/v1/keys/{id}", accounts.RoleAdmin, "", "", "key"},
	{"PUT /api/v1/plans", accounts.RoleAdmin, `{"key":"gold","name":"Gold","entitlements":[{"meter":"evaluations","mode":"hard","window":"day","max":5}]}`, "", "plan"},
	{"POST /api/v1/plans", accounts.RoleAdmin, `{"plans":[{"key":"team","name":"Team","entitlements":[]},{"key":"club","name":"Club","entitlements":[]}]}`, "", "plan"},
	{"POST /api/v1/proposals/{id}/approve", accounts.RoleFinance, `{}`, "", "proposal"},
	{"POST /api/v1/proposals/{id}/reject", accounts.RoleFinance, `{"note":"too much"}`, "", "proposal"},
	{"POST /api/v1/quarantine/{id}/apply", accounts.RoleAdmin, `{"note":"mended"}`, "", "quarantine"},
	{"POST /api/v1/quarantine/{id}/drop", accounts.RoleAdmin, `{"note":"no use"}`, "", "quarantine"},
	{"POST /api/v1/webhooks", accounts.RoleTenant, `{"url":"https://example.com/"}`, "webhook", "webhook"},
	{"PATCH /api/v1/webhooks/{id}", accounts.RoleTenant, `{"description":"mine"}`, "", "webhook"},
	{"POST /api/v1/webhooks/{id}/rotate", accounts.RoleTenant, "", "", "webhook"},
	{"POST /api/v1/webhooks/{id}/deliveries/{event}/redeliver", accounts.RoleTenant, "", "", "request"},
	{"DELETE /api/v1/webhooks/{id}", accounts.RoleTenant, "", "", "webhook"},
	{"POST /api/v1/instances/{id}/flush", accounts.RoleAdmin, "", "", "request"},
	{"POST /api/v1/billing/exports", accounts.RoleFinance, `{"period":"2026-01"}`, "", "request"},
	{"POST /api/v1/billing/exports/{period}/review", accounts.RoleFinance, `{}`, "", "request"},
	{"POST /api/v1/billing/exports/{period}/approve", accounts.RoleFinance, `{}`, "", "request"},
	{"POST /api/v1/billing/exports/{period}/cancel", accounts.RoleFinance, `{}`, "", "request"},
	{"POST /api/v1/billing/exports/{period}/continue", accounts.RoleFinance, `{"note":"x"}`, "", "request"},
	{"POST /api/v1/billing/exports/{period}/reject", accounts.RoleFinance, `{"note":"x"}`, "", "request"},
	{"POST /api/v1/billing/exports/{period}/retry", accounts.RoleFinance, `{}`, "", "request"},
	{"POST /api/v1/billing/exports/{period}/reopen", accounts.RoleFinance, `{"note":"x"}`, "", "request"},
	{"POST /api/v1/billing/exports/{period}/deliver", accounts.RoleFinance, "", "", "request"},
}

// Each write of the document leaves an entry with the key, the address and the request that made it, or says above why not.
func TestEveryWriteIsAudited(t *testing.T) {
	l := newLookups(t)
	requireEveryWriteIsListed(t)
	known := l.known()
	for _, w := range auditedWrites {
		body := w.body
		path := known.fill(w.route[strings.Index(w.route, " ")+1:], w.kind)
		status, header, answer, err := l.send(l.keys[w.role], w.route[:strings.Index(w.route, " ")], path, body, "")
		require.NoError(t, err, w.route)
		if w.kind != "request" {
			require.Less(t, status, 300, "%s: %v", w.route, answer)
		}
		if w.as != "" {
			known[w.as] = answer["id"].(string)
		}
		found, err := l.store.ListAudit(t.Context(), audit.Filter{Kind: w.kind}, uuid.Nil, 100)
		require.NoError(t, err)
		i := slices.IndexFunc(found, func(e audit.Entry) bool { return e.RequestID == header.Get("X-Request-Id") })
		require.GreaterOrEqual(t, i, 0, "%s (%d %v) leaves no entry of the kind %s", w.route, status, answer, w.kind)
		e := found[i]
		require.NotNil(t, e.ActorID, w.route)
		require.Equal(t, []string{string(w.role), "127.0.0.1"}, []string{e.Role, e.Address}, w.route)
		if secret, shown := answer["secret"].(string); shown {
			require.NotContains(t, string(e.Before)+string(e.After), secret, w.route)
		}
	}
	status, page := l.call(l.keys[accounts.RoleAdmin], http.MethodGet, "/api/v1/audit?limit=1000&organization_id="+l.tenant.String(), "")
	require.Equal(t, http.StatusOK, status)
	require.Greater(t, len(page["entries"].([]any)), 10)
}

// requireEveryWriteIsListed holds that a new route is not forgotten.
func requireEveryWriteIsListed(t *testing.T) {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("../openapi.yaml")
	require.NoError(t, err)
	writes := []string{}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			route := method + " " + path
			if method != http.MethodGet && path != "/gateway/{path}" && unauditedRoutes[route] == "" {
				writes = append(writes, route)
			}
		}
	}
	listed := []string{}
	for _, w := range auditedWrites {
		listed = append(listed, w.route)
	}
	require.ElementsMatch(t, writes, listed, "say how each write is tried, or why it leaves no entry")
}

// knownThings are identities by the name that stands for them.
type knownThings map[string]string

// known makes one thing of each kind that a write needs.
func (l *lookups) known() knownThings {
	l.t.Helper()
	known := knownThings{"organization": l.tenant.String(), "instance": l.id.String(), "event": uuid.Must(uuid.NewV7()).String()}
	require.NoError(l.t, l.store.PublishEvents(l.t.Context(), events.Event{
		ID: uuid.MustParse(known["event"]), Key: "x", Kind: events.UsageThresholdReached, Organization: l.tenant, OccurredAt: now(), Data: []byte(`{}`),
	}))
	proposer, err := l.store.CreateKey(l.t.Context(), accounts.Key{Role: accounts.RoleFinance, Name: "p", Owner: "proposer"}, accounts.HashSecret("proposer"))
	require.NoError(l.t, err)
	for _, name := range []string{"approve", "reject"} {
		proposed, err := l.store.ProposeCredit(l.t.Context(), billing.CreditGrant{
			Organization: l.tenant, Currency: "USD", Amount: decimal.NewFromInt(5), EffectiveAt: now(), Note: "Order 7",
		}, proposer.ID)
		require.NoError(l.t, err)
		known[name] = proposed.ID.String()
	}
	owner, err := pgx.Connect(l.t.Context(), l.database.URL)
	require.NoError(l.t, err)
	defer func() { require.NoError(l.t, owner.Close(l.t.Context())) }()
	for _, name := range []string{"apply", "drop"} {
		known[name] = uuid.Must(uuid.NewV7()).String()
		_, err := owner.Exec(l.t.Context(), `
			INSERT INTO usage_quarantine (id, instance_id, seq, organization_id, meter, aggregation, day, plan, plan_version, value, at, leased_day, leased_month, reports, reason, sqlstate)
			VALUES ($1, $2, 1, $3, 'evaluations', 'sum', current_date, 'pro', 1, 1, now(), 0, 0, 0, 'x', '23514')`, known[name], l.id, l.tenant)
		require.NoError(l.t, err)
	}
	return known
}

// fill puts identities into a route.
func (k knownThings) fill(path, kind string) string {
	id := map[string]string{"/api/v1/keys/": "key", "/api/v1/instances/": "instance", "/api/v1/webhooks/": "webhook"}
	name := "organization"
	for prefix, of := range id {
		if strings.HasPrefix(path, prefix) {
			name = of
		}
	}
	if kind == "quarantine" || kind == "proposal" {
		name = path[strings.LastIndex(path, "/")+1:]
	}
	return strings.NewReplacer("{id}", k[name], "{sink}", "stripe", "{grant}", k["grant"], "{event}", k["event"], "{period}", "2026-01").Replace(path)
}
