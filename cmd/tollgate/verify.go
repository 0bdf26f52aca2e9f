package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
)

type exportVerify struct {
	Folder  string `arg:"" type:"existingdir" default:"." help:"Folder with the files of an export."`
	Offline bool   `help:"Check the files alone, without asking the API what the database has."`
	server
	Key string `secret:"" env:"TOLLGATE_FINANCE_KEY" placeholder:"KEY" help:"A finance key; not needed with --offline."`
	format
}

// Validate checks that there is a key where one is needed.
func (c exportVerify) Validate() error {
	if c.Offline {
		return nil
	}
	return c.check(c.Key)
}

// Run checks hashes, sums and numbers, and unless it is offline what the database
// adds up to.
func (c exportVerify) Run(ctx context.Context, out *output) error {
	manifest, err := readManifest(c.Folder)
	if err != nil {
		return err
	}
	err = documents.Verify(manifest, filesIn(c.Folder))
	if err == nil && !c.Offline {
		err = c.againstDatabase(ctx, manifest)
	}
	if err != nil {
		return err
	}
	checked := "files, sums and numbers"
	if !c.Offline {
		checked += ", and the database"
	}
	return c.print(out, map[string]any{"verified": true, "period": manifest.Period, "revision": manifest.Revision, "checked": checked},
		"PERIOD\tREVISION\tVERIFIED", func(row func(...any)) { row(manifest.Period, manifest.Revision, checked) })
}

// againstDatabase compares the manifest with the one that is kept, and with what the
// database adds up to now.
func (c exportVerify) againstDatabase(ctx context.Context, manifest billing.Manifest) error {
	api := newClient(c.URL, c.Key)
	of := revisionFlag{Revision: manifest.Revision}
	kept, err := getExport(ctx, api, manifest.Period.String(), of)
	if err != nil {
		return err
	}
	var totals struct {
		Usage []billing.ControlTotal `json:"control_totals"`
		Money []billing.MoneyTotal   `json:"money_totals"`
	}
	if err := api.call(ctx, http.MethodGet, of.path(manifest.Period.String(), "control-totals"), nil, &totals); err != nil {
		return err
	}
	var found []error
	for _, pair := range []struct {
		what      string
		here, now any
	}{
		{"the manifest", manifest, kept.Manifest},
		{"the control totals", manifest.Totals, totals.Usage},
		{"the money totals", manifest.Money, totals.Money},
	} {
		here, err := json.Marshal(pair.here)
		if err != nil {
			return fmt.Errorf("compare %s: %w", pair.what, err)
		}
		now, err := json.Marshal(pair.now)
		if err != nil {
			return fmt.Errorf("compare %s: %w", pair.what, err)
		}
		if !bytes.Equal(here, now) && string(here)+string(now) != "null[]" {
			found = append(found, fmt.Errorf("%w: %s: %s here, %s in the database", documents.ErrMismatch, pair.what, here, now))
		}
	}
	return errors.Join(found...)
}

type exportDiff struct {
	Before string `arg:"" help:"A revision of the period (1), or a folder or file with statements."`
	After  string `arg:"" help:"The same, of what to compare with."`
	server
	Key string `secret:"" env:"TOLLGATE_FINANCE_KEY" placeholder:"KEY" help:"A finance key, where a revision is compared."`
	periodFlag
	format
}

// Run says what differs, for whom and why.
func (c exportDiff) Run(ctx context.Context, out *output) error {
	before, closeBefore, err := c.open(ctx, c.Before)
	if err != nil {
		return err
	}
	defer closeBefore()
	after, closeAfter, err := c.open(ctx, c.After)
	if err != nil {
		return err
	}
	defer closeAfter()
	encoder := json.NewEncoder(out)
	for d, err := range documents.Diff(before, after) {
		if err != nil {
			return err
		}
		if c.JSON || !out.terminal {
			if err := encoder.Encode(d); err != nil {
				return err
			}
			continue
		}
		showDifference(out, d)
	}
	return nil
}

func showDifference(out io.Writer, d documents.StatementDifference) {
	_, _ = fmt.Fprintf(out, "%s %s: %s → %s %s (%s)\n", d.Organization, d.OrganizationName, orMissing(d.Before), orMissing(d.After), d.Currency, d.Change())
	for _, l := range d.Lines {
		_, _ = fmt.Fprintf(out, "  %s\n", l.Description)
		for _, step := range l.WhyBefore {
			_, _ = fmt.Fprintf(out, "    - %s\n", step)
		}
		for _, step := range l.WhyAfter {
			_, _ = fmt.Fprintf(out, "    + %s\n", step)
		}
	}
}

func orMissing[T fmt.Stringer](v *T) string {
	if v == nil {
		return "none"
	}
	return (*v).String()
}

// open opens statements: those of a revision from the API, else from a folder or file.
func (c exportDiff) open(ctx context.Context, from string) (iter.Seq2[billing.Statement, error], func(), error) {
	if n, err := strconv.Atoi(from); err == nil {
		if err := c.check(c.Key); err != nil {
			return nil, nil, err
		}
		return c.download(ctx, revisionFlag{Revision: n})
	}
	name := from
	if info, err := os.Stat(from); err == nil && info.IsDir() {
		name = filepath.Join(from, documents.StatementsFile)
		if _, err := os.Stat(name); err != nil {
			name += documents.GzipSuffix
		}
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, nil, fmt.Errorf("open statements: %w", err)
	}
	return statementsIn(name, file)
}

func (c exportDiff) download(ctx context.Context, revision revisionFlag) (iter.Seq2[billing.Statement, error], func(), error) {
	api := newClient(c.URL, c.Key)
	api.http.Timeout = 0
	e, err := getExport(ctx, api, c.period(), revision)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range e.Files {
		if strings.TrimSuffix(f.Name, documents.GzipSuffix) == documents.StatementsFile {
			// Who reads the statements closes the body.
			response, err := api.send(ctx, http.MethodGet, revision.path(c.period(), "files", f.Name), nil) //nolint:bodyclose // closed by the caller
			if err != nil {
				return nil, nil, err
			}
			return statementsIn(f.Name, response.Body)
		}
	}
	return nil, nil, fmt.Errorf("revision %d of %s has no statements", revision.Revision, c.period())
}

func statementsIn(name string, file io.ReadCloser) (iter.Seq2[billing.Statement, error], func(), error) {
	var in io.Reader = file
	if strings.HasSuffix(name, documents.GzipSuffix) {
		unpacked, err := gzip.NewReader(file)
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("read %s: %w", name, err), file.Close())
		}
		in = unpacked
	}
	return documents.ReadStatements(in), func() { _ = file.Close() }, nil
}
