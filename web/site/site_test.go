package site_test

import (
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	repository "github.com/riverline/tollgate"
	"github.com/riverline/tollgate/web/site"
)

func get(t *testing.T, target string) *httptest.ResponseRecorder {
	t.Helper()
	recorder := httptest.NewRecorder()
	site.New(slog.New(slog.DiscardHandler)).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, target, nil))
	return recorder
}

var (
	linkTo  = regexp.MustCompile(`href="([^"]*)"`)
	image   = regexp.MustCompile(`<img src="/(docs/pictures/[0-9a-f]{16}\.svg)" `)
	anchor  = regexp.MustCompile(`<h[1-6] id="([^"]*)"`)
	maxPage = 200 << 10
)

// TestEveryDocumentIsAPage holds that each document is served, that its links lead to pages and headings that are there, and
// that it loads nothing from elsewhere.
func TestEveryDocumentIsAPage(t *testing.T) {
	t.Parallel()
	pages := map[string]string{}
	require.NoError(t, fs.WalkDir(repository.Documents, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(file, "docs/"), ".md")
		if strings.HasPrefix(file, "docs/") {
			name = strings.TrimSuffix(name, "README")
		}
		target := path.Join("/docs", strings.ToLower(name))
		answer := get(t, target)
		require.Equal(t, http.StatusOK, answer.Code, target)
		pages[target] = answer.Body.String()
		weight := answer.Body.Len()
		shown := image.FindAllStringSubmatch(pages[target], -1)
		for _, found := range shown {
			picture, err := fs.ReadFile(repository.Drawings, found[1])
			require.NoError(t, err, target)
			weight += len(picture)
		}
		require.Less(t, weight, maxPage, target)
		require.Equal(t, 1, strings.Count(pages[target], "<h1"), target)
		require.Contains(t, answer.Header().Get("Content-Security-Policy"), "default-src 'none'; style-src 'self';")
		require.NotContains(t, pages[target], "<script")
		require.Equal(t, len(shown), strings.Count(pages[target], "<img"), target)
		return nil
	}))
	require.Greater(t, len(pages), 40)
	checked := 0
	for from, page := range pages {
		for _, found := range linkTo.FindAllStringSubmatch(page, -1) {
			target, err := url.Parse(found[1])
			require.NoError(t, err)
			if target.Host != "" || strings.HasPrefix(target.Path, "/assets/") || target.Path == "/" || target.Path == "/docs/api" || path.Ext(target.Path) == ".svg" {
				continue
			}
			checked++
			to := target.Path
			if to == "" {
				to = from
			}
			require.Contains(t, pages, to, "%s links to %s", from, found[1])
			if target.Fragment != "" && target.Fragment != "main" {
				require.Contains(t, anchors(pages[to]), target.Fragment, "%s links to %s", from, found[1])
			}
		}
	}
	require.Greater(t, checked, 1000)
	require.Contains(t, pages["/docs"], `href="/docs/api"`, "the API reference is one of the pages")
	require.Contains(t, pages["/docs/close"], `<a href="/docs/close" aria-current="page">`)
	require.Contains(t, pages["/docs/postgres"], "https://github.com/riverline/tollgate/blob/main/", "what isn't a page is in the repository")
}

func anchors(page string) (out []string) {
	for _, found := range anchor.FindAllStringSubmatch(page, -1) {
		out = append(out, found[1])
	}
	return out
}

func TestPagesThatAreNotThere(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/docs/nowhere", "/docs/design/nowhere", "/docs/Close", "/docs/close.md"} {
		answer := get(t, target)
		require.Equal(t, http.StatusNotFound, answer.Code, target)
		require.Contains(t, answer.Body.String(), "No such page")
	}
	require.Equal(t, http.StatusOK, get(t, "/docs/").Code)
}

// TestSearch holds that a search finds what has all of its words, headings first, and shows nothing that was asked as markup.
func TestSearch(t *testing.T) {
	t.Parallel()
	find := func(query string) string { return get(t, "/docs/search?q="+url.QueryEscape(query)).Body.String() }
	first := regexp.MustCompile(`<ol class="found"><li><a href="([^"]+)"`)
	for query, want := range map[string]string{
		"tollgatedown":            "/docs/runbook#tollgatedown",
		"four eyes":               "/docs/close#four-eyes-are-two-people",
		"WHAT a RESTORE undoes":   "/docs/restore#what-a-restore-undoes",
		"--journal-keep-mib disk": "/docs/",
	} {
		found := first.FindStringSubmatch(find(query))
		require.NotNil(t, found, query)
		require.True(t, strings.HasPrefix(found[1], want), "%s: %s", query, found[1])
	}
	require.Contains(t, find("plan_limit_exceeded"), `href="/docs/reference/errors"`)
	leases := find("lease")
	require.Contains(t, leases, "<mark>lease</mark>")
	require.NotRegexp(t, `[a-z]<mark>|[a-z] …<mark>|</mark> …`, leases, "words that begin so come first, and no word is cut")
	require.Contains(t, find("quasar"), "Nothing has all of")
	require.Contains(t, find(""), "Type some words")
	require.LessOrEqual(t, strings.Count(find("a"), "<li><a href="), 100)
	for _, query := range []string{`<script>alert(1)</script>`, `"><b>`, "\xff\xfe", strings.Repeat("é", 500), strings.Repeat("a ", 500), "&amp;", "<", "İ"} {
		page := find(query)
		require.NotContains(t, page, "<script", query)
		require.NotContains(t, page, "<b>", query)
	}
}

func ExampleNew() {
	recorder := httptest.NewRecorder()
	site.New(slog.Default()).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/docs/concepts/lease", nil))
	fmt.Println(recorder.Code, recorder.Header().Get("Content-Type"))
	// Output: 200 text/html; charset=utf-8
}

func BenchmarkSearch(b *testing.B) {
	s := site.New(slog.Default())
	for b.Loop() {
		s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/docs/search?q=the+lease+is+held", nil))
	}
}
