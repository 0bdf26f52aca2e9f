package site

import (
	"cmp"
	"html/template"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxQuery is the most of a search that is read, in bytes, maxWords how many words of it.
	maxQuery = 100
	maxWords = 8
	// maxFound is how many sections a search shows.
	maxFound = 30
	// around is how much of a text is shown before and after what was found, in bytes.
	around = 90
)

// entry is a section as a search reads it.
type entry struct {
	url, page, title, text string
	// where, name and words are page, title and text in lower case.
	where, name, words string
}

func entriesOf(p *page) (out []entry) {
	for i := range p.sections {
		s := &p.sections[i]
		e := entry{url: p.url, page: p.title, title: s.Title, text: strings.Join(strings.Fields(s.text.String()), " ")}
		e.text = strings.TrimSpace(strings.TrimPrefix(e.text, s.Title))
		if i > 0 {
			e.url += "#" + s.ID
		}
		e.where, e.name, e.words = strings.ToLower(e.page), strings.ToLower(e.title), strings.ToLower(e.text)
		out = append(out, e)
	}
	return out
}

// found is a section that a search has found. Text has what was found marked.
type found struct {
	URL, Page, Title string
	Text             template.HTML
	score            int
}

// search returns the sections that have each word of a query, the best first: a word in a heading says
// more than one in the title of the page, and that more than one in the text.
func search(index []entry, query string) []found {
	words := wordsOf(query)
	if len(words) == 0 {
		return nil
	}
	var out []found
	for i := range index {
		e := &index[i]
		if score := e.score(words); score > 0 {
			out = append(out, found{e.url, e.page, e.title, e.shown(words), score})
		}
	}
	slices.SortStableFunc(out, func(a, b found) int { return cmp.Compare(b.score, a.score) })
	return out[:min(len(out), maxFound)]
}

func wordsOf(query string) []string {
	query = query[:min(len(query), maxQuery)]
	words := strings.FieldsFunc(strings.ToLower(query), func(c rune) bool { return unicode.IsSpace(c) || c == utf8.RuneError })
	return words[:min(len(words), maxWords)]
}

// score is 0 where a word is missing. One that begins a word says more than one within another.
func (e *entry) score(words []string) (total int) {
	for _, word := range words {
		score := min(strings.Count(e.words, word), 5)
		for _, place := range []struct {
			text  string
			worth int
		}{{e.words, 5}, {e.where, 8}, {e.name, 20}} {
			switch {
			case beginning(place.text, word) >= 0:
				score += place.worth
			case strings.Contains(place.text, word):
				score++
			}
		}
		if score == 0 {
			return 0
		}
		total += score
	}
	return total
}

// beginning is the first place in a text where one of its words begins with another; -1: none.
func beginning(text, word string) int {
	for from := 0; ; {
		i := strings.Index(text[from:], word)
		if i < 0 {
			return -1
		}
		from += i
		if before, _ := utf8.DecodeLastRuneInString(text[:from]); !unicode.IsLetter(before) && !unicode.IsDigit(before) {
			return from
		}
		from += len(word)
	}
}

// shown is a part of the text with the first word that is in it, marked.
func (e *entry) shown(words []string) template.HTML {
	from, word := -1, ""
	for _, find := range []func(text, word string) int{beginning, strings.Index} {
		for _, w := range words {
			if from < 0 {
				from, word = find(e.words, w), w
			}
		}
	}
	escape := template.HTMLEscapeString
	// Some letters take another number of bytes in lower case: then places in the two texts differ.
	if from < 0 || len(e.words) != len(e.text) {
		return template.HTML(escape(before(e.text, 2*around))) //nolint:gosec // escaped
	}
	to := from + len(word)
	return template.HTML(escape(after(e.text[:from], around)) + "<mark>" + escape(e.text[from:to]) + "</mark>" + escape(before(e.text[to:], around))) //nolint:gosec // escaped
}

// before is the beginning of a text, at most so many bytes in whole words.
func before(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return text[:max(0, strings.LastIndexByte(text[:most], ' '))] + " …"
}

// after is the end of a text, at most so many bytes in whole words.
func after(text string, most int) string {
	if len(text) <= most {
		return text
	}
	cut := text[len(text)-most:]
	return "… " + strings.ToValidUTF8(cut[strings.IndexByte(cut, ' ')+1:], "")
}
