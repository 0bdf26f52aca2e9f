//go:build browser

package web_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// shotsVariable names the environment variable with a folder for pictures of what was visited.
const shotsVariable = "TOLLGATE_SHOTS"

// window is a tab of a real browser.
type window struct {
	*site
	ctx context.Context
	axe string
}

// open starts Chromium, without what the machine's user has.
func (s *site) open() *window {
	s.t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.UserDataDir(s.t.TempDir()), chromedp.WindowSize(1200, 900))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, stop := chromedp.NewExecAllocator(s.t.Context(), options...)
	s.t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(ctx)
	s.t.Cleanup(closeTab)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	s.t.Cleanup(cancel)
	axe, err := os.ReadFile("testdata/axe-4.14.1.min.js")
	require.NoError(s.t, err)
	return &window{s, ctx, string(axe)}
}

func (w *window) run(actions ...chromedp.Action) {
	w.t.Helper()
	require.NoError(w.t, chromedp.Run(w.ctx, actions...))
}

// visit opens a page, and has axe look at it in each form that a person may see it in.
func (w *window) visit(name, path string) {
	w.t.Helper()
	w.run(chromedp.Navigate(w.url + path))
	w.look(name)
}

func (w *window) look(name string) {
	w.t.Helper()
	for _, form := range []struct {
		name, scheme string
		width        int64
	}{{"light", "light", 1200}, {"dark", "dark", 1200}, {"phone", "light", 390}} {
		w.run(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: form.scheme}}),
			chromedp.EmulateViewport(form.width, 900))
		w.requireAccessible(name + ", " + form.name)
		var wide bool
		w.run(chromedp.Evaluate(`document.documentElement.scrollWidth > document.documentElement.clientWidth`, &wide))
		require.False(w.t, wide, "%s, %s: the page is wider than its window", name, form.name)
		if folder := os.Getenv(shotsVariable); folder != "" {
			var picture []byte
			w.run(chromedp.FullScreenshot(&picture, 90))
			require.NoError(w.t, os.WriteFile(filepath.Join(folder, name+"-"+form.name+".jpg"), picture, 0o600))
		}
	}
	w.run(chromedp.EmulateViewport(1200, 900))
}

// requireAccessible holds that axe finds nothing that hinders anybody.
func (w *window) requireAccessible(name string) {
	w.t.Helper()
	var found string
	w.run(chromedp.Evaluate(w.axe, nil), chromedp.Evaluate(
		`axe.run().then(r => JSON.stringify(r.violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html + ' ' + n.failureSummary).join('\n')])))`,
		&found, chromedp.EvalAsValue, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	var violations [][3]string
	require.NoError(w.t, json.Unmarshal([]byte(found), &violations))
	require.Empty(w.t, violations, name)
}

// signInAs signs in as a person does: by the keyboard alone.
func (w *window) signInAs(name string) {
	w.t.Helper()
	w.run(chromedp.Navigate(w.url+"/sign-in"), chromedp.SendKeys("#key", w.keys[name]+"\r"), chromedp.WaitVisible("header nav"))
}

// TestBrowser is the path of a tenant who hits a hard limit, understands it, upgrades and goes on; and finance's pages.
func TestBrowser(t *testing.T) {
	s := newSite(t)
	w := s.open()
	w.visit("sign-in", "/sign-in")
	w.signInAs("tenant")
	require.Equal(t, http.StatusOK, s.use("990"))
	// What is used shows by itself, without a reload.
	w.run(chromedp.Poll(`document.querySelector('.meter-figure strong').textContent === '990'`, nil))
	require.Equal(t, http.StatusOK, s.use("10"))
	require.Equal(t, http.StatusPaymentRequired, s.use("1"))
	w.run(chromedp.WaitVisible(".notice.bad"))
	var says string
	w.run(chromedp.Text(".notice.bad", &says))
	require.Contains(t, says, "1,000 of 1,000")
	w.look("limit")
	s.flush()

	w.run(chromedp.Click(".notice.bad a"), chromedp.WaitVisible(".tabs"), chromedp.Click(".tabs a"), chromedp.WaitVisible("form[action='/plan'] button"))
	w.look("plan")
	w.run(chromedp.Click("form[action='/plan'] button:last-of-type"), chromedp.WaitVisible(".notice.good"))
	require.Equal(t, http.StatusOK, s.use("1"), "the same request passes")
	w.run(chromedp.Click("nav a[href='/usage']"), chromedp.WaitVisible(".meters"), chromedp.Poll(`document.querySelector('.meter-figure strong').textContent === '1,001'`, nil))
	var refused bool
	w.run(chromedp.Evaluate(`document.querySelector('.notice.bad') !== null`, &refused))
	require.False(t, refused)
	s.flush()
	for name, path := range map[string]string{
		"usage": "/usage", "history": "/usage/evaluations", "money": "/money", "statements": "/statements", "webhooks": "/webhooks", "keys": "/keys", "style": "/style",
	} {
		w.visit(name, path)
	}
	w.run(chromedp.Submit("form.who"), chromedp.WaitVisible("#key"))
	w.signInAs("finance")
	w.visit("months", "/months")
}
