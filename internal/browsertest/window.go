//go:build browser

package browsertest

import (
	"context"
	_ "embed"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

//go:embed testdata/axe-4.14.1.min.js
var axe string

// shotsVariable names the environment variable with a folder for pictures of what was visited.
const shotsVariable = "TOLLGATE_SHOTS"

// Window is a tab of a browser that keeps nothing.
type Window struct {
	t   *testing.T
	ctx context.Context
	url string
}

// within bounds one test's visit.
const within = 8 * time.Minute

// Open starts Chromium, without what the machine's user has, for the pages at a URL. It ends with the test.
func Open(t *testing.T, url string) *Window {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.WindowSize(1200, 900))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	ctx, cancel := context.WithTimeout(ctx, within)
	t.Cleanup(cancel)
	w := &Window{t, ctx, url}
	// The browser lives as long as the context of the first action.
	w.Run()
	return w
}

// Run does what a person does.
func (w *Window) Run(actions ...chromedp.Action) {
	w.t.Helper()
	require.NoError(w.t, chromedp.Run(w.ctx, actions...))
}

// step bounds one action of a person, on a machine that is busy.
const step = 2 * time.Minute

// Do runs actions that must be done soon, and says what was on the page where they aren't.
func (w *Window) Do(actions ...chromedp.Action) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, step)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		var shown string
		_ = chromedp.Run(w.ctx, chromedp.Evaluate(`location.href + '\n' + document.body.innerText`, &shown))
		require.NoError(w.t, err, shown)
	}
}

// Go opens a page.
func (w *Window) Go(path string) {
	w.t.Helper()
	// A search would find the word, too, also where it is folded away.
	w.Do(chromedp.Navigate(w.url+path), chromedp.WaitVisible("main", chromedp.ByQuery))
}

// Click presses what a selector of CSS finds, and waits for what another one finds.
func (w *Window) Click(what, then string) {
	w.t.Helper()
	w.Do(chromedp.Click(what), chromedp.WaitVisible(then))
}

// Type fills a field in place of what it has.
func (w *Window) Type(field, text string) {
	w.t.Helper()
	w.Do(chromedp.Focus(field), chromedp.Evaluate(`document.activeElement.select()`, nil), chromedp.SendKeys(field, text))
}

// Await waits until an expression of JavaScript is true.
func (w *Window) Await(expression string) {
	w.t.Helper()
	w.Do(chromedp.Poll(expression, nil, chromedp.WithPollingTimeout(step)))
}

// Text returns what a selector finds, as a person reads it.
func (w *Window) Text(of string) string {
	w.t.Helper()
	var says string
	w.Do(chromedp.Text(of, &says))
	return says
}

// Path is where the browser is.
func (w *Window) Path() string {
	w.t.Helper()
	var path string
	w.Do(chromedp.Evaluate(`location.pathname`, &path))
	return path
}

// Visit opens a page, and looks at it.
func (w *Window) Visit(name, path string) {
	w.t.Helper()
	w.Go(path)
	w.Look(name)
}

// Look has axe look at a page in each form that a person may see it in, and keeps pictures under a name.
func (w *Window) Look(name string) {
	w.t.Helper()
	for _, form := range []struct {
		name, scheme string
		width        int64
	}{{"light", "light", 1200}, {"dark", "dark", 1200}, {"phone", "light", 390}} {
		w.Run(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: form.scheme}}),
			chromedp.EmulateViewport(form.width, 900))
		w.requireAccessible(name + ", " + form.name)
		var wide bool
		w.Run(chromedp.Evaluate(`document.documentElement.scrollWidth > document.documentElement.clientWidth`, &wide))
		require.False(w.t, wide, "%s, %s: the page is wider than its window", name, form.name)
		w.picture(name + "-" + form.name)
	}
	w.Run(chromedp.EmulateViewport(1200, 900))
}

// picture keeps the first part of a page, where somebody asks for pictures.
func (w *Window) picture(name string) {
	w.t.Helper()
	folder := os.Getenv(shotsVariable)
	if folder == "" {
		return
	}
	// Of 100 it makes a PNG.
	const quality = 100
	var taken []byte
	w.Run(chromedp.FullScreenshot(&taken, quality))
	require.NoError(w.t, os.WriteFile(filepath.Join(folder, name+".png"), taken, 0o600)) //nolint:gosec // the caller's own folder
}

// requireAccessible holds that axe finds nothing that hinders anybody.
func (w *Window) requireAccessible(name string) {
	w.t.Helper()
	var found string
	w.Run(chromedp.Evaluate(axe, nil), chromedp.Evaluate(
		`axe.run().then(r => JSON.stringify(r.violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html + ' ' + n.failureSummary).join('\n')])))`,
		&found, chromedp.EvalAsValue, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	var violations [][3]string
	require.NoError(w.t, json.Unmarshal([]byte(found), &violations))
	require.Empty(w.t, violations, name)
}

// SignIn signs in with a key as a person does: by the keyboard alone.
func (w *Window) SignIn(key string) {
	w.t.Helper()
	w.Go("/sign-in")
	w.Do(chromedp.SendKeys("#key", key+"\r"), chromedp.WaitVisible("header nav"))
}

// SignOut ends the sign-in.
func (w *Window) SignOut() {
	w.t.Helper()
	w.Click("form.who button", "#key")
}

// Download follows a link, and returns the content of the file of that name.
func (w *Window) Download(link, name string) []byte {
	w.t.Helper()
	folder := w.t.TempDir()
	w.Do(browser.SetDownloadBehavior(browser.SetDownloadBehaviorBehaviorAllow).WithDownloadPath(folder), chromedp.Click(link))
	path := filepath.Join(folder, name)
	require.Eventually(w.t, func() bool {
		_, err := os.Stat(path)
		return err == nil
	}, step, 50*time.Millisecond, "%s doesn't come", name)
	content, err := os.ReadFile(path) //nolint:gosec // the test's own folder
	require.NoError(w.t, err)
	return content
}

// Tab opens another tab beside this one, of the same person, in front of it.
func (w *Window) Tab() *Window {
	w.t.Helper()
	ctx, closeTab := chromedp.NewContext(w.ctx)
	w.t.Cleanup(closeTab)
	tab := &Window{w.t, ctx, w.url}
	tab.Front()
	return tab
}

// Front brings the tab in front of the others.
func (w *Window) Front() {
	w.t.Helper()
	w.Run(page.BringToFront())
}

// Texts are what all that a selector finds says.
func (w *Window) Texts(of string) []string {
	w.t.Helper()
	var says []string
	w.Do(chromedp.Evaluate(`[...document.querySelectorAll(`+"`"+of+"`"+`)].map(e => e.innerText)`, &says))
	return says
}
