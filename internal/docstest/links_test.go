package docstest_test

import (
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/web/site"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+?)\s*$`)
	// filePath is a file as prose names it: `meter/quota.go`.
	filePath = regexp.MustCompile("`((?:[\\w.-]+/)+[\\w.-]+\\.(?:go|sql|yaml|yml|md|sh))`")
)

// TestLinksLeadSomewhere holds that what a document links to within the repository is
// there: files, folders and headings.
func TestLinksLeadSomewhere(t *testing.T) {
	r := load(t)
	anchors := map[string]map[string]bool{}
	for path, text := range r.prose {
		anchors[path] = anchorsOf(text)
	}
	checked := 0
	for from, text := range r.prose {
		for _, found := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(target, ":") {
				continue
			}
			checked++
			to := from
			if target != "" {
				to = path.Join(path.Dir(from), target)
			}
			switch {
			case !r.paths[to]:
				t.Errorf("%s links to %s, which isn't there", from, found[1])
			case anchor != "" && !anchors[to][anchor]:
				t.Errorf("%s links to %s, which has no such heading", from, found[1])
			}
		}
	}
	require.Greater(t, checked, 30)
}

// TestEveryDocumentIsReached holds that each page of docs is linked from another document.
func TestEveryDocumentIsReached(t *testing.T) {
	r := load(t)
	reached := map[string]bool{}
	for from, text := range r.documents {
		for _, found := range link.FindAllStringSubmatch(text, -1) {
			target, _, _ := strings.Cut(found[1], "#")
			if to := path.Join(path.Dir(from), target); to != from {
				reached[to] = true
			}
		}
	}
	for page := range r.documents {
		require.True(t, !strings.HasPrefix(page, "docs/") || reached[page], "no document links to %s", page)
	}
}

// TestDocumentsNameFiles holds that files that a document names with their folder are there.
func TestDocumentsNameFiles(t *testing.T) {
	r := load(t)
	for from, text := range r.documents {
		for _, found := range filePath.FindAllStringSubmatch(text, -1) {
			if !r.paths[found[1]] && !r.paths[path.Join(path.Dir(from), found[1])] {
				t.Errorf("%s names %s, which isn't there", from, found[1])
			}
		}
	}
}

// anchorsOf returns the anchors of a document's headings, as GitHub makes them.
func anchorsOf(prose string) map[string]bool {
	anchors := map[string]bool{}
	for _, found := range heading.FindAllStringSubmatch(prose, -1) {
		anchors[site.AnchorOf(found[1])] = true
	}
	return anchors
}
