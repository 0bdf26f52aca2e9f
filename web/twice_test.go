package web_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/calendar"
)

// testTwice clicks every button twice: the browser shows the answer to the second click, which must be that of the first.
func testTwice(t *testing.T, s *site) {
	t.Helper()
	admin, finance := s.browser().signIn("admin"), s.browser().signIn("finance")
	o := s.organization("Twice")
	s.addKey("twice", accounts.Key{Role: accounts.RoleTenant, Organization: o.ID, Name: "twice"})
	tenant := s.browser().signIn("twice")
	at, credit := "/organizations/"+o.ID.String(), "/credits/"+o.ID.String()
	period := calendar.PeriodOf(now()).Previous().Previous().Previous().Previous().Previous().Previous()
	export, owner := issued(t, s, period, o)
	exec(t, owner, `UPDATE exports SET stage = 'reviewing', finished_at = NULL, issued_at = NULL WHERE id = $1`, export.ID)
	month := "/months/" + period.String()
	require.Equal(t, http.StatusSeeOther, finance.post(credit, finance.get(credit).form(credit, "amount", "20000.50", "currency", "USD", "note", "large")).status)
	proposal := finance.get(credit).actions(credit + "/proposals/")[0]
	for _, click := range []struct {
		name   string
		by     *browser
		page   string
		action string
		fields []string
	}{
		{"make an organization", admin, "/organizations", "/organizations", []string{"name", "Made twice", "plan", "free"}},
		{"rename", admin, at, at, []string{"name", "Twice more"}},
		{"change a plan", admin, at, at, []string{"plan", "free"}},
		{"make its key", admin, at, at + "/keys", []string{"name", "production"}},
		{"make a key", admin, "/keys", "/keys", []string{"name", "auditor", "owner", "eve", "role", "finance"}},
		{"upgrade", tenant, "/plan?with=pro", "/plan", nil},
		{"change back", tenant, "/plan?with=free", "/plan", nil},
		{"keep", tenant, "/plan", "/plan/keep", nil},
		{"add a webhook", finance, "/webhooks", "/webhooks", []string{"url", "https://example.com/twice"}},
		{"grant", finance, credit, credit, []string{"amount", "7", "currency", "USD", "note", "granted"}},
		{"reject a grant", finance, credit, proposal, []string{"do", "reject", "note", "no"}},
		{"review", finance, month, month, []string{"do", "review", "note", "seen"}},
	} {
		t.Run(click.name, func(t *testing.T) { clickTwice(t, click.by, click.page, click.action, click.fields...) })
	}
	exec(t, owner, `UPDATE exports SET stage = 'rejected', finished_at = now() WHERE id = $1`, export.ID)
	for _, void := range finance.get(credit).actions(credit + "/") {
		if !strings.Contains(void, "/proposals/") {
			clickTwice(t, finance, credit, void, "note", "void")
		}
	}
	hooks := finance.links("/webhooks", "/webhooks/")
	hook := hooks[len(hooks)-1]
	for _, do := range []string{"rotate", "disable", "enable", "remove"} {
		t.Run(do+" a webhook", func(t *testing.T) { clickTwice(t, finance, hook, hook, "do", do) })
	}
	for _, revoke := range admin.get(at).actions("/keys/") {
		clickTwice(t, admin, at, revoke)
	}
}

// clickTwice sends a form twice at once.
func clickTwice(t *testing.T, b *browser, page, action string, fields ...string) {
	t.Helper()
	form := b.get(page).form(action, append(fields, "once", uuid.NewString())...)
	var answers [2]document
	var both sync.WaitGroup
	for i := range answers {
		both.Go(func() { answers[i] = b.post(action, form) })
	}
	both.Wait()
	for _, d := range answers {
		require.Less(t, d.status, http.StatusBadRequest, d.texts("p", "role", "alert"))
		require.Equal(t, answers[0].header.Get("Location"), d.header.Get("Location"))
		if answers[0].has("code", "secret") || answers[1].has("code", "secret") {
			require.True(t, d.has("code", "secret") || strings.Contains(d.text(d.root), "in the first answer alone"), d.text(d.root))
		}
	}
}

// links are the addresses below one that a page leads to.
func (b *browser) links(page, below string) (out []string) {
	b.t.Helper()
	for _, a := range b.get(page).all("a", "href", "") {
		if to := attribute(a, "href"); strings.HasPrefix(to, below) {
			out = append(out, to)
		}
	}
	return out
}

// has says that a page has an element of a class.
func (d document) has(tag, class string) bool { return len(d.all(tag, "class", class)) > 0 }
