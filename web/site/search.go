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

// score is 0 where a word is missing.
func (e *entry) score(words []string) (total int) {
	for _, word := range words {
		score := min(strings.Count(e.words, word), 5)
		if strings.Contains(e.where, word) {
			score += 8
		}
		if strings.Contains(e.name, word) {
			score += 20
		}
		if score == 0 {
			return 0
		}
		total += score
	}
	return total
}

// shown is a part of the text with the first word that is in it.
func (e *entry) shown(words []string) template.HTML {
	from, word := -1, ""
	for _, w := range words {
		if from = strings.Index(e.words, w); from >= 0 {
			word = w
			break
		}
	}
	// Some letters take another number of bytes in lower case: then places in the two texts differ.
	if from < 0 || len(e.words) != len(e.text) {
		return template.HTML(template.HTMLEscapeString(cut(e.text, 0, 2*around))) //nolint:gosec // escaped
	}
	to := from + len(word)
	escape := template.HTMLEscapeString
	return template.HTML(escape(cut(e.text, from-around, from)) + "<mark>" + escape(e.text[from:to]) + "</mark>" + escape(cut(e.text, to, to+around))) //nolint:gosec // escaped
}

// cut is a part of a text, in whole letters.
func cut(text string, from, to int) string {
	before, after := "", ""
	if from > 0 {
		before = "… "
	}
	if to < len(text) && to > from {
		after = " …"
	}
	from, to = max(from, 0), min(to, len(text))
	for from < to && !utf8.RuneStart(text[from]) {
		from++
	}
	for to > from && to < len(text) && !utf8.RuneStart(text[to]) {
		to--
	}
	if from == 0 {
		before = ""
	}
	return before + text[from:to] + after
}
