package web

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
)

//go:embed templates
var templates embed.FS

// views are the templates of the pages, by name: each with the layout and the components.
type views map[string]*template.Template

// parseViews panics where a template is broken: they are part of the program.
func parseViews() views {
	shared := template.Must(template.New("").Funcs(functions).ParseFS(templates, "templates/shared/*.html"))
	out := views{}
	files, err := fs.Glob(templates, "templates/*.html")
	if err != nil || len(files) == 0 {
		panic(fmt.Sprintf("web: no templates: %v", err))
	}
	for _, file := range files {
		own := template.Must(template.Must(shared.Clone()).ParseFS(templates, file))
		out[strings.TrimSuffix(path.Base(file), ".html")] = own
	}
	return out
}

// shell is what each page has beside its own data.
type shell struct {
	// Page is the page's own.
	Page any
	// Actor is who is signed in; SignedIn says whether anybody is.
	Actor    accounts.Actor
	SignedIn bool
	Links    []shownLink
	// Form is the token of each form, Once an identity for one, so that it is carried out once.
	Form, Once string
	// Notice says what a form has done.
	Notice string
	Now    time.Time
}

// shownLink is a link of the navigation; Here says that the page is below it.
type shownLink struct {
	link
	Here bool
}

// notices say what was done, by the word that a redirect bears. Nothing else that an address bears is shown.
var notices = map[string]string{
	"plan":         "The plan is changed. It counts from now on, on every instance within a second.",
	"pending":      "The change is noted. The plan in force stays until the month's end.",
	"kept":         "The plan stays as it is.",
	"removed":      "The endpoint is removed.",
	"changed":      "The endpoint is changed.",
	"redeliver":    "The delivery is tried again now.",
	"started":      "The close has begun.",
	"decided":      "The decision is noted.",
	"flushed":      "The instance has flushed.",
	"made":         "The organization is made. Give it a key.",
	"organization": "The organization is changed. It counts on every instance within a second.",
	"revoked":      "The key is revoked. It works nowhere within a second.",
	"published":    "The version is published, or waits for a second person where that is set. It counts on every instance within a second.",
	"delivering":   "The delivery has begun. What becomes of each statement shows below.",
	"customer":     "The customer is set. Deliver what is left, so that its statement is made an invoice.",
	"granted":      "The credit is granted.",
	"waits":        "It is too much for one person: it waits for a second one of finance, who approves it.",
	"approved":     "The grant is approved, and made.",
	"rejected":     "The grant is rejected. Nothing was granted.",
	"voided":       "What remained of the grant is taken back.",
	"out":          "You are signed out.",
}

func (v *visit) shell(data any) shell {
	s := shell{Page: data, Actor: v.actor, SignedIn: v.signedIn(), Now: v.now, Notice: notices[v.r.URL.Query().Get("done")]}
	if !v.signedIn() {
		return s
	}
	if v.once == "" {
		v.once = uuid.NewString()
	}
	s.Form, s.Once = v.token.form(), v.once
	for _, l := range navigation[v.actor.Role] {
		s.Links = append(s.Links, shownLink{l, v.r.URL.Path == l.To || strings.HasPrefix(v.r.URL.Path, l.To+"/")})
	}
	return s
}

// show renders a page, whole or not at all.
func (v *visit) show(status int, name string, data any) error {
	body, err := v.render(name, "layout", data)
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.Header().Add("Vary", "Cookie")
	v.w.WriteHeader(status)
	// The browser may be gone; there is nobody left to tell.
	_, _ = v.w.Write(body)
	return nil
}

// page shows a page of what is there.
func (v *visit) page(name string, data any) error { return v.show(http.StatusOK, name, data) }

// render executes a part of a page's template.
func (v *visit) render(name, part string, data any) ([]byte, error) {
	var out bytes.Buffer
	if err := v.pages.views[name].ExecuteTemplate(&out, part, v.shell(data)); err != nil {
		return nil, fmt.Errorf("render page %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// functions are those of the templates.
var functions = template.FuncMap{
	"number": number, "quantity": quantity, "unit": plural, "money": amount, "sum": sum, "utc": utc, "span": span, "relative": relative, "words": words,
	"bar": newBar, "columns": newColumns,
	"before": func(n int) int { return n - 1 },
	"next":   func(n int) int { return n + 1 },
	"size":   func(rows []trialRow) int64 { return int64(len(rows)) },
	"list":   func(items ...any) []any { return items },
}
