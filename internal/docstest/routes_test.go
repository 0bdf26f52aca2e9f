package docstest_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocumentsNameRoutes holds that the routes that documents name are in the API's
// document, with their method.
func TestDocumentsNameRoutes(t *testing.T) {
	r := load(t)
	parameter := regexp.MustCompile(`[{<][^}>]*[}>]|\$\w+|…`)
	path := regexp.MustCompile(`^  (/\S+):\s*$`)
	method := regexp.MustCompile(`^    (get|post|put|patch|delete):\s*$`)
	routes := map[string]bool{}
	var at string
	for line := range strings.Lines(r.text["api/openapi.yaml"]) {
		if found := path.FindStringSubmatch(line); found != nil {
			at = parameter.ReplaceAllString(found[1], "{}")
		}
		if found := method.FindStringSubmatch(line); found != nil {
			routes[strings.ToUpper(found[1])+" "+at] = true
		}
	}
	require.True(t, routes["POST /api/v1/usage"])
	named := regexp.MustCompile("\\b(GET|POST|PUT|PATCH|DELETE) (/api/v1/[^\\s`?,;)\"]*)")
	checked := 0
	for from, text := range r.documents {
		for _, found := range named.FindAllStringSubmatch(text, -1) {
			checked++
			route := found[1] + " " + strings.TrimRight(parameter.ReplaceAllString(found[2], "{}"), ".:")
			require.True(t, routes[route], "%s names %s, which isn't there", from, found[0])
		}
	}
	require.Greater(t, checked, 15)
}
