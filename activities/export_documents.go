package activities

import (
	"context"
	"io"
	"slices"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/plans"
)

// ExportDocumentStore has what the files of an export are made of, and keeps their manifest.
type ExportDocumentStore interface {
	// ExportTotals returns the frozen totals of the next organizations, at most limit
	// of them, after an id; none after the last.
	ExportTotals(ctx context.Context, id, after uuid.UUID, limit int) ([]billing.UsageTotal, error)
	// NumberStatements gives the drafts their numbers, without a gap.
	NumberStatements(ctx context.Context, id uuid.UUID) error
	// Statements returns the next statements.
	Statements(ctx context.Context, id, after uuid.UUID, limit int) ([]billing.Statement, error)
	// MoneyTotals adds up the statements by currency.
	MoneyTotals(ctx context.Context, id uuid.UUID) ([]billing.MoneyTotal, error)
	// ExportCatalog returns the frozen meters of an export and the plan versions by which it rates.
	ExportCatalog(ctx context.Context, id uuid.UUID) (*plans.Catalog, error)
	// PutManifest keeps the manifest of the drafts.
	PutManifest(ctx context.Context, id uuid.UUID, manifest billing.Manifest) error
}

// WriteHeartbeat is what [Export.WriteUsageFile] and [Export.WriteStatements] heartbeat.
type WriteHeartbeat struct {
	// Rows counts what was written so far, Organization is the last one.
	Rows         int64     `json:"rows"`
	Organization uuid.UUID `json:"organization,omitzero"`
}

// WriteUsageFileInput says where to write.
type WriteUsageFileInput struct {
	ID uuid.UUID `json:"id"`
	// Folder is that of the export, with a slash at the end.
	Folder string `json:"folder"`
	// Compress writes it with gzip.
	Compress bool `json:"compress,omitempty"`
}

// WriteUsageFileResult describes what was written.
type WriteUsageFileResult struct {
	File   billing.File           `json:"file"`
	Totals []billing.ControlTotal `json:"control_totals"`
}

// WriteUsageFile writes the frozen usage, one total a line. Tried again, it begins
// again, and writes the same bytes.
func (e *Export) WriteUsageFile(ctx context.Context, in WriteUsageFileInput) (WriteUsageFileResult, error) {
	if in.Folder == "" {
		return WriteUsageFileResult{}, missing("folder")
	}
	beats := startBeating(ctx, WriteHeartbeat{})
	defer beats.stop()
	catalog, err := e.config.Store.Catalog(ctx)
	if err != nil {
		return WriteUsageFileResult{}, classify(err)
	}
	var out WriteUsageFileResult
	err = publish(ctx, e.config.Blobs, in.Folder+documents.FileName(documents.UsageFile, in.Compress), func(w io.Writer) error {
		file := documents.NewFileWriter(w, documents.UsageFile, in.Compress)
		usage := documents.NewUsageWriter(file, catalog.Meters)
		if err := e.copyTotals(ctx, in.ID, usage, beats); err != nil {
			return err
		}
		file.AddRows(usage.Rows())
		if err := file.Close(); err != nil {
			return err
		}
		out.File, out.Totals = file.File(), usage.Totals()
		return nil
	})
	return out, classify(err)
}

// copyTotals writes the totals page by page.
func (e *Export) copyTotals(ctx context.Context, id uuid.UUID, usage *documents.UsageWriter, beats *beating) error {
	var after uuid.UUID
	for {
		page, err := e.config.Store.ExportTotals(ctx, id, after, e.config.PageSize)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return usage.Flush()
		}
		for _, total := range page {
			if err := usage.Write(total); err != nil {
				return err
			}
		}
		after = page[len(page)-1].Organization
		beats.record(WriteHeartbeat{Rows: usage.Rows(), Organization: after})
		if err := mayGoOn(ctx); err != nil {
			return err
		}
	}
}

// WriteStatementsInput says what to write, and how.
type WriteStatementsInput struct {
	ID uuid.UUID `json:"id"`
	// Folder is that of the export, with a slash at the end.
	Folder  string            `json:"folder"`
	Options documents.Options `json:"options"`
	// Numbered says that the statements are to be numbered first: those of a final export.
	Numbered bool `json:"numbered"`
}

// WriteStatementsResult describes what was written.
type WriteStatementsResult struct {
	Files []billing.File `json:"files"`
}

