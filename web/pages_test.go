package web_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api"
	"github.com/riverline/tollgate/audit"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/plans"
	"github.com/riverline/tollgate/web"
	"github.com/riverline/tollgate/webhooks"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	pgtest.Main(m)
}

// site is the pages with an API and a meter, on a Postgres.
type site struct {
	t     *testing.T
	store *pgstore.Store
	url   string
	pages *web.Pages
	// flush writes what is pending.
	flush func()
	keys  map[string]string
	ids   map[string]uuid.UUID
	free  uuid.UUID
}

// nothing is a Temporal that is away, and a blob store that is empty.
type nothing struct{}

func (nothing) StartExport(context.Context, api.ExportRequest) (api.ExportRun, error) {
	return api.ExportRun{}, api.ErrWorkflowsAway
}

func (nothing) DeliverExport(context.Context, api.DeliveryRequest) (api.ExportRun, error) {
	return api.ExportRun{}, api.ErrWorkflowsAway
}

func (nothing) Decide(context.Context, api.ExportDecision) (billing.Stage, error) {
	return "", api.ErrWorkflowsAway
}

func (nothing) ExportProgress(context.Context, calendar.Period) (api.ExportProgress, error) {
	return api.ExportProgress{}, api.ErrWorkflowsAway
}

func (nothing) FlushNow(context.Context, uuid.UUID) (meter.FlushSummary, error) {
	return meter.FlushSummary{}, api.ErrWorkflowsAway
}

func (nothing) Redeliver(context.Context, webhooks.Delivery) (api.DeliveryRun, error) {
	return api.DeliveryRun{WorkflowID: "w", RunID: "r"}, nil
}

func (nothing) Open(context.Context, string) (io.ReadCloser, error) {
	return nil, errors.New("there are no files")
}

func now() time.Time { return time.Now().UTC() }

func newSite(t *testing.T) *site {
	t.Helper()
	// A window that ends meanwhile would be another one's test.
	const least = 30 * time.Second
	if left := calendar.DayOf(now()).End().Sub(now()); left < least {
		time.Sleep(left)
	}
	logger := slog.New(slog.DiscardHandler)
	store, err := pgstore.Open(t.Context(), pgstore.Config{URL: pgtest.NewDatabase(t).APIURL, Logger: logger})
	require.NoError(t, err)
	require.NoError(t, store.PublishCatalog(t.Context(), plans.Default()))
	id := uuid.Must(uuid.NewV7())
	require.NoError(t, store.RegisterInstance(t.Context(), meter.Instance{
		ID: id, Host: "test", Status: meter.InstanceLive, StartedAt: now(), SeenAt: now(), Watermark: now(),
	}))
	m := meter.New(meter.Config{
		Catalog: plans.Default(), Store: store, Logger: logger, Now: now, Leases: store, Instance: id, LeaseFor: time.Minute, Identities: store,
	})
	flusher := meter.NewFlusher(meter.FlusherConfig{Meter: m, Store: store, Instance: id, Now: now})
	server := api.New(api.Config{
		Meter: m, Refresher: meter.NewRefresher(meter.RefresherConfig{Meter: m, Catalog: store.CatalogSeen, Now: now}),
		Store: store, Workflows: nothing{}, Blobs: nothing{}, Now: now, Logger: logger,
		WebhooksConfig: api.WebhooksConfig{Webhooks: store, Redeliverer: nothing{}},
	})
	pages := web.New(web.Config{API: server, SignIns: store, Logger: logger, LiveEvery: 20 * time.Millisecond})
	server.ServePages(pages)
	served := httptest.NewServer(server.Handler())
	t.Cleanup(func() {
		pages.Stop()
		served.Close()
		server.Close()
		m.Close()
		store.Close()
	})
	s := &site{t: t, store: store, url: served.URL, pages: pages, keys: map[string]string{}, ids: map[string]uuid.UUID{}, flush: func() {
		_, err := flusher.Flush(t.Context())
		require.NoError(t, err)
	}}
	o, err := store.CreateOrganization(t.Context(), accounts.NewOrganization{Name: "Aster & <Sons>", Plan: "free", EffectiveAt: calendar.PeriodOf(now()).Start()})
	require.NoError(t, err)
	s.free = o.ID
	s.addKey("tenant", accounts.Key{Role: accounts.RoleTenant, Organization: o.ID, Name: "production"})
	s.addKey("finance", accounts.Key{Role: accounts.RoleFinance, Name: "month-end", Owner: "ada"})
	s.addKey("admin", accounts.Key{Role: accounts.RoleAdmin, Name: "root", Owner: "grace"})
	return s
}

func (s *site) addKey(name string, k accounts.Key) {
	s.t.Helper()
	secret := accounts.NewSecret(k.Role)
	k.Prefix = accounts.SecretPrefix(secret)
	made, err := s.store.CreateKey(s.t.Context(), k, accounts.HashSecret(secret))
	require.NoError(s.t, err)
	s.keys[name], s.ids[name] = secret, made.ID
}

// browser keeps cookies, and follows no redirects.
type browser struct {
	*site
	client *http.Client
}

