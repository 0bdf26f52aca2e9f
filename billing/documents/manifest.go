package documents

import (
	"github.com/riverline/tollgate/billing"

	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// ManifestFormat is the version of the manifest's own form.
const ManifestFormat = 2

// The names of an export's files.
const (
	// UsageFile holds one usage total a line.
	UsageFile = "usage.jsonl"
	// ManifestFile is written last: where it is, the export is whole.
	ManifestFile = "manifest.json"
)

// ErrInvalidManifest is the root of every error about a manifest's content. The
// error's text names each field at fault and the rule that it breaks.
var ErrInvalidManifest = errors.New("invalid manifest")

// EncodeManifest returns a manifest in its one form: indented JSON with the members
// in the order of [billing.Manifest], batch marks in the order of the instance, files in
// that of their name, control totals as given, and a newline at the end. The
// argument isn't changed. It answers [ErrInvalidManifest] where a rule is broken.
func EncodeManifest(m billing.Manifest) ([]byte, error) {
	m.Cut = m.Cut.UTC()
	m.Watermark = append([]billing.BatchMark{}, m.Watermark...)
	slices.SortFunc(m.Watermark, func(a, b billing.BatchMark) int { return bytes.Compare(a.Instance[:], b.Instance[:]) })
	m.Files = append([]billing.File{}, m.Files...)
	slices.SortFunc(m.Files, func(a, b billing.File) int { return strings.Compare(a.Name, b.Name) })
	m.Totals = append([]billing.ControlTotal{}, m.Totals...)
	m.Money = slices.Clone(m.Money)
	slices.SortFunc(m.Money, func(a, b billing.MoneyTotal) int { return strings.Compare(string(a.Currency), string(b.Currency)) })
	if err := validateManifest(m); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(m); err != nil {
		return nil, fmt.Errorf("encode the manifest: %w", err)
	}
	return out.Bytes(), nil
}

// ParseManifest reads a manifest and checks it. A member that isn't known, a wrong
// type and a broken rule are errors under [ErrInvalidManifest].
func ParseManifest(document []byte) (billing.Manifest, error) {
	var m billing.Manifest
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&m); err != nil {
		return billing.Manifest{}, fmt.Errorf("%w: %w", ErrInvalidManifest, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return billing.Manifest{}, fmt.Errorf("%w: something follows the document", ErrInvalidManifest)
	}
	if err := validateManifest(m); err != nil {
		return billing.Manifest{}, err
	}
	m.Cut = m.Cut.UTC()
	return m, nil
}

// validateManifest checks every rule of a manifest and returns all that are broken, joined,
// under [ErrInvalidManifest].
func validateManifest(m billing.Manifest) error {
	var broken []error
	report := func(field, rule string, args ...any) {
		broken = append(broken, fmt.Errorf("%s: %s", field, fmt.Sprintf(rule, args...)))
	}
	if m.Format != ManifestFormat {
		report("format", "%d is not known: this program knows %d", m.Format, ManifestFormat)
	}
	if m.Revision < 1 {
		report("revision", "%d must be 1 or more", m.Revision)
	}
	validatePeriod(m, report)
	if m.Program == "" {
		report("program", "is missing")
	}
	for i, mark := range m.Watermark {
		field := fmt.Sprintf("watermark[%d]", i)
		if mark.Instance == uuid.Nil {
			report(field+".instance", "is missing")
		}
		if i > 0 && bytes.Compare(m.Watermark[i-1].Instance[:], mark.Instance[:]) >= 0 {
			report(field+".instance", "%s is there twice or out of order", mark.Instance)
		}
		if mark.Through < 1 {
			report(field+".through", "%d must be 1 or more", mark.Through)
		}
	}
	for i, file := range m.Files {
		field := fmt.Sprintf("files[%d]", i)
		validateFile(file, field, report)
		if i > 0 && m.Files[i-1].Name >= file.Name {
			report(field+".name", "%q is there twice or out of order", file.Name)
		}
	}
	seen := map[string]bool{}
	for i, total := range m.Totals {
		field := fmt.Sprintf("control_totals[%d]", i)
		if total.Meter == "" || seen[total.Meter] {
			report(field+".meter", "%q is missing or there twice", total.Meter)
		}
		seen[total.Meter] = true
		if total.Organizations < 1 {
			report(field+".organizations", "%d must be 1 or more", total.Organizations)
		}
		if !wholeNumber(total.Value.String()) {
			report(field+".value", "%q must be a whole decimal number", total.Value)
		}
	}
	if len(broken) > 0 {
		return fmt.Errorf("%w: %w", ErrInvalidManifest, errors.Join(broken...))
	}
	return nil
}

func validatePeriod(m billing.Manifest, report func(field, rule string, args ...any)) {
	if m.Period.IsZero() {
		report("period", "is missing")
		return
	}
	start, end := m.Period.Start(), m.Period.End()
	switch {
	case m.Cut.UTC().Year() > 9999:
		report("cut", "must be before the year 10000")
	case m.Cut.Before(start) || m.Cut.After(end):
		report("cut", "%s must lie in the period %s", m.Cut, m.Period)
	case m.Provisional == m.Cut.Equal(end):
		report("provisional", "must be true exactly where the cut is before the period's end")
	}
}

func validateFile(f billing.File, field string, report func(field, rule string, args ...any)) {
	if f.Name == "" || f.Name == "." || f.Name == ".." || strings.ContainsAny(f.Name, "/\\") || f.Name == ManifestFile {
		report(field+".name", "%q must be the name of a file beside the manifest", f.Name)
	}
	digest, err := hex.DecodeString(f.SHA256)
	if err != nil || len(digest) != 32 || strings.ToLower(f.SHA256) != f.SHA256 {
		report(field+".sha256", "%q must be 64 lower-case hexadecimal digits", f.SHA256)
	}
	if f.Bytes < 0 {
		report(field+".bytes", "%d must be 0 or more", f.Bytes)
	}
	if f.Rows < 0 {
		report(field+".rows", "%d must be 0 or more", f.Rows)
	}
}
