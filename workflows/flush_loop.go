package workflows

import (
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/meter"
)

// FlushLoopInput says which instance to drive.
type FlushLoopInput struct {
	// Instance is its id. Required.
	Instance uuid.UUID `json:"instance"`
	// Host is where it runs, for people.
	Host string `json:"host,omitempty"`
	// Epoch is how long one activity flushes. Zero: [DefaultEpoch].
	Epoch activities.Duration `json:"epoch,omitzero"`
	// Interval is the time between flushes. Zero: the instance's own.
	Interval activities.Duration `json:"interval,omitzero"`
	// LostAfter is how long the instance's queue may stand still before the store is asked: an
	// instance that it hasn't seen for the time that the instance has registered with is lost.
	// It must be more than three of the instance's intervals, after which its own ticker flushes.
	// Zero: [DefaultLostAfter], or five intervals where that is more.
	LostAfter activities.Duration `json:"lost_after,omitzero"`
	// Progress is that of the run before, which continued as this one. Nil at first.
	Progress *FlushLoopProgress `json:"progress,omitempty"`
}

// FlushStage is what a [FlushLoop] is doing.
type FlushStage string

// The stages of a [FlushLoop]. The last three end it.
const (
	FlushRunning  FlushStage = "flushing"
	FlushDraining FlushStage = "draining"
	FlushDrained  FlushStage = "drained" // it flushed for the last time, and stopped
	FlushStopped  FlushStage = "stopped" // it stopped without having been asked
	FlushLost     FlushStage = "lost"    // nobody has seen it for long
)

// FlushLoopProgress is how far a [FlushLoop] is.
type FlushLoopProgress struct {
	Stage FlushStage `json:"stage"`
	// Since is when the loop began, UTC.
	Since time.Time `json:"since"`
	// Seq is the sequence of the last batch, Watermark the time up to which all that
	// was admitted has been flushed, as of the last epoch.
	Seq       int64     `json:"seq"`
	Watermark time.Time `json:"watermark,omitzero"`
	// Epochs counts the epochs that are over, Flushes what succeeded and Failed what
	// didn't, Rows what was written.
	Epochs  int   `json:"epochs"`
	Flushes int   `json:"flushes"`
	Failed  int   `json:"failed"`
	Rows    int64 `json:"rows"`
	// Retained counts the batches that wait for the store.
	Retained int `json:"retained"`
}

// FlushLoopResult says how the loop ended.
type FlushLoopResult struct {
	Instance uuid.UUID         `json:"instance"`
	Progress FlushLoopProgress `json:"progress"`
}

// FlushLoop drives one instance for as long as it lives: an epoch is one activity on the
// instance's own queue, in which the instance flushes at its interval. It ends
// when the instance has been drained, has stopped or is lost, and continues as new
// when the server suggests it.
func FlushLoop(ctx workflow.Context, in FlushLoopInput) (FlushLoopResult, error) {
	loop, err := newFlushLoop(ctx, in)
	if err != nil {
		return FlushLoopResult{}, err
	}
	for !loop.over() {
		if err := loop.epoch(ctx); err != nil {
			return loop.result(), err
		}
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() && !loop.over() {
			if err := handlersFinished(ctx); err != nil {
				return loop.result(), err
			}
			// The last handler may have been a drain.
			if !loop.over() {
				return loop.result(), workflow.NewContinueAsNewError(ctx, FlushLoop, loop.next())
			}
		}
	}
	return loop.result(), handlersFinished(ctx)
}

// handlersFinished waits until every update has its answer.
func handlersFinished(ctx workflow.Context) error {
	return workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
}

type flushLoop struct {
	in              FlushLoopInput
	epochFor        time.Duration
	lostAfter       time.Duration
	progress        FlushLoopProgress
	draining        bool
	drained         activities.FlushSummary
	drainingFailure error
}

