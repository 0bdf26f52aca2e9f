//go:build browser

package web_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/browsertest"
)

// frontage stands before a site, and answers in its place where it is told to.
type frontage struct {
	*httptest.Server
	// status is what it answers; zero: what the site does, and -1: nothing.
	status atomic.Int64
}

func newFrontage(t *testing.T, s *site) *frontage {
	t.Helper()
	at, err := url.Parse(s.url)
	require.NoError(t, err)
	f, site := &frontage{}, httputil.NewSingleHostReverseProxy(at)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch status := f.status.Load(); status {
		case 0:
			site.ServeHTTP(w, r)
		case -1:
			panic(http.ErrAbortHandler)
		default:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(int(status))
		}
	}))
	t.Cleanup(f.Close)
	return f
}

// turn has it answer something else, also to what is under way.
func (f *frontage) turn(status int64) {
	f.status.Store(status)
	f.CloseClientConnections()
}

// saysWhatIsStale has a site fail under pages that ask it by themselves: each says so, and is up to date again without a
// click once the site answers.
func saysWhatIsStale(t *testing.T, s *site) {
	t.Helper()
	f := newFrontage(t, s)
	upToDate := func(w *browsertest.Window) { w.Await(`document.querySelector('#stale') === null`) }

	usage := browsertest.Open(t, f.URL)
	usage.SignIn(s.keys["tenant"])
	usage.Go("/usage")
	before := usage.Text(".meter-figure strong")
	for _, status := range []int64{-1, http.StatusServiceUnavailable} {
		f.turn(status)
		usage.Do(chromedp.WaitVisible("#stale"))
		require.Contains(t, usage.Text("#stale"), "does not answer")
		f.turn(0)
		upToDate(usage)
	}
	require.Equal(t, http.StatusOK, s.use("3"))
	usage.Await(`document.querySelector('.meter-figure strong').textContent !== '` + before + `'`)

	search := browsertest.Open(t, f.URL)
	search.SignIn(s.keys["admin"])
	search.Go("/organizations")
	for _, tc := range []struct {
		status     int64
		says, then string
	}{
		{-1, "does not answer", "asks again"},
		{http.StatusTooManyRequests, "answered with 429", "asks again"},
		{http.StatusBadGateway, "answered with 502", "asks again"},
		{http.StatusInternalServerError, "answered with 500", "Load it again"},
	} {
		f.turn(tc.status)
		search.Do(chromedp.SendKeys("#search", "k"), chromedp.WaitVisible("#stale"))
		require.Contains(t, search.Text("#stale"), tc.says)
		require.Contains(t, search.Text("#stale"), tc.then)
		search.Look("stale")
		f.turn(0)
		if tc.status == http.StatusInternalServerError {
			search.Do(chromedp.SendKeys("#search", "k"))
		}
		upToDate(search)
	}
	require.Equal(t, "/organizations", search.Path())
}
