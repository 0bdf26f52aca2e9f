package archtest_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var namedTest = regexp.MustCompile("`((?:Test|Fuzz|Example)[A-Za-z0-9_]*)`")

// TestInvariantsNameTests holds that docs/invariants.md names tests that are there.
func TestInvariantsNameTests(t *testing.T) {
	root := filepath.Join("..", "..")
	document, err := os.ReadFile(filepath.Join(root, "docs", "invariants.md"))
	require.NoError(t, err)
	var source strings.Builder
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		source.Write(b)
		return err
	}))
	names := namedTest.FindAllStringSubmatch(string(document), -1)
	require.Greater(t, len(names), 20)
	for _, name := range names {
		require.Contains(t, source.String(), "func "+name[1]+"(", "docs/invariants.md names a test that isn't there")
	}
}
