package postgrestest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
	"github.com/riverline/tollgate/webhooks"
)

// idleWorkflows is a Temporal in which nothing runs.
type idleWorkflows struct{ noWorkflows }

func (idleWorkflows) Decide(context.Context, api.ExportDecision) (billing.Stage, error) {
	return "", api.ErrNotRunning
}

// place is where a path ends in an identity.
type place struct {
	// known is one that is there, for the rest of the path.
	known string
	// unknown is one that isn't, and says is what is answered to it; empty: nothing of the kind.
	unknown, says string
}

// lookups is an API with a key of each role, one thing of each kind, and the places where
// identities stand in paths.
type lookups struct {
	*replica
	database *pgtest.Database
	keys     map[accounts.Role]string
	tenant   uuid.UUID
	places   map[string]place
}

func newLookups(t *testing.T) *lookups {
	t.Helper()
	database := pgtest.NewDatabase(t)
	r := newReplica(t, database)
	l := &lookups{replica: r, database: database, keys: map[accounts.Role]string{}}
	m := meter.New(meter.Config{Catalog: plans.Default(), Store: r.store, Logger: slog.New(slog.DiscardHandler), Now: now})
	server := api.New(api.Config{
		Meter: m, Refresher: meter.NewRefresher(meter.RefresherConfig{Meter: m, Catalog: r.store.CatalogSeen, Now: now}),
		Store: r.store, Workflows: idleWorkflows{}, Blobs: noWorkflows{}, Now: now, Logger: slog.New(slog.DiscardHandler),
		WebhooksConfig: api.WebhooksConfig{Webhooks: r.store, Redeliverer: noWorkflows{}},
	})
	l.http = httptest.NewServer(server.Handler())
	t.Cleanup(func() { l.http.Close(); server.Close(); m.Close() })
	l.tenant = l.organization("Acme", accounts.RoleTenant)
	l.key(accounts.Key{Role: accounts.RoleFinance, Name: "month-end", Owner: "month-end"})
	l.key(accounts.Key{Role: accounts.RoleAdmin, Name: "root", Owner: "root"})
	l.export()

	id, event := uuid.NewString(), uuid.NewString()
	endpoint := l.endpoint(uuid.Nil)
	named := func(kind string, known uuid.UUID) place {
		return place{known: known.String(), unknown: id, says: fmt.Sprintf("There is no %s %s.", kind, id)}
	}
	const period = "/api/v1/billing/exports/{period}"
	l.places = map[string]place{
		"/api/v1/organizations/{id}": named("organization", l.tenant),
		"/api/v1/reservations/{id}":  named("reservation", uuid.Nil),
		"/api/v1/keys/{id}":          named("API key", uuid.Nil),
		"/api/v1/credits/{grant}":    named("credit grant", uuid.Nil),
		"/api/v1/proposals/{id}":     named("proposal", uuid.Nil),
		"/api/v1/quarantine/{id}":    named("quarantined usage", uuid.Nil),
		"/api/v1/instances/{id}":     named("instance", uuid.Nil),
		"/api/v1/webhooks/{id}":      named("webhook endpoint", endpoint),
		"/api/v1/plans/{key}":        {unknown: "nobody", says: "There is no plan nobody."},
		period:                       {known: "2026-01", unknown: "2026-02", says: "There is no export 2026-02."},
		period + "/files/{name}":     {unknown: "x.csv", says: `There is no file "x.csv" in export 2026-01.`},
		period + "/statements/{organization}": {
			unknown: id, says: fmt.Sprintf("There is no statement of organization %s in export 2026-01.", id),
		},
		// It is one of a list: any other breaks a rule.
		"/api/v1/organizations/{id}/customers/{sink}": {unknown: "stripe"},
		"/api/v1/webhooks/{id}/deliveries/{event}": {
			unknown: event, says: fmt.Sprintf("There is no delivery of event %s to webhook endpoint %s.", event, endpoint),
		},
	}
	return l
}

func (l *lookups) key(k accounts.Key) {
	l.t.Helper()
	secret := accounts.NewSecret(k.Role)
	_, err := l.store.CreateKey(l.t.Context(), k, accounts.HashSecret(secret))
	require.NoError(l.t, err)
	l.keys[k.Role] = secret
}

