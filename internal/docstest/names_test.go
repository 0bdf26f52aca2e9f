package docstest_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	// walked is a function as a walk names it: `meter.(*Organization).Admit`, `plans.Decide`.
	walked = regexp.MustCompile("`([a-z][a-z0-9]*(?:\\.\\(\\*[A-Za-z]\\w*\\))\\.[A-Za-z]\\w*)`")
	// qualified is what a package declares: `plans.Price`, `meter.Row.Plan`.
	qualified = regexp.MustCompile("`([a-z][a-z0-9]*)((?:\\.[A-Za-z]\\w*){1,2})(?:\\(\\))?`")
)

// TestDocumentsNameCode holds that functions, types and fields that a document names with
// their package are there.
func TestDocumentsNameCode(t *testing.T) {
	r := load(t)
	checked := 0
	for path, text := range r.documents {
		for _, found := range walked.FindAllStringSubmatch(text, -1) {
			checked++
			if !r.functions[found[1]] {
				t.Errorf("%s names the function %s, which isn't there", path, found[1])
			}
		}
		for _, found := range qualified.FindAllStringSubmatch(text, -1) {
			name := found[1] + found[2]
			if !r.packages[found[1]] || r.isFile(name) {
				continue
			}
			checked++
			if !r.names[name] {
				t.Errorf("%s names %s, which isn't there", path, name)
			}
		}
	}
	require.Greater(t, checked, 50)
}

// isFile reports whether a name with a dot in it is that of a file: plans.yaml.
func (r *repository) isFile(name string) bool {
	for path := range r.paths {
		if path == name || strings.HasSuffix(path, "/"+name) {
			return true
		}
	}
	return false
}
