package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/audit"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/blobstore"
	"github.com/riverline/tollgate/internal/config"
)

type auditCommand struct {
	List   auditList   `cmd:"" help:"Show who changed what, the newest first (finance, admin)."`
	Export auditExport `cmd:"" help:"Write the entries as lines of JSON, the newest first (finance, admin)."`
	Verify auditVerify `cmd:"" help:"Compare the entries in the database with the digest of each day in the blob store."`
}

// auditFilter chooses entries.
type auditFilter struct {
	Actor        *uuid.UUID `help:"Only what was done with one API key: its ID." of:"key"`
	Organization *uuid.UUID `help:"Only what is one organization's." of:"organization"`
	Kind         string     `help:"Only what is of one kind: key, plan, credit, …"`
	Since        time.Time  `placeholder:"TIME" help:"Only what was done at a time or after it (RFC 3339)."`
	Until        time.Time  `placeholder:"TIME" help:"Only what was done before a time (RFC 3339)."`
}

func (f auditFilter) query() url.Values {
	query := url.Values{}
	for name, id := range map[string]*uuid.UUID{"actor": f.Actor, "organization_id": f.Organization} {
		if id != nil {
			query.Set(name, id.String())
		}
	}
	for name, at := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !at.IsZero() {
			query.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	if f.Kind != "" {
		query.Set("kind", f.Kind)
	}
	return query
}

// auditPage is a page of the audit log.
type auditPage struct {
	Entries []audit.Entry `json:"entries"`
	cursor
}

type auditList struct {
	anyAccess
	format
	auditFilter
	Limit int `default:"20" help:"The most to show, 1 to 1000."`
}

// Run shows entries.
func (c auditList) Run(ctx context.Context, out *output) error {
	query := c.query()
	query.Set("limit", strconv.Itoa(c.Limit))
	var page auditPage
	if err := c.client().call(ctx, http.MethodGet, path("audit")+"?"+query.Encode(), nil, &page); err != nil {
		return err
	}
	return c.print(out, page.Entries, "AT\tKIND\tACTION\tSUBJECT\tACTOR\tOWNER\tADDRESS\tREQUEST", func(row func(...any)) {
		for _, e := range page.Entries {
			row(e.At.Format(time.RFC3339), e.Kind, e.Action, e.Subject, orLogin(e), e.Owner, e.Address, e.RequestID)
		}
	})
}

// orLogin names whoever acted: by key, or else by the role at the database.
func orLogin(e audit.Entry) string {
	if e.Actor != "" {
		return e.Actor
	}
	return "(" + e.Login + ")"
}

type auditExport struct {
	anyAccess
	auditFilter
}

// Run writes a line for each entry, page by page.
func (c auditExport) Run(ctx context.Context, out *output) error {
	q := pageQuery{method: http.MethodGet, path: path("audit"), query: c.query(), newestFirst: true}
	return eachPage(ctx, c.client(), q, func(page auditPage) error {
		for _, e := range page.Entries {
			line, err := e.Line()
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(out, "%s\n", line); err != nil {
				return fmt.Errorf("write the entries: %w", err)
			}
		}
		return nil
	})
}

type auditVerify struct {
	config.Database
	config.Blobs
	format
	Through string `placeholder:"YYYY-MM-DD" help:"Last day. Default: the day before yesterday, UTC, whose digest is there by now."`
}

// errTampered makes the command end with a status of its own for scripts.
var errTampered = errors.New("the audit log is not what was digested")

// Run compares, and says which days differ.
func (c auditVerify) Run(ctx context.Context, out *output) error {
	last := calendar.DayOf(time.Now()) - 2
	if c.Through != "" {
		var err error
		if last, err = calendar.ParseDay(c.Through); err != nil {
			return fmt.Errorf("--through: %w", err)
		}
	}
	store, err := openStore(ctx, c.Database)
	if err != nil {
		return err
	}
	defer store.Close()
	blobs, err := blobstore.Open(ctx, c.BlobURL)
	if err != nil {
		return err
	}
	defer func() { _ = blobs.Close() }()
	files, err := blobs.List(ctx, audit.Folder)
	if err != nil {
		return err
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.Name
	}
	checked, found, err := audit.Verify(ctx, store, blobs, names, last)
	if err != nil {
		return err
	}
	return c.show(out, checked, found)
}

func (c auditVerify) show(out *output, checked []audit.Digest, found []audit.Finding) error {
	if found == nil {
		found = []audit.Finding{}
	}
	entries := int64(0)
	for _, d := range checked {
		entries += d.Entries
	}
	err := c.print(out, map[string]any{"days": len(checked), "entries": entries, "findings": found}, "DAYS\tENTRIES\tFINDINGS", func(row func(...any)) {
		row(len(checked), entries, len(found))
		for _, f := range found {
			row(f.Day, "", f.Problem)
		}
	})
	if err == nil && len(found) > 0 {
		err = fmt.Errorf("%w: %d findings", errTampered, len(found))
	}
	return err
}