func (s *site) browser() *browser {
	jar, err := cookiejar.New(nil)
	require.NoError(s.t, err)
	return &browser{s, &http.Client{Jar: jar, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// document is an answer that was parsed.
type document struct {
	t      *testing.T
	status int
	header http.Header
	root   *html.Node
	size   int
}

func (b *browser) do(request *http.Request) document {
	b.t.Helper()
	response, err := b.client.Do(request)
	require.NoError(b.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(b.t, err)
	root, err := html.Parse(strings.NewReader(string(body)))
	require.NoError(b.t, err)
	return document{b.t, response.StatusCode, response.Header, root, len(body)}
}

func (b *browser) get(path string) document {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.url+path, nil)
	require.NoError(b.t, err)
	return b.do(request)
}

// post sends a form as a browser does. Headers are pairs of names and values.
func (b *browser) post(path string, form url.Values, headers ...string) document {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.url+path, strings.NewReader(form.Encode()))
	require.NoError(b.t, err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	return b.do(request)
}

func (b *browser) signIn(name string) *browser {
	b.t.Helper()
	d := b.post("/sign-in", url.Values{"key": {b.keys[name]}})
	require.Equal(b.t, http.StatusSeeOther, d.status, d.text(d.root))
	return b
}

// all returns the elements of a tag whose attribute has a value; an empty attribute is any.
func (d document) all(tag, attribute, value string) []*html.Node {
	var out []*html.Node
	for n := range d.root.Descendants() {
		if n.Type == html.ElementNode && n.Data == tag && (attribute == "" || slices.ContainsFunc(n.Attr, func(a html.Attribute) bool {
			return a.Key == attribute && (value == "" || slices.Contains(strings.Fields(a.Val), value) || a.Val == value)
		})) {
			out = append(out, n)
		}
	}
	return out
}

func (d document) text(n *html.Node) string {
	var out strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			out.WriteString(c.Data + " ")
		}
	}
	return strings.Join(strings.Fields(out.String()), " ")
}

// texts are those of the elements of [document.all].
func (d document) texts(tag, attribute, value string) []string {
	out := []string{}
	for _, n := range d.all(tag, attribute, value) {
		out = append(out, d.text(n))
	}
	return out
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// form returns the hidden fields of the form that is sent to a path, and more.
func (d document) form(action string, more ...string) url.Values {
	d.t.Helper()
	out := url.Values{}
	forms := d.all("form", "action", action)
	require.NotEmpty(d.t, forms, "no form for %s: %s", action, d.text(d.root))
	for n := range forms[0].Descendants() {
		if n.Type == html.ElementNode && n.Data == "input" && attribute(n, "type") == "hidden" {
			out.Set(attribute(n, "name"), attribute(n, "value"))
		}
	}
	for i := 0; i < len(more); i += 2 {
		out.Set(more[i], more[i+1])
	}
	return out
}

// use reports usage as a program does, and returns the status.
func (s *site) use(quantity string) int {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+"/api/v1/usage", strings.NewReader(`{"meter":"evaluations","quantity":`+quantity+`}`))
	require.NoError(s.t, err)
	request.Header.Set("Authorization", "Bearer "+s.keys["tenant"])
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	require.NoError(s.t, err)
	require.NoError(s.t, response.Body.Close())
	return response.StatusCode
}

const maxWeight = 200 << 10

// requirePage holds what each page keeps to: its weight, its policy, its marks for who can't see it.
func (b *browser) requirePage(path string, d document) {
	b.t.Helper()
	require.Equal(b.t, http.StatusOK, d.status, "%s: %s", path, d.text(d.root))
	require.Contains(b.t, d.header.Get("Content-Security-Policy"), "script-src 'self'")
	require.NotContains(b.t, d.header.Get("Content-Security-Policy"), "unsafe")
	require.Len(b.t, d.all("h1", "", ""), 1, path)
	require.Len(b.t, d.all("main", "id", "main"), 1, path)
	weight := d.size
	for _, n := range append(d.all("script", "", ""), d.all("link", "", "")...) {
		source := attribute(n, "src") + attribute(n, "href")
		require.True(b.t, strings.HasPrefix(source, "/assets/"), "%s loads %q", path, source)
		weight += b.get(source).size
	}
	require.Less(b.t, weight, maxWeight, path)
	for n := range d.root.Descendants() {
		for _, a := range n.Attr {
			require.NotEqual(b.t, "style", a.Key, "%s: the policy forbids it", path)
			require.False(b.t, strings.HasPrefix(a.Key, "on"), "%s has %s", path, a.Key)
		}
	}
	for _, n := range d.all("input", "", "") {
		if attribute(n, "type") != "hidden" && attribute(n, "type") != "checkbox" {
			require.Len(b.t, d.all("label", "for", attribute(n, "id")), 1, "%s: the field %s has a label", path, attribute(n, "name"))
		}
	}
}

func TestPages(t *testing.T) {
	s := newSite(t)
	t.Run("sign-in", func(t *testing.T) { testSignIn(t, s) })
	t.Run("who may", func(t *testing.T) { testWhoMay(t, s) })
	t.Run("forms", func(t *testing.T) { testForms(t, s) })
	t.Run("a tenant hits the limit and upgrades", func(t *testing.T) { testLimit(t, s) })
	t.Run("tenant's pages", func(t *testing.T) { testTenant(t, s) })
	t.Run("webhooks", func(t *testing.T) { testWebhooks(t, s) })
}

func testSignIn(t *testing.T, s *site) {
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
	text, err := os.ReadFile("../docs/security.md")
	require.NoError(t, err)
	table := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(/[^`]*)` \\| (GET|POST)((?:, POST)?) \\|(.*)\\|$").FindAllStringSubmatch(string(text), -1) {
		for _, method := range append([]string{row[2]}, strings.Fields(strings.ReplaceAll(row[3], ",", ""))...) {
			table[method+" "+row[1]] = row[4]
		}
	}
	served := []string{}
	for _, pattern := range s.pages.Routes() {
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
				d.status == http.StatusSeeOther && strings.HasPrefix(d.header.Get("Location"), "/sign-in?next=")
			require.Equal(t, may, !refused, "%s by %q: %d", route, name, d.status)
		}
	}
}

// testForms holds that a form counts only from our own page, and once.
func testForms(t *testing.T, s *site) {
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

func testWebhooks(t *testing.T, s *site) {
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
