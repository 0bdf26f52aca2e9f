//go:build browser

package web_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/browsertest"
)

// TestBrowserReports does what people have reported of pages like these.
func TestBrowserReports(t *testing.T) {
	s := newSite(t)
	t.Run("a session that ends while a form is filled in", func(t *testing.T) { signedOutMeanwhile(t, s) })
	t.Run("a search after the session", func(t *testing.T) { searchSignedOut(t, s) })
	t.Run("a stream after the session", func(t *testing.T) { streamSignedOut(t, s) })
	t.Run("a server that does not answer a page", func(t *testing.T) { saysWhatIsStale(t, s) })
	t.Run("more pages than connections", func(t *testing.T) { manyTabs(t, s) })
	t.Run("what moves keeps its place", func(t *testing.T) { movesInPlace(t, s) })
	t.Run("two clicks", func(t *testing.T) { twoClicks(t, s) })
	t.Run("names", func(t *testing.T) { namesOnPhone(t, s) })
	t.Run("paper", func(t *testing.T) { printed(t, s) })
}

// typedGrant has somebody of finance type a grant of credit to a new organization, and not send it.
func typedGrant(t *testing.T, s *site, organization, amount, note string) *browsertest.Window {
	t.Helper()
	o := s.organization(organization)
	w := browsertest.Open(t, s.url)
	w.SignIn(s.keys["finance"])
	w.Go("/credits/" + o.ID.String())
	w.Type("#amount", amount)
	w.Type("#note", note)
	return w
}

// signedOutMeanwhile types a grant; the session ends in another tab; nothing is lost.
func signedOutMeanwhile(t *testing.T, s *site) {
	t.Helper()
	w := typedGrant(t, s, "Kept", "12.50", "typed for long")
	tab := w.Tab()
	tab.Go("/webhooks")
	tab.SignOut()
	w.Click("main form button:last-of-type", ".kept")
	require.Contains(t, w.Text("main"), "typed for long")
	w.Look("kept-signed-out")
	tab.SignIn(s.keys["finance"])
	w.Click("main form button", "p[role=status]")
	w.Look("kept")
	w.Click("main form button", ".notice.good")
	require.Contains(t, w.Text(".figures"), "12.50 USD")
}

func searchSignedOut(t *testing.T, s *site) {
	t.Helper()
	w := browsertest.Open(t, s.url)
	w.SignIn(s.keys["admin"])
	w.Go("/organizations")
	tab := w.Tab()
	tab.Go("/webhooks")
	tab.SignOut()
	w.Type("#name", "typed before")
	w.Do(chromedp.SendKeys("#search", "k"), chromedp.WaitVisible("#signed-out"))
	w.Await(`document.querySelectorAll('h1').length === 1 && document.querySelector('#found table') !== null && document.querySelector('#name').value === 'typed before'`)
	w.Look("signed-out")
}

func streamSignedOut(t *testing.T, s *site) {
	t.Helper()
	w := browsertest.Open(t, s.url)
	w.SignIn(s.keys["tenant"])
	w.Go("/usage")
	tab := w.Tab()
	tab.Go("/webhooks")
	tab.SignOut()
	w.Front()
	w.Do(chromedp.WaitVisible("#signed-out"))
	w.Await(`document.querySelector('.meter') === null`)
}

// manyTabs opens more pages that stream than a browser has connections to a host.
func manyTabs(t *testing.T, s *site) {
	t.Helper()
	w := browsertest.Open(t, s.url)
	w.SignIn(s.keys["tenant"])
	began := time.Now()
	for range 8 {
		tab := w.Tab()
		tab.Go("/usage")
	}
	require.Less(t, time.Since(began), time.Minute)
}

// movesInPlace has usage move while somebody has the focus, on a phone, in a table that is wider than it.
func movesInPlace(t *testing.T, s *site) {
	t.Helper()
	w := browsertest.Open(t, s.url)
	w.SignIn(s.keys["tenant"])
	w.Go("/usage")
	w.Do(chromedp.Focus(".meter a"))
	var before string
	w.Do(chromedp.Evaluate(`window.was = document.activeElement; document.querySelector('.meter-figure strong').textContent`, &before))
	require.Equal(t, http.StatusOK, s.use("3"))
	w.Await(`document.querySelector('.meter-figure strong').textContent !== '` + before + `'`)
	w.Await(`document.activeElement === window.was && document.activeElement.matches('.meter a')`)

	w = browsertest.Open(t, s.url)
	w.SignIn(s.keys["admin"])
	w.Do(chromedp.EmulateViewport(390, 900))
	w.Go("/instances")
	var heard int
	w.Do(chromedp.Evaluate(`window.heard = 0; document.body.addEventListener('htmx:sseMessage', () => window.heard++); window.button = document.querySelector('td form button');
		document.querySelector('div[aria-label=Instances]').scrollLeft = 200; window.heard`, &heard))
	w.Await(`window.heard > 2`)
	w.Await(`document.querySelector('div[aria-label=Instances]').scrollLeft === 200 && window.button === document.querySelector('td form button')`)
}

