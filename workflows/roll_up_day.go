package workflows

import (
	"fmt"
	"strconv"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
)

// RollUpDayInput says which day to close.
type RollUpDayInput struct {
	// Day has the form YYYY-MM-DD and has ended. Required.
	Day string `json:"day"`
	// RequestedBy says who asked, for people.
	RequestedBy string `json:"requested_by,omitempty"`
}

// RollUpStage is what a [RollUpDay] is doing.
type RollUpStage string

// The stages of a [RollUpDay].
const (
	RollUpWaiting     RollUpStage = "waiting" // for every live instance's watermark to pass the day's end
	RollUpFolding     RollUpStage = "folding"
	RollUpReconciling RollUpStage = "reconciling" // every layer with the next
	RollUpDone        RollUpStage = "done"
)

// RollUpDayProgress is how far a [RollUpDay] is.
type RollUpDayProgress struct {
	Day   string      `json:"day"`
	Stage RollUpStage `json:"stage"`
	// Live counts the instances that have flushed the day; Lost holds those that were
	// declared lost meanwhile.
	Live int                       `json:"live"`
	Lost []billing.AwaitedInstance `json:"lost,omitempty"`
	// Rollup is the outcome; nil before.
	Rollup *billing.DayRollup `json:"rollup,omitempty"`
	// Reconciled is what the comparison of all layers found; nil before.
	Reconciled *activities.ReconcileResult `json:"reconciled,omitempty"`
}

// RollUpDayResult says how a day was closed.
type RollUpDayResult struct {
	// WorkflowID is that of the run that closed the day.
	WorkflowID string `json:"workflow_id"`
	// Joined is true where that run had been started before: its result is its own.
	Joined   bool              `json:"joined,omitempty"`
	Progress RollUpDayProgress `json:"progress,omitzero"`
}

// RollUpDay closes a day that has ended: it waits until every live instance has
// flushed it, and folds its batches into the closed day. It may run again for the
// same day, and takes in what came since. Its workflow ID is [RollUpDayID]; started
// under another one, it runs the one with that ID.
func RollUpDay(ctx workflow.Context, in RollUpDayInput) (RollUpDayResult, error) {
	day, err := rollUpDayOf(in.Day)
	if err != nil {
		return RollUpDayResult{}, err
	}
	if now := workflow.Now(ctx); now.Before(day.End()) {
		return RollUpDayResult{}, refuse(TypeDayNotOver, "day %s has not ended: it ends at %s", day, stamp(day.End()))
	}
	if workflow.GetInfo(ctx).WorkflowExecution.ID != RollUpDayID(day) {
		return startRollUpDay(ctx, true, day, in.RequestedBy)
	}
	r := &rollUp{day: day, progress: RollUpDayProgress{Day: day.String()}}
	if err := r.begin(ctx); err != nil {
		return RollUpDayResult{}, err
	}
	if err := r.run(ctx); err != nil {
		return RollUpDayResult{}, r.end(ctx, err)
	}
	return RollUpDayResult{WorkflowID: RollUpDayID(day), Progress: r.progress}, nil
}

func rollUpDayOf(text string) (calendar.Day, error) {
	if text == "" {
		return 0, refuse(TypeInvalidInput, "day is missing: it must be a day that has ended, of the form YYYY-MM-DD")
	}
	day, err := calendar.ParseDay(text)
	if err != nil {
		return 0, refuse(TypeInvalidInput, "day: %s", err)
	}
	return day, nil
}

type rollUp struct {
	day      calendar.Day
	progress RollUpDayProgress
}

func (r *rollUp) begin(ctx workflow.Context) error {
	if err := workflow.SetQueryHandler(ctx, QueryProgress, func() (RollUpDayProgress, error) { return r.progress, nil }); err != nil {
		return fmt.Errorf("handle the query %s: %w", QueryProgress, err)
	}
	if err := setAttribute(ctx, PeriodAttribute, calendar.PeriodOf(r.day.Start()).String()); err != nil {
		return err
	}
	return nil
}

