// Package starter is the client's side of the workflows: it starts them under their
// fixed IDs, tells an export what was decided and asks how far it is, has instances
// flush, and keeps schedules and search attributes. The API, the worker and the command
// line share it, so that they meet in the same runs.
package starter

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/workflows"
)

// ErrNotRunning says that the workflow that was asked does not run.
var ErrNotRunning = errors.New("the workflow is not running")

// Started is a run that was started, or found running.
type Started struct {
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
	// Joined is true where the run had been started before.
	Joined bool `json:"joined"`
}

// UILink returns the address of a run's page in Temporal's UI, whose own address is base; without a
// run's ID, that of the list of the workflow's runs.
func (s Started) UILink(base, namespace string) (string, error) {
	if s.RunID == "" {
		link, err := url.JoinPath(base, "namespaces", url.PathEscape(namespace), "workflows")
		if err != nil {
			return "", fmt.Errorf("link to Temporal's UI: %w", err)
		}
		return link + "?query=" + url.QueryEscape(fmt.Sprintf("WorkflowId=%q", s.WorkflowID)), nil
	}
	link, err := url.JoinPath(base, "namespaces", url.PathEscape(namespace), "workflows", url.PathEscape(s.WorkflowID), s.RunID, "history")
	if err != nil {
		return "", fmt.Errorf("link to Temporal's UI: %w", err)
	}
	return link, nil
}

// StartExport starts the export of a period, or finds it running.
func StartExport(ctx context.Context, c client.Client, in workflows.ExportPeriodInput) (Started, error) {
	period, err := calendar.ParsePeriod(in.Period)
	if err != nil {
		return Started{}, err
	}
	options := client.StartWorkflowOptions{
		ID:                    workflows.ExportPeriodID(period),
		TypedSearchAttributes: workflows.ExportPeriodAttributes(period),
		StaticSummary:         workflows.ExportPeriodSummary(period),
		Memo:                  map[string]any{workflows.MemoRequestedBy: in.RequestedBy},
	}
	return start(ctx, c, options, workflows.ExportPeriod, in)
}

// Decide tells the export of a period what finance decided. A decision that may not be is
// a [*temporal.ApplicationError] of a type of package workflows; it is [ErrNotRunning]
// where no export of the period runs. A decision that was accepted under the same id before, other than
// [uuid.Nil], is not made again: the first one's answer is given, also after the run's end.
func Decide(ctx context.Context, c client.Client, period calendar.Period, decision uuid.UUID, in workflows.DecideInput) (workflows.DecideResult, error) {
	var out workflows.DecideResult
	id, update := workflows.ExportPeriodID(period), ""
	if decision != uuid.Nil {
		update = decision.String()
	}
	handle, err := c.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateID: update, UpdateName: workflows.UpdateDecide, Args: []any{in}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err == nil {
		err = handle.Get(ctx, &out)
	}
	if update != "" && isNotFound(err) {
		// The run may have ended with this decision.
		if c.GetWorkflowUpdateHandle(client.GetWorkflowUpdateHandleOptions{WorkflowID: id, UpdateID: update}).Get(ctx, &out) == nil {
			return out, nil
		}
	}
	return out, asked(err, workflows.UpdateDecide, id)
}

// EnsureFlushLoop starts the flush loop of an instance, or finds it running. It may
// be called any number of times.
func EnsureFlushLoop(ctx context.Context, c client.Client, in workflows.FlushLoopInput) (Started, error) {
	options := client.StartWorkflowOptions{
		ID:                    workflows.FlushLoopID(in.Instance),
		TypedSearchAttributes: workflows.FlushLoopAttributes(in.Instance),
		StaticSummary:         workflows.FlushLoopSummary(in.Host, in.Instance),
	}
	return start(ctx, c, options, workflows.FlushLoop, in)
}

// start starts a workflow under its fixed ID. After a run that has ended another may
// follow, unless the options say otherwise; one that runs is joined. The policy Fail does the same as UseExisting, and says which it was.
func start(ctx context.Context, c client.Client, options client.StartWorkflowOptions, run, in any) (Started, error) {
	if options.TaskQueue == "" {
		options.TaskQueue = workflows.TaskQueue
	}
	if options.WorkflowIDReusePolicy == enumspb.WORKFLOW_ID_REUSE_POLICY_UNSPECIFIED {
		options.WorkflowIDReusePolicy = enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE
	}
	options.WorkflowIDConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL
	options.WorkflowExecutionErrorWhenAlreadyStarted = true
	started, err := c.ExecuteWorkflow(ctx, options, run, in)
	var running *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &running) {
		return Started{WorkflowID: options.ID, RunID: running.RunId, Joined: true}, nil
	}
	if err != nil {
		return Started{}, fmt.Errorf("start workflow %s: %w", options.ID, err)
	}
	return Started{WorkflowID: options.ID, RunID: started.GetRunID()}, nil
}

// FlushNow makes an instance flush at once, and returns what it wrote. It is
// [ErrNotRunning] where the instance has no flush loop.
func FlushNow(ctx context.Context, c client.Client, instance uuid.UUID) (activities.FlushSummary, error) {
	return update(ctx, c, instance, workflows.UpdateFlushNow)
}

// Drain makes an instance flush for the last time, records that it has stopped and
// ends its flush loop. It is [ErrNotRunning] where the instance has none.
func Drain(ctx context.Context, c client.Client, instance uuid.UUID) (activities.FlushSummary, error) {
	return update(ctx, c, instance, workflows.UpdateDrain)
}

func update(ctx context.Context, c client.Client, instance uuid.UUID, name string) (activities.FlushSummary, error) {
	var summary activities.FlushSummary
	id := workflows.FlushLoopID(instance)
	handle, err := c.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateName: name, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err == nil {
		err = handle.Get(ctx, &summary)
	}
	return summary, asked(err, name, id)
}

// ExportProgress asks the export of a period how far it is, also after it has ended.
// It is [ErrNotRunning] where there is none.
func ExportProgress(ctx context.Context, c client.Client, period calendar.Period) (workflows.ExportPeriodProgress, error) {
	var out workflows.ExportPeriodProgress
	id := workflows.ExportPeriodID(period)
	value, err := c.QueryWorkflow(ctx, id, "", workflows.QueryProgress)
	if err == nil {
		err = value.Get(&out)
	}
	return out, asked(err, workflows.QueryProgress, id)
}

// IsRunning reports whether a workflow ID has a run that has not ended.
func IsRunning(ctx context.Context, c client.Client, id string) (bool, error) {
	described, err := c.DescribeWorkflow(ctx, id, "")
	switch {
	case isNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("ask whether workflow %s runs: %w", id, err)
	}
	return described.Status == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, nil
}

// isNotFound reports whether the server doesn't know what it was asked about.
func isNotFound(err error) bool {
	var missing *serviceerror.NotFound
	return errors.As(err, &missing)
}

// asked says what was asked of which workflow, and makes one that isn't there ErrNotRunning.
func asked(err error, what, id string) error {
	var refused *temporal.ApplicationError
	switch {
	case err == nil:
		return nil
	case isNotFound(err):
		return fmt.Errorf("%s of workflow %s: %w", what, id, ErrNotRunning)
	case errors.As(err, &refused):
		return fmt.Errorf("%s of workflow %s: %w", what, id, refused)
	default:
		return fmt.Errorf("%s of workflow %s: %w", what, id, err)
	}
}
