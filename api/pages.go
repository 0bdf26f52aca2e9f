package api

import (
	"context"
	"mime"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/gate"
)

// Pages are what people read, beside the API. They ask it for all that they show and change
// ([Server.Ask]), so that its roles, costs, rules and audit log are theirs, too.
type Pages interface {
	http.Handler
	// Routes returns the patterns that they answer, as http.ServeMux has them: "GET /months/{period}".
	Routes() []string
}

// ProblemPage is pages that show a problem to a person, who opened an address that isn't for people.
type ProblemPage interface {
	ServeProblem(w http.ResponseWriter, r *http.Request, p *gate.Problem)
}

// ServePages answers the routes of pages. Those that are a [ProblemPage] show problems, too. Call it
// before the first request.
func (s *Server) ServePages(pages Pages) {
	if shows, ok := pages.(ProblemPage); ok {
		s.problems = shows
	}
	serve := gin.WrapH(pages)
	for _, pattern := range pages.Routes() {
		method, path, _ := strings.Cut(pattern, " ")
		s.engine.Handle(method, pageWildcard.ReplaceAllStringFunc(path, ginWildcard), serve)
	}
}

// showProblem answers with a problem: as a page, where a browser asks for an address that isn't for people.
func (s *Server) showProblem(c *gin.Context, p *gate.Problem) {
	shown := []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed}
	if s.problems == nil || !slices.Contains(shown, p.Status) {
		p.Abort(c)
		return
	}
	c.Writer.Header().Add("Vary", "Accept")
	if c.GetHeader("Authorization") != "" || !wantsPage(c.Request.Header.Values("Accept")) {
		p.Abort(c)
		return
	}
	c.Abort()
	s.problems.ServeProblem(c.Writer, c.Request, p)
}

// wantsPage reports whether who accepts these media types wants HTML by name, no less than JSON: a
// browser does, and a program that takes anything doesn't.
func wantsPage(accept []string) bool {
	var page, data float64
	for one := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		kind, parameters, err := mime.ParseMediaType(one)
		if err != nil {
			continue
		}
		quality := 1.0
		if given, ok := parameters["q"]; ok {
			if quality, err = strconv.ParseFloat(given, 64); err != nil {
				continue
			}
		}
		switch kind {
		case "text/html":
			page = max(page, quality)
		case "application/json", "application/problem+json":
			data = max(data, quality)
		}
	}
	return page > 0 && page >= data
}

var pageWildcard = regexp.MustCompile(`\{([a-z]+(\.\.\.)?|\$)\}`)

// ginWildcard writes "{name}" as ":name", "{name...}" as "*name", and "{$}", the end, as nothing.
func ginWildcard(wildcard string) string {
	name := strings.Trim(wildcard, "{}")
	if name == "$" {
		return ""
	}
	if rest, ok := strings.CutSuffix(name, "..."); ok {
		return "*" + rest
	}
	return ":" + name
}

// pageRequest says on whose behalf a page asks the API.
type pageRequest struct {
	// key is the hash of the secret of the key that the sign-in acts for.
	key accounts.SecretHash
	// id is that of the page's own request: log and audit log have what it asks under it.
	id string
}

type pageRequestKey struct{}

func pageRequestOf(ctx context.Context) (pageRequest, bool) {
	asked, ok := ctx.Value(pageRequestKey{}).(pageRequest)
	return asked, ok
}

// Ask answers a request to a route of the API on behalf of a sign-in, by the hash of the secret of the key that it acts
// for, under the ID of the page's request. The request bears no Authorization of its own.
func (s *Server) Ask(w http.ResponseWriter, r *http.Request, key accounts.SecretHash, requestID string) {
	s.engine.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), pageRequestKey{}, pageRequest{key, requestID})))
}

// KnowSecret returns whose key a secret is that somebody signs in with from a remote address. A secret that
// is no key's, or that doesn't work for now, is a [*gate.Problem].
func (s *Server) KnowSecret(ctx context.Context, secret, remote string) (accounts.Actor, error) {
	p, err := s.keys.principal(ctx, secret, remote, s.config.Now())
	return actorAt(p, remote, err)
}

// KnowKey returns whose key a sign-in acts for, by the hash of its secret. One that doesn't work any more, or for now, is a [*gate.Problem].
func (s *Server) KnowKey(ctx context.Context, hash accounts.SecretHash, remote string) (accounts.Actor, error) {
	p, err := s.keys.principalOf(ctx, hash, s.config.Now())
	return actorAt(p, remote, err)
}

func actorAt(p *principal, remote string, err error) (accounts.Actor, error) {
	if err != nil {
		return accounts.Actor{}, problemOf(keyError(err))
	}
	address, _, err := net.SplitHostPort(remote)
	if err != nil {
		address = remote
	}
	return p.actor(address, ""), nil
}
