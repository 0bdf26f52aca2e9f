package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
)

var loadDocument = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(openapi3.NewLoader().Context)
})

func theDocument(t testing.TB) *openapi3.T {
	t.Helper()
	doc, err := loadDocument()
	require.NoError(t, err)
	return doc
}

// ginPath turns a path of the document into one of gin.
func ginPath(path string) string {
	if path == "/gateway/{path}" {
		return gatewayRoute
	}
	return regexp.MustCompile(`\{(\w+)\}`).ReplaceAllString(path, ":$1")
}

// TestEveryRouteIsDescribedAndServed holds the routes and the document against each
// other, both ways.
func TestEveryRouteIsDescribedAndServed(t *testing.T) {
	upstream, err := url.Parse("http://127.0.0.1:1")
	require.NoError(t, err)
	r := newRig(t, func(c *Config) { c.Upstream = upstream })
	served := map[string]bool{}
	for _, route := range r.server.engine.Routes() {
		served[route.Method+" "+route.Path] = true
	}
	described := map[string]bool{}
	for path, item := range theDocument(t).Paths.Map() {
		for method := range item.Operations() {
			described[method+" "+ginPath(path)] = true
		}
	}
	// The page's own files.
	delete(served, "GET /docs/api/*file")
	require.Equal(t, described, served)
}

// TestAccessIsAsDescribed holds roles, parameters and bodies against the document.
func TestAccessIsAsDescribed(t *testing.T) {
	for path, item := range theDocument(t).Paths.Map() {
		for method, operation := range item.Operations() {
			name := method + " " + ginPath(path)
			public := operation.Security != nil && len(*operation.Security) == 0
			roles := []role{}
			if listed, ok := operation.Extensions["x-tollgate-roles"].([]any); ok {
				for _, r := range listed {
					roles = append(roles, role(r.(string)))
				}
			}
			require.Equal(t, public, len(roles) == 0, "%s: a route is public or has roles", name)
			a, generated := accessTo[name]
			if !generated {
				continue
			}
			require.ElementsMatch(t, roles, a.roles, name)
			cost, _ := operation.Extensions["x-tollgate-cost"].(float64)
			require.InDelta(t, cost, a.cost, 0, name)
			require.Equal(t, slices.Contains(roles, roleTenant), a.cost > 0, "%s: whatever a tenant may ask for costs something", name)
			query := []string{}
			for _, p := range append(slices.Clone(item.Parameters), operation.Parameters...) {
				if p.Value.In == "query" {
					query = append(query, p.Value.Name)
				}
			}
			require.ElementsMatch(t, query, a.query, name)
			require.Equal(t, operation.RequestBody != nil, a.body != nil, name)
			require.Equal(t, operation.RequestBody != nil && !operation.RequestBody.Value.Required, a.bodyOptional, name)
			requireKeyIsDescribed(t, name, operation, a)
		}
	}
}

// requireKeyIsDescribed holds that each request that changes something can be sent again
// under an Idempotency-Key, or needs none, and that its document says so.
func requireKeyIsDescribed(t *testing.T, name string, operation *openapi3.Operation, a access) {
	t.Helper()
	described := slices.ContainsFunc(operation.Parameters, func(p *openapi3.ParameterRef) bool { return p.Value.Name == headerIdempotencyKey })
	if strings.HasPrefix(name, "GET ") {
		require.False(t, described || a.keep != nil, name)
		return
	}
	if name == "POST /api/v1/reservations" {
		require.Nil(t, a.keep, "%s: the store sees to that", name)
		require.True(t, described, name)
		return
	}
	if strings.HasSuffix(name, "/dry-run") {
		require.False(t, described || a.keep != nil, "%s: it changes nothing", name)
		return
	}
	require.NotNil(t, a.keep, name)
	require.True(t, described, name)
	require.NotNil(t, operation.Responses.Status(409), name)
}