// WriteStatements numbers the drafts and writes them in every form, in one pass. Tried
// again, it begins again, and writes the same bytes.
func (e *Export) WriteStatements(ctx context.Context, in WriteStatementsInput) (out WriteStatementsResult, err error) {
	if in.Folder == "" {
		return out, missing("folder")
	}
	beats := startBeating(ctx, WriteHeartbeat{})
	defer beats.stop()
	if in.Numbered {
		if err := e.config.Store.NumberStatements(ctx, in.ID); err != nil {
			return out, classify(err)
		}
	}
	catalog, err := e.config.Store.ExportCatalog(ctx, in.ID)
	if err != nil {
		return out, classify(err)
	}
	blobs := newBlobSet(ctx, e.config.Blobs)
	open := func(name string) (io.Writer, error) { return blobs.open(in.Folder + name) }
	statements, err := documents.NewStatementWriter(open, catalog.Meters, in.Options)
	if err == nil {
		err = e.copyStatements(ctx, in.ID, statements, beats)
	}
	if err == nil {
		err = statements.Close()
	}
	if err := blobs.end(err); err != nil {
		return out, classify(err)
	}
	out.Files = statements.Files()
	return out, nil
}

func (e *Export) copyStatements(ctx context.Context, id uuid.UUID, to *documents.StatementWriter, beats *beating) error {
	at := WriteHeartbeat{}
	for {
		page, err := e.config.Store.Statements(ctx, id, at.Organization, e.config.BatchSize)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, s := range page {
			if err := to.Write(s); err != nil {
				return err
			}
		}
		at.Rows, at.Organization = at.Rows+int64(len(page)), page[len(page)-1].Organization
		beats.record(at)
		if err := mayGoOn(ctx); err != nil {
			return err
		}
	}
}

// WriteManifestInput describes the files of an export.
type WriteManifestInput struct {
	Export BegunExport            `json:"export"`
	Files  []billing.File         `json:"files"`
	Totals []billing.ControlTotal `json:"control_totals"`
}

// WriteManifestResult says where the manifest is, and what the statements come to.
type WriteManifestResult struct {
	Name  string               `json:"name"`
	Money []billing.MoneyTotal `json:"money_totals"`
	// Counts says how many statements there are, and how many organizations are parked.
	Counts billing.RatingCounts `json:"counts"`
}

// WriteManifest writes the manifest, which makes the files whole, and keeps it.
func (e *Export) WriteManifest(ctx context.Context, in WriteManifestInput) (WriteManifestResult, error) {
	beats := startBeating(ctx, nil)
	defer beats.stop()
	out, manifest, err := e.manifest(ctx, in)
	if err != nil {
		return out, classify(err)
	}
	if manifest, err = publishManifest(ctx, e.config.Blobs, out.Name, manifest); err != nil {
		return out, classify(err)
	}
	return out, classify(e.config.Store.PutManifest(ctx, in.Export.ID, manifest))
}

func (e *Export) manifest(ctx context.Context, in WriteManifestInput) (out WriteManifestResult, m billing.Manifest, err error) {
	out.Name = in.Export.Folder + documents.ManifestFile
	// The export is frozen: this is how its marks are read.
	marks, err := e.config.Store.FreezeExport(ctx, in.Export.ID)
	if err != nil {
		return out, m, err
	}
	if out.Money, err = e.config.Store.MoneyTotals(ctx, in.Export.ID); err != nil {
		return out, m, err
	}
	if out.Counts, err = e.config.Store.RatingCounts(ctx, in.Export.ID); err != nil {
		return out, m, err
	}
	catalog, err := e.config.Store.ExportCatalog(ctx, in.Export.ID)
	if err != nil {
		return out, m, err
	}
	decisions, err := e.config.Store.Decisions(ctx, in.Export.ID)
	if err != nil {
		return out, m, err
	}
	decisions = slices.DeleteFunc(decisions, func(d billing.ExportDecision) bool { return d.Action != billing.ActionContinued })
	digest, err := billing.CatalogDigest(catalog)
	return out, billing.Manifest{
		Format: documents.ManifestFormat, Period: in.Export.Period, Cut: in.Export.Cut, Provisional: in.Export.Provisional,
		Revision: in.Export.Revision, Program: e.config.Program, Watermark: marks, Files: in.Files, Totals: in.Totals,
		Catalog: digest, Money: out.Money, Parked: out.Counts.Parked, Continued: decisions,
	}, err
}
