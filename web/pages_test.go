package web_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/audit"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
)

func TestPages(t *testing.T) {
	s := newSite(t)
	t.Run("sign-in", func(t *testing.T) { testSignIn(t, s) })
	t.Run("sign-in by OpenID Connect", func(t *testing.T) { testOpenID(t, s) })
	t.Run("who may", func(t *testing.T) { testWhoMay(t, s) })
	t.Run("addresses that lead nowhere", func(t *testing.T) { testNowhere(t, s) })
	t.Run("forms", func(t *testing.T) { testForms(t, s) })
	t.Run("a tenant hits the limit and upgrades", func(t *testing.T) { testLimit(t, s) })
	t.Run("tenant's pages", func(t *testing.T) { testTenant(t, s) })
	t.Run("webhooks", func(t *testing.T) { testWebhooks(t, s) })
	t.Run("finance's pages", func(t *testing.T) { testMonths(t, s) })
	t.Run("deliveries", func(t *testing.T) { testDeliveries(t, s) })
	t.Run("credits", func(t *testing.T) { testCredits(t, s) })
	t.Run("prices", func(t *testing.T) { testPrices(t, s) })
	t.Run("prices of many", func(t *testing.T) { testManyPrices(t, s) })
	t.Run("the demo", func(t *testing.T) { testDemo(t, s) })
	t.Run("operator's pages", func(t *testing.T) { testOperator(t, s) })
	t.Run("administrator's pages", func(t *testing.T) { testAdministrator(t, s) })
	t.Run("sessions that end meanwhile", func(t *testing.T) { testSignedOut(t, s) })
	t.Run("streams end with the session", func(t *testing.T) { testStreamEnds(t, s) })
	t.Run("what has changed meanwhile", func(t *testing.T) { testChangedMeanwhile(t, s) })
	t.Run("large forms", func(t *testing.T) { testLargeForms(t, s) })
	t.Run("two on one host", func(t *testing.T) { testPorts(t, s) })
	t.Run("names", func(t *testing.T) { testNames(t, s) })
	t.Run("two clicks", func(t *testing.T) { testTwice(t, s) })
}

func testSignIn(t *testing.T, s *site) {
	t.Helper()
	b := s.browser()
	require.Equal(t, "/sign-in", b.get("/").header.Get("Location"))
	d := b.get("/usage")
	require.Equal(t, "/sign-in?next=%2Fusage", d.header.Get("Location"))
	b.requirePage("/sign-in", b.get("/sign-in?next=%2Fusage"))

	refused := b.post("/sign-in", url.Values{"key": {"tg_tenant_made-up"}})
	require.Equal(t, http.StatusUnauthorized, refused.status)
	require.Len(t, refused.all("p", "role", "alert"), 1)

	signed := b.post("/sign-in", url.Values{"key": {" " + s.keys["tenant"] + "\n"}, "next": {"/money"}})
	require.Equal(t, "/money", signed.header.Get("Location"))
	set := signed.header.Get("Set-Cookie")
	for _, rule := range []string{"HttpOnly", "SameSite=Lax", "Path=/"} {
		require.Contains(t, set, rule)
	}
	require.NotContains(t, set, s.keys["tenant"])
	elsewhere := s.browser().post("/sign-in", url.Values{"key": {s.keys["tenant"]}, "next": {"//evil.example/"}})
	require.Equal(t, "/usage", elsewhere.header.Get("Location"))

	// Another sign-in has another token, and the one before is over.
	address, err := url.Parse(s.url)
	require.NoError(t, err)
	before := b.client.Jar.Cookies(address)
	b.signIn("tenant")
	require.NotEqual(t, before, b.client.Jar.Cookies(address))
	old := s.browser()
	old.client.Jar.SetCookies(address, before)
	require.Equal(t, http.StatusSeeOther, old.get("/usage").status)

	entries, err := s.store.ListAudit(t.Context(), audit.Filter{Kind: "sign_in", Actor: s.ids["tenant"]}, uuid.Nil, 10)
	require.NoError(t, err)
	require.NotEmpty(t, entries)
	require.Equal(t, "127.0.0.1", entries[0].Address)
	require.NotEmpty(t, entries[0].RequestID)

	d = b.get("/usage")
	require.Equal(t, http.StatusSeeOther, b.post("/sign-out", d.form("/sign-out")).status)
	require.Equal(t, http.StatusSeeOther, b.get("/usage").status)

	// A key that is revoked signs out who acts for it.
	s.addKey("short", accounts.Key{Role: accounts.RoleTenant, Organization: s.free, Name: "short"})
	b = s.browser().signIn("short")
	require.Equal(t, http.StatusOK, b.get("/usage").status)
	revoke, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, s.url+"/api/v1/keys/"+s.ids["short"].String(), nil)
	require.NoError(t, err)
	revoke.Header.Set("Authorization", "Bearer "+s.keys["admin"])
	response, err := http.DefaultClient.Do(revoke)
	require.NoError(t, err)
	require.Equal(t, http.StatusNoContent, response.StatusCode)
	require.Equal(t, http.StatusSeeOther, b.get("/usage").status)
}

