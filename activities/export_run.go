package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
)

// ExportRunStore keeps the runs of exports.
type ExportRunStore interface {
	// BeginExport adds a run, or returns what an earlier call for the same workflow and
	// run made. Where the period has a final export that is done, it returns that one,
	// and true.
	BeginExport(ctx context.Context, e billing.Export) (billing.Export, bool, error)
	// Export returns the period's export: a run that is under way, else the final one, else the
	// newest, else [billing.ErrExportNotFound].
	Export(ctx context.Context, period calendar.Period) (billing.Export, error)
	// ReopenExport adds a run that is the next revision of a closed period.
	ReopenExport(ctx context.Context, e billing.Export) (billing.Export, error)
	// SetExportStage records how far a run has come.
	SetExportStage(ctx context.Context, id uuid.UUID, stage billing.Stage) error
	// FreezeExport decides, once, what usage an export includes. Called again, it
	// returns the same batch marks.
	FreezeExport(ctx context.Context, id uuid.UUID) ([]billing.BatchMark, error)
	// FailExport ends a run as failed or canceled.
	FailExport(ctx context.Context, id uuid.UUID, stage billing.Stage, reason string) error
	// CompleteExport ends a run with the manifest that is kept: closed where its
	// statements are issued, else done.
	CompleteExport(ctx context.Context, id uuid.UUID) error
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
	// RequestID is that of [billing.Export].
	RequestID uuid.UUID `json:"request_id,omitzero"`
	// Request is what the workflow was started with, in its own form.
	Request json.RawMessage `json:"request,omitempty"`
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

// ReopenExport records that the workflow's run is the next revision of a closed period.
func (e *Export) ReopenExport(ctx context.Context, in BeginExportInput) (BegunExport, error) {
	run, err := exportOf(ctx, in)
	if err != nil {
		return BegunExport{}, err
	}
	begun, err := e.config.Store.ReopenExport(ctx, run)
	return begunExport(begun, false), classify(err)
}

// exportOf is the export that an input begins.
func exportOf(ctx context.Context, in BeginExportInput) (billing.Export, error) {
	if in.Period.IsZero() {
		return billing.Export{}, missing("period")
	}
	id, err := uuid.NewV7()
	if err != nil {
		return billing.Export{}, fmt.Errorf("make an id: %w", err)
	}
	execution := activity.GetInfo(ctx).WorkflowExecution
	return billing.Export{
		ID: id, Period: in.Period, WorkflowID: execution.ID, RunID: execution.RunID,
		Stage: billing.StageWaiting, Cut: in.Cut, Provisional: in.Provisional,
		RequestedBy: in.RequestedBy, RequestedByID: in.RequestedByID, RequestedAt: in.RequestedAt, Reason: in.Reason,
		RequestID: in.RequestID, Request: in.Request,
	}, nil
}

func begunExport(e billing.Export, final bool) BegunExport {
	out := BegunExport{
		ID: e.ID, Period: e.Period, Stage: e.Stage, Cut: e.Cut.UTC(), Provisional: e.Provisional, Revision: e.Revision,
		Final: final,
	}
	if e.ID != uuid.Nil {
		out.Folder = e.Folder()
	}
	if final && e.Manifest != nil {
		out.Files, out.Totals = e.Manifest.Files, e.Manifest.Totals
	}
	return out
}

// FindExportInput says of which period.
type FindExportInput struct {
	Period calendar.Period `json:"period"`
}

// FindExportResult says what is recorded of the export that is under way.
type FindExportResult struct {
	// Running is false where none is recorded as under way.
	Running bool `json:"running"`
	// Provisional says that it closes nothing.
	Provisional bool `json:"provisional,omitempty"`
}

// FindExport says which export of a period is under way.
func (e *Export) FindExport(ctx context.Context, in FindExportInput) (FindExportResult, error) {
	found, err := e.config.Store.Export(ctx, in.Period)
	switch {
	case errors.Is(err, billing.ErrExportNotFound):
		return FindExportResult{}, nil
	case err != nil:
		return FindExportResult{}, classify(err)
	case found.Stage.Ended():
		return FindExportResult{}, nil
	}
	return FindExportResult{Running: true, Provisional: found.Provisional}, nil
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

// CompleteExportInput says which run ends.
type CompleteExportInput struct {
	ID uuid.UUID `json:"id"`
}

// CompleteExport ends a run: closed where its statements are issued, else done.
func (e *Export) CompleteExport(ctx context.Context, in CompleteExportInput) error {
	return classify(e.config.Store.CompleteExport(ctx, in.ID))
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