func newFlushLoop(ctx workflow.Context, in FlushLoopInput) (*flushLoop, error) {
	if in.Instance == uuid.Nil {
		return nil, refuse(TypeInvalidInput, "instance is missing: it must be the id of an instance")
	}
	if want := FlushLoopID(in.Instance); workflow.GetInfo(ctx).WorkflowExecution.ID != want {
		return nil, refuse(TypeInvalidInput, "a FlushLoop of instance %s must have the workflow ID %s: two loops would drive it", in.Instance, want)
	}
	if in.Epoch < 0 || in.Interval < 0 || in.LostAfter < 0 {
		return nil, refuse(TypeInvalidInput, "epoch %s, interval %s and lost_after %s must be 0 (the default) or more", in.Epoch, in.Interval, in.LostAfter)
	}
	loop := &flushLoop{in: in, epochFor: time.Duration(in.Epoch), lostAfter: time.Duration(in.LostAfter)}
	if loop.epochFor == 0 {
		loop.epochFor = DefaultEpoch
	}
	loop.epochFor = max(loop.epochFor, time.Duration(in.Interval))
	if loop.lostAfter == 0 {
		loop.lostAfter = LostAfter(time.Duration(in.Interval))
	}
	if in.Progress != nil {
		loop.progress = *in.Progress
	} else {
		loop.progress.Since = workflow.Now(ctx).UTC()
	}
	if err := loop.handle(ctx); err != nil {
		return nil, err
	}
	if in.Progress == nil {
		if err := setAttribute(ctx, InstanceAttribute, in.Instance.String()); err != nil {
			return nil, err
		}
		return loop, loop.enter(ctx, FlushRunning)
	}
	loop.show(ctx)
	return loop, nil
}

// handle answers updates and the query.
func (l *flushLoop) handle(ctx workflow.Context) error {
	if err := workflow.SetQueryHandler(ctx, QueryProgress, func() (FlushLoopProgress, error) { return l.progress, nil }); err != nil {
		return fmt.Errorf("handle the query %s: %w", QueryProgress, err)
	}
	err := workflow.SetUpdateHandlerWithOptions(ctx, UpdateFlushNow, l.flushNow, workflow.UpdateHandlerOptions{
		Validator: func() error {
			if l.draining || l.over() {
				return refuse(TypeDraining, "instance %s is %s: it takes no flush on demand", l.in.Instance, l.progress.Stage)
			}
			return nil
		},
		Description: "Flush the instance now.",
	})
	if err != nil {
		return fmt.Errorf("handle the update %s: %w", UpdateFlushNow, err)
	}
	err = workflow.SetUpdateHandlerWithOptions(ctx, UpdateDrain, l.drain, workflow.UpdateHandlerOptions{
		Description: "Flush the instance for the last time, record that it has stopped, and end.",
	})
	if err != nil {
		return fmt.Errorf("handle the update %s: %w", UpdateDrain, err)
	}
	return nil
}

// over reports whether the instance is gone.
func (l *flushLoop) over() bool {
	switch l.progress.Stage {
	case FlushDrained, FlushStopped, FlushLost:
		return true
	default:
		return false
	}
}

// epoch flushes for an epoch, and finds out whether the instance is still there.
func (l *flushLoop) epoch(ctx workflow.Context) error {
	flushCtx := forFlush(ctx, l.in.Instance, l.epochFor, l.lostAfter, fmt.Sprintf("flush for %s", l.epochFor))
	flush := workflow.ExecuteActivity(flushCtx, onInstance.Flush, activities.FlushInput{
		Epoch: activities.Duration(l.epochFor), Interval: l.in.Interval,
	})
	if err := workflow.Await(ctx, func() bool { return flush.IsReady() || l.over() }); err != nil {
		return err
	}
	if l.over() {
		return nil
	}
	var summary activities.FlushSummary
	err := flush.Get(ctx, &summary)
	switch {
	case isTimeout(err):
		err = l.lookForInstance(ctx)
	case err == nil:
		l.add(summary)
		l.progress.Epochs++
		l.show(ctx)
	}
	if err != nil {
		return err
	}
	// A drain ends the epoch: none begins before it is known how that went.
	return workflow.Await(ctx, func() bool { return !l.draining })
}

func (l *flushLoop) add(s activities.FlushSummary) {
	p := &l.progress
	p.Flushes += s.Flushes
	p.Failed += s.Failed
	p.Rows += int64(s.Rows)
	// An epoch that a drain or a stop ended before its first flush knows neither.
	if s.Seq >= p.Seq && !s.Watermark.Before(p.Watermark) {
		p.Seq, p.Watermark, p.Retained = s.Seq, s.Watermark, s.Retained
	}
}

