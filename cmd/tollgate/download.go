package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/schollz/progressbar/v3"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
)

type exportDownload struct {
	exportQuery
	To string `type:"path" default:"." help:"Folder to write the files into. It is made if it is missing."`
}

// Run downloads the manifest and what it names, and checks each against it.
func (c exportDownload) Run(ctx context.Context, out *output) error {
	if err := os.MkdirAll(c.To, 0o755); err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	api := c.client()
	// A file may take longer than a call may.
	api.http.Timeout = 0
	if err := c.fetch(ctx, out, api, billing.File{Name: documents.ManifestFile, Bytes: -1}); err != nil {
		return err
	}
	manifest, err := readManifest(c.To)
	if err != nil {
		return err
	}
	for _, file := range manifest.Files {
		if err := c.fetch(ctx, out, api, file); err != nil {
			return err
		}
	}
	if err := documents.Verify(manifest, filesIn(c.To)); err != nil {
		return err
	}
	return c.print(out, manifest, "FILE\tROWS\tBYTES\tSHA-256", func(row func(...any)) {
		for _, f := range manifest.Files {
			row(filepath.Join(c.To, f.Name), f.Rows, f.Bytes, f.SHA256)
		}
	})
}

// readManifest reads the manifest of the files in a folder.
func readManifest(folder string) (billing.Manifest, error) {
	document, err := os.ReadFile(filepath.Join(folder, documents.ManifestFile))
	if err != nil {
		return billing.Manifest{}, fmt.Errorf("read the manifest: %w", err)
	}
	return documents.ParseManifest(document)
}

// filesIn opens files by their names in a folder.
func filesIn(folder string) func(name string) (io.ReadCloser, error) {
	return func(name string) (io.ReadCloser, error) { return os.Open(filepath.Join(folder, filepath.Base(name))) }
}

// fetch writes one file; one that breaks off leaves nothing under its name.
func (c exportDownload) fetch(ctx context.Context, out *output, api *client, file billing.File) (err error) {
	// A manifest must not be able to write outside the folder.
	if file.Name != filepath.Base(file.Name) || file.Name == "." || file.Name == ".." {
		return fmt.Errorf("the manifest names a file %q, which is no plain file name", file.Name)
	}
	response, err := api.send(ctx, http.MethodGet, c.path(c.period(), "files", file.Name), nil)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	temporary, err := os.CreateTemp(c.To, "."+file.Name+"-*")
	if err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	defer func() { _ = os.Remove(temporary.Name()) }()
	writer := io.Writer(temporary)
	if out.terminal {
		bar := progressbar.NewOptions64(file.Bytes, progressbar.OptionSetWriter(os.Stderr),
			progressbar.OptionSetDescription(file.Name), progressbar.OptionShowBytes(true), progressbar.OptionClearOnFinish())
		defer func() { _ = bar.Finish() }()
		writer = io.MultiWriter(temporary, bar)
	}
	if _, err := io.Copy(writer, response.Body); err != nil {
		return errors.Join(fmt.Errorf("download %s: %w", file.Name, err), temporary.Close())
	}
	if err := temporary.Close(); err != nil {
		return fmt.Errorf("write %s: %w", file.Name, err)
	}
	if err := os.Rename(temporary.Name(), filepath.Join(c.To, file.Name)); err != nil {
		return fmt.Errorf("write %s: %w", file.Name, err)
	}
	return nil
}
