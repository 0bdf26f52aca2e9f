package docstest_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	createTable = regexp.MustCompile(`(?m)^CREATE TABLE (\w+) \(`)
	mermaid     = regexp.MustCompile("(?s)```mermaid\n(.*?)```")
	// cylinder is what a picture says something is kept in.
	cylinder = regexp.MustCompile(`\[\("([^"]*)"\)\]`)
)

// tables are those that the migrations create.
func (r *repository) tables() map[string]bool {
	tables := map[string]bool{}
	for path, text := range r.text {
		if !strings.HasPrefix(path, "migrations/") {
			continue
		}
		for _, found := range createTable.FindAllStringSubmatch(text, -1) {
			tables[found[1]] = true
		}
	}
	return tables
}

// TestEveryTableIsDescribed holds that docs/design/data.md has a row for each table that
// the migrations create, and for no other.
func TestEveryTableIsDescribed(t *testing.T) {
	r := load(t)
	described := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*`) \\|").FindAllStringSubmatch(r.documents["docs/design/data.md"], -1) {
		for _, name := range strings.Split(row[1], ", ") {
			described[strings.Trim(name, "`")] = true
		}
	}
	tables := r.tables()
	require.Greater(t, len(tables), 30)
	for name := range tables {
		require.True(t, described[name], "docs/design/data.md says nothing of the table %s", name)
	}
	for name := range described {
		require.True(t, tables[name], "docs/design/data.md describes the table %s, which isn't there", name)
	}
}

// TestThePictureOfUsageNamesTables holds that the tables in the second picture of
// docs/architecture.md are there.
func TestThePictureOfUsageNamesTables(t *testing.T) {
	r := load(t)
	pictures := mermaid.FindAllStringSubmatch(r.documents["docs/architecture.md"], -1)
	require.Len(t, pictures, 2)
	tables, named := r.tables(), 0
	for _, found := range cylinder.FindAllStringSubmatch(pictures[1][1], -1) {
		for _, name := range strings.Split(found[1], "<br/>") {
			if !strings.Contains(name, " ") && strings.Contains(name, "_") {
				named++
				require.True(t, tables[name], "the picture names the table %s, which isn't there", name)
			}
		}
	}
	require.Greater(t, named, 5)
}

// TestDesignPagesSayWhatTheyOwn holds that each page of docs/design begins with what it
// owns, what it doesn't, and its invariants.
func TestDesignPagesSayWhatTheyOwn(t *testing.T) {
	begin := regexp.MustCompile(`^# .+\n\n(.+\n)+\n- \*\*Owns:\*\* (.+\n)+- \*\*Does not own:\*\* (.+\n)+- \*\*Invariants:\*\* .+\n`)
	pages := 0
	for path, text := range load(t).documents {
		if strings.HasPrefix(path, "docs/design/") {
			pages++
			require.Regexp(t, begin, text, path)
		}
	}
	require.GreaterOrEqual(t, pages, 5)
}
