package docstest_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheRunbookHasTheMetrics holds that the runbook's tables name each metric of Tollgate's own that
// running programs serve, and no other. e2e holds ops/metrics.txt against running programs.
func TestTheRunbookHasTheMetrics(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "ops", "metrics.txt"))
	require.NoError(t, err)
	served := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		name := strings.Fields(line)[1]
		for _, part := range []string{"_bucket", "_count", "_sum"} {
			name = strings.TrimSuffix(name, part)
		}
		if strings.HasPrefix(name, "tollgate_") {
			served[name] = true
		}
	}
	require.Greater(t, len(served), 40)
	_, after, found := strings.Cut(load(t).documents["docs/runbook.md"], "\n## Metrics\n")
	require.True(t, found)
	section, _, _ := strings.Cut(after, "\n## ")
	named := map[string]bool{}
	for line := range strings.Lines(section) {
		cell, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), " | ")
		for _, name := range regexp.MustCompile(`tollgate_[a-z_]+`).FindAllString(cell, -1) {
			named[name] = true
			require.True(t, served[name], "the runbook has %s, which no program serves", name)
		}
	}
	for name := range served {
		require.True(t, named[name], "the runbook has no row for %s", name)
	}
}