// TestExamplesAreValid holds the document's examples against its schemas.
func TestExamplesAreValid(t *testing.T) {
	doc := theDocument(t)
	count := 0
	check := func(where string, content openapi3.Content) {
		for contentType, media := range content {
			if !strings.Contains(contentType, "json") || media.Schema == nil {
				continue
			}
			examples := map[string]any{}
			if media.Example != nil {
				examples["example"] = media.Example
			}
			for name, e := range media.Examples {
				examples[name] = e.Value.Value
			}
			if media.Schema.Value.Example != nil {
				examples["schema"] = media.Schema.Value.Example
			}
			for name, e := range examples {
				count++
				require.NoError(t, media.Schema.Value.VisitJSON(e, openapi3.EnableFormatValidation()), "%s: %s", where, name)
			}
		}
	}
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			if operation.RequestBody != nil {
				check(method+" "+path, operation.RequestBody.Value.Content)
			}
			for status, response := range operation.Responses.Map() {
				check(method+" "+path+" "+status, response.Value.Content)
			}
		}
	}
	require.Greater(t, count, 30)
}

var pathPatterns = sync.OnceValue(func() map[string]*regexp.Regexp {
	out := map[string]*regexp.Regexp{}
	doc, err := loadDocument()
	if err != nil {
		panic(err)
	}
	for path := range doc.Paths.Map() {
		pattern := regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(regexp.QuoteMeta(path), `[^/]+`)
		out[path] = regexp.MustCompile("^" + pattern + "$")
	}
	return out
})

// requireConforms holds an answer against the document: its status, content type,
// headers and body.
func requireConforms(t testing.TB, method, target string, got *httptest.ResponseRecorder) {
	t.Helper()
	require.NotEmpty(t, got.Header().Get("X-Request-Id"))
	if method == "HEAD" {
		method = "GET"
	}
	at, _, _ := strings.Cut(target, "?")
	operation := operationAt(method, at)
	if operation == nil {
		require.Contains(t, []int{404, 405}, got.Code, "%s %s is not described", method, at)
		return
	}
	response := operation.Responses.Status(got.Code)
	require.NotNil(t, response, "%s %s: status %d is not described: %s", method, at, got.Code, got.Body)
	for name, header := range response.Value.Headers {
		if header.Value.Required {
			require.NotEmpty(t, got.Header().Get(name), "%s %s %d: header %s", method, at, got.Code, name)
		}
	}
	if len(response.Value.Content) == 0 {
		require.Zero(t, got.Body.Len())
		return
	}
	contentType, _, _ := strings.Cut(got.Header().Get("Content-Type"), ";")
	media := response.Value.Content.Get(contentType)
	require.NotNil(t, media, "%s %s %d: content type %q is not described", method, at, got.Code, contentType)
	if !strings.Contains(contentType, "json") {
		return
	}
	decoder := json.NewDecoder(bytes.NewReader(got.Body.Bytes()))
	decoder.UseNumber()
	var body any
	require.NoError(t, decoder.Decode(&body), got.Body.String())
	err := media.Schema.Value.VisitJSON(body, openapi3.EnableFormatValidation(), openapi3.VisitAsResponse())
	require.NoError(t, err, "%s %s %d: %s", method, at, got.Code, got.Body)
}

func operationAt(method, at string) *openapi3.Operation {
	doc, err := loadDocument()
	if err != nil {
		panic(err)
	}
	for path, pattern := range pathPatterns() {
		if pattern.MatchString(at) {
			return doc.Paths.Value(path).GetOperation(method)
		}
	}
	return nil
}

// TestErrorCodesAreListed holds the table of codes in the document against the code.
func TestErrorCodesAreListed(t *testing.T) {
	for _, code := range []string{
		"invalid_request", "invalid_path", "unauthorized", "plan_limit_exceeded", "forbidden", "not_found", "not_metered",
		"method_not_allowed", "conflict", "body_too_large", "unsupported_media_type", "rate_limited", "internal_error",
		"upstream_unavailable", "upstream_timeout", "unavailable", "idempotency_key_reused", "request_under_way", "reservation_ended",
		"body_stalled", "overloaded", "quota_refused", "too_many_under_way", "too_many_unknown_keys",
		"cost_limited", "redelivered_too_often",
		CodeSelfApproval, CodeNoActor, CodeNotReviewed, CodeParked, CodeNotAwaiting,
	} {
		require.Contains(t, theDocument(t).Info.Description, fmt.Sprintf("`%s`", code))
	}
}
