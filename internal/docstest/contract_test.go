package docstest_test

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The forms of what is cited by its number, whatever is before them: a form that begins with a letter is looked for by it.
var (
	requirement = regexp.MustCompile(`C[1-9][0-9]?\b`)
	invariant   = regexp.MustCompile(`L[1-9][0-9]?\b`)
	endsInWord  = regexp.MustCompile(`\w$`)
)

// cited returns the numbers in a text that have a form, as words of their own.
func cited(text string, form *regexp.Regexp) (numbers []string) {
	for _, at := range form.FindAllStringIndex(text, -1) {
		if !endsInWord.MatchString(text[max(0, at[0]-1):at[0]]) {
			numbers = append(numbers, text[at[0]:at[1]])
		}
	}
	return numbers
}

// TestCitedNumbersAreDefined holds that a requirement or an invariant that a comment or a
// document cites by its number is in docs/contract.md or docs/invariants.md.
func TestCitedNumbersAreDefined(t *testing.T) {
	r := load(t)
	for _, numbers := range []struct {
		form       *regexp.Regexp
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
			for _, number := range cited(text, numbers.form) {
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
