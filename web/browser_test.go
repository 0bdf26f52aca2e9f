//go:build browser

package web_test

import (
	"net/http"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/browsertest"
)

// TestBrowserTenant is the path of a tenant who hits a hard limit, understands it, upgrades and goes on.
func TestBrowserTenant(t *testing.T) {
	s := newSite(t)
	w := browsertest.Open(t, s.url)
	w.Visit("sign-in", "/sign-in")
	w.SignIn(s.keys["tenant"])
	require.Equal(t, http.StatusOK, s.use("990"))
	// What is used shows by itself, without a reload.
	w.Await(`document.querySelector('.meter-figure strong').textContent === '990'`)
	require.Equal(t, http.StatusOK, s.use("10"))
	require.Equal(t, http.StatusPaymentRequired, s.use("1"))
	w.Do(chromedp.WaitVisible(".notice.bad"))
	require.Contains(t, w.Text(".notice.bad"), "1,000 of 1,000")
	w.Look("limit")
	s.flush()

	w.Click(".notice.bad a", ".tabs")
	w.Click(".tabs a", "form[action='/plan'] button")
	w.Look("plan")
	w.Click("form[action='/plan'] button:last-of-type", ".notice.good")
	require.Equal(t, http.StatusOK, s.use("1"), "the same request passes")
	w.Click("nav a[href='/usage']", ".meters")
	w.Await(`document.querySelector('.meter-figure strong').textContent === '1,001'`)
	w.Await(`document.querySelector('.notice.bad') === null`)
	s.flush()
	for name, path := range map[string]string{
		"usage": "/usage", "history": "/usage/evaluations", "money": "/money", "statements": "/statements", "webhooks": "/webhooks", "keys": "/keys", "style": "/style",
		"docs": "/docs", "docs-journal": "/docs/concepts/journal", "docs-architecture": "/docs/architecture", "docs-runbook": "/docs/runbook", "docs-search": "/docs/search?q=lease",
	} {
		w.Visit(name, path)
	}
}
