package web_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/web"
)

// testOperator shows the instances, what waits, and what differs.
func testOperator(t *testing.T, s *site) {
	t.Helper()
	b := s.browser().signIn("admin")
	lost := uuid.Must(uuid.NewV7())
	require.NoError(t, s.store.RegisterInstance(t.Context(), meter.Instance{ID: lost, Host: "gone", StartedAt: now(), LostAfter: time.Millisecond}))
	require.Eventually(t, func() bool {
		_, marked, err := s.store.MarkInstanceLost(t.Context(), lost)
		return err == nil && marked
	}, 20*time.Second, 5*time.Millisecond)
	for _, path := range []string{"/instances", "/quarantine", "/quarantine?state=dropped", "/reconcile"} {
		b.requirePage(path, b.get(path))
	}
	d := b.get("/instances")
	rows := strings.Join(d.texts("tr", "", ""), "\n")
	require.Contains(t, rows, "gone "+lost.String()+" lost")
	require.Empty(t, d.all("form", "action", "/instances/"+lost.String()), "what is lost can't flush")
	testSilence(t, s, b)
	live := d.actions("/instances/")[0]
	require.Equal(t, http.StatusServiceUnavailable, b.post(live, d.form(live)).status, "Temporal is away")

	today := now().Format("2006-01-02")
	d = b.get("/reconcile?from=" + today + "&to=" + today)
	b.requirePage("/reconcile", d)
	require.Len(t, d.all("p", "role", "status"), 1, "all layers say the same: %s", d.text(d.root))
	d = b.get("/reconcile?from=" + today + "&to=2001-01-01")
	require.Equal(t, http.StatusBadRequest, d.status)
	require.Len(t, d.all("p", "role", "alert"), 1)
	require.Equal(t, http.StatusNotFound, b.post("/quarantine/"+uuid.NewString(), b.get("/quarantine").form("/sign-out", "do", "eat")).status)
}

// testSilence holds that an instance is silent by its own patience, and that the page says what its words mean.
func testSilence(t *testing.T, s *site, b *browser) {
	t.Helper()
	patient, hasty, usual := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	for id, of := range map[uuid.UUID]struct{ lostAfter, behind time.Duration }{
		patient: {time.Hour, 2 * meter.DefaultLostAfter},
		hasty:   {time.Second, meter.DefaultLostAfter / 2},
		usual:   {0, meter.DefaultLostAfter / 2},
	} {
		at := now().Add(-of.behind)
		require.NoError(t, s.store.RegisterInstance(t.Context(), meter.Instance{ID: id, Host: "host", StartedAt: at, SeenAt: at, Watermark: at, LostAfter: of.lostAfter}))
	}
	d := b.get("/instances")
	rows := strings.Join(d.texts("tr", "", ""), "\n")
	require.Contains(t, rows, "host "+patient.String()+" live")
	require.Contains(t, rows, "host "+hasty.String()+" silent")
	require.Contains(t, rows, "host "+usual.String()+" live")
	for _, id := range []uuid.UUID{patient, hasty, usual} {
		require.NoError(t, s.store.StopInstance(t.Context(), id))
	}
	words := strings.Join(d.texts("dt", "", ""), " ")
	for _, word := range []string{"Flushed up to", "Silent", "Leased", "Not written"} {
		require.Contains(t, words, word)
	}
	for _, link := range []string{"tollgatewatermarklag", "tollgateinstancelost", "tollgateretainedbatches", "tollgatejournalfailing"} {
		require.Len(t, d.all("a", "href", "/docs/runbook#"+link), 1)
		require.Len(t, b.get("/docs/runbook").all("h3", "id", link), 1, "the runbook has it")
	}
}

// testAdministrator makes an organization with a key, revokes it, and publishes a price.
func testAdministrator(t *testing.T, s *site) {
	t.Helper()
	b := s.browser().signIn("admin")
	d := b.get("/organizations?search=aster")
	b.requirePage("/organizations", d)
	require.Len(t, d.all("a", "href", "/organizations/"+s.free.String()), 1)
	require.Equal(t, http.StatusBadRequest, b.post("/organizations", d.form("/organizations", "name", "")).status)
	made := b.post("/organizations", b.get("/organizations").form("/organizations", "name", "Bolt <script>", "plan", "free")).header.Get("Location")
	path := strings.TrimSuffix(made, "?done=made")
	d = b.get(made)
	b.requirePage(path, d)
	require.Equal(t, path+"?done=organization", b.post(path, d.form(path, "name", "Bolt", "plan", "pro")).header.Get("Location"))
	require.Equal(t, http.StatusBadRequest, b.post(path, d.form(path, "plan", "none", "once", uuid.NewString())).status)

	d = b.post(path+"/keys", b.get(path).form(path+"/keys", "name", "production"))
	secret := d.texts("code", "class", "secret")
	require.Len(t, secret, 1, "it is shown this once")
	s.keys["bolt"] = secret[0]
	tenant := s.browser().signIn("bolt")
	require.Equal(t, http.StatusOK, tenant.get("/usage").status)
	d = b.get(path)
	require.Empty(t, d.all("code", "class", "secret"))
	revoke := d.actions("/keys/")[0]
	require.Equal(t, path+"?done=revoked", b.post(revoke, d.form(revoke)).header.Get("Location"))
	require.Equal(t, http.StatusSeeOther, tenant.get("/usage").status)

	d = b.get("/keys")
	b.requirePage("/keys", d)
	require.Len(t, b.post("/keys", d.form("/keys", "name", "auditor", "owner", "eve", "role", "finance")).all("code", "class", "secret"), 1)
	require.Equal(t, http.StatusBadRequest, b.post("/keys", b.get("/keys").form("/keys", "name", "x", "owner", "eve", "role", "tenant")).status)

	testPublish(t, b)
	d = b.get("/audit?kind=plan")
	b.requirePage("/audit", d)
	require.Contains(t, d.text(d.root), "price books USD prices evaluations")
	require.Equal(t, http.StatusBadRequest, b.get("/audit?organization=x").status)
}

