package documents

import (
	"github.com/riverline/tollgate/billing"

	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ErrMismatch is the root of every error about a file that isn't what its manifest
// says. The error's text names the file, and what was expected and found.
var ErrMismatch = errors.New("export doesn't match its manifest")

// Verify reads the files that a manifest names and checks their size and digest,
// and for usage totals their form, their rows and the control totals. It returns
// everything that differs, joined, under [ErrMismatch]; a file that can't be opened
// or read is the error of open, joined to the rest.
func Verify(m billing.Manifest, open func(name string) (io.ReadCloser, error)) error {
	if err := validateManifest(m); err != nil {
		return err
	}
	var found []error
	for _, file := range m.Files {
		found = append(found, verifyFile(m, file, open))
	}
	return errors.Join(found...)
}

func verifyFile(m billing.Manifest, file billing.File, open func(name string) (io.ReadCloser, error)) (err error) {
	in, err := open(file.Name)
	if err != nil {
		return fmt.Errorf("open %s: %w", file.Name, err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()

	digest := sha256.New()
	var size byteCounter
	read := io.TeeReader(in, io.MultiWriter(digest, &size))
	var found []error
	differs := func(format string, args ...any) {
		found = append(found, fmt.Errorf("%w: %s: %s", ErrMismatch, file.Name, fmt.Sprintf(format, args...)))
	}
	if err := verifyContent(m, file, read, differs); err != nil {
		differs("%v", err)
	}
	// What a reader of rows has left over counts too.
	if _, err := io.Copy(io.Discard, read); err != nil {
		return fmt.Errorf("read %s: %w", file.Name, err)
	}
	if int64(size) != file.Bytes {
		differs("has %d bytes, not %d", size, file.Bytes)
	}
	if sum := hex.EncodeToString(digest.Sum(nil)); sum != file.SHA256 {
		differs("has SHA-256 %s, not %s", sum, file.SHA256)
	}
	return errors.Join(found...)
}

// verifyContent checks what is in a file, by its name.
func verifyContent(m billing.Manifest, file billing.File, in io.Reader, differs func(format string, args ...any)) error {
	name, compressed := strings.CutSuffix(file.Name, GzipSuffix)
	if compressed && (name == UsageFile || name == StatementsFile || name == LinesFile) {
		unpacked, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		in = unpacked
	}
	switch name {
	case UsageFile:
		verifyUsage(m, file, in, differs)
	case StatementsFile:
		verifyStatements(m, file, in, differs)
	case LinesFile:
		verifyLines(m, file, in, differs)
	}
	return nil
}

func verifyUsage(m billing.Manifest, file billing.File, in io.Reader, differs func(format string, args ...any)) {
	meters := make([]string, len(m.Totals))
	for i, total := range m.Totals {
		meters[i] = total.Meter
	}
	totals := NewTotals(meters)
	for row, err := range ReadUsageJSONL(in) {
		if err != nil {
			differs("%v", err)
			return
		}
		totals.Add(row)
	}
	if totals.rows != file.Rows {
		differs("has %d rows, not %d", totals.rows, file.Rows)
	}
	list := totals.List()
	for _, want := range m.Totals {
		i := slices.IndexFunc(list, func(t billing.ControlTotal) bool { return t.Meter == want.Meter })
		if i < 0 {
			differs("has no usage of meter %s, not %s of %d organizations", want.Meter, want.Value, want.Organizations)
		} else if list[i] != want {
			differs("has %s of meter %s by %d organizations, not %s by %d",
				list[i].Value, want.Meter, list[i].Organizations, want.Value, want.Organizations)
		}
	}
	for _, got := range list {
		if !slices.Contains(meters, got.Meter) {
			differs("has usage of meter %s, which the manifest doesn't name", got.Meter)
		}
	}
}
