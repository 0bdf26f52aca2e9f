package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// rateCommand tries a catalog on past usage.
type rateCommand struct {
	financeAccess
	Catalog      string          `required:"" type:"existingfile" placeholder:"FILE" help:"The proposed catalog: YAML, as the API and the worker take it."`
	Period       calendar.Period `required:"" placeholder:"YYYY-MM" help:"The month whose export has the usage."`
	Revision     int             `placeholder:"N" help:"A revision of the period's export, from 1. Default: the one that counts."`
	Format       string          `enum:",table,csv,json" default:"" help:"table, csv or json. Default: table where the output is a terminal, csv with --output, and json otherwise."`
	Output       string          `type:"path" placeholder:"FILE" help:"Write into this file; the totals are printed."`
	Organization uuid.UUID       `placeholder:"ID" help:"Rate this organization alone." of:"organization"`
}

// dryRunPage is what the API answers.
type dryRunPage struct {
	Revision      int                          `json:"revision"`
	RunID         string                       `json:"run_id"`
	Organizations []billing.DryRunOrganization `json:"organizations"`
	cursor
}

// errExportChanged says that pages don't belong together.
var errExportChanged = errors.New("the period was exported again meanwhile: start again")

// Run rates page by page, and writes each as it comes.
func (c rateCommand) Run(ctx context.Context, out *output) error {
	document, err := os.ReadFile(c.Catalog)
	if err != nil {
		return fmt.Errorf("--catalog: %w", err)
	}
	catalog, err := plans.Parse(document)
	if err != nil {
		return fmt.Errorf("--catalog %s: %w", c.Catalog, err)
	}
	var totals billing.DryRunTotals
	write := func(to io.Writer) error {
		totals, err = c.write(ctx, to, c.format(out), catalog)
		return err
	}
	if c.Output != "" {
		if err := replaceFile(c.Output, write); err != nil {
			return err
		}
		return documents.WriteDryRunTotals(out, totals)
	}
	if err := write(out); err != nil {
		return err
	}
	if c.format(out) == documents.DryRunCSV {
		// A program reads the records alone.
		return documents.WriteDryRunTotals(os.Stderr, totals)
	}
	return nil
}

func (c rateCommand) format(out *output) documents.DryRunFormat {
	switch {
	case c.Format != "":
		return documents.DryRunFormat(c.Format)
	case c.Output != "":
		return documents.DryRunCSV
	case out.terminal:
		return documents.DryRunTable
	default:
		return documents.DryRunJSON
	}
}

// write asks for all pages. The first one says which export it is: all must be of that.
func (c rateCommand) write(ctx context.Context, to io.Writer, format documents.DryRunFormat, catalog *plans.Catalog) (billing.DryRunTotals, error) {
	buffered := bufio.NewWriter(to)
	var w *documents.DryRunWriter
	run, query := "", c.query(catalog)
	err := eachPage(ctx, c.client(), query, func(page dryRunPage) (err error) {
		if w == nil {
			run = page.RunID
			query.query.Set("revision", strconv.Itoa(page.Revision))
			w, err = documents.NewDryRunWriter(documents.DryRunWriterConfig{Out: buffered, Format: format, Period: c.Period, Revision: page.Revision})
		}
		if err != nil {
			return err
		}
		if page.RunID != run {
			return errExportChanged
		}
		for _, a := range page.Organizations {
			if err := w.Write(a); err != nil {
				return err
			}
		}
		return buffered.Flush()
	})
	if err != nil {
		return billing.DryRunTotals{}, err
	}
	if err := w.Close(); err != nil {
		return billing.DryRunTotals{}, err
	}
	return w.Totals(), buffered.Flush()
}

func (c rateCommand) query(catalog *plans.Catalog) pageQuery {
	query := url.Values{}
	if c.Revision != 0 {
		query.Set("revision", strconv.Itoa(c.Revision))
	}
	if c.Organization != uuid.Nil {
		query.Set("organization_id", c.Organization.String())
	}
	return pageQuery{
		method: http.MethodPost, path: path("billing", "exports", c.Period.String(), "dry-run"), query: query, in: catalog,
	}
}

// replaceFile writes a file; one that breaks off leaves what was there.
func replaceFile(name string, write func(io.Writer) error) error {
	temporary, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	defer func() { _ = os.Remove(temporary.Name()) }()
	if err := write(temporary); err != nil {
		return errors.Join(err, temporary.Close())
	}
	if err := temporary.Close(); err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	if err := os.Rename(temporary.Name(), name); err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	return nil
}
