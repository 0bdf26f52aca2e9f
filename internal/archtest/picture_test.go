package archtest_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// room is a node of the picture, or a subgraph with rooms in it.
type room struct {
	name string
	// within are the subgraphs that it is in, the outermost first, and itself.
	within []string
	// packages are those of the room, with what is below them. A subgraph has none of its own.
	packages []string
}

// arrow goes from who imports to what is imported.
type arrow struct{ from, to string }

var (
	mermaid  = regexp.MustCompile("(?s)```mermaid\n(.*?)```")
	subgraph = regexp.MustCompile(`^subgraph (\w+)$`)
	node     = regexp.MustCompile(`(\w+)\["([^"]*)"\]`)
)

// readPicture reads the rooms and the arrows of a Mermaid flowchart.
func readPicture(t *testing.T, text string) (map[string]room, map[arrow]bool) {
	t.Helper()
	rooms, arrows := map[string]room{}, map[arrow]bool{}
	var open []string
	add := func(name string, packages ...string) {
		if _, known := rooms[name]; !known {
			rooms[name] = room{name, append(slices.Clone(open), name), packages}
		}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "flowchart ") {
			continue
		}
		if line == "end" {
			require.NotEmpty(t, open)
			open = open[:len(open)-1]
			continue
		}
		if found := subgraph.FindStringSubmatch(line); found != nil {
			add(found[1])
			open = append(open, found[1])
			continue
		}
		for _, found := range node.FindAllStringSubmatch(line, -1) {
			add(found[1], strings.Split(found[2], "<br/>")...)
		}
		from, to, isArrow := strings.Cut(node.ReplaceAllString(line, "$1"), " --> ")
		if !isArrow {
			continue
		}
		for _, from := range strings.Split(from, " & ") {
			for _, to := range strings.Split(to, " & ") {
				// A node without a label is the package of its name.
				add(from, from)
				add(to, to)
				require.False(t, arrows[arrow{from, to}], "the arrow from %s to %s is drawn twice", from, to)
				arrows[arrow{from, to}] = true
			}
		}
	}
	require.Empty(t, open)
	return rooms, arrows
}

// TestThePictureIsTrue holds that the first picture of docs/architecture.md shows the
// imports of the module, no more and no less: between rooms of the same subgraph one by
// one, otherwise between the subgraphs.
func TestThePictureIsTrue(t *testing.T) {
	document, err := os.ReadFile(filepath.Join("..", "..", "docs", "architecture.md"))
	require.NoError(t, err)
	found := mermaid.FindSubmatch(document)
	require.NotNil(t, found)
	rooms, drawn := readPicture(t, string(found[1]))

	packages := listPackages(t)
	roomOf := map[string]room{}
	inRooms := map[string]bool{}
	for path, p := range packages {
		if len(p.GoFiles) == 0 {
			continue
		}
		longest := ""
		for _, r := range rooms {
			for _, prefix := range r.packages {
				if !matches(path, prefix) || len(prefix) < len(longest) {
					continue
				}
				// A folder in another one's room may have a room of its own.
				require.NotEqual(t, longest, prefix, "%s is in two rooms: %s and %s", path, roomOf[path].name, r.name)
				longest, roomOf[path] = prefix, r
			}
		}
		inRooms[roomOf[path].name] = true
		require.NotEmpty(t, roomOf[path].name, "the picture has no room for %s", path)
	}
	for name, r := range rooms {
		require.True(t, len(r.packages) == 0 || inRooms[name], "the room %s has no package", name)
	}

	imported := map[arrow]string{}
	for path, from := range roomOf {
		for _, name := range packages[path].Imports {
			inner, ours := strings.CutPrefix(name, module)
			if to := roomOf[inner]; ours && to.name != from.name {
				imported[between(from, to)] = path + " imports " + inner
			}
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(imported), compareArrows) {
		if !drawn[a] {
			t.Errorf("%s: the picture lacks an arrow from %s to %s", imported[a], a.from, a.to)
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(drawn), compareArrows) {
		if imported[a] == "" {
			t.Errorf("the picture has an arrow from %s to %s, and nothing of %s imports it", a.from, a.to, a.from)
		}
	}
}

// between returns the arrow that shows an import: between the outermost that the two
// rooms do not share.
func between(from, to room) arrow {
	n := 0
	for n < len(from.within)-1 && n < len(to.within)-1 && from.within[n] == to.within[n] {
		n++
	}
	return arrow{from.within[n], to.within[n]}
}

func compareArrows(a, b arrow) int { return strings.Compare(a.from+">"+a.to, b.from+">"+b.to) }
