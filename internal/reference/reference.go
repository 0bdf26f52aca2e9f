// Package reference holds the pages of docs/reference, which are made from the code.
package reference

import (
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var write = flag.Bool("write-reference", false, "write the page of docs/reference that a test makes")

// made says what a page is, to who reads its source.
const made = "<!-- Made by `make reference`. -->\n\n"

// Hold fails where a page of docs/reference isn't what was made, or writes it with -write-reference. The name has no extension.
func Hold(t testing.TB, name, page string) {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(here), "..", "..", "docs", "reference", name+".md")
	page = made + page
	if *write {
		require.NoError(t, os.WriteFile(path, []byte(page), 0o644)) //nolint:gosec // a document, for everybody
		return
	}
	kept, err := os.ReadFile(path) //nolint:gosec // of the repository
	require.NoError(t, err)
	require.Equal(t, string(kept), page, "docs/reference/%s.md is another one: `make reference` writes it", name)
}

// width is that of a line of prose, in bytes.
const width = 100

// Prose is a paragraph, wrapped.
func Prose(text string) string {
	var out strings.Builder
	at := 0
	for _, word := range strings.Fields(text) {
		switch {
		case at == 0:
		case at+1+len(word) > width:
			out.WriteByte('\n')
			at = 0
		default:
			out.WriteByte(' ')
			at++
		}
		out.WriteString(word)
		at += len(word)
	}
	return out.String() + "\n"
}

// Cell is a text in a table.
func Cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", "\\|")
}

// Row is a row of a table.
func Row(cells ...string) string { return "| " + strings.Join(cells, " | ") + " |\n" }

// Head is the head of a table.
func Head(names ...string) string {
	return Row(names...) + "|" + strings.Repeat("---|", len(names)) + "\n"
}

// Code sets names as code, separated by commas.
func Code(names ...string) string {
	out := make([]string, 0, len(names))
	for _, name := range names {
		if name != "" {
			out = append(out, "`"+name+"`")
		}
	}
	return strings.Join(out, ", ")
}
