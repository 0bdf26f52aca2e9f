package api

import (
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// whoMay are the columns of the table of docs/security.md, and whose key stands for each.
var whoMay = []struct{ column, key string }{{"nobody", ""}, {"tenant", "free"}, {"finance", "finance"}, {"admin", "admin"}}

// securityTable reads the table of docs/security.md: the cells of each route.
func securityTable(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../docs/security.md")
	require.NoError(t, err)
	rows := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z]+) (/[^`]*)` \\|(.*)\\|$").FindAllStringSubmatch(string(text), -1) {
		cells := strings.Split(row[3], "|")
		require.Len(t, cells, len(whoMay), row[0])
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
			require.Contains(t, []string{"", "yes", "own"}, cells[i], row[0])
		}
		path := strings.NewReplacer("{path}", "*path", "{file}", "*file").Replace(row[2])
		route := row[1] + " " + ginPath(path)
		require.NotContains(t, rows, route, "it is there twice")
		rows[route] = cells
	}
	return rows
}

// TestTheThreatModelSaysWhoMay calls every route as it is served, with every role and without a key,
// and holds the table of docs/security.md against the answers: who may is neither 401 nor 403, and
// where it is said to be one's own, another tenant is refused.
func TestTheThreatModelSaysWhoMay(t *testing.T) {
	upstream, err := url.Parse("http://127.0.0.1:1")
	require.NoError(t, err)
	r := newRig(t, func(c *Config) { c.Upstream = upstream })
	served := map[string]bool{}
	for _, route := range r.server.engine.Routes() {
		name := route.Method + " " + route.Path
		if route.Path == gatewayRoute {
			name = "ANY " + gatewayRoute
		}
		served[name] = true
	}
	table := securityTable(t)
	require.ElementsMatch(t, slices.Collect(maps.Keys(served)), slices.Collect(maps.Keys(table)), "docs/security.md has the routes that are served")

	call := func(key, method, path, body string) bool {
		method = strings.Replace(method, "ANY", http.MethodGet, 1)
		path = strings.NewReplacer(":period", "2026-10", ":sink", "stripe", ":name", "usage.jsonl", "*path", "none", "*file", "none",
			"/organizations/:id", "/organizations/"+r.organizations["free"].String()).Replace(path)
		path = regexp.MustCompile(`:\w+`).ReplaceAllString(path, "0199d4c5-9c1f-7d2b-8a44-51c0aa1f7b02")
		status := r.do(key, method, path, body).Code
		return status != http.StatusUnauthorized && status != http.StatusForbidden
	}
	// Administrators are last: they end the contract of whom the others ask for.
	for i, who := range whoMay {
		for _, name := range slices.Sorted(maps.Keys(table)) {
			method, path, _ := strings.Cut(name, " ")
			cell := table[name][i]
			require.Equal(t, cell != "", call(who.key, method, path, ""), "%s by %s", name, who.column)
			if who.column == "tenant" && cell == "own" && strings.Contains(path, "/organizations/:id") {
				require.False(t, call("pro", method, path, `{"plan":"free"}`), "%s by another tenant", name)
			}
		}
	}
}
