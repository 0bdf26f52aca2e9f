package docstest_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheRunbookSaysWhatGrows holds that the runbook says of each table how it grows and what removes
// its rows.
func TestTheRunbookSaysWhatGrows(t *testing.T) {
	r := load(t)
	_, after, found := strings.Cut(r.documents["docs/runbook.md"], "\n## What grows\n")
	require.True(t, found)
	section, _, _ := strings.Cut(after, "\n## ")
	tables := map[string]bool{}
	for from, text := range r.text {
		if !strings.HasPrefix(from, "migrations/") {
			continue
		}
		for _, found := range regexp.MustCompile(`(?m)^CREATE TABLE ([a-z_]+) \(`).FindAllStringSubmatch(text, -1) {
			tables[found[1]] = true
			require.Contains(t, section, "`"+found[1]+"`", "the runbook doesn't say what becomes of the rows of %s", found[1])
		}
	}
	require.Greater(t, len(tables), 40)
}
