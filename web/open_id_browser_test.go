//go:build browser

package web_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/browsertest"
)

// known is on a page of somebody who is signed in.
const known = "header nav"

// signInByOpenID has somebody sign in at the provider, from the page that the browser shows.
func signInByOpenID(i *identities, w *browsertest.Window, then, subject string, groups ...string) {
	i.t.Helper()
	i.provider.QueueUser(somebody(subject, groups...))
	w.Click("a[href^='/sign-in/openid']", then)
}

// TestBrowserOpenID is the way of people who come by an identity provider: in, what their groups let them do, a decision that two
// of them take, and out.
func TestBrowserOpenID(t *testing.T) {
	s := newSite(t)
	i := newIdentities(t, s)
	o := s.organization("Prepaid & Co")
	credit := "/credits/" + o.ID.String()

	ada := browsertest.Open(t, i.url)
	ada.Go(credit)
	require.Equal(t, "/sign-in", ada.Path())
	ada.Look("sign-in-openid")
	signInByOpenID(i, ada, known, "ada-9", "staff", "treasury")
	require.Equal(t, credit, ada.Path(), "where she wanted to go")
	require.Contains(t, ada.Text("form.who"), "ada-9 · finance")
	ada.Type("#amount", "20000.50")
	ada.Type("#note", "a large order")
	ada.Click("main form[action='"+credit+"'] button", ".notice.good")
	ada.Click("div[aria-label=Waiting] button[value=approve]", ".notice.bad")
	require.Contains(t, ada.Text(".notice.bad"), "proposed")
	ada.Look("credit-alone")

	grace := browsertest.Open(t, i.url)
	grace.Go("/")
	signInByOpenID(i, grace, known, "grace-9", "platform")
	require.Equal(t, "/instances", grace.Path())
	grace.Go("/months")
	require.Contains(t, grace.Text("main"), "for others")
	grace.Go(credit)
	require.NotContains(t, grace.Text("main"), "Approve")

	lin := browsertest.Open(t, i.url)
	lin.Go(credit)
	signInByOpenID(i, lin, known, "lin-9", "finance")
	require.Contains(t, lin.Text("div[aria-label=Waiting]"), "(ada-9)")
	lin.Click("div[aria-label=Waiting] button[value=approve]", ".notice.good")
	require.Contains(t, lin.Text(".figures"), "20,000.50 USD")

	signsOut(t, i, ada, credit)
	refusedByOpenID(t, i)
	openIDAway(t, s)
}

// signsOut ends a session: what the browser kept of it opens and shows nothing.
func signsOut(t *testing.T, i *identities, w *browsertest.Window, page string) {
	t.Helper()
	w.Go(page)
	var kept []*network.Cookie
	w.Do(chromedp.ActionFunc(func(ctx context.Context) (err error) {
		kept, err = network.GetCookies().Do(ctx)
		return err
	}))
	require.Len(t, kept, 1)
	require.True(t, kept[0].HTTPOnly)
	w.SignOut()
	require.Contains(t, w.Text("main"), "The identity provider may still know you")
	w.Do(chromedp.NavigateBack(), chromedp.WaitVisible("main", chromedp.ByQuery))
	w.Await(`!document.body.innerText.includes('Prepaid & Co')`)
	require.Equal(t, "/sign-in", w.Path(), "back leads to nothing that was seen before")
	w.Do(network.SetCookie(kept[0].Name, kept[0].Value).WithURL(i.url + "/").WithHTTPOnly(true))
	w.Go(page)
	require.Equal(t, "/sign-in", w.Path(), "the session is over, whoever has its cookie")
	// The provider still knows her.
	signInByOpenID(i, w, known, "ada-9", "treasury")
	require.Equal(t, page, w.Path())
}

// refusedByOpenID tells people why they aren't let in, and what to do.
func refusedByOpenID(t *testing.T, i *identities) {
	t.Helper()
	w := browsertest.Open(t, i.url)
	w.Go("/months")
	signInByOpenID(i, w, "p[role=alert]", "eve-9", "staff")
	require.Contains(t, w.Text("p[role=alert]"), "none of the groups")
	require.Contains(t, w.Text("p[role=alert]"), "Ask who runs Tollgate")
	w.Look("sign-in-refused")
	// Who has been put into a group goes on from here to where he wanted.
	signInByOpenID(i, w, known, "eve-9", "finance")
	require.Equal(t, "/months", w.Path())

	// An answer to somebody else's attempt changes nothing.
	w.Go(i.callback(i.browser(), somebody("mallory-9", "platform"), ""))
	require.Contains(t, w.Text("p[role=alert]"), "another attempt")
	w.Go("/months")
	require.Contains(t, w.Text("form.who"), "eve-9")
}

// openIDAway has the provider be away: a key still does.
func openIDAway(t *testing.T, s *site) {
	t.Helper()
	i := newIdentities(t, s)
	require.NoError(t, i.provider.Shutdown())
	w := browsertest.Open(t, i.url)
	w.Go("/months")
	w.Click("a[href^='/sign-in/openid']", "p[role=alert]")
	require.Contains(t, w.Text("p[role=alert]"), "can't be reached")
	w.Look("sign-in-away")
	w.Do(chromedp.SendKeys("#key", i.keys["finance"]+"\r"), chromedp.WaitVisible(known))
	require.Equal(t, "/months", w.Path())
	require.Equal(t, http.StatusOK, i.browser().signIn("finance").get("/months").status)
}
