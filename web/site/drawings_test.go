package site_test

import (
	"encoding/xml"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	repository "github.com/riverline/tollgate"
	"github.com/riverline/tollgate/web/site"
)

var described = regexp.MustCompile("(?ms)^```mermaid\n(.*?)^```$")

// descriptions are the texts of all pictures, each with the document that has it.
func descriptions(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, fs.WalkDir(repository.Documents, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(repository.Documents, file)
		for _, found := range described.FindAllStringSubmatch(string(text), -1) {
			out[found[1]] = file
		}
		return err
	}))
	return out
}

// TestDrawings holds that each picture that a document describes is drawn and shown, that none is left of another text, and that
// a picture loads and runs nothing.
func TestDrawings(t *testing.T) {
	t.Parallel()
	wanted := map[string]bool{}
	for text, file := range descriptions(t) {
		name := site.DrawingOf(text)
		wanted[name] = true
		content, err := fs.ReadFile(repository.Drawings, "docs/pictures/"+name)
		require.NoError(t, err, "a picture of %s isn't drawn as it is described: `make drawings`", file)
		requireStill(t, name, string(content))
		page := get(t, "/docs/"+strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(file, "docs/"), ".md"))).Body.String()
		require.Regexp(t, `<img src="/docs/pictures/`+name+`" width="\d+" height="\d+" alt="[^"]+" aria-describedby="[^"]+"`, page)
	}
	require.GreaterOrEqual(t, len(wanted), 8)
	kept, err := fs.Glob(repository.Drawings, "docs/pictures/*.svg")
	require.NoError(t, err)
	for _, file := range kept {
		require.True(t, wanted[path.Base(file)], "no document describes %s any longer: `make drawings` removes it", file)
		answer := get(t, "/"+file)
		require.Equal(t, http.StatusOK, answer.Code)
		require.Equal(t, "image/svg+xml", answer.Header().Get("Content-Type"))
		require.Contains(t, answer.Header().Get("Content-Security-Policy"), "sandbox")
	}
	for _, target := range []string{"/docs/pictures/nowhere.svg", "/docs/pictures/limit-light.png", "/docs/pictures/..%2f..%2fgo.mod"} {
		require.Equal(t, http.StatusNotFound, get(t, target).Code, target)
	}
}

// requireStill holds that a picture is XML of shapes and texts alone.
func requireStill(t *testing.T, name, content string) {
	t.Helper()
	require.Less(t, len(content), 64<<10, name)
	require.Contains(t, content, "prefers-color-scheme: dark", name)
	for decoder := xml.NewDecoder(strings.NewReader(content)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err, name)
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		require.NotContains(t, []string{"script", "foreignObject", "image", "use", "a"}, start.Name.Local, name)
		for _, attribute := range start.Attr {
			require.False(t, strings.HasPrefix(attribute.Name.Local, "on") || attribute.Name.Local == "href", "%s: %s", name, attribute.Name.Local)
			require.NotContains(t, strings.ReplaceAll(attribute.Value, "url(#", ""), "url(", name)
		}
	}
}
