package site

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/yuin/goldmark/ast"

	repository "github.com/riverline/tollgate"
)

//go:embed templates
var templates embed.FS

// policy lets a page load the styles of the pages beside it, and nothing else.
const policy = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// start is the first page, whose lists are the navigation.
const start = "docs/README.md"

// Site serves the documents. Make it with [New].
type Site struct {
	logger *slog.Logger
	mux    *http.ServeMux
}

// routes are the patterns of the site, as http.ServeMux has them.
var routes = []struct {
	pattern string
	serve   func(*Site, http.ResponseWriter, *http.Request)
}{
	{"GET /docs", (*Site).servePage},
	{"GET /docs/{$}", (*Site).servePage},
	{"GET /docs/search", (*Site).serveSearch},
	{"GET " + drawnAt + "{picture}", (*Site).serveDrawing},
	{"GET /docs/{page}", (*Site).servePage},
	{"GET /docs/{page}/{below}", (*Site).servePage},
}

// New makes a site. The documents are rendered at the first request.
func New(logger *slog.Logger) *Site {
	s := &Site{logger: logger, mux: http.NewServeMux()}
	for _, route := range routes {
		s.mux.HandleFunc(route.pattern, func(w http.ResponseWriter, r *http.Request) { route.serve(s, w, r) })
	}
	return s
}

// Routes returns the patterns that the site answers, as http.ServeMux has them.
func (s *Site) Routes() (out []string) {
	for _, route := range routes {
		out = append(out, route.pattern)
	}
	return out
}

// ServeHTTP answers a request.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Security-Policy", policy)
	s.mux.ServeHTTP(w, r)
}

// library is all documents, rendered.
type library struct {
	pages      map[string]*page
	navigation []group
	// order is that of the navigation, each page once.
	order     []navLink
	index     []entry
	templates *template.Template
}

// group is a part of the navigation.
type group struct {
	Title string
	Links []navLink
}

// navLink is a link of the navigation; Here says that it is the page's own.
type navLink struct {
	URL, Title string
	Here       bool
}

// read renders all documents, once for the process: they don't change.
var read = sync.OnceValues(func() (*library, error) {
	l := &library{pages: map[string]*page{}}
	var err error
	if l.templates, err = template.ParseFS(templates, "templates/*.html"); err != nil {
		return nil, err
	}
	has := func(file string) bool {
		_, err := fs.Stat(repository.Documents, file)
		return err == nil && path.Ext(file) == ".md"
	}
	err = fs.WalkDir(repository.Documents, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		source, err := fs.ReadFile(repository.Documents, file)
		if err != nil {
			return err
		}
		p, err := renderPage(file, source, has)
		if err != nil {
			return fmt.Errorf("render %s: %w", file, err)
		}
		l.pages[p.url] = p
		l.index = append(l.index, entriesOf(p)...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	l.readNavigation(l.pages[urlOf(start)])
	return l, nil
})

// readNavigation takes it from the lists of the first page: the first link of each item, under its heading.
func (l *library) readNavigation(p *page) {
	seen := map[string]bool{p.url: true}
	l.order = append(l.order, navLink{URL: p.url, Title: p.title})
	for n := p.tree.FirstChild(); n != nil; n = n.NextSibling() {
		if h, ok := n.(*ast.Heading); ok && h.Level == 2 {
			l.navigation = append(l.navigation, group{Title: plain(h, p.source)})
		}
		if _, ok := n.(*ast.List); !ok || len(l.navigation) == 0 {
			continue
		}
		links := &l.navigation[len(l.navigation)-1].Links
		for item := n.FirstChild(); item != nil; item = item.NextSibling() {
			link := firstLink(item)
			if link == nil {
				continue
			}
			found := navLink{URL: string(link.Destination), Title: plain(link, p.source)}
			*links = append(*links, found)
			if url, _, _ := strings.Cut(found.URL, "#"); l.pages[url] != nil && !seen[url] {
				seen[url] = true
				l.order = append(l.order, navLink{URL: url, Title: l.pages[url].title})
			}
		}
	}
}

func firstLink(n ast.Node) *ast.Link {
	for child := n.FirstChild(); child != nil; child = child.NextSibling() {
		if link, ok := child.(*ast.Link); ok {
			return link
		}
		if link := firstLink(child); link != nil {
			return link
		}
	}
	return nil
}

// view is what a template shows.
type view struct {
	Title      string
	Navigation []group
	Query      string
	// Body and Headings are a document's; Before and After those beside it, nil at the ends.
	Body          template.HTML
	Headings      []heading
	Source        string
	Before, After *navLink
	// Found is what a search found.
	Found []found
}

func (s *Site) servePage(w http.ResponseWriter, r *http.Request) {
	l, err := read()
	if err != nil {
		s.fail(w, r, err)
		return
	}
	url := strings.TrimSuffix(r.URL.Path, "/")
	p := l.pages[url]
	if p == nil {
		s.show(w, r, l, http.StatusNotFound, "missing.html", view{Title: "No such page", Navigation: l.navigationAt("")})
		return
	}
	v := view{Title: p.title, Navigation: l.navigationAt(url), Body: p.body, Headings: p.headings, Source: sources + p.file}
	for i := range l.order {
		if l.order[i].URL != url {
			continue
		}
		if i > 0 {
			v.Before = &l.order[i-1]
		}
		if i < len(l.order)-1 {
			v.After = &l.order[i+1]
		}
	}
	w.Header().Set("Cache-Control", "public, max-age=300")
	s.show(w, r, l, http.StatusOK, "page.html", v)
}

func (s *Site) serveSearch(w http.ResponseWriter, r *http.Request) {
	l, err := read()
	if err != nil {
		s.fail(w, r, err)
		return
	}
	query := r.URL.Query().Get("q")
	s.show(w, r, l, http.StatusOK, "search.html", view{Title: "Search", Navigation: l.navigationAt(""), Query: query, Found: search(l.index, query)})
}

// navigationAt is the navigation of a page.
func (l *library) navigationAt(url string) []group {
	out := make([]group, len(l.navigation))
	for i, g := range l.navigation {
		out[i].Title = g.Title
		for _, link := range g.Links {
			link.Here = link.URL == url
			out[i].Links = append(out[i].Links, link)
		}
	}
	return out
}

// show renders a page, whole or not at all.
func (s *Site) show(w http.ResponseWriter, r *http.Request, l *library, status int, name string, v view) {
	var out bytes.Buffer
	if err := l.templates.ExecuteTemplate(&out, name, v); err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	// The browser may be gone; there is nobody left to tell.
	_, _ = w.Write(out.Bytes())
}

func (s *Site) fail(w http.ResponseWriter, r *http.Request, err error) {
	s.logger.ErrorContext(r.Context(), "A document can't be shown", "path", r.URL.Path, "error", err)
	http.Error(w, "The document can't be shown. The log says why.", http.StatusInternalServerError)
}
