package docstest_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

var namedTest = regexp.MustCompile("`((?:Test|Fuzz|Example)[A-Za-z0-9_]*)`")

// TestDocumentsNameTests holds that every test that a document names is there.
func TestDocumentsNameTests(t *testing.T) {
	r := load(t)
	for path, text := range r.documents {
		for _, name := range namedTest.FindAllStringSubmatch(text, -1) {
			if !r.tests[name[1]] {
				t.Errorf("%s names %s, which isn't there", path, name[1])
			}
		}
	}
	require.Greater(t, len(namedTest.FindAllString(r.documents["docs/invariants.md"], -1)), 20)
}