// organization makes one; the role's key is its own from then on.
func (l *lookups) organization(name string, role accounts.Role) uuid.UUID {
	l.t.Helper()
	made, err := l.store.CreateOrganization(l.t.Context(), accounts.NewOrganization{Name: name, Plan: "pro"})
	require.NoError(l.t, err)
	l.key(accounts.Key{Role: role, Organization: made.ID, Name: name})
	return made.ID
}

func (l *lookups) endpoint(owner uuid.UUID) uuid.UUID {
	l.t.Helper()
	made, err := l.store.CreateEndpoint(l.t.Context(), webhooks.Endpoint{
		Organization: owner, URL: "https://example.com/hooks", Secrets: webhooks.Secrets{Current: webhooks.NewSecret()},
	})
	require.NoError(l.t, err)
	return made.ID
}

// export makes one that has files.
func (l *lookups) export() {
	l.t.Helper()
	period, err := calendar.ParsePeriod("2026-01")
	require.NoError(l.t, err)
	e := billing.Export{
		ID: uuid.Must(uuid.NewV7()), Period: period, WorkflowID: "export/2026-01", RunID: "run", Cut: period.End(), RequestedBy: "month-end", RequestedAt: now(),
	}
	_, _, err = l.store.BeginExport(l.t.Context(), e)
	require.NoError(l.t, err)
	require.NoError(l.t, l.store.PutManifest(l.t.Context(), e.ID, billing.Manifest{Period: period}))
}

// requireNotFound holds that a request is answered 404 and in these words.
func (l *lookups) requireNotFound(role accounts.Role, method, path, body, says string) {
	l.t.Helper()
	status, got := l.call(l.keys[role], method, path, body)
	require.Equal(l.t, http.StatusNotFound, status, "%s %s: %v", method, path, got)
	require.Equal(l.t, "not_found", got["error"], "%s %s", method, path)
	require.Equal(l.t, says, got["detail"], "%s %s", method, path)
}

var identities = regexp.MustCompile(`\{\w+\}`)

// TestErrorsSayWhatWasLookedFor asks each route of the document for what isn't there, by
// each identity in its path.
func TestErrorsSayWhatWasLookedFor(t *testing.T) {
	l := newLookups(t)
	doc, err := openapi3.NewLoader().LoadFromFile("../openapi.yaml")
	require.NoError(t, err)
	visited := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		if path == "/gateway/{path}" {
			// What is behind the gateway answers.
			continue
		}
		for method, operation := range item.Operations() {
			role, body := roleFor(operation), exampleBody(t, operation)
			for i, prefix := range prefixes(path) {
				visited[prefix] = true
				if says := l.places[prefix].says; says != "" {
					l.requireNotFound(role, method, l.fill(path, i), body, says)
				}
			}
			if slices.ContainsFunc(operation.Parameters, isRevision) {
				l.requireNotFound(role, method, l.fill(path, 1)+"?revision=7", body, "There is no export 2026-01 in revision 7.")
			}
		}
	}
	require.Len(t, visited, len(l.places))
}

// prefixes returns the beginnings of a path that end in an identity.
func prefixes(path string) []string {
	var found []string
	for _, at := range identities.FindAllStringIndex(path, -1) {
		found = append(found, path[:at[1]])
	}
	return found
}

// fill puts identities into a path of the document: a number of known ones, then unknown ones.
func (l *lookups) fill(path string, known int) string {
	filled := path
	for i, prefix := range prefixes(path) {
		of, ok := l.places[prefix]
		require.True(l.t, ok, "say what stands at the end of %s", prefix)
		value := of.unknown
		if i < known {
			value = of.known
		}
		filled = strings.Replace(filled, identities.FindString(filled), value, 1)
	}
	return filled
}

func isRevision(p *openapi3.ParameterRef) bool { return p.Value.Name == "revision" }

// roleFor returns the role that may call an operation and sees most.
func roleFor(operation *openapi3.Operation) accounts.Role {
	listed, _ := operation.Extensions["x-tollgate-roles"].([]any)
	for _, role := range []accounts.Role{accounts.RoleAdmin, accounts.RoleFinance} {
		if slices.Contains(listed, any(string(role))) {
			return role
		}
	}
	return accounts.RoleTenant
}

