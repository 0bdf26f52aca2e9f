package site

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"regexp"

	repository "github.com/riverline/tollgate"
)

// drawnAt is where pictures are served, and drawnIn where the repository has them.
const (
	drawnAt = "/docs/pictures/"
	drawnIn = "docs/pictures/"
)

// DrawingOf is the name of the file that has the picture which a text of Mermaid's describes: another text is another picture.
func DrawingOf(text string) string {
	digest := sha256.Sum256([]byte(text))
	return hex.EncodeToString(digest[:8]) + ".svg"
}

// size is that of a picture, so that a page keeps its place.
var size = regexp.MustCompile(`^<svg [^>]*?\bwidth="(\d+)"[^>]*?\bheight="(\d+)"`)

// drawing is a picture as a page shows it.
type drawing struct{ url, width, height string }

// drawingOf finds the picture of a text; nil: nobody has drawn it.
func drawingOf(text string) *drawing {
	name := DrawingOf(text)
	content, err := fs.ReadFile(repository.Drawings, drawnIn+name)
	if err != nil {
		return nil
	}
	found := size.FindSubmatch(content)
	if found == nil {
		return nil
	}
	return &drawing{drawnAt + name, string(found[1]), string(found[2])}
}

// drawingPolicy lets a picture have the styles that are in it, and nothing else.
const drawingPolicy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"

func (*Site) serveDrawing(w http.ResponseWriter, r *http.Request) {
	content, err := fs.ReadFile(repository.Drawings, drawnIn+r.PathValue("picture"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Security-Policy", drawingPolicy)
	w.Header().Set("Content-Type", "image/svg+xml")
	// Its name is that of its content.
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	// The browser may be gone; there is nobody left to tell.
	_, _ = w.Write(content) //nolint:gosec // a file of the program
}
