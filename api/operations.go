package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/swaggest/swgui/v5emb"

	"github.com/riverline/tollgate/api/gen"
)

// GetHealth answers that the process lives.
func (s *Server) GetHealth(context.Context, gen.GetHealthRequestObject) (gen.GetHealthResponseObject, error) {
	return gen.GetHealth200JSONResponse{Status: "ok"}, nil
}

// GetLiveness answers that the process lives, whatever it depends on.
func (s *Server) GetLiveness(context.Context, gen.GetLivenessRequestObject) (gen.GetLivenessResponseObject, error) {
	return gen.GetLiveness200JSONResponse{Status: "ok"}, nil
}

// partsCache keeps the state of the parts for a moment: whoever asks often must not
// load them.
type partsCache struct {
	mu    sync.Mutex
	at    time.Time
	state map[string]string
}

const (
	partsFor     = time.Second
	partsTimeout = time.Second
)

// GetReadiness answers whether requests should be sent here. A part that is away
// doesn't change that: the hot path does without. Neither does overload: the others would get what
// this one sheds, on top of theirs. A part that this program doesn't work with does.
func (s *Server) GetReadiness(ctx context.Context, _ gen.GetReadinessRequestObject) (gen.GetReadinessResponseObject, error) {
	ctx = requestContext(ctx)
	switch s.state.Load() {
	case stateStarting:
		return gen.GetReadiness503JSONResponse{Status: "starting", Parts: map[string]string{}}, nil
	case stateStopping:
		return gen.GetReadiness503JSONResponse{Status: "stopping", Parts: map[string]string{}}, nil
	}
	parts := s.checkParts(ctx)
	status := "ready"
	for _, state := range parts {
		switch state {
		case partOK:
		case string(PartTooOld), string(PartTooNew):
			return gen.GetReadiness503JSONResponse{Status: "unready", Parts: parts}, nil
		default:
			status = "degraded"
		}
	}
	return gen.GetReadiness200JSONResponse{Status: status, Parts: parts}, nil
}

const (
	partOK   = "ok"
	partAway = "away"
)

// checkParts asks all parts at once.
func (s *Server) checkParts(ctx context.Context) map[string]string {
	s.parts.mu.Lock()
	defer s.parts.mu.Unlock()
	if s.parts.state != nil && time.Since(s.parts.at) < partsFor {
		return s.parts.state
	}
	// What is found is for others too, so it must not end with this request.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), partsTimeout)
	defer cancel()
	states := make([]<-chan string, len(s.config.Parts))
	for i, part := range s.config.Parts {
		states[i] = checkPart(ctx, part)
	}
	found := make(map[string]string, len(states))
	for i, part := range s.config.Parts {
		found[part.Name] = awaitPart(ctx, states[i])
	}
	s.parts.state, s.parts.at = found, time.Now()
	return found
}

// awaitPart waits for a check until the time for all of them is over: who asks is answered, whatever
// holds a check up.
func awaitPart(ctx context.Context, state <-chan string) string {
	select {
	case found := <-state:
		return found
	case <-ctx.Done():
	}
	select {
	case found := <-state:
		return found
	default:
		return partAway
	}
}

func checkPart(ctx context.Context, part Part) <-chan string {
	state := make(chan string, 1)
	go func() {
		err := part.Check(ctx)
		var is PartState
		switch {
		case err == nil:
			state <- partOK
		case errors.As(err, &is):
			state <- string(is)
		default:
			state <- partAway
		}
	}()
	return state
}

// HealthyParts says of each part whether it is as it should be, as /readyz does.
func (s *Server) HealthyParts(ctx context.Context) map[string]bool {
	healthy := map[string]bool{}
	for part, state := range s.checkParts(ctx) {
		healthy[part] = state == partOK
	}
	return healthy
}

// serveDocument answers with the OpenAPI document.
func (s *Server) serveDocument(c *gin.Context) {
	c.Header("Cache-Control", "no-cache")
	c.Data(http.StatusOK, "application/yaml; charset=utf-8", document)
}

var inlineScript = regexp.MustCompile(`(?s)<script>(.*?)</script>`)

// pageWriter keeps a page that is rendered at the start.
type pageWriter struct {
	header http.Header
	body   bytes.Buffer
}

// Header, WriteHeader and Write make it an http.ResponseWriter.
func (w *pageWriter) Header() http.Header                  { return w.header }
func (w *pageWriter) WriteHeader(int)                      {}
func (w *pageWriter) Write(data []byte) (n int, err error) { return w.body.Write(data) }

// referencePath is where the document is shown, among the pages of [Pages] that say the rest.
const referencePath = "/docs/api"

// docsPage serves Swagger UI, from inside the program. Its policy allows the page's
// own scripts by their digests, and no others.
func docsPage() gin.HandlerFunc {
	page := v5emb.New("Tollgate API", "/openapi.yaml", referencePath+"/")
	rendered := pageWriter{header: http.Header{}}
	page.ServeHTTP(&rendered, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: referencePath + "/"}})
	var scripts strings.Builder
	for _, script := range inlineScript.FindAllSubmatch(rendered.body.Bytes(), -1) {
		digest := sha256.Sum256(bytes.ReplaceAll(script[1], []byte("\r\n"), []byte("\n")))
		scripts.WriteString(" 'sha256-" + base64.StdEncoding.EncodeToString(digest[:]) + "'")
	}
	// Swagger UI sets styles on elements, which no digest can allow.
	policy := []string{"default-src 'none'; script-src 'self'" + scripts.String() + "; style-src 'self' 'unsafe-inline'; " +
		"img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}
	return func(c *gin.Context) {
		header := c.Writer.Header()
		header["Content-Security-Policy"] = policy
		header["Cache-Control"] = []string{"no-cache"}
		page.ServeHTTP(c.Writer, c.Request)
	}
}
