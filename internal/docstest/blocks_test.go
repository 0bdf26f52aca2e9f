package docstest_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/internal/reference"
	"github.com/riverline/tollgate/plans"
)

// TestReferenceOfBlocks makes docs/reference/blocks.md: which blocks of commands a test runs, and why it doesn't run the others.
// e2e runs them.
func TestReferenceOfBlocks(t *testing.T) {
	r := load(t)
	run, others := 0, 0
	var rows strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.documents)) {
		if strings.HasPrefix(name, "docs/reference/") {
			continue
		}
		for _, block := range reference.Blocks(r.documents[name]) {
			first, _, _ := strings.Cut(strings.TrimSpace(block.Commands), "\n")
			require.NotContains(t, first, "`", name)
			// Whole words, so that what tests read of documents are names.
			if words := strings.Fields(first); len(words) > 4 {
				first = strings.Join(words[:4], " ") + " …"
			}
			first = strings.ReplaceAll(first, "|", "\\|")
			what := "run"
			if block.NoRun != "" {
				what = "not run: " + block.NoRun
				others++
			} else {
				run++
			}
			rows.WriteString(reference.Row(name, block.Section, reference.Code(first), what))
		}
	}
	require.Greater(t, run, 15)
	about := fmt.Sprintf("The blocks of commands in the documents: %d are run, in this order, on what `tollgate dev` runs "+
		"(`TestDevKeepsItsDataAndLeavesNothingRunning`); %d are not, for a reason that stands before each as a comment.", run, others)
	reference.Hold(t, "blocks", "# Command blocks\n\n"+reference.Prose(about)+"\n"+reference.Head("document", "section", "begins with", "")+rows.String())
}

// TestFilesInDocumentsAreValid reads the catalogs and the rules that documents show as programs do.
func TestFilesInDocumentsAreValid(t *testing.T) {
	catalogs, rules := 0, 0
	for name, blocks := range load(t).blocks {
		for _, block := range blocks {
			body, isYAML := strings.CutPrefix(block, "```yaml\n")
			body = strings.TrimSuffix(strings.TrimSpace(body), "```")
			switch {
			case isYAML && strings.HasPrefix(body, "meters:"):
				catalogs++
				_, err := plans.Parse([]byte(body))
				require.NoError(t, err, name)
			case isYAML && strings.HasPrefix(body, "rules:"):
				rules++
				_, err := gate.ParseRules([]byte(body))
				require.NoError(t, err, name)
			}
		}
	}
	require.Positive(t, catalogs)
	require.Positive(t, rules)
}