// testWhoMay visits every page with every role, and holds the table of docs/security.md against the answers.
func testWhoMay(t *testing.T, s *site) {
	t.Helper()
	text, err := os.ReadFile("../docs/security.md")
	require.NoError(t, err)
	table := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(/[^`]*)` \\| (GET|POST)((?:, POST)?) \\|(.*)\\|$").FindAllStringSubmatch(string(text), -1) {
		for _, method := range append([]string{row[2]}, strings.Fields(strings.ReplaceAll(row[3], ",", ""))...) {
			table[method+" "+row[1]] = row[4]
		}
	}
	served := []string{}
	for _, pattern := range append(s.pages.Routes(), s.documents.Routes()...) {
		served = append(served, strings.NewReplacer("{$}", "", "...}", "}").Replace(pattern))
	}
	listed := []string{}
	for route := range table {
		listed = append(listed, route)
	}
	require.ElementsMatch(t, served, listed, "docs/security.md has the pages that are served")
	visitors := map[string]*browser{"": s.browser(), "tenant": s.browser().signIn("tenant"), "finance": s.browser().signIn("finance"), "admin": s.browser().signIn("admin")}
	for route, row := range table {
		method, path, _ := strings.Cut(route, " ")
		if path == "/sign-in" || path == "/sign-out" || strings.HasSuffix(path, "/live") {
			continue
		}
		path = regexp.MustCompile(`{\w+}`).ReplaceAllString(path, "0199d4c5-9c1f-7d2b-8a44-51c0aa1f7b02")
		for i, name := range []string{"", "tenant", "finance", "admin"} {
			b, may := visitors[name], strings.TrimSpace(strings.Split(row, "|")[i]) != ""
			var d document
			if method == http.MethodGet {
				d = b.get(path)
			} else {
				d = b.post(path, url.Values{})
			}
			refused := d.status == http.StatusForbidden && strings.Contains(d.text(d.root), "for others") ||
				d.status == http.StatusSeeOther && strings.HasPrefix(d.header.Get("Location"), "/sign-in?next=") ||
				d.status == http.StatusUnauthorized && name == "" && method == http.MethodPost
			require.Equal(t, may, !refused, "%s by %q: %d", route, name, d.status)
		}
	}
}

// testForms holds that a form counts only from our own page, and once.
func testForms(t *testing.T, s *site) {
	t.Helper()
	b := s.browser().signIn("finance")
	page := b.get("/webhooks")
	good := page.form("/webhooks", "url", "https://example.com/once")
	for name, try := range map[string]struct {
		form    url.Values
		headers []string
	}{
		"no token":          {url.Values{"url": {"https://example.com/x"}}, nil},
		"another's token":   {url.Values{"url": {"https://example.com/x"}, "form": {s.browser().signIn("finance").get("/webhooks").form("/webhooks").Get("form")}}, nil},
		"another site":      {good, []string{"Sec-Fetch-Site", "cross-site"}},
		"another subdomain": {good, []string{"Sec-Fetch-Site", "same-site"}},
		"an old browser":    {good, []string{"Sec-Fetch-Site", "", "Origin", "https://evil.example"}},
	} {
		require.Equal(t, http.StatusForbidden, b.post("/webhooks", try.form, try.headers...).status, name)
	}
	require.Equal(t, http.StatusForbidden, s.browser().post("/sign-in", url.Values{"key": {s.keys["tenant"]}}, "Sec-Fetch-Site", "cross-site").status)
	for range 2 {
		require.Equal(t, http.StatusOK, b.post("/webhooks", good).status)
	}
	require.Len(t, b.get("/webhooks").all("tr", "", ""), 2, "sent twice, it is made once")
}

// testLimit is the path of a tenant that hits a hard limit, understands it, upgrades and goes on.
func testLimit(t *testing.T, s *site) {
	t.Helper()
	b := s.browser().signIn("tenant")
	require.Empty(t, b.get("/usage").all("div", "role", "alert"))
	require.Equal(t, http.StatusOK, s.use("1000"))
	require.Equal(t, http.StatusPaymentRequired, s.use("1"))
	s.flush()
	require.Equal(t, "/plan", s.browser().get("/api/v1/organizations/"+s.free.String()+"/upgrade").header.Get("Location"), "what a 402 points to is a page, too")

	d := b.get("/usage")
	b.requirePage("/usage", d)
	alert := d.all("div", "role", "alert")
	require.Len(t, alert, 1)
	require.Contains(t, d.text(alert[0]), "Evaluations: 1,000 of 1,000")
	require.Len(t, d.all("svg", "class", "full"), 1)

	d = b.get("/plan?with=pro")
	b.requirePage("/plan", d)
	require.Len(t, d.all("th", "scope", "col"), 4)
	require.Contains(t, d.texts("strong", "class", "number")[1], "USD")
	wanted := d.form("/plan")
	require.Equal(t, "pro", wanted.Get("plan"))
	require.Equal(t, "/plan?done=plan", b.post("/plan", wanted).header.Get("Location"))
	require.Len(t, b.get("/plan?done=plan").all("p", "role", "status"), 1)
	require.Equal(t, http.StatusOK, s.use("1"), "the same request passes")
	require.Empty(t, b.get("/usage").all("div", "role", "alert"))

	entries, err := s.store.ListAudit(t.Context(), audit.Filter{Kind: "contract_change", Organization: s.free, Actor: s.ids["tenant"]}, uuid.Nil, 10)
	require.NoError(t, err)
	require.Len(t, entries, 1, "what a page does is the API's doing, by the same key")

	refused := b.get("/plan").form("/sign-out", "plan", "enterprise")
	d = b.post("/plan", refused)
	require.Equal(t, http.StatusForbidden, d.status)
	require.Len(t, d.all("p", "role", "alert"), 1)
	require.Equal(t, "/plan?done=pending", b.post("/plan", b.get("/plan?with=free").form("/plan")).header.Get("Location"))
	require.Equal(t, "/plan?done=kept", b.post("/plan/keep", b.get("/plan").form("/plan/keep")).header.Get("Location"))
}

func testTenant(t *testing.T, s *site) {
	t.Helper()
	s.flush()
	b := s.browser().signIn("tenant")
	for _, path := range []string{"/usage/evaluations", "/usage/storage_bytes?by=month", "/money", "/statements", "/keys", "/webhooks", "/style", "/plan"} {
		b.requirePage(path, b.get(path))
	}
	d := b.get("/usage/evaluations")
	require.Len(t, d.all("svg", "class", "columns"), 1)
	require.Contains(t, d.texts("tr", "", "")[1], "1,001", "today is first")
	d = b.get("/money")
	require.NotEmpty(t, d.all("summary", "", ""), "each line unfolds to its arithmetic")
	figures := d.texts("strong", "class", "number")
	require.Len(t, figures, 2)
	require.Greater(t, money(t, figures[1]), money(t, figures[0]), "the base fee of the days to come")
	require.Equal(t, http.StatusNotFound, b.get("/statements/TG-1").status)
	require.Equal(t, http.StatusBadRequest, b.get("/usage/none").status)
	require.Equal(t, http.StatusNotFound, b.get("/nowhere").status)

	// What moves is sent by itself.
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/usage/live", nil)
	require.NoError(t, err)
	response, err := b.client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
	part := make([]byte, 16<<10)
	heard := ""
	for used := false; !strings.Contains(heard, "1,008"); {
		n, err := response.Body.Read(part)
		require.NoError(t, err, heard)
		heard += string(part[:n])
		if !used && strings.HasPrefix(heard, "event: meters\n") {
			require.Equal(t, http.StatusOK, s.use("7"))
			used = true
		}
	}
}

func money(t *testing.T, text string) float64 {
	t.Helper()
	amount, err := strconv.ParseFloat(strings.TrimSuffix(strings.ReplaceAll(text, ",", ""), " USD"), 64)
	require.NoError(t, err)
	return amount
}

// testMonths shows a close with what differs and what is parked, and decides on it.
func testMonths(t *testing.T, s *site) {
	t.Helper()
	b := s.browser().signIn("finance")
	d := b.get("/months")
	b.requirePage("/months", d)
	last := attribute(d.all("input", "name", "period")[0], "value")
	require.Equal(t, calendar.PeriodOf(now()).Previous().String(), last)
	require.Equal(t, http.StatusServiceUnavailable, b.post("/months", d.form("/months", "period", last)).status, "Temporal is away")
	period, err := calendar.ParsePeriod(last)
	require.NoError(t, err)
	export, _, err := s.store.BeginExport(t.Context(), billing.Export{
		ID: uuid.Must(uuid.NewV7()), Period: period, WorkflowID: "export/" + last, RunID: "run", Cut: period.End(),
		RequestedBy: "month-end", RequestedByID: s.ids["finance"], RequestedAt: now(),
	})
	require.NoError(t, err)
	owner, err := pgx.Connect(t.Context(), s.database.URL)
	require.NoError(t, err)
	defer owner.Close(context.Background())
	document := fmt.Sprintf(`{"period":%q,"organization_id":%q,"organization_name":"Aster","currency":"USD","plan":"pro","lines":[{"kind":"usage",
		"description":"Evaluations","start":"2026-10-01T00:00:00Z","end":"2026-11-01T00:00:00Z","exact":"75.004","rest":"0.004","amount":"75.00"}],
		"subtotal":"75.00","credits":"0.00","due":"75.00"}`, last, s.free)
	for _, statement := range []string{
		`UPDATE exports SET stage = 'reviewing', frozen_at = now() WHERE id = $1 AND $2::uuid IS NOT NULL AND $3 <> ''`,
		`INSERT INTO export_organizations (export_id, organization_id, name, plan, currency) SELECT $1, $2, 'Aster', 'pro', 'USD' WHERE $3 <> ''`,
		`INSERT INTO statements (export_id, organization_id, currency, subtotal, credits, due, line_count, corrects, document) VALUES ($1, $2, 'USD', 75, 0, 75, 1, false, $3)`,
		`INSERT INTO export_variances (export_id, organization_id, currency, previous, current, percent, previous_id) SELECT $1, $2, 'USD', 50, 75, '50.0', $1 WHERE $3 <> ''`,
		`INSERT INTO export_parked (export_id, organization_id, reason) SELECT $1, $2, 'has no prices in USD' WHERE $3 <> ''`,
	} {
		_, err := owner.Exec(t.Context(), statement, export.ID, s.free, document)
		require.NoError(t, err, statement)
	}
	path := "/months/" + last
	d = b.get(path)
	b.requirePage(path, d)
	require.Equal(t, []string{"reviewing"}, d.texts("li", "aria-current", "step"))
	require.Contains(t, d.texts("tr", "", ""), "Aster 50.00 USD 75.00 USD +25.00 USD 50.0 correction +25.00 USD")
	require.Contains(t, d.texts("tr", "", ""), "Aster has no prices in USD 1")
	require.Len(t, d.all("div", "sse-connect", path+"/live?from=reviewing"), 1)
	require.Len(t, d.all("button", "value", "review"), 1)
	require.Empty(t, d.all("button", "value", "approve"))

	d = b.post(path, d.form(path, "do", "review", "note", " "))
	require.Equal(t, http.StatusBadRequest, d.status)
	require.Len(t, d.all("p", "role", "alert"), 1, "it wants a note")
	require.Equal(t, path+"?done=decided", b.post(path, d.form(path, "do", "review", "note", "a price")).header.Get("Location"))
	d = b.post(path, d.form(path, "do", "approve", "once", uuid.NewString()))
	require.Equal(t, http.StatusForbidden, d.status)
	require.Contains(t, d.texts("p", "role", "alert")[0], "can't approve")
	require.Equal(t, http.StatusNotFound, b.post(path, d.form(path, "do", "files")).status)

	statement := path + "/statements/" + s.free.String()
	d = b.get(statement)
	b.requirePage(statement, d)
	require.Contains(t, d.texts("li", "", ""), "75.004 = 75.00 USD (rounded; rest 0.004)")
	require.Equal(t, http.StatusNotFound, b.get(path+"/statements/"+uuid.NewString()).status)
	require.Equal(t, http.StatusNotFound, b.get("/months/2001-01").status)
	require.Equal(t, http.StatusConflict, b.get(path+"/files/manifest.json").status, "there are no files yet")
	require.Equal(t, http.StatusNotFound, b.get(path+"/files.zip").status)
	testMonthIsPaged(t, s, owner, export)
}

// testMonthIsPaged follows the lists of a month, and that of months, to their ends.
func testMonthIsPaged(t *testing.T, s *site, owner *pgx.Conn, export billing.Export) {
	t.Helper()
	b, path := s.browser().signIn("finance"), "/months/"+export.Period.String()
	_, err := owner.Exec(t.Context(), `
		WITH o AS (
			INSERT INTO export_organizations (export_id, organization_id, name, plan, currency)
			SELECT $1, tollgate_uuidv7(), 'Crowd ' || n, 'pro', 'USD' FROM generate_series(1, 120) AS n RETURNING organization_id
		), p AS (
			INSERT INTO export_parked (export_id, organization_id, reason) SELECT $1, organization_id, 'has no prices in USD' FROM o
		)
		INSERT INTO export_variances (export_id, organization_id, currency, previous, current, percent, previous_id)
		SELECT $1, organization_id, 'USD', 50, 60, '20.0', $1 FROM o`, export.ID)
	require.NoError(t, err)
	for link, region := range map[string]string{"More that differ": "Differences", "More that are parked": "Parked"} {
		next := b.get(path).link(link)
		require.NotEmpty(t, next, link)
		rest := b.get(next)
		require.Empty(t, rest.link(link))
		rows := rest.text(rest.all("div", "aria-label", region)[0])
		require.Equal(t, 21, strings.Count(rows, "Crowd ")+strings.Count(rows, "Aster "), "of 121")
	}

	require.Empty(t, b.get("/months").link("More"))
	for n := range 60 {
		_, _, err := s.store.BeginExport(t.Context(), billing.Export{
			ID: uuid.Must(uuid.NewV7()), Period: export.Period, WorkflowID: "early/" + path, RunID: strconv.Itoa(n), Cut: export.Cut, Provisional: true,
			RequestedBy: "month-end", RequestedByID: s.ids["finance"], RequestedAt: now(),
		})
		require.NoError(t, err)
	}
	next := b.get("/months").link("More")
	require.Contains(t, next, "/months?before=")
	rest := b.get(next)
	require.Len(t, rest.all("a", "href", path), 1, "the month is there still")
	require.Empty(t, rest.link("More"))
}

func testWebhooks(t *testing.T, s *site) {
	t.Helper()
	b := s.browser().signIn("tenant")
	d := b.post("/webhooks", b.get("/webhooks").form("/webhooks", "url", "http://127.0.0.1/"))
	require.Equal(t, http.StatusBadRequest, d.status)
	require.Equal(t, "http://127.0.0.1/", attribute(d.all("input", "name", "url")[0], "value"), "what was typed is kept")
	d = b.post("/webhooks", b.get("/webhooks").form("/webhooks", "url", "https://example.com/hooks", "description", "billing"))
	require.Len(t, d.all("code", "class", "secret"), 1, "the secret is shown this once")
	path := attribute(d.all("a", "href", "")[slices.IndexFunc(d.all("a", "href", ""), func(n *html.Node) bool {
		return strings.HasPrefix(attribute(n, "href"), "/webhooks/")
	})], "href")
	d = b.get(path)
	b.requirePage(path, d)
	require.Empty(t, d.all("code", "class", "secret"))
	require.Len(t, b.post(path, d.form(path, "do", "rotate")).all("code", "class", "secret"), 1)
	require.Equal(t, path+"?done=changed", b.post(path, d.form(path, "do", "disable", "once", uuid.NewString())).header.Get("Location"))
	require.Equal(t, http.StatusNotFound, s.browser().signIn("finance").get(path).status, "it is the tenant's own")
	require.Equal(t, "/webhooks?done=removed", b.post(path, d.form(path, "do", "remove", "once", uuid.NewString())).header.Get("Location"))
}