// exampleBody returns the example of an operation's body, which the document must have.
func exampleBody(t *testing.T, operation *openapi3.Operation) string {
	t.Helper()
	if operation.RequestBody == nil {
		return ""
	}
	body, err := json.Marshal(operation.RequestBody.Value.Content.Get("application/json").Example)
	require.NoError(t, err)
	return string(body)
}

// TestQueriesSayWhatWasLookedFor asks for what isn't there elsewhere than in the path.
func TestQueriesSayWhatWasLookedFor(t *testing.T) {
	l := newLookups(t)
	id := uuid.NewString()
	nobody := "There is no organization " + id + "."
	l.requireNotFound(accounts.RoleAdmin, "GET", "/api/v1/usage?organization_id="+id, "", nobody)
	l.requireNotFound(accounts.RoleFinance, "GET", "/api/v1/usage/history?organization_id="+id+"&meter=evaluations&from=2026-01-01&to=2026-01-02", "", nobody)
	l.requireNotFound("", "GET", "/api/v1/organisations/7?x=y", "", "There is no route GET /api/v1/organisations/7. See /docs.")
	l.requireNotFound("", "POST", "/api/v1/a%0Ab", "", "There is no route POST /api/v1/a%0Ab. See /docs.")
}

// TestAnotherTenantsThingsAreNotThere holds that the answer doesn't tell whether another
// tenant has such a thing.
func TestAnotherTenantsThingsAreNotThere(t *testing.T) {
	l := newLookups(t)
	other := l.tenant
	theirs := l.endpoint(other)
	event := events.Event{ID: uuid.Must(uuid.NewV7()), Key: "x", Kind: events.UsageThresholdReached, Organization: other, OccurredAt: now(), Data: []byte(`{}`)}
	require.NoError(t, l.store.PublishEvents(t.Context(), event))
	status, held := l.call(l.keys[accounts.RoleTenant], "POST", "/api/v1/reservations", `{"meter":"evaluations","quantity":1}`)
	require.Equal(t, http.StatusCreated, status, held)
	l.organization("Thief", accounts.RoleTenant)

	for _, id := range []string{theirs.String(), uuid.NewString()} {
		says := "There is no webhook endpoint " + id + "."
		for _, role := range []accounts.Role{accounts.RoleTenant, accounts.RoleAdmin} {
			l.requireNotFound(role, "GET", "/api/v1/webhooks/"+id, "", says)
			l.requireNotFound(role, "PATCH", "/api/v1/webhooks/"+id, `{"disabled":false}`, says)
			l.requireNotFound(role, "DELETE", "/api/v1/webhooks/"+id, "", says)
			l.requireNotFound(role, "POST", "/api/v1/webhooks/"+id+"/rotate", "", says)
			l.requireNotFound(role, "GET", "/api/v1/webhooks/"+id+"/deliveries", "", says)
			l.requireNotFound(role, "POST", "/api/v1/webhooks/"+id+"/deliveries/"+event.ID.String()+"/redeliver", "", says)
		}
	}
	for _, id := range []string{held["id"].(string), uuid.NewString()} {
		says := "There is no reservation " + id + "."
		l.requireNotFound(accounts.RoleTenant, "GET", "/api/v1/reservations/"+id, "", says)
		l.requireNotFound(accounts.RoleTenant, "DELETE", "/api/v1/reservations/"+id, "", says)
		l.requireNotFound(accounts.RoleTenant, "POST", "/api/v1/reservations/"+id+"/commit", "", says)
		l.requireNotFound(accounts.RoleTenant, "POST", "/api/v1/reservations/"+id+"/commit", `{"quantity":5}`, says)
	}
	var said []any
	for _, id := range []string{other.String(), uuid.NewString()} {
		status, got := l.call(l.keys[accounts.RoleTenant], "GET", "/api/v1/organizations/"+id, "")
		require.Equal(t, http.StatusForbidden, status)
		said = append(said, got["detail"])
	}
	require.Equal(t, said[0], said[1])
}
