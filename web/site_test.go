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
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/plans"
	"github.com/riverline/tollgate/web"
	docsite "github.com/riverline/tollgate/web/site"
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
	// database is where it is, for its owner.
	database *pgtest.Database
	url      string
	pages    *web.Pages
	// demo is whom the first page offers.
	demo []web.DemoVisitor
	// api answers the pages.
	api *api.Server
	// documents is what serves /docs.
	documents *docsite.Site
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

// Decide takes each decision but an approval, which is that of who asked.
func (nothing) Decide(_ context.Context, d api.ExportDecision) (billing.Stage, error) {
	if d.Action == billing.ActionApproved {
		return "", &api.RefusedDecision{Code: api.CodeSelfApproval, Message: "who requested the export can't approve it"}
	}
	return billing.StageApproving, nil
}

func (nothing) ExportProgress(context.Context, calendar.Period) (api.ExportProgress, error) {
	return api.ExportProgress{Stage: billing.StageRating, Note: "rates organizations", Done: 3, Total: 12}, nil
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

// mostAlone is how much credit one person grants.
var mostAlone = decimal.NewFromInt(10_000)

func now() time.Time { return time.Now().UTC() }

func newSite(t *testing.T) *site {
	t.Helper()
	// A window that ends meanwhile would be another one's test.
	const least = 30 * time.Second
	if left := calendar.DayOf(now()).End().Sub(now()); left < least {
		time.Sleep(left)
	}
	logger := slog.New(slog.DiscardHandler)
	database := pgtest.NewDatabase(t)
	store := database.Open(t, pgstore.Config{Logger: logger})
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
		Store: store, Workflows: nothing{}, Blobs: nothing{}, Now: now, Logger: logger, CreditsTakeTwo: &mostAlone,
		WebhooksConfig: api.WebhooksConfig{Webhooks: store, Redeliverer: nothing{}},
	})
	s := &site{t: t, store: store, database: database, keys: map[string]string{}, ids: map[string]uuid.UUID{}}
	pages := web.New(web.Config{API: server, SignIns: store, Logger: logger, LiveEvery: 20 * time.Millisecond, Demo: func() []web.DemoVisitor { return s.demo }})
	server.ServePages(pages)
	documents := docsite.New(logger)
	server.ServePages(documents)
	s.documents = documents
	served := httptest.NewServer(server.Handler())
	t.Cleanup(func() {
		pages.Stop()
		served.Close()
		server.Close()
		m.Close()
		store.Close()
	})
	s.url, s.pages, s.api = served.URL, pages, server
	s.flush = func() {
		_, err := flusher.Flush(t.Context())
		require.NoError(t, err)
	}
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

// link is where a link with a text leads; empty where there is none.
func (d document) link(text string) string {
	for _, link := range d.all("a", "href", "") {
		if d.text(link) == text {
			return attribute(link, "href")
		}
	}
	return ""
}

func (d document) text(n *html.Node) string {
	var out strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			out.WriteString(c.Data + " ")
		}
	}
	// A name is an element of its own.
	return strings.NewReplacer("( ", "(", " )", ")", " :", ":").Replace(strings.Join(strings.Fields(out.String()), " "))
}

// texts are those of the elements of [document.all].
func (d document) texts(tag, attribute, value string) []string {
	out := []string{}
	for _, n := range d.all(tag, attribute, value) {
		out = append(out, d.text(n))
	}
	return out
}

// actions are those of the forms that begin so.
func (d document) actions(begin string) []string {
	out := []string{}
	for _, n := range d.all("form", "action", "") {
		if to := attribute(n, "action"); strings.HasPrefix(to, begin) {
			out = append(out, to)
		}
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
	forms := slices.DeleteFunc(d.all("form", "action", action), func(n *html.Node) bool { return attribute(n, "method") != "post" })
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
