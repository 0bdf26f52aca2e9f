package docstest_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// proseWidth is the most that a line of prose has, in characters: it is read beside code, and a
// change of a word is a change of few lines.
const proseWidth = 100

// unbroken is a line that can't be broken: a row of a table, a heading, a comment, or one that is
// a single link or word.
var unbroken = regexp.MustCompile("^\\s*(\\||#|<!--|([-*] )?(\\S+|`[^`]+`\\S*)$)")

func TestProseIsWrapped(t *testing.T) {
	r := load(t)
	for name, text := range r.prose {
		if name == "docs/dependencies.md" {
			// One line each.
			continue
		}
		for line := range strings.Lines(text) {
			line = strings.TrimRight(line, "\n")
			if unbroken.MatchString(line) {
				continue
			}
			require.LessOrEqual(t, utf8.RuneCountInString(line), proseWidth, "%s: %s", name, line)
		}
	}
}
