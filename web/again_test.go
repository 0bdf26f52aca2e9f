package web_test

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPartsAreAskedForAgain holds that what a page asks for by itself comes again after an answer that failed: each
// trigger of it names the event that web/assets/failures.js sends, unless it comes by time.
func TestPartsAreAskedForAgain(t *testing.T) {
	t.Parallel()
	trigger, found := regexp.MustCompile(`hx-trigger="([^"]*)"`), 0
	require.NoError(t, fs.WalkDir(os.DirFS("templates"), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path.Join("templates", name))
		for _, match := range trigger.FindAllStringSubmatch(string(text), -1) {
			found++
			require.True(t, strings.HasSuffix(match[1], ", again") || strings.HasPrefix(match[1], "every "), "%s: %s", name, match[0])
		}
		return err
	}))
	require.Positive(t, found)
}