// testPublish checks a price, is refused where it was changed meanwhile, and publishes it.
func testPublish(t *testing.T, b *browser) {
	t.Helper()
	b.requirePage("/plans", b.get("/plans"))
	const path = "/plans/pro"
	d := b.get(path)
	b.requirePage(path, d)
	inForce := d.all("textarea", "", "")[0].FirstChild.Data
	dearer := strings.Replace(inForce, `"unit_price": "0.0002"`, `"unit_price": "0.0003"`, 1)
	require.NotEqual(t, inForce, dearer)
	send := func(from document, do, text string) document {
		return b.post(path, from.form(path, "do", do, "document", text, "once", uuid.NewString()))
	}
	for text, says := range map[string]string{
		"{":                                     "Line 1: unexpected EOF.",
		"{\n  \"key\": \"pro\",\n  \"name\": }": "Line 3: invalid character '}'",
		"{\n  \"key\": \"pro\",\n\n  \"nam\": \"Pro\"}": `Line 4: there is no field "nam".`,
		"{\n  \"key\": 7}": "Line 2: key can't be a number.",
		"{\"key\": \"pro\",\n  \"entitlements\": [\n    { \"meter\": \"evaluations\", \"mode\": \"hard\",\n      \"max\": \"ten\" }]}": "Line 4: entitlements.max can't be a string.",
	} {
		refused := send(d, "check", text)
		require.Equal(t, http.StatusBadRequest, refused.status)
		require.Contains(t, refused.texts("p", "role", "alert")[0], "This is no plan. "+says, text)
		require.Equal(t, text, strings.TrimPrefix(refused.all("textarea", "", "")[0].FirstChild.Data, "\n"), "what was typed is kept")
	}
	require.Len(t, d.all("a", "href", "/docs/guides/plans"), 1)
	require.Equal(t, http.StatusOK, b.get("/docs/guides/plans").status)
	require.Equal(t, http.StatusBadRequest, send(d, "check", strings.Replace(inForce, `"pro"`, `"other"`, 1)).status)
	require.Equal(t, http.StatusConflict, send(d, "publish", dearer).status, "it was not checked")
	checked := send(d, "check", dearer)
	b.requirePage(path, checked)
	require.Contains(t, checked.texts("tr", "", ""), "price books USD prices evaluations tiers 1 unit price 0.0002 0.0003")
	require.Equal(t, http.StatusConflict, send(checked, "publish", inForce).status, "it was changed after the check")
	require.Equal(t, path+"?done=published", send(checked, "publish", dearer).header.Get("Location"))
	d = b.get(path)
	require.Contains(t, d.texts("tr", "", ""), "price books USD prices evaluations tiers 1 unit price 0.0002 0.0003", "beside the version before")
	require.Len(t, d.all("a", "href", path+"?from=1&to=2"), 1)
	require.Equal(t, http.StatusNotFound, b.get(path+"?to=9").status)
	require.Equal(t, http.StatusNotFound, b.get("/plans/none").status)
}

// testDemo offers keys where the program wants that, to this machine alone, and sends real requests.
func testDemo(t *testing.T, s *site) {
	t.Helper()
	b := s.browser()
	require.Equal(t, http.StatusNotFound, b.get("/demo").status, "nothing is offered by itself")
	require.Equal(t, http.StatusNotFound, b.post("/demo", url.Values{}).status)
	s.demo = []web.DemoVisitor{{Name: "Tenant", Does: "Uses.", Key: s.keys["tenant"], Page: "/money", Limited: "simulations"}}
	defer func() { s.demo = nil }()
	require.Equal(t, "/demo", b.get("/").header.Get("Location"))
	d := b.get("/demo")
	b.requirePage("/demo", d)
	require.Equal(t, "/money", s.browser().post("/sign-in", d.form("/sign-in")).header.Get("Location"))
	for _, from := range []struct{ host, remote string }{{"demo.example.com", "127.0.0.1:999"}, {"127.0.0.1:8080", "192.0.2.1:999"}, {"localhost", "[2001:db8::1]:999"}} {
		request := httptest.NewRequest(http.MethodGet, "/demo", nil)
		request.Host, request.RemoteAddr = from.host, from.remote
		answer := httptest.NewRecorder()
		s.pages.ServeHTTP(answer, request)
		require.Equal(t, http.StatusNotFound, answer.Code, "%v", from)
		require.NotContains(t, answer.Body.String(), s.keys["tenant"])
	}
	admin, path := s.browser().signIn("admin"), "/organizations/"+s.free.String()
	require.Equal(t, http.StatusSeeOther, admin.post(path, admin.get(path).form(path, "plan", "free")).status)
	d = b.post("/demo", url.Values{})
	require.Contains(t, d.text(d.root), "50 requests")
	require.Contains(t, d.text(d.root), "answered with 402")
	require.Equal(t, "/usage", d.form("/sign-in").Get("next"))
}