// twoClicks grants once where somebody clicks twice, and says that it is done.
func twoClicks(t *testing.T, s *site) {
	t.Helper()
	w := typedGrant(t, s, "Twice", "7", "clicked twice")
	w.Do(chromedp.Evaluate(`(b => { b.click(); b.click(); })([...document.querySelectorAll('main form button')].at(-1))`, nil), chromedp.WaitVisible(".notice"))
	require.Equal(t, []string{"7.00 USD"}, w.Texts(".figures strong"))
	require.Contains(t, w.Text(".notice"), "granted")
	w.Do(chromedp.SendKeys("td input[name=note]", "by mistake"),
		chromedp.Evaluate(`(b => { b.click(); b.click(); })(document.querySelector('td button.danger'))`, nil),
		chromedp.WaitVisible("div[aria-label=Ledger] tbody tr:nth-child(2)"))
	require.Contains(t, w.Text(".notice"), "taken back")
}

// namesOnPhone shows names of every kind where there is little room: on a phone, and enlarged to 400 %.
func namesOnPhone(t *testing.T, s *site) {
	t.Helper()
	var paths []string
	for _, name := range []string{"\u202eevil\u202c <i>", "شركة (سورية) 100", "👩‍👩‍👧‍👦 é̷̢", strings.Repeat("W", 200)} {
		o, err := s.store.CreateOrganization(t.Context(), accounts.NewOrganization{Name: name, Plan: "pro", EffectiveAt: calendar.PeriodOf(now()).Start()})
		require.NoError(t, err)
		paths = append(paths, "/organizations/"+o.ID.String(), "/credits/"+o.ID.String())
	}
	rich := s.organization("Rich")
	for _, most := range []billing.CreditGrant{
		{Currency: "KWD", Amount: decimal.RequireFromString("999999999999.999")},
		{Currency: "JPY", Amount: decimal.RequireFromString("999999999999")},
		{Currency: "USD", Amount: decimal.RequireFromString("0.01")},
	} {
		most.Organization, most.EffectiveAt, most.Note = rich.ID, now().Add(-time.Hour), "all"
		_, err := s.store.GrantCredit(t.Context(), most)
		require.NoError(t, err)
	}
	paths = append(paths, "/credits/"+rich.ID.String())
	s.addKey("long", accounts.Key{Role: accounts.RoleAdmin, Name: strings.Repeat("M", 200), Owner: strings.Repeat("o", 200)})
	w := browsertest.Open(t, s.url)
	w.SignIn(s.keys["long"])
	for _, path := range append(paths, "/organizations", "/keys", "/audit", "/instances", "/plans/pro", "/prices?plan=pro") {
		w.Go(path)
		for _, width := range []int64{390, 320} {
			w.Do(chromedp.EmulateViewport(width, 800))
			var wide []string
			w.Do(chromedp.Evaluate(`document.documentElement.scrollWidth <= document.documentElement.clientWidth ? [] :
				[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(e => e.outerHTML.slice(0, 120))`, &wide))
			require.Empty(t, wide, "%s at %d", path, width)
			w.Do(chromedp.Evaluate(`[...document.querySelectorAll('.figures *')].filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 || e.getBoundingClientRect().right > e.closest('.figures').getBoundingClientRect().right + 1).map(e => e.outerHTML)`, &wide))
			require.Empty(t, wide, "cut off: %s at %d", path, width)
		}
	}
}

// printed looks at a page on paper, of somebody who reads it in the dark.
func printed(t *testing.T, s *site) {
	t.Helper()
	w := browsertest.Open(t, s.url)
	w.SignIn(s.keys["tenant"])
	w.Go("/money")
	w.Do(emulation.SetEmulatedMedia().WithMedia("print").WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}))
	w.Await(`getComputedStyle(document.querySelector('td')).color === 'rgb(27, 31, 35)'`)
	w.Await(`getComputedStyle(document.querySelector('.scroll')).backgroundColor === 'rgb(255, 255, 255)' && getComputedStyle(document.querySelector('.top')).display === 'none'`)
	w.Await(`getComputedStyle(document.querySelector('tfoot')).display === 'table-row-group'`)
	w.Do(emulation.SetEmulatedMedia())
}
