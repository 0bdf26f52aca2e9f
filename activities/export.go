package activities

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// ExportStore keeps exports and their frozen usage.
type ExportStore interface {
	// BeginExport adds a run, or returns what an earlier call for the same workflow and
	// run made. Where the period has a final export that is done, it returns that one,
	// and true.
	BeginExport(ctx context.Context, e billing.Export) (billing.Export, bool, error)
	// SetExportStage records how far a run has come.
	SetExportStage(ctx context.Context, id uuid.UUID, stage billing.Stage) error
	// FreezeExport decides, once, what usage an export includes. Called again, it
	// returns the same batch marks.
	FreezeExport(ctx context.Context, id uuid.UUID) ([]billing.BatchMark, error)
	// ExportTotals returns the frozen totals of the next organizations, at most limit
	// of them, after an id; none after the last.
	ExportTotals(ctx context.Context, id, after uuid.UUID, limit int) ([]billing.UsageTotal, error)
	// FailExport ends a run as failed or canceled.
	FailExport(ctx context.Context, id uuid.UUID, stage billing.Stage, reason string) error
	// Catalog returns the catalog, for the order of its meters.
	Catalog(ctx context.Context) (*plans.Catalog, error)
}

// Blobs keeps files.
type Blobs interface {
	// NewWriter returns a writer of a file. Close publishes the file, or discards it
	// where ctx has ended.
	NewWriter(ctx context.Context, name string) (io.WriteCloser, error)
}

// ExportConfig is what an [Export] is made from.
type ExportConfig struct {
	// Store keeps the exports. Required.
	Store ExportStore
	// Blobs keeps the files. Required.
	Blobs Blobs
	// PageSize is how many organizations are read at a time. Zero: 1,000.
	PageSize int
}

// Export has the activities of an export.
type Export struct{ config ExportConfig }

// NewExport makes the activities of an export. It panics where a required field of
// the config is missing.
func NewExport(config ExportConfig) *Export {
	if config.Store == nil || config.Blobs == nil {
		panic("activities: ExportConfig.Store and Blobs are required")
	}
	if config.PageSize == 0 {
		config.PageSize = 1000
	}
	return &Export{config: config}
}

// BeginExportInput says what to export.
type BeginExportInput struct {
	// Period is what is exported. Required.
	Period calendar.Period `json:"period"`
	// Cut, Provisional, RequestedBy and RequestedAt are those of [billing.Export].
	Cut         time.Time `json:"cut"`
	Provisional bool      `json:"provisional"`
	RequestedBy string    `json:"requested_by"`
	RequestedAt time.Time `json:"requested_at"`
	// RequestedByID is the key of who asked; zero where it was no person with a key.
	RequestedByID uuid.UUID `json:"requested_by_id,omitzero"`
	// Reason says why a closed period is opened again.
	Reason string `json:"reason,omitempty"`
}

// BegunExport is a run that has begun, or the period's final export.
type BegunExport struct {
	ID     uuid.UUID       `json:"id"`
	Period calendar.Period `json:"period"`
	// Stage is waiting for a new run.
	Stage       billing.Stage `json:"stage"`
	Cut         time.Time     `json:"cut"`
	Provisional bool          `json:"provisional"`
	// Revision counts the times that the period was opened again, from 1.
	Revision int `json:"revision,omitempty"`
	// Folder is where the files are in the blob store, with a slash at the end.
	Folder string `json:"folder"`
	// Final says that the period's final export is done already: this one.
	Final bool `json:"final"`
	// Files and Totals are those of the final export.
	Files  []billing.File         `json:"files,omitempty"`
	Totals []billing.ControlTotal `json:"control_totals,omitempty"`
}

// BeginExport records that the workflow's run exports a period.
func (e *Export) BeginExport(ctx context.Context, in BeginExportInput) (BegunExport, error) {
	run, err := exportOf(ctx, in)
	if err != nil {
		return BegunExport{}, err
	}
	begun, final, err := e.config.Store.BeginExport(ctx, run)
	if err != nil {
		return BegunExport{}, classify(err)
	}
	return begunExport(begun, final), nil
}

// SetExportStageInput says how far a run has come.
type SetExportStageInput struct {
	ID    uuid.UUID     `json:"id"`
	Stage billing.Stage `json:"stage"`
}

// SetExportStage records how far a run has come.
func (e *Export) SetExportStage(ctx context.Context, in SetExportStageInput) error {
	return classify(e.config.Store.SetExportStage(ctx, in.ID, in.Stage))
}

// FreezeUsageInput says which export to freeze.
type FreezeUsageInput struct {
	ID uuid.UUID `json:"id"`
}

// FreezeUsageResult says what is included.
type FreezeUsageResult struct {
	// Instances counts the instances that have batches in the export.
	Instances int `json:"instances"`
}

// FreezeUsage decides what usage the export includes: nothing that is flushed later
// can change it.
func (e *Export) FreezeUsage(ctx context.Context, in FreezeUsageInput) (FreezeUsageResult, error) {
	beats := startBeating(ctx, in)
	defer beats.stop()
	marks, err := e.config.Store.FreezeExport(ctx, in.ID)
	return FreezeUsageResult{Instances: len(marks)}, classify(err)
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

// WriteHeartbeat is what [Export.WriteUsageFile] heartbeats.
type WriteHeartbeat struct {
	// Rows counts what was written so far, Organization is the last one.
	Rows         int64     `json:"rows"`
	Organization uuid.UUID `json:"organization,omitzero"`
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

// FailExportInput says why a run ended.
type FailExportInput struct {
	ID uuid.UUID `json:"id"`
	// Stage is failed or canceled.
	Stage  billing.Stage `json:"stage"`
	Reason string        `json:"reason"`
}

// maxReason bounds what is kept of a reason, in bytes.
const maxReason = 2000

// FailExport records that a run has failed or was canceled.
func (e *Export) FailExport(ctx context.Context, in FailExportInput) error {
	reason := strings.ToValidUTF8(in.Reason[:min(len(in.Reason), maxReason)], "")
	return classify(e.config.Store.FailExport(ctx, in.ID, in.Stage, reason))
}
