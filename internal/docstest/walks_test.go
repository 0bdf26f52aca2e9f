package docstest_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheWalksCanBeWalked holds that the walks of CONTRIBUTING.md have steps and name
// functions; [TestDocumentsNameCode] holds that those are there.
func TestTheWalksCanBeWalked(t *testing.T) {
	r := load(t)
	document := r.documents["CONTRIBUTING.md"]
	_, after, found := strings.Cut(document, "\n## Four walks\n")
	require.True(t, found)
	part, _, _ := strings.Cut(after, "\n## ")
	walks := strings.Split(part, "\n### ")[1:]
	require.Len(t, walks, 4)
	step := regexp.MustCompile(`(?m)^\d+\. `)
	for _, walk := range walks {
		title, _, _ := strings.Cut(walk, "\n")
		require.GreaterOrEqual(t, len(step.FindAllString(walk, -1)), 4, title)
		functions := 0
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(walk, -1) {
			if r.functions[name[1]] {
				functions++
			}
		}
		require.GreaterOrEqual(t, functions, 3, title)
	}
}

// TestDependenciesAreExplained holds that docs/dependencies.md names each module that
// go.mod requires directly, itself or the family that it is of.
func TestDependenciesAreExplained(t *testing.T) {
	r := load(t)
	explained := regexp.MustCompile("`([\\w.-]+\\.[\\w-]+(?:/[^`]*)?)`").FindAllStringSubmatch(r.documents["docs/dependencies.md"], -1)
	required := regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllStringSubmatch(r.text["go.mod"], -1)
	require.Greater(t, len(required), 20)
	version := regexp.MustCompile(`/v\d+$`)
	for _, module := range required {
		found := false
		for _, name := range explained {
			family := version.ReplaceAllString(module[1], "")
			given := version.ReplaceAllString(name[1], "")
			found = found || family == given || strings.HasPrefix(family, given+"/") || strings.HasPrefix(given, family+"/")
		}
		require.True(t, found, "docs/dependencies.md doesn't say what %s is for", module[1])
	}
}
