package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/schollz/progressbar/v3"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/internal/config"
	"github.com/riverline/tollgate/internal/usagefile"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/pgstore"
)

// usageImport writes past usage. It goes to the database, as `tollgate reconcile` does.
type usageImport struct {
	config.Database
	format
	File      string `arg:"" type:"existingfile" help:"CSV with a header, or JSON Lines: organization_id, meter, day and value, and at where a time within the day matters."`
	Format    string `enum:",csv,jsonl" default:"" help:"csv or jsonl. Default: by the file's name; csv, where that doesn't say."`
	DryRun    bool   `help:"Check the file, and write nothing."`
	MaxErrors int    `default:"20" help:"How many errors are shown, from 1; all are counted."`
}

// Validate checks the settings.
func (c usageImport) Validate() error {
	if c.MaxErrors < 1 {
		return fmt.Errorf("--max-errors is %d: it must be 1 or more", c.MaxErrors)
	}
	return c.Database.Validate()
}

// importResult is what an import says at its end.
type importResult struct {
	File          string    `json:"file"`
	SHA256        string    `json:"sha256"`
	Instance      uuid.UUID `json:"instance"`
	Lines         int       `json:"lines"`
	Organizations int       `json:"organizations"`
	From          string    `json:"from"`
	To            string    `json:"to"`
	// Written and Repeated are lines: those that were written now, and those that were there.
	Written  int  `json:"written"`
	Repeated int  `json:"repeated"`
	DryRun   bool `json:"dry_run"`
	// Closed counts the lines of months that are closed: their usage becomes corrections.
	Closed map[string]int `json:"closed,omitempty"`
}

// errBrokenFile makes the command end with a failure after the errors have been shown.
var errBrokenFile = errors.New("nothing was written")

// Run checks the whole file, and then writes it chunk by chunk.
func (c usageImport) Run(ctx context.Context, out *output) error {
	store, err := openStore(ctx, c.Database)
	if err != nil {
		return err
	}
	defer store.Close()
	file, err := c.read(ctx, out, store)
	if err != nil {
		return err
	}
	if file.Broken > 0 {
		return c.refuse(file)
	}
	result := importResult{
		File: c.File, SHA256: file.SHA256, Instance: file.Instance(), Lines: file.Lines, Organizations: file.Organizations(), DryRun: c.DryRun,
	}
	if file.Lines > 0 {
		result.From, result.To = file.From.String(), file.To.String()
	}
	if result.Closed, err = closedLines(ctx, store, file); err != nil {
		return err
	}
	if !c.DryRun {
		if err := c.write(ctx, out, store, file, &result); err != nil {
			return err
		}
	}
	return c.print(out, result, "FILE\tLINES\tORGANIZATIONS\tFROM\tTO\tWRITTEN\tTHERE ALREADY", func(row func(...any)) {
		row(filepath.Base(c.File), result.Lines, result.Organizations, result.From, result.To, result.Written, result.Repeated)
		for _, month := range sortedKeys(result.Closed) {
			row()
			row(fmt.Sprintf("%s is closed: its %d lines become corrections in the statements of the next close.", month, result.Closed[month]))
		}
		if c.DryRun {
			row()
			row("The file is right. Nothing was written: this was a dry run.")
		}
	})
}

func sortedKeys(m map[string]int) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// read reads and checks the file.
func (c usageImport) read(ctx context.Context, out *output, store *pgstore.Store) (*usagefile.File, error) {
	catalog, err := store.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	organizations, err := organizationIDs(ctx, store)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(c.File)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	from := io.Reader(file)
	if info, err := file.Stat(); err == nil && out.terminal {
		bar := progressbar.NewOptions64(info.Size(), progressbar.OptionSetWriter(os.Stderr),
			progressbar.OptionSetDescription("check"), progressbar.OptionShowBytes(true), progressbar.OptionClearOnFinish())
		defer func() { _ = bar.Finish() }()
		from = io.TeeReader(file, bar)
	}
	read, err := usagefile.Read(from, usagefile.Config{
		Format: c.fileFormat(), Catalog: catalog, Organizations: organizations, Now: time.Now().UTC(), KeepProblems: c.MaxErrors,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.File, err)
	}
	return read, nil
}

func (c usageImport) fileFormat() usagefile.Format {
	if c.Format != "" {
		return usagefile.Format(c.Format)
	}
	switch strings.ToLower(filepath.Ext(c.File)) {
	case ".jsonl", ".ndjson", ".json":
		return usagefile.JSONL
	}
	return usagefile.CSV
}

func organizationIDs(ctx context.Context, store *pgstore.Store) (map[uuid.UUID]bool, error) {
	ids := map[uuid.UUID]bool{}
	for after := uuid.Nil; ; {
		list, err := store.ListOrganizations(ctx, after, pageSize)
		if err != nil {
			return nil, err
		}
		for _, o := range list {
			ids[o.ID] = true
		}
		if len(list) < pageSize {
			return ids, nil
		}
		after = list[len(list)-1].ID
	}
}

// refuse shows what is wrong with the file.
func (c usageImport) refuse(file *usagefile.File) error {
	for _, p := range file.Problems {
		_, _ = fmt.Fprintf(os.Stderr, "%s: %s\n", c.File, p)
	}
	return fmt.Errorf("%w: %d of %d lines of %s are wrong", errBrokenFile, file.Broken, max(file.Lines, file.Broken), c.File)
}

// closedLines counts the lines of months that are closed.
func closedLines(ctx context.Context, store *pgstore.Store, file *usagefile.File) (map[string]int, error) {
	closed := map[string]int{}
	for month, lines := range file.LinesByMonth() {
		period := calendar.PeriodOf(month.Start())
		export, err := store.Export(ctx, period)
		if errors.Is(err, billing.ErrExportNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if export.IssuedAt != nil {
			closed[period.String()] = lines
		}
	}
	return closed, nil
}

// write writes the chunks in their order.
func (c usageImport) write(ctx context.Context, out *output, store *pgstore.Store, file *usagefile.File, result *importResult) error {
	for month := range file.LinesByMonth() {
		if err := store.EnsurePartitions(ctx, month, 0); err != nil {
			return err
		}
	}
	show := c.progress(out, file.Lines)
	for n := 1; n <= file.Chunks(); n++ {
		rows := file.Chunk(n)
		written, err := importChunk(ctx, store, file, n, c.File)
		if err != nil {
			return fmt.Errorf("after %d of %d lines: %w; run it again to write the rest", result.Written+result.Repeated, file.Lines, err)
		}
		if written {
			result.Written += len(rows)
		} else {
			result.Repeated += len(rows)
		}
		show(len(rows))
	}
	return nil
}

func importChunk(ctx context.Context, store *pgstore.Store, file *usagefile.File, n int, name string) (bool, error) {
	return store.ImportUsage(ctx, meter.BatchID{Instance: file.Instance(), Seq: int64(n)}, "import of "+filepath.Base(name), file.Chunk(n))
}

// progress shows how many lines are done: a bar on a terminal, lines elsewhere.
func (c usageImport) progress(out *output, lines int) func(int) {
	if out.terminal {
		bar := progressbar.NewOptions64(int64(lines), progressbar.OptionSetWriter(os.Stderr),
			progressbar.OptionSetDescription("write"), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish())
		return func(n int) { _ = bar.Add(n) }
	}
	done, tenths := 0, 0
	return func(n int) {
		done += n
		// A line each tenth, so that a log stays short.
		if now := done * 10 / max(lines, 1); now > tenths {
			tenths = now
			_, _ = fmt.Fprintf(os.Stderr, "%d of %d lines\n", done, lines)
		}
	}
}
