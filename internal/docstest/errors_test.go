package docstest_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// logged is a line that a program logs as an error: a sentence, and not what a test or an error says.
var logged = regexp.MustCompile(`\.(?:Error|ErrorContext)\((?:ctx, )?"([A-Z][^"]+)"`)

// TestTheRunbookHasTheErrors holds that the runbook says of each line that the API and the worker log
// as an error what is to be done, and has no other.
func TestTheRunbookHasTheErrors(t *testing.T) {
	_, after, found := strings.Cut(load(t).documents["docs/runbook.md"], "\n## Errors in the log\n")
	require.True(t, found)
	section, _, _ := strings.Cut(after, "\n## ")
	rows := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| ([A-Z].*?) \| `).FindAllStringSubmatch(section, -1) {
		rows[row[1]] = false
	}
	for _, folder := range []string{"api", "gate", "meter", "pgstore", "activities", "workflows", "internal/alerts", "internal/connections", "cmd/internal", "cmd/api", "cmd/worker"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(root, folder), func(name string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
				return err
			}
			text, err := os.ReadFile(name)
			for _, line := range logged.FindAllStringSubmatch(string(text), -1) {
				_, ok := rows[line[1]]
				require.True(t, ok, "%s logs %q, and the runbook has no row for it", name, line[1])
				rows[line[1]] = true
			}
			return err
		}))
	}
	for line, there := range rows {
		require.True(t, there, "the runbook has a row for %q, which nobody logs", line)
	}
	require.Greater(t, len(rows), 20)
}
