package docstest_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEveryFaultHasItsGuarantee holds that docs/guarantees.md has a row for each fault of the chaos
// run, and for no other.
func TestEveryFaultHasItsGuarantee(t *testing.T) {
	r := load(t)
	faults := map[string]bool{}
	for path, text := range r.text {
		if !strings.HasPrefix(path, "e2e/chaos_") {
			continue
		}
		for _, found := range regexp.MustCompile(`\{name: "([^"]+)", promise:`).FindAllStringSubmatch(text, -1) {
			faults[found[1]] = true
		}
	}
	require.Greater(t, len(faults), 20)
	rows := map[string]bool{}
	for _, found := range regexp.MustCompile(`(?m)^\| ([^|]+) \| [^|]+ \| \d+ \|`).FindAllStringSubmatch(r.documents["docs/guarantees.md"], -1) {
		rows[found[1]] = true
	}
	delete(rows, "all, mixed")
	require.Equal(t, faults, rows)
}
