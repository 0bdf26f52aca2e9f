package web_test

import (
	"bufio"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
)

// testSignedOut loses nothing that was typed where a session has ended meanwhile, and puts no page into another one.
func testSignedOut(t *testing.T, s *site) {
	t.Helper()
	b, o := s.browser().signIn("finance"), s.organization("Kept & <b>")
	path := "/credits/" + o.ID.String()
	form := b.get(path).form(path, "amount", "12.50", "currency", "USD", "note", "typed for long", "effective_at", "")
	b.signOut()

	kept := b.post(path, form)
	require.Equal(t, http.StatusUnauthorized, kept.status)
	require.Contains(t, kept.texts("tr", "", ""), "amount 12.50")
	require.Equal(t, http.StatusUnauthorized, b.post(path, kept.form(path)).status, "still signed out")
	again := kept.form(path)
	require.Equal(t, "typed for long", again.Get("note"))
	require.Equal(t, form.Get("once"), again.Get("once"), "it stays one form")
	require.Empty(t, again.Get("form"))
	require.Equal(t, http.StatusForbidden, b.post(path, form, "Sec-Fetch-Site", "cross-site").status)
	require.Equal(t, "/sign-in", b.post(path, form, "Sec-Fetch-Site", "").header.Get("Location"), "nobody vouches for it")

	// One that is from before the sign-in that is open, in another tab or after the one that ended, is sent once more.
	b.signIn("finance")
	require.Equal(t, http.StatusForbidden, b.post(path, again).status)
	older := b.post(path, form)
	require.Equal(t, http.StatusForbidden, older.status)
	require.Equal(t, "12.50", older.form(path).Get("amount"))
	require.Equal(t, http.StatusForbidden, b.post(path, form, "Sec-Fetch-Site", "").status)
	require.Contains(t, b.get(path).text(b.get(path).root), "It was never given any.", "nothing was done")
	granted := b.post(path, older.form(path))
	require.Equal(t, path+"?done=granted", granted.header.Get("Location"), granted.text(granted.root))
	require.Contains(t, b.get(path).text(b.get(path).root), "12.50 USD")
	require.Equal(t, path, b.get("/sign-in?next="+url.QueryEscape(path)).header.Get("Location"), "who is signed in goes on, too")

	// What a script asks for says so on its page; a redirect would be followed, and the page of the sign-in put into a part.
	b.signOut()
	for _, asked := range []document{
		b.getWith("/credits?search=k", "Hx-Request", "true", "Hx-Current-Url", s.url+"/credits?search=ke"),
		b.post("/prices", form, "Hx-Request", "true", "Hx-Current-Url", s.url+"/prices"),
	} {
		require.Equal(t, http.StatusOK, asked.status)
		require.Equal(t, "#away", asked.header.Get("Hx-Retarget"))
		require.Len(t, asked.all("p", "id", strings.TrimPrefix(asked.header.Get("Hx-Reselect"), "#")), 1)
		require.Empty(t, asked.all("form", "", ""))
	}
	elsewhere := b.getWith("/credits?search=k", "Hx-Request", "true", "Hx-Current-Url", "https://evil.example//evil.example")
	require.Len(t, elsewhere.all("a", "href", "/sign-in?next="), 1)
}

// testStreamEnds has a stream end with the sign-in, and say so: nothing moves any more on a page that looks as if it did.
func testStreamEnds(t *testing.T, s *site) {
	t.Helper()
	b := s.browser().signIn("finance")
	period := calendar.PeriodOf(now()).Previous().Previous().Previous().Previous()
	export, owner := issued(t, s, period)
	exec(t, owner, `UPDATE exports SET stage = 'rating', finished_at = NULL WHERE id = $1`, export.ID)
	listen := func(begun func()) string {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/months/"+period.String()+"/live", nil)
		require.NoError(t, err)
		request.Header.Set("Accept", "text/event-stream")
		response, err := b.client.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
		require.Equal(t, "no", response.Header.Get("X-Accel-Buffering"), "nginx keeps back nothing")
		heard, said := []string{}, bufio.NewScanner(response.Body)
		for said.Scan() {
			if heard = append(heard, said.Text()); len(heard) == 1 {
				begun()
			}
		}
		return strings.Join(heard, "\n")
	}
	began := time.Now()
	heard := listen(func() { b.signOut() })
	require.Less(t, time.Since(began), time.Minute)
	require.Contains(t, heard, "event: progress\n")
	require.Contains(t, heard, "event: over\ndata: <p")
	// A proxy takes a connection on which nothing is said for a dead one.
	again, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/months/"+period.String()+"/live", nil)
	require.NoError(t, err)
	response, err := s.browser().signIn("finance").client.Do(again)
	require.NoError(t, err)
	defer response.Body.Close()
	still := false
	for said := bufio.NewScanner(response.Body); !still && said.Scan(); {
		still = strings.HasPrefix(said.Text(), ":")
	}
	require.True(t, still)
	// The browser asks again by itself.
	require.True(t, strings.HasPrefix(listen(func() {}), "event: over\ndata: <p"))
	exec(t, owner, `UPDATE exports SET stage = 'closed', finished_at = now() WHERE id = $1`, export.ID)
}

