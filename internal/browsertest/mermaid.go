//go:build browser

package browsertest

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha512"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

const (
	// mermaidVersion is that of the package which draws, mermaidDigest the SHA-512 of its archive.
	mermaidVersion = "11.12.0"
	mermaidDigest  = "ZudVx73BwrMJfCFmSSJT84y6u5brEoV8DOItdHomNLz32uBjNrelm7mg95X7g+C6UoQH/W6mBLGDEDv73JdxBg=="
	// mermaidScript is where the archive has the script, which needs no other file.
	mermaidScript = "package/dist/mermaid.min.js"
	// npmWait bounds the download.
	npmWait = 2 * time.Minute
)

// draw is what the page does with a text.
//
//go:embed testdata/draw.js
var draw string

// drawingStyle is that of a picture, in place of Mermaid's, which knows one ground only.
//
//go:embed testdata/drawing.css
var drawingStyle string

// Draw has Mermaid draw pictures in the browser, and returns each as SVG that is readable on light and on dark ground.
func (w *Window) Draw(texts []string) (out []string) {
	w.t.Helper()
	script := mermaid(w.t)
	w.Do(chromedp.Navigate("about:blank"), chromedp.Evaluate(script, nil), chromedp.Evaluate(draw, nil))
	for _, text := range texts {
		arguments, err := json.Marshal([]string{text, drawingStyle})
		require.NoError(w.t, err)
		var picture string
		w.Do(chromedp.Evaluate("drawMermaid(..."+string(arguments)+")", &picture, chromedp.EvalAsValue,
			func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
		out = append(out, picture)
	}
	return out
}

// mermaid is its script: out of the cache, or by npm, once for a user. It is too large for a repository, and for a page.
func mermaid(t *testing.T) string {
	t.Helper()
	root, err := os.UserCacheDir()
	require.NoError(t, err)
	folder := filepath.Join(root, "tollgate", "mermaid-"+mermaidVersion)
	require.NoError(t, os.MkdirAll(folder, 0o750))
	archive := filepath.Join(folder, "mermaid-"+mermaidVersion+".tgz")
	if _, err := os.Stat(archive); err != nil {
		ctx, cancel := context.WithTimeout(t.Context(), npmWait)
		defer cancel()
		command := exec.CommandContext(ctx, "npm", "pack", "--silent", "--pack-destination", folder, "mermaid@"+mermaidVersion) //nolint:gosec // the folder of the cache
		said, err := command.CombinedOutput()
		require.NoError(t, err, "Mermaid comes by npm: %s", said)
	}
	content, err := os.ReadFile(archive) //nolint:gosec // the cache's
	require.NoError(t, err)
	digest := sha512.Sum512(content)
	require.Equal(t, mermaidDigest, base64.StdEncoding.EncodeToString(digest[:]), "%s isn't what was published: remove it", archive)
	return fileOf(t, archive, mermaidScript)
}

// fileOf is a file of an archive.
func fileOf(t *testing.T, archive, name string) string {
	t.Helper()
	file, err := os.Open(archive) //nolint:gosec // the cache's
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	unpacked, err := gzip.NewReader(file)
	require.NoError(t, err)
	for entries := tar.NewReader(unpacked); ; {
		header, err := entries.Next()
		require.NotErrorIs(t, err, io.EOF, "%s has no %s", archive, name)
		require.NoError(t, err)
		if header.Name == name {
			content, err := io.ReadAll(entries)
			require.NoError(t, err)
			return string(content)
		}
	}
}
