package docstest_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHostedChecksAreThoseOfEverybody holds that the hosted checks run what everybody runs,
// with the Go of go.mod, and no secrets.
func TestHostedChecksAreThoseOfEverybody(t *testing.T) {
	workflow := load(t).text[".github/workflows/ci.yml"]
	require.Contains(t, workflow, "- run: .ci/run\n")
	require.Contains(t, workflow, "go-version-file: go.mod\n")
	require.NotContains(t, workflow, "{{ secrets")
}
