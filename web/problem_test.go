package web_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

const browsersAccept = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"

// testNowhere opens addresses that lead nowhere: a person gets a page that says where to go, a program gets JSON.
func testNowhere(t *testing.T, s *site) {
	t.Helper()
	open := func(b *browser, method, path string, headers ...string) document {
		request, err := http.NewRequestWithContext(t.Context(), method, s.url+path, http.NoBody)
		require.NoError(t, err)
		for i := 0; i < len(headers); i += 2 {
			request.Header.Set(headers[i], headers[i+1])
		}
		return b.do(request)
	}
	nobody, admin := s.browser(), s.browser().signIn("admin")
	for _, tt := range []struct {
		method, path string
		status       int
		says         string
	}{
		{"GET", "/nowhere", 404, "There is nothing at /nowhere."},
		{"GET", "/docs/a/b/c", 404, "There is nothing at /docs/a/b/c."},
		{"GET", "/api/v1/nowhere", 404, "There is nothing at /api/v1/nowhere."},
		{"GET", "/%3Cb%3E", 404, "There is nothing at /%3Cb%3E."},
		{"GET", "/sign-out", 405, "Nothing opens at /sign-out"},
		{"GET", "/keys/" + s.free.String(), 405, "it takes what a form or a program sends"},
		{"GET", "/api/v1/organizations", 401, "/api/v1/organizations is the API's"},
	} {
		for name, b := range map[string]*browser{"nobody": nobody, "admin": admin} {
			d := open(b, tt.method, tt.path, "Accept", browsersAccept)
			require.Equal(t, tt.status, d.status, tt.path)
			require.Equal(t, "text/html; charset=utf-8", d.header.Get("Content-Type"), "%s %s", name, tt.path)
			require.Contains(t, d.texts("p", "role", "alert")[0], tt.says)
			require.Contains(t, d.header.Get("Content-Security-Policy"), "default-src 'none'")
			require.Equal(t, "no-store", d.header.Get("Cache-Control"))
			require.ElementsMatch(t, []string{"Accept", "Cookie"}, d.header.Values("Vary"))
			to := "/sign-in"
			if name == "admin" {
				to = "/instances"
			}
			require.NotEmpty(t, d.all("a", "href", to), "%s %s", name, tt.path)
			require.NotEmpty(t, d.all("a", "href", "/docs/api"))
		}
		for _, accept := range []string{"", "*/*", "application/json", "application/json, text/html;q=0.9", "text/html;q=0", "text/html;q=x", "application/problem+json,text/html;q=0.5", "text/*"} {
			headers := []string{}
			if accept != "" {
				headers = []string{"Accept", accept}
			}
			d := open(nobody, tt.method, tt.path, headers...)
			require.Equal(t, tt.status, d.status, tt.path)
			require.Equal(t, "application/problem+json", d.header.Get("Content-Type"), "%s with %q", tt.path, accept)
			require.Equal(t, "Accept", d.header.Get("Vary"))
		}
	}
	d := open(nobody, "GET", "/api/v1/organizations", "Accept", browsersAccept, "Authorization", "Bearer tg_no")
	require.Equal(t, http.StatusUnauthorized, d.status)
	require.Equal(t, "application/problem+json", d.header.Get("Content-Type"), "who sends a key is a program")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodHead, s.url+"/nowhere", http.NoBody)
	require.NoError(t, err)
	request.Header.Set("Accept", browsersAccept)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, answer.StatusCode)
	require.Empty(t, body)

	d = open(s.browser().signIn("finance"), "GET", "/instances", "Accept", browsersAccept)
	require.Equal(t, http.StatusForbidden, d.status)
	require.Contains(t, d.texts("p", "role", "alert")[0], "signed in as finance")
	testNamesAsIDs(t, s, admin)
}

// testNamesAsIDs opens addresses that have a name where an ID belongs.
func testNamesAsIDs(t *testing.T, s *site, admin *browser) {
	t.Helper()
	for _, tt := range []struct {
		role, path, says, to string
	}{
		{"admin", "/organizations/acme", "There is no organization with the ID “acme”: an ID is a UUID.", "/organizations?search=acme"},
		{"admin", "/organizations/a&b", "“a&b”", "/organizations?search=a%26b"},
		{"admin", "/webhooks/acme", "There is no endpoint with the ID “acme”", "/webhooks"},
		{"finance", "/credits/acme", "There is no organization with the ID “acme”", "/credits?search=acme"},
		{"finance", "/months/2026-10/statements/acme", "There is no organization with the ID “acme”", "/credits?search=acme"},
	} {
		b := admin
		if tt.role != "admin" {
			b = s.browser().signIn(tt.role)
		}
		d := b.get(tt.path)
		require.Equal(t, http.StatusNotFound, d.status, tt.path)
		require.Contains(t, d.texts("p", "role", "alert")[0], tt.says)
		require.NotEmpty(t, d.all("a", "href", tt.to), tt.path)
		require.Equal(t, http.StatusOK, b.get(tt.to).status, tt.to)
	}
	require.NotEmpty(t, admin.get("/organizations?search=aster").all("a", "href", "/organizations/"+s.free.String()))
	require.Len(t, admin.get("/plans").all("a", "href", "/style"), 1, "administrators find the components")
	require.Empty(t, s.browser().signIn("tenant").get("/usage").all("a", "href", "/style"))
}
