package app

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/riverline/tollgate/api"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/internal/blobstore"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

// apiWorkflows gives the API what it asks of Temporal, in its own words.
type apiWorkflows struct{ temporal client.Client }

// StartExport implements [api.Workflows].
func (w apiWorkflows) StartExport(ctx context.Context, period billing.Period, requestedBy string) (api.ExportRun, error) {
	run, err := starter.StartExport(ctx, w.temporal, starter.StartExportInput{Period: period, RequestedBy: requestedBy})
	return api.ExportRun{WorkflowID: run.WorkflowID, RunID: run.RunID, Started: !run.Joined}, translate(err)
}

// ExportProgress implements [api.Workflows].
func (w apiWorkflows) ExportProgress(ctx context.Context, period billing.Period) (api.ExportProgress, error) {
	p, err := starter.ExportProgress(ctx, w.temporal, period)
	if err != nil {
		return api.ExportProgress{}, translate(err)
	}
	out := api.ExportProgress{Stage: p.Stage, Note: exportNote(p)}
	if p.Stage == billing.StageRollups {
		out.Done, out.Total = int64(p.RolledUp), int64(p.RolledUp+p.DaysLeft)
	}
	return out, nil
}

func exportNote(p workflows.ExportPeriodProgress) string {
	switch p.Stage {
	case billing.StageWaiting:
		return "waiting until every instance has flushed what it admitted before the cut"
	case billing.StageRollups:
		return "rolling up the days of the period"
	case billing.StageFreezing:
		return "recording which batches count"
	case billing.StageWriting:
		return "writing the files"
	case billing.StageDone:
		return "done"
	case billing.StageFailed, billing.StageCanceled:
		return p.Error
	default:
		return string(p.Stage)
	}
}

// FlushNow implements [api.Workflows].
func (w apiWorkflows) FlushNow(ctx context.Context, instance uuid.UUID) (meter.FlushSummary, error) {
	s, err := starter.FlushNow(ctx, w.temporal, instance)
	return meter.FlushSummary{
		Seq: s.Seq, Batches: s.Batches, Rows: s.Rows, Watermark: s.Watermark, Retained: s.Retained,
	}, translate(err)
}

// translate tells the API's errors from Temporal's.
func translate(err error) error {
	var unavailable *serviceerror.Unavailable
	var deadline *serviceerror.DeadlineExceeded
	var refused *temporal.ApplicationError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, starter.ErrNotRunning):
		return fmt.Errorf("%w: %w", api.ErrNotRunning, err)
	case errors.As(err, &refused) && (refused.Type() == workflows.TypeDraining || refused.Type() == workflows.TypeInstanceUnreachable):
		return fmt.Errorf("%w: %w", api.ErrNotRunning, err)
	case errors.As(err, &unavailable), errors.As(err, &deadline), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", api.ErrWorkflowsAway, err)
	default:
		return err
	}
}

// apiBlobs gives the API the files of exports.
type apiBlobs struct{ store *blobstore.Store }

// Open implements [api.Blobs].
func (b apiBlobs) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	reader, err := b.store.NewReader(ctx, name)
	if err != nil {
		return nil, err
	}
	return reader, nil
}
