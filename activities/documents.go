package activities

import (
	"context"
	"io"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
)

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
func (c *Close) WriteStatements(ctx context.Context, in WriteStatementsInput) (out WriteStatementsResult, err error) {
	if in.Folder == "" {
		return out, missing("folder")
	}
	beats := startBeating(ctx, WriteHeartbeat{})
	defer beats.stop()
	if in.Numbered {
		if err := c.config.Store.NumberStatements(ctx, in.ID); err != nil {
			return out, classify(err)
		}
	}
	catalog, err := c.config.Store.ExportCatalog(ctx, in.ID)
	if err != nil {
		return out, classify(err)
	}
	blobs := newBlobSet(ctx, c.config.Blobs)
	open := func(name string) (io.Writer, error) { return blobs.open(in.Folder + name) }
	documents, err := documents.NewStatementWriter(open, catalog.Meters, in.Options)
	if err == nil {
		err = c.copyStatements(ctx, in.ID, documents, beats)
	}
	if err == nil {
		err = documents.Close()
	}
	if err := blobs.end(err); err != nil {
		return out, classify(err)
	}
	out.Files = documents.Files()
	return out, nil
}

func (c *Close) copyStatements(ctx context.Context, id uuid.UUID, documents *documents.StatementWriter, beats *beating) error {
	at := WriteHeartbeat{}
	for {
		page, err := c.config.Store.Statements(ctx, id, at.Organization, c.config.BatchSize)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, s := range page {
			if err := documents.Write(s); err != nil {
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
func (c *Close) WriteManifest(ctx context.Context, in WriteManifestInput) (WriteManifestResult, error) {
	beats := startBeating(ctx, nil)
	defer beats.stop()
	out, manifest, err := c.manifest(ctx, in)
	if err != nil {
		return out, classify(err)
	}
	if manifest, err = publishManifest(ctx, c.config.Blobs, out.Name, manifest); err != nil {
		return out, classify(err)
	}
	return out, classify(c.config.Store.PutManifest(ctx, in.Export.ID, manifest))
}

func (c *Close) manifest(ctx context.Context, in WriteManifestInput) (out WriteManifestResult, m billing.Manifest, err error) {
	out.Name = in.Export.Folder + documents.ManifestFile
	// The export is frozen: this is how its marks are read.
	marks, err := c.config.Store.FreezeExport(ctx, in.Export.ID)
	if err != nil {
		return out, m, err
	}
	if out.Money, err = c.config.Store.MoneyTotals(ctx, in.Export.ID); err != nil {
		return out, m, err
	}
	if out.Counts, err = c.config.Store.RatingCounts(ctx, in.Export.ID); err != nil {
		return out, m, err
	}
	catalog, err := c.config.Store.ExportCatalog(ctx, in.Export.ID)
	if err != nil {
		return out, m, err
	}
	digest, err := billing.CatalogDigest(catalog)
	return out, billing.Manifest{
		Format: documents.ManifestFormat, Period: in.Export.Period, Cut: in.Export.Cut, Provisional: in.Export.Provisional,
		Revision: in.Export.Revision, Program: c.config.Program, Watermark: marks, Files: in.Files, Totals: in.Totals,
		Catalog: digest, Money: out.Money, Parked: out.Counts.Parked,
	}, err
}