// lookForInstance asks the store about an instance that took no work. Where the store doesn't answer
// in time, the loop goes on.
func (l *flushLoop) lookForInstance(ctx workflow.Context) error {
	var found activities.MarkInstanceLostResult
	looking := workflow.ExecuteActivity(forLook(ctx, l.lostAfter), onFleet.MarkInstanceLost, activities.MarkInstanceLostInput{Instance: l.in.Instance})
	err := looking.Get(ctx, &found)
	switch {
	case isOutOfTime(err):
		// Nobody knows: the next epoch tries the instance again.
		return nil
	case err != nil:
		return err
	case found.Alive || l.over():
		return nil
	}
	l.progress.Watermark = found.Watermark
	if found.Status == meter.InstanceStopped {
		return l.enter(ctx, FlushStopped)
	}
	return l.enter(ctx, FlushLost)
}

// flushNow is the update FlushNow.
func (l *flushLoop) flushNow(ctx workflow.Context) (activities.FlushSummary, error) {
	var summary activities.FlushSummary
	err := workflow.ExecuteActivity(forPromptFlush(ctx, l.in.Instance, "flush now"), onInstance.FlushOnce).Get(ctx, &summary)
	if err != nil {
		return summary, unreachable(err)
	}
	l.add(summary)
	l.show(ctx)
	return summary, nil
}

// drain is the update Drain. Asked again, it gives the first one's answer.
func (l *flushLoop) drain(ctx workflow.Context) (activities.FlushSummary, error) {
	if l.draining {
		if err := workflow.Await(ctx, func() bool { return !l.draining }); err != nil {
			return activities.FlushSummary{}, err
		}
		return l.drained, l.drainingFailure
	}
	if l.over() {
		return l.drained, nil
	}
	l.draining = true
	defer func() { l.draining = false }()
	if err := l.enter(ctx, FlushDraining); err != nil {
		return activities.FlushSummary{}, err
	}
	var summary activities.FlushSummary
	drainCtx := forPromptFlush(ctx, l.in.Instance, "flush for the last time and stop")
	err := workflow.ExecuteActivity(drainCtx, onInstance.DrainInstance).Get(ctx, &summary)
	if err != nil {
		l.drainingFailure = unreachable(err)
		if l.over() {
			return summary, l.drainingFailure
		}
		// The instance goes on, and so does the loop.
		if err := l.enter(ctx, FlushRunning); err != nil {
			return summary, err
		}
		return summary, l.drainingFailure
	}
	l.drained, l.drainingFailure = summary, nil
	l.add(summary)
	return summary, l.enter(ctx, FlushDrained)
}

// enter changes the stage, and shows it.
func (l *flushLoop) enter(ctx workflow.Context, stage FlushStage) error {
	l.progress.Stage = stage
	l.show(ctx)
	return setStage(ctx, string(stage))
}

func (l *flushLoop) show(ctx workflow.Context) {
	p := l.progress
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("**%s** · instance `%s` on %s\n\n", p.Stage, l.in.Instance, l.host())+table(
		[2]string{"flushed up to", stamp(p.Watermark)},
		[2]string{"last batch", strconv.FormatInt(p.Seq, 10)},
		[2]string{"rows written", strconv.FormatInt(p.Rows, 10)},
		[2]string{"flushes", fmt.Sprintf("%d in %d epochs of %s since %s", p.Flushes, p.Epochs, l.epochFor, stamp(p.Since))},
		[2]string{"failed", strconv.Itoa(p.Failed)},
		[2]string{"batches that wait", strconv.Itoa(p.Retained)},
	))
}

func (l *flushLoop) host() string {
	if l.in.Host == "" {
		return "an unnamed host"
	}
	return l.in.Host
}

func (l *flushLoop) result() FlushLoopResult {
	return FlushLoopResult{Instance: l.in.Instance, Progress: l.progress}
}

// next is the input of the run that continues this one.
func (l *flushLoop) next() FlushLoopInput {
	next := l.in
	progress := l.progress
	next.Progress = &progress
	return next
}

// FlushLoopAttributes are the search attributes with which a FlushLoop is started.
func FlushLoopAttributes(instance uuid.UUID) temporal.SearchAttributes {
	return temporal.NewSearchAttributes(InstanceAttribute.ValueSet(instance.String()), StageAttribute.ValueSet(string(FlushRunning)))
}

// FlushLoopSummary is the one line that lists of workflows show of a FlushLoop.
func FlushLoopSummary(host string, instance uuid.UUID) string {
	return fmt.Sprintf("Flushes instance %s on %s", instance, host)
}
