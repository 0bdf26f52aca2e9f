package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/api"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

// apiWorkflows gives the API what it asks of Temporal, in its own words.
type apiWorkflows struct {
	temporal client.Client
	// allowSelfApproval lets who requested an export approve it.
	allowSelfApproval bool
}

// StartExport implements [api.Workflows].
func (w apiWorkflows) StartExport(ctx context.Context, start api.ExportRequest) (api.ExportRun, error) {
	run, err := starter.StartExport(ctx, w.temporal, workflows.ExportPeriodInput{
		Period: start.Period.String(), RequestedBy: start.Actor.Name, RequestedByID: start.Actor.ID, RequestID: start.ID, Reopen: start.Reopen, Reason: start.Reason,
		Variance: start.Variance, Documents: start.Documents, AllowSelfApproval: w.allowSelfApproval,
	})
	return api.ExportRun{WorkflowID: run.WorkflowID, RunID: run.RunID, Started: !run.Joined}, translate(err)
}

// DeliverExport implements [api.Workflows].
func (w apiWorkflows) DeliverExport(ctx context.Context, d api.DeliveryRequest) (api.ExportRun, error) {
	run, err := starter.StartDeliverExport(ctx, w.temporal, workflows.DeliverExportInput{
		Period: d.Period.String(), Export: d.Export, RequestedBy: d.Actor.Name,
	})
	return api.ExportRun{WorkflowID: run.WorkflowID, RunID: run.RunID, Started: !run.Joined}, translate(err)
}

// refusals are the codes of decisions that may not be, by the type of the error.
var refusals = map[string]string{
	workflows.TypeSelfApproval: api.CodeSelfApproval,
	workflows.TypeNotReviewed:  api.CodeNotReviewed,
	workflows.TypeParked:       api.CodeParked,
	workflows.TypeNotAwaiting:  api.CodeNotAwaiting,
	workflows.TypeInvalidInput: api.CodeInvalid,
	activities.TypeNoActor:     api.CodeNoActor,

	activities.TypeDecidedBefore: api.CodeNotAwaiting,
}

// Decide implements [api.Workflows].
func (w apiWorkflows) Decide(ctx context.Context, d api.ExportDecision) (billing.Stage, error) {
	out, err := starter.Decide(ctx, w.temporal, d.Period, d.ID, workflows.DecideInput{
		Action: d.Action, Actor: d.Actor, Note: d.Note, WithoutParked: d.WithoutParked,
	})
	var refused *temporal.ApplicationError
	if errors.As(err, &refused) {
		if code, ok := refusals[refused.Type()]; ok {
			return "", &api.RefusedDecision{Code: code, Message: refused.Message()}
		}
	}
	return out.Stage, translate(err)
}

// ExportProgress implements [api.Workflows].
func (w apiWorkflows) ExportProgress(ctx context.Context, period calendar.Period) (api.ExportProgress, error) {
	p, err := starter.ExportProgress(ctx, w.temporal, period)
	if err != nil {
		return api.ExportProgress{}, translate(err)
	}
	out := api.ExportProgress{Stage: p.Stage, Note: exportNote(p)}
	if p.Stage == billing.StageRollups {
		out.Done, out.Total = int64(p.RolledUp), int64(p.RolledUp+p.DaysLeft)
	}
	if p.Stage == billing.StageRating {
		out.Done, out.Total = int64(p.PagesRated), int64(p.Pages)
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
	case billing.StageRating:
		return "making statements"
	case billing.StageWriting:
		return "writing the files"
	case billing.StageReviewing:
		if p.Variances == 1 {
			return "waiting for finance to review 1 variance"
		}
		return fmt.Sprintf("waiting for finance to review %d variances", p.Variances)
	case billing.StageApproving:
		return "waiting for somebody else than " + p.RequestedBy + " to approve"
	case billing.StageIssuing:
		return "issuing the statements"
	case billing.StageDelivering:
		return "delivering the statements to the sinks"
	case billing.StageFailed, billing.StageCanceled, billing.StageRejected:
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
	case errors.As(err, &unavailable), errors.As(err, &deadline), errors.Is(err, context.DeadlineExceeded),
		// A worker could not take it: it knows no such update yet, or lacks a key.
		refused != nil && !refused.NonRetryable():
		return fmt.Errorf("%w: %w", api.ErrWorkflowsAway, err)
	default:
		return err
	}
}
