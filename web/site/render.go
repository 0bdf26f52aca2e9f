package site

import (
	"bytes"
	"fmt"
	"html/template"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// sources is where the files are kept that the site doesn't have.
const sources = "https://github.com/riverline/tollgate/blob/main/"

// apiDocument is the file that a page of its own shows.
const apiDocument = "api/openapi.yaml"

// page is a document, rendered.
type page struct {
	// file is its path in the repository, url where it is served.
	file, url string
	title     string
	body      template.HTML
	// headings are those of the second level.
	headings []heading
	// sections are what a search finds: the text under each heading.
	sections []section
	tree     ast.Node
	source   []byte
}

type heading struct{ ID, Title string }

// section is a heading with the text under it.
type section struct {
	heading
	text strings.Builder
}

var markdown = goldmark.New(
	goldmark.WithExtensions(extension.GFM),
	goldmark.WithParserOptions(parser.WithAutoHeadingID()),
	goldmark.WithRendererOptions(renderer.WithNodeRenderers(util.Prioritized(codeBlocks{}, 1))),
)

// framed lets wide tables be scrolled by keyboard: each is a region of its own.
func framed(body string) string {
	var out strings.Builder
	for n := 1; ; n++ {
		before, table, found := strings.Cut(body, "<table>")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		table, body, _ = strings.Cut(table, "</table>")
		fmt.Fprintf(&out, `<div class="scroll" tabindex="0" role="region" aria-label="Table %d"><table>%s</table></div>`, n, table)
	}
}

// urlOf is where a document is served: docs/design/leases.md at /docs/design/leases, a README at its folder.
func urlOf(file string) string {
	name := strings.TrimSuffix(strings.TrimPrefix(file, "docs/"), ".md")
	if strings.HasPrefix(file, "docs/") {
		name = strings.TrimSuffix(name, "README")
	}
	return strings.TrimSuffix("/docs/"+strings.ToLower(name), "/")
}

// renderPage renders a document. has says which files of the repository are pages.
func renderPage(file string, source []byte, has func(file string) bool) (*page, error) {
	p := &page{file: file, url: urlOf(file), source: source}
	p.tree = markdown.Parser().Parse(text.NewReader(source), parser.WithContext(parser.NewContext(parser.WithIDs(anchors{}))))
	if err := ast.Walk(p.tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			p.see(n, has)
		}
		return ast.WalkContinue, nil
	}); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := markdown.Renderer().Render(&out, source, p.tree); err != nil {
		return nil, err
	}
	p.body = template.HTML(framed(out.String())) //nolint:gosec // made of documents that are part of the program; raw HTML in them is left out
	return p, nil
}

// see takes from a node what navigation and search need, and makes its links those of the site.
func (p *page) see(n ast.Node, has func(string) bool) {
	switch n := n.(type) {
	case *ast.Heading:
		p.seeHeading(n)
	case *ast.Link:
		n.Destination = []byte(p.linkTo(string(n.Destination), has))
	case *ast.Image:
		// The programs have no pictures: a link leads to it.
		link := ast.NewLink()
		link.Destination = []byte(p.linkTo(string(n.Destination), has))
		link.AppendChild(link, ast.NewString([]byte("Picture: "+plain(n, p.source))))
		n.Parent().ReplaceChild(n.Parent(), n, link)
	case *ast.FencedCodeBlock:
		p.say(string(n.Lines().Value(p.source)))
		if last := len(p.sections) - 1; last >= 0 {
			n.SetAttributeString(under, p.sections[last].Title)
		}
	case *ast.Text:
		p.say(string(n.Value(p.source)))
	}
}

func (p *page) seeHeading(n *ast.Heading) {
	id, _ := n.AttributeString("id")
	found := heading{Title: plain(n, p.source)}
	if bytes, ok := id.([]byte); ok {
		found.ID = string(bytes)
	}
	if n.Level == 1 && p.title == "" {
		p.title = found.Title
	}
	if n.Level == 2 {
		p.headings = append(p.headings, found)
	}
	p.sections = append(p.sections, section{heading: found})
	if n.Level == 1 || hasLink(n) {
		return
	}
	// The heading is a link to itself.
	anchor := ast.NewLink()
	anchor.Destination = []byte("#" + found.ID)
	anchor.SetAttributeString("class", []byte("anchor"))
	for child := n.FirstChild(); child != nil; child = n.FirstChild() {
		anchor.AppendChild(anchor, child)
	}
	n.AppendChild(n, anchor)
}

