package docstest_test

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The letters of what is cited by its number: a requirement, C5, and an invariant, L1.
const (
	requirement = 'C'
	invariant   = 'L'
)

// cited returns the numbers in a text that have a letter, as words of their own.
func cited(text string, letter byte) (numbers []string) {
	isWord := func(at int) bool {
		return at >= 0 && at < len(text) && (text[at] == '_' || '0' <= text[at] && text[at] <= '9' || 'a' <= text[at]|0x20 && text[at]|0x20 <= 'z')
	}
	isDigit := func(at int) bool { return at < len(text) && '0' <= text[at] && text[at] <= '9' }
	for from := 0; ; from++ {
		next := strings.IndexByte(text[from:], letter)
		if next < 0 {
			return numbers
		}
		from += next
		end := from + 1
		for isDigit(end) {
			end++
		}
		if end > from+1 && end <= from+3 && text[from+1] != '0' && !isWord(from-1) && !isWord(end) {
			numbers = append(numbers, text[from:end])
		}
	}
}

// TestCitedNumbersAreDefined holds that a requirement or an invariant that a comment or a
// document cites by its number is in docs/contract.md or docs/invariants.md.
func TestCitedNumbersAreDefined(t *testing.T) {
	r := load(t)
	for _, numbers := range []struct {
		letter     byte
		definition *regexp.Regexp
		document   string
		count      int
	}{
		{requirement, regexp.MustCompile(`(?m)^## (C\d+):`), "docs/contract.md", 10},
		{invariant, regexp.MustCompile(`(?m)^\| (L\d+) \|`), "docs/invariants.md", 9},
	} {
		defined := map[string]bool{}
		for _, found := range numbers.definition.FindAllStringSubmatch(r.documents[numbers.document], -1) {
			require.False(t, defined[found[1]], "%s defines %s twice", numbers.document, found[1])
			defined[found[1]] = true
		}
		require.GreaterOrEqual(t, len(defined), numbers.count)
		check := func(where, text string) {
			for _, number := range cited(text, numbers.letter) {
				if !defined[number] {
					t.Errorf("%s cites %s, which %s doesn't define", where, number, numbers.document)
				}
			}
		}
		for where, text := range r.documents {
			check(where, text)
		}
		for where, comments := range r.comments {
			check(where, strings.Join(comments, "\n"))
		}
	}
}

func TestCited(t *testing.T) {
	require.Equal(t, []string{"C1", "C12", "C9", "C5"}, cited("C1 AC2 C12, C123 C0 C_ C 3C4 _C5 C6a C7_ (C9)L1:C5", requirement))
	require.Empty(t, cited("C1 C", invariant))
}

// TestPackagesSayWhatTheirNumbersAre holds that the documentation of a package whose
// comments cite requirements says where those are defined.
func TestPackagesSayWhatTheirNumbersAre(t *testing.T) {
	r := load(t)
	cites := map[string]bool{}
	for where, comments := range r.comments {
		if !strings.HasSuffix(where, "_test.go") && cited(strings.Join(comments, "\n"), requirement) != nil {
			cites[path.Dir(where)] = true
		}
	}
	require.GreaterOrEqual(t, len(cites), 3)
	for folder := range cites {
		said := slices.ContainsFunc(r.comments[folder+"/doc.go"], func(comment string) bool { return strings.Contains(comment, "docs/contract.md") })
		require.True(t, said, "comments of %s cite requirements: let %s/doc.go name docs/contract.md", folder, folder)
	}
}

// TestTheContractIsMet holds that each requirement says where it is met and which tests
// hold it.
func TestTheContractIsMet(t *testing.T) {
	sections := regexp.MustCompile(`(?m)^## `).Split(load(t).documents["docs/contract.md"], -1)[1:]
	for _, section := range sections {
		title, _, _ := strings.Cut(section, "\n")
		for _, part := range []string{"**Asked for.**", "**Met by"} {
			require.Contains(t, section, part, title)
		}
		require.NotEmpty(t, namedTest.FindAllString(section, -1), title)
	}
}
