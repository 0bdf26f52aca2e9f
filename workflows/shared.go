package workflows

import (
	"errors"
	"fmt"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/activities"
)

// The groups of activities, for their methods' names alone: they run in a worker.
var (
	onInstance *activities.Instance
	onFleet    *activities.Fleet
	onRollup   *activities.Rollup
	onCredits  *activities.Credits
	onExport   *activities.Export
	onRuns     *activities.Runs
	onWebhooks *activities.Webhooks
	onSinks    *activities.Sinks
)

// refuse ends a workflow for good because of what it was asked.
func refuse(kind, format string, args ...any) error {
	return temporal.NewNonRetryableApplicationError(fmt.Sprintf(format, args...), kind, nil)
}

// setStage shows how far a workflow is, where lists of workflows show it.
func setStage(ctx workflow.Context, stage string) error {
	return setAttribute(ctx, StageAttribute, stage)
}

// setAttribute sets a search attribute, unless it has the value already: by the start, or by the run
// that this one continues. Each time it is set is an event of the history, and a billable action.
func setAttribute(ctx workflow.Context, key temporal.SearchAttributeKeyKeyword, value string) error {
	if has, ok := workflow.GetTypedSearchAttributes(ctx).GetKeyword(key); ok && has == value {
		return nil
	}
	if err := workflow.UpsertTypedSearchAttributes(ctx, key.ValueSet(value)); err != nil {
		return fmt.Errorf("set %s to %q: %w", key.GetName(), value, err)
	}
	return nil
}

// detached returns a context that a cancel of the workflow doesn't end.
func detached(ctx workflow.Context) workflow.Context {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	return ctx
}

// waitToTryAgain waits after a failure for good.
func waitToTryAgain(ctx workflow.Context, wait time.Duration) error {
	return workflow.NewTimerWithOptions(ctx, wait, workflow.TimerOptions{Summary: "until it is tried again"}).Get(ctx, nil)
}

// insist repeats what fails for good until it succeeds or the workflow is canceled, after waits that
// grow: nobody else does it, and somebody may mend the cause. It shows each failure, and at last an
// empty one.
func insist(ctx workflow.Context, show func(failure string), do func() error) error {
	for wait := againFirst; ; wait = min(2*wait, againMost) {
		err := do()
		if err == nil && wait > againFirst {
			show("")
		}
		if err == nil || isCanceled(ctx) {
			return err
		}
		workflow.GetLogger(ctx).Error("What failed for good is tried again", "in", wait, "error", err)
		show(reason(err))
		if err := waitToTryAgain(ctx, wait); err != nil {
			return err
		}
	}
}

// isCanceled reports whether somebody canceled the workflow.
func isCanceled(ctx workflow.Context) bool { return ctx.Err() != nil }

// reason returns the first cause of a failure, without the layers that Temporal adds.
func reason(err error) string {
	var application *temporal.ApplicationError
	if errors.As(err, &application) {
		return application.Message()
	}
	var timeout *temporal.TimeoutError
	if errors.As(err, &timeout) {
		return "timed out: " + timeout.Error()
	}
	return err.Error()
}

// scheduledAt returns the time for which a schedule started the workflow.
func scheduledAt(ctx workflow.Context, instead string) (time.Time, error) {
	at, ok := workflow.GetTypedSearchAttributes(ctx).GetTime(scheduledTime)
	if !ok {
		return time.Time{}, refuse(TypeInvalidInput, "this workflow is started by its schedule and takes its time from it: start %s", instead)
	}
	return at.UTC(), nil
}

// inPages does pages, at most a number of them at a time, in their order. The first failure
// is returned, once what is under way has ended; no page is begun after it.
func inPages(ctx workflow.Context, pages, atOnce int, do func(ctx workflow.Context, page int) error) error {
	group, next := workflow.NewWaitGroup(ctx), 0
	var failure error
	for range min(atOnce, pages) {
		group.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer group.Done()
			for failure == nil && next < pages {
				page := next
				next++
				if err := do(ctx, page); err != nil {
					failure = err
				}
			}
		})
	}
	group.Wait(ctx)
	return failure
}

// runFixed runs a workflow under its fixed ID and returns its result in out. joined is
// true where one runs already: then there is no result. With follow, a cancel of the
// caller cancels it too.
func runFixed(ctx workflow.Context, follow bool, options workflow.ChildWorkflowOptions, run, in, out any) (joined bool, err error) {
	childCtx := ctx
	if !follow {
		childCtx, _ = workflow.NewDisconnectedContext(ctx)
	}
	child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(childCtx, options), run, in)
	if !follow {
		// A future doesn't end with the context; waiting for it does.
		if err := workflow.Await(ctx, child.IsReady); err != nil {
			return false, err
		}
	}
	err = child.Get(ctx, out)
	switch {
	case alreadyStarted(err):
		return true, nil
	case temporal.IsCanceledError(err) && !isCanceled(ctx):
		// Somebody has canceled it, and not the caller: who passed that on would be canceled, too.
		return false, refuse(TypeRunCanceled, "%s was canceled", options.WorkflowID)
	}
	return false, err
}

// awaitRun waits until a run that somebody else has started has ended, however it ends.
func awaitRun(ctx workflow.Context, id, summary string) error {
	return workflow.ExecuteActivity(forWaiting(ctx, summary), onRuns.AwaitRun, activities.AwaitRunInput{WorkflowID: id}).Get(ctx, nil)
}

// pause waits before another look.
func pause(ctx workflow.Context, summary string) error {
	return workflow.NewTimerWithOptions(ctx, joinedPoll, workflow.TimerOptions{Summary: summary}).Get(ctx, nil)
}

func alreadyStarted(err error) bool {
	var running *temporal.ChildWorkflowExecutionAlreadyStartedError
	return errors.As(err, &running)
}

// isTimeout reports whether an activity ended by a timeout.
func isTimeout(err error) bool {
	var timeout *temporal.TimeoutError
	return errors.As(err, &timeout)
}

// isOutOfTime reports whether an activity that is tried without end had no time for another attempt:
// it ended by a timeout, or with a failure that is not for good.
func isOutOfTime(err error) bool {
	var failed *temporal.ApplicationError
	return isTimeout(err) || errors.As(err, &failed) && !failed.NonRetryable()
}

// unreachable says that an instance took no work, and keeps other errors as they are.
func unreachable(err error) error {
	var timeout *temporal.TimeoutError
	if errors.As(err, &timeout) && timeout.TimeoutType() == enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START {
		return temporal.NewNonRetryableApplicationError(
			fmt.Sprintf("the instance took no work within %s: it is gone, or can't reach Temporal", promptPickup), TypeInstanceUnreachable, err)
	}
	return err
}

// table renders rows of two columns in Temporal's Markdown.
func table(rows ...[2]string) string {
	var out strings.Builder
	out.WriteString("| | |\n|---|---|\n")
	for _, row := range rows {
		if row[1] != "" {
			out.WriteString("| " + row[0] + " | " + strings.ReplaceAll(row[1], "|", "\\|") + " |\n")
		}
	}
	return out.String()
}

// stamp writes a time as people compare it; empty for the zero time.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}
