package web

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/gate"
)

// problemPage says what is wrong, and where to go instead.
type problemPage struct {
	*gate.Problem
	Links []link
}

// Unwrap returns the problem: whoever looks for one finds it.
func (p *problemPage) Unwrap() error { return p.Problem }

// ServeProblem shows a problem to a person who opened an address that isn't for people.
func (p *Pages) ServeProblem(w http.ResponseWriter, r *http.Request, problem *gate.Problem) {
	prepare(w)
	v := &visit{pages: p, w: w, r: r, now: p.config.Now().UTC()}
	// Who can't be known is nobody: the page is the same but for its links.
	_ = v.recognize()
	at, says := r.URL.EscapedPath(), problem.Message
	switch problem.Status {
	case http.StatusMethodNotAllowed:
		says = "Nothing opens at " + at + ": it takes what a form or a program sends."
	case http.StatusNotFound:
		says = "There is nothing at " + at + "."
	default:
		says = at + " is the API's: programs ask it, with a key. People read the pages. " + says
	}
	links := []link{{"/sign-in", "Sign in"}}
	if v.signedIn() {
		links = []link{{homeOf(v.actor.Role), "Your first page"}}
	}
	links = append(links, link{"/docs", "Documentation"}, link{"/docs/api", "API reference"})
	v.showProblem(&problemPage{gate.NewProblem(problem.Status, problem.Code, says), links})
}

// showProblem answers with a page that says what is wrong.
func (v *visit) showProblem(p *problemPage) {
	if err := v.show(p.Status, "problem", p); err != nil {
		v.logFailure(err)
	}
}

// idKinds are what the IDs in addresses are of, by the beginning of the address, with the page that lists them.
var idKinds = []struct{ begin, kind, list string }{
	{"/organizations/", "organization", "/organizations"},
	{"/credits/", "organization", "/credits"},
	{"/months/", "organization", "/credits"},
	{"/webhooks/", "endpoint", "/webhooks"},
	{"/instances/", "instance", "/instances"},
	{"/quarantine/", "quarantined usage", "/quarantine"},
	{"/keys/", "key", "/keys"},
}

// checkIDs looks at the IDs in the address, for who has typed a name.
func (v *visit) checkIDs() error {
	for _, name := range []string{"id", "organization", "event", "grant", "proposal"} {
		given := v.r.PathValue(name)
		if given == "" || uuid.Validate(given) == nil {
			continue
		}
		for _, k := range idKinds {
			if strings.HasPrefix(v.r.URL.Path, k.begin) {
				return noSuch(name, given, k.kind, k.list)
			}
		}
	}
	return nil
}

func noSuch(name, given, kind, list string) error {
	to := link{list, "Find it in the list"}
	switch {
	case name != "id" && name != "organization":
		kind = name
	case kind == "organization":
		to = link{list + "?search=" + url.QueryEscape(given), "Search for it by name"}
	}
	return &problemPage{gate.NewProblem(http.StatusNotFound, "not_found", "There is no "+kind+" with the ID “"+given+"”: an ID is a UUID."), []link{to}}
}