// testChangedMeanwhile refuses what was decided on something else than there is now.
func testChangedMeanwhile(t *testing.T, s *site) {
	t.Helper()
	admin := s.browser().signIn("admin")
	const plan = "/plans/enterprise"
	one, other := admin.get(plan), admin.get(plan)
	text := one.all("textarea", "", "")[0].FirstChild.Data
	publish := func(from document, text string) document {
		checked := admin.post(plan, from.form(plan, "do", "check", "document", text, "once", uuid.NewString()))
		if checked.status != http.StatusOK {
			return checked
		}
		return admin.post(plan, checked.form(plan, "do", "publish", "document", text, "once", uuid.NewString()))
	}
	require.Equal(t, plan+"?done=published", publish(one, strings.Replace(text, `"Enterprise"`, `"Enterprise X"`, 1)).header.Get("Location"))
	lost := publish(other, strings.Replace(text, `"Enterprise"`, `"Enterprise Y"`, 1))
	require.Equal(t, http.StatusConflict, lost.status)
	require.Contains(t, lost.texts("p", "role", "alert")[0], "was published meanwhile")
	require.Contains(t, lost.all("textarea", "", "")[0].FirstChild.Data, "Enterprise Y", "what was typed is kept")

	o := s.organization("Before")
	at := "/organizations/" + o.ID.String()
	shown := admin.get(at)
	require.Equal(t, http.StatusSeeOther, admin.post(at, shown.form(at, "name", "After")).status)
	require.Equal(t, http.StatusSeeOther, admin.post(at, shown.form(at, "name", "Before", "plan", "free", "once", uuid.NewString())).status)
	require.Equal(t, []string{"After"}, admin.get(at).texts("h1", "", ""), "only what was touched is changed")

	finance := s.browser().signIn("finance")
	period := calendar.PeriodOf(now()).Previous().Previous().Previous().Previous().Previous()
	export, owner := issued(t, s, period)
	reviewing := `UPDATE exports SET stage = 'reviewing', finished_at = NULL, issued_at = NULL WHERE id = $1`
	exec(t, owner, reviewing, export.ID)
	path := "/months/" + period.String()
	seen := finance.get(path)
	exec(t, owner, `UPDATE exports SET stage = 'rejected', finished_at = now() WHERE id = $1`, export.ID)
	next, _, err := s.store.BeginExport(t.Context(), billing.Export{
		ID: uuid.Must(uuid.NewV7()), Period: period, WorkflowID: export.WorkflowID, RunID: "another", Cut: period.End(),
		RequestedBy: "month-end", RequestedByID: s.ids["finance"], RequestedAt: now(),
	})
	require.NoError(t, err)
	exec(t, owner, reviewing, next.ID)
	refused := finance.post(path, seen.form(path, "do", "review", "note", "as it was"))
	require.Equal(t, http.StatusConflict, refused.status)
	require.Contains(t, refused.texts("p", "role", "alert")[0], "Another run")
	require.Equal(t, "as it was", attribute(refused.all("input", "id", "note")[0], "value"))
	require.Equal(t, path+"?done=decided", finance.post(path, finance.get(path).form(path, "do", "review", "note", "as it is")).header.Get("Location"))
	exec(t, owner, `UPDATE exports SET stage = 'rejected', finished_at = now() WHERE id = $1`, next.ID)
}

// testLargeForms says that a form is too large: what can't be read of it isn't taken for another site's.
func testLargeForms(t *testing.T, s *site) {
	t.Helper()
	b := s.browser().signIn("admin")
	const plan = "/plans/pro"
	form := b.get(plan).form(plan, "do", "check", "document", strings.Repeat(`{"`, 1<<17))
	large := b.post(plan, form)
	require.Equal(t, http.StatusRequestEntityTooLarge, large.status)
	require.Contains(t, large.text(large.root), "larger than 256 KiB")
	// The API takes a plan of 64 KiB; as a form it is larger.
	form.Set("document", strings.Repeat(`{"`, 30<<10))
	require.Equal(t, http.StatusBadRequest, b.post(plan, form).status)
}

// testPorts signs people in to two of these on one host: cookies don't know ports.
func testPorts(t *testing.T, s *site) {
	t.Helper()
	i := newIdentities(t, s)
	b := s.browser().signIn("tenant")
	require.Equal(t, http.StatusOK, b.get("/usage").status)
	other := *s
	other.url = i.url
	there := &browser{&other, b.client}
	there.signIn("finance")
	require.Equal(t, http.StatusOK, there.get("/months").status)
	require.Equal(t, http.StatusOK, b.get("/usage").status)
}

// testNames shows names that lead elsewhere than they are read: each is a part of its own.
func testNames(t *testing.T, s *site) {
	t.Helper()
	b := s.browser().signIn("admin")
	for _, name := range []string{"\u202eevil\u202c <i>", "شركة (سورية) 100", "👩‍👩‍👧‍👦 é̷̢", strings.Repeat("W", 200)} {
		o, err := s.store.CreateOrganization(t.Context(), accounts.NewOrganization{Name: name, Plan: "pro", EffectiveAt: calendar.PeriodOf(now()).Start()})
		require.NoError(t, err)
		for _, path := range []string{"/organizations/" + o.ID.String(), "/credits/" + o.ID.String()} {
			d := b.get(path)
			require.Len(t, d.all("h1", "", ""), 1)
			isolated := d.all("bdi", "", "")
			require.NotEmpty(t, isolated, path)
			require.True(t, slices.ContainsFunc(isolated, func(n *html.Node) bool { return n.Parent.Data == "h1" && n.FirstChild.Data == name }), path)
		}
	}
}

func (b *browser) signOut() {
	b.t.Helper()
	require.Equal(b.t, "/sign-in?done=out", b.post("/sign-out", b.get("/webhooks").form("/sign-out")).header.Get("Location"))
}

// getWith is a request with headers: pairs of names and values.
func (b *browser) getWith(path string, headers ...string) document {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.url+path, nil)
	require.NoError(b.t, err)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	return b.do(request)
}