// say adds to the text of the section.
func (p *page) say(words string) {
	if len(p.sections) > 0 {
		last := &p.sections[len(p.sections)-1].text
		last.WriteString(words)
		last.WriteByte(' ')
	}
}

// linkTo is where a link of a document leads on the site.
func (p *page) linkTo(to string, has func(string) bool) string {
	target, anchor, found := strings.Cut(to, "#")
	if target == "" || strings.Contains(target, ":") || strings.HasPrefix(target, "/") {
		return to
	}
	if found {
		anchor = "#" + anchor
	}
	file := path.Join(path.Dir(p.file), target)
	switch {
	case file == apiDocument:
		return "/docs/api"
	case has(file):
		return urlOf(file) + anchor
	case has(file + "/README.md"):
		return urlOf(file+"/README.md") + anchor
	default:
		return sources + file + anchor
	}
}

func hasLink(n ast.Node) bool {
	for child := n.FirstChild(); child != nil; child = child.NextSibling() {
		if child.Kind() == ast.KindLink || hasLink(child) {
			return true
		}
	}
	return false
}

// plain is the text of a node.
func plain(n ast.Node, source []byte) string {
	var out strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if t, ok := n.(*ast.Text); ok && entering {
			out.Write(t.Value(source))
		}
		return ast.WalkContinue, nil
	})
	return out.String()
}

// linkTarget is what a link in a heading has beside its text.
var linkTarget = regexp.MustCompile(`\]\([^)]*\)`)

// AnchorOf returns the anchor of the first heading of a name, in Markdown, as GitHub makes it: a link works there and here.
func AnchorOf(heading string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case unicode.IsLetter(c), unicode.IsDigit(c), c == '-', c == '_':
			return unicode.ToLower(c)
		case c == ' ':
			return '-'
		default:
			return -1
		}
	}, linkTarget.ReplaceAllString(heading, ""))
}

// anchors names headings, and counts those of a name.
type anchors map[string]int

// Generate returns the anchor of a heading.
func (a anchors) Generate(value []byte, _ ast.NodeKind) []byte {
	id := AnchorOf(string(value))
	n := a[id]
	a[id]++
	if n > 0 {
		id += "-" + strconv.Itoa(n)
	}
	return []byte(id)
}

// Put is told of an anchor that a document gives.
func (anchors) Put([]byte) {}

// under names the attribute of a block of code that has the heading which it is under.
const under = "under"

// codeBlocks renders code so that it can be scrolled by keyboard.
type codeBlocks struct{}

// RegisterFuncs tells the renderer which nodes are rendered here.
func (codeBlocks) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(ast.KindFencedCodeBlock, renderCode)
}

func renderCode(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	block, ok := n.(*ast.FencedCodeBlock)
	if !ok || !entering {
		return ast.WalkContinue, nil
	}
	text := string(block.Lines().Value(source))
	if string(block.Language(source)) == "mermaid" {
		title, _ := block.AttributeString(under)
		writePicture(w, text, drawingOf(text), fmt.Sprint(title))
		return ast.WalkSkipChildren, nil
	}
	writeCode(w, text, "")
	return ast.WalkSkipChildren, nil
}

func writeCode(w util.BufWriter, text, id string) {
	if id != "" {
		id = ` id="` + id + `"`
	}
	_, _ = w.WriteString(`<pre tabindex="0"` + id + `><code>`)
	html.DefaultWriter.RawWrite(w, []byte(text))
	_, _ = w.WriteString("</code></pre>\n")
}

// writePicture shows a picture, and says in its description what is on it. Drawing it on the page would take Mermaid's script,
// which is larger than all the rest.
func writePicture(w util.BufWriter, text string, d *drawing, title string) {
	id := "described-" + strings.TrimSuffix(DrawingOf(text), ".svg")
	if d != nil {
		_, _ = fmt.Fprintf(w, `<a class="picture" href="%s"><img src="%s" width="%s" height="%s" alt="Picture: %s" aria-describedby="%s"></a>`+"\n",
			d.url, d.url, d.width, d.height, template.HTMLEscapeString(title), id)
	}
	_, _ = w.WriteString("<details><summary>The picture, as Mermaid describes it</summary>\n")
	writeCode(w, text, id)
	_, _ = w.WriteString("</details>\n")
}
