package docstest_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDecisionsAreRecorded holds that the records of docs/decisions are numbered from 1
// without a gap, have one form, and are in the list.
func TestDecisionsAreRecorded(t *testing.T) {
	r := load(t)
	name := regexp.MustCompile(`^docs/decisions/(\d{4})-[a-z0-9-]+\.md$`)
	number := 0
	for _, path := range slices.Sorted(maps.Keys(r.documents)) {
		found := name.FindStringSubmatch(path)
		if found == nil {
			continue
		}
		number++
		require.Equal(t, fmt.Sprintf("%04d", number), found[1], path)
		text := r.documents[path]
		require.True(t, strings.HasPrefix(text, fmt.Sprintf("# %d. ", number)), path)
		var parts []string
		for _, part := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(text, -1) {
			parts = append(parts, part[1])
		}
		require.Equal(t, []string{"Context", "Decision", "Consequences"}, parts, path)
		require.Contains(t, r.documents["docs/decisions/README.md"], "]("+strings.TrimPrefix(path, "docs/decisions/")+")")
	}
	require.GreaterOrEqual(t, number, 10)
}
