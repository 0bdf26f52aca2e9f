//go:build browser

package site_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/browsertest"
	"github.com/riverline/tollgate/web/site"
)

// drawingsVariable names the environment variable that says that pictures are to be drawn anew.
const drawingsVariable = "TOLLGATE_DRAW"

// TestDraw writes the pictures that the documents describe, where somebody asks for it.
func TestDraw(t *testing.T) {
	if os.Getenv(drawingsVariable) == "" {
		return
	}
	folder := filepath.Join("..", "..", "docs", "pictures")
	old, err := filepath.Glob(filepath.Join(folder, "*.svg"))
	require.NoError(t, err)
	var texts []string
	for text := range descriptions(t) {
		texts = append(texts, text)
	}
	pictures := browsertest.Open(t, "").Draw(texts)
	for _, file := range old {
		require.NoError(t, os.Remove(file))
	}
	for n, text := range texts {
		require.NoError(t, os.WriteFile(filepath.Join(folder, site.DrawingOf(text)), []byte(pictures[n]), 0o644))
	}
}

// TestBrowserDrawings holds that a browser shows each picture, whatever the policies of the page and of the picture say.
func TestBrowserDrawings(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/", site.New(slog.New(slog.DiscardHandler)))
	mux.Handle("/assets/", http.StripPrefix("/assets/", http.FileServer(http.Dir(filepath.Join("..", "assets")))))
	served := httptest.NewServer(mux)
	t.Cleanup(served.Close)
	w := browsertest.Open(t, served.URL)
	for _, path := range []string{"/docs/concepts/journal", "/docs/concepts/close", "/docs/architecture", "/docs/security"} {
		w.Go(path)
		w.Await(`[...document.images].length > 0 && [...document.images].every(i => i.complete && i.naturalWidth > 100)`)
	}
	w.Look("docs-security")
}
