package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/devstack"
	"github.com/riverline/tollgate/workflows"
)

// TestDevelopmentKnowsTheSearchAttributes holds the names that a dev server is started
// with to those that workflows set.
func TestDevelopmentKnowsTheSearchAttributes(t *testing.T) {
	t.Parallel()
	var names []string
	for _, key := range workflows.SearchAttributes() {
		names = append(names, key.GetName())
	}
	require.ElementsMatch(t, names, devstack.SearchAttributes())
}