func (r *rollUp) run(ctx workflow.Context) error {
	if err := r.enter(ctx, RollUpWaiting); err != nil {
		return err
	}
	var flushed activities.AwaitWatermarksResult
	waitCtx := forWaiting(ctx, fmt.Sprintf("until every live instance has flushed up to %s", stamp(r.day.End())))
	err := workflow.ExecuteActivity(waitCtx, onFleet.AwaitWatermarks, activities.AwaitWatermarksInput{Since: r.day.Start(), Cut: r.day.End()}).Get(ctx, &flushed)
	if err != nil {
		return err
	}
	r.progress.Live, r.progress.Lost = flushed.Live, flushed.Lost
	if err := r.enter(ctx, RollUpFolding); err != nil {
		return err
	}
	var rollup billing.DayRollup
	err = workflow.ExecuteActivity(forBulk(ctx, "fold "+r.day.String()), onRollup.FoldDay, activities.FoldDayInput{Day: r.day}).Get(ctx, &rollup)
	if err != nil {
		return err
	}
	r.progress.Rollup = &rollup
	if err := r.reconcile(ctx); err != nil {
		return err
	}
	return r.enter(ctx, RollUpDone)
}

// reconcile compares what each layer says of the day. What differs is shown, and holds
// up nothing.
func (r *rollUp) reconcile(ctx workflow.Context) error {
	if err := r.enter(ctx, RollUpReconciling); err != nil {
		return err
	}
	var found activities.ReconcileResult
	in := activities.ReconcileInput{From: r.day, To: r.day}
	if err := workflow.ExecuteActivity(forBulk(ctx, "reconcile "+r.day.String()), onRollup.Reconcile, in).Get(ctx, &found); err != nil {
		return err
	}
	r.progress.Reconciled = &found
	if found.Different > 0 {
		workflow.GetLogger(ctx).Error("The layers of a day differ", "day", r.day.String(), "different", found.Different)
	}
	return nil
}

// end shows how a rollup ended that isn't done.
func (r *rollUp) end(ctx workflow.Context, err error) error {
	stage := billing.StageFailed
	if isCanceled(ctx) {
		stage = billing.StageCanceled
	}
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("**%s** · day %s\n\n%s\n", stage, r.day, reason(err)))
	if stageErr := setStage(ctx, string(stage)); stageErr != nil {
		return stageErr
	}
	return err
}

// enter changes the stage, and shows it.
func (r *rollUp) enter(ctx workflow.Context, stage RollUpStage) error {
	r.progress.Stage = stage
	rows := [][2]string{{"instances that have flushed", strconv.Itoa(r.progress.Live)}}
	for _, lost := range r.progress.Lost {
		rows = append(rows, [2]string{"lost", fmt.Sprintf("instance `%s` on %s: what it admitted after %s is missing", lost.Instance, lost.Host, stamp(lost.Watermark))})
	}
	if done := r.progress.Rollup; done != nil {
		rows = append(
			rows,
			[2]string{"revision", strconv.Itoa(done.Revision)},
			[2]string{"batches", strconv.FormatInt(done.Batches, 10)},
			[2]string{"organizations × meters", strconv.FormatInt(done.Rows, 10)},
			[2]string{"variances", strconv.FormatInt(done.VarianceCount, 10)},
		)
	}
	rows = append(rows, reconciledRows(r.progress.Reconciled)...)
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("**%s** · day %s\n\n%s", stage, r.day, table(rows...)))
	return setStage(ctx, string(stage))
}

// reconciledRows says which layers were compared, and which of them differ.
func reconciledRows(found *activities.ReconcileResult) [][2]string {
	if found == nil {
		return nil
	}
	var rows [][2]string
	for _, c := range found.Compared {
		rows = append(rows, [2]string{c.String(), fmt.Sprintf("%d compared, %d differ", c.Compared, c.Different)})
	}
	for _, d := range found.First {
		rows = append(rows, [2]string{"differs", d.String()})
	}
	return rows
}

// startRollUpDay runs the day's RollUpDay, or finds it running.
func startRollUpDay(ctx workflow.Context, follow bool, day calendar.Day, requestedBy string) (RollUpDayResult, error) {
	options := childOptions(RollUpDayID(day), RollUpDaySummary(day), rollUpDayAttributes(day)...)
	var result RollUpDayResult
	joined, err := runFixed(ctx, follow, options, RollUpDay, RollUpDayInput{Day: day.String(), RequestedBy: requestedBy}, &result)
	if joined {
		result = RollUpDayResult{WorkflowID: RollUpDayID(day), Joined: true}
	}
	return result, err
}

func rollUpDayAttributes(day calendar.Day) []temporal.SearchAttributeUpdate {
	return []temporal.SearchAttributeUpdate{
		PeriodAttribute.ValueSet(calendar.PeriodOf(day.Start()).String()), StageAttribute.ValueSet(string(RollUpWaiting)),
	}
}

// RollUpDaySummary is the one line that lists of workflows show of a RollUpDay.
func RollUpDaySummary(day calendar.Day) string { return fmt.Sprintf("Closes the day %s", day) }
