package workflows

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/plans"
)

// ExportPeriodInput says what to export.
type ExportPeriodInput struct {
	// Period is a billing month of the form YYYY-MM that has begun. Required.
	Period string `json:"period"`
	// RequestedBy says who asked: a key's name, "schedule". Empty: "temporal-ui".
	RequestedBy string `json:"requested_by,omitempty"`
}

// ExportPeriodProgress is how far an [ExportPeriod] is.
type ExportPeriodProgress struct {
	// ID is that of the run's [billing.Export]; zero before it is recorded.
	ID          uuid.UUID     `json:"id,omitzero"`
	Period      string        `json:"period"`
	Stage       billing.Stage `json:"stage"`
	Cut         time.Time     `json:"cut"`
	Provisional bool          `json:"provisional"`
	RequestedBy string        `json:"requested_by"`
	RequestedAt time.Time     `json:"requested_at"`
	// Live counts the instances that have flushed up to the cut; Lost holds those that
	// were declared lost meanwhile.
	Live int                          `json:"live"`
	Lost []activities.AwaitedInstance `json:"lost,omitempty"`
	// RolledUp counts the days that were rolled up, DaysLeft those that are left, and
	// RollingUp is the day at hand.
	RolledUp  int    `json:"rolled_up"`
	DaysLeft  int    `json:"days_left"`
	RollingUp string `json:"rolling_up,omitempty"`
	// Folder is where the files are in the blob store; Files and Totals describe them.
	Folder string                 `json:"folder,omitempty"`
	Files  []billing.File         `json:"files,omitempty"`
	Totals []billing.ControlTotal `json:"control_totals,omitempty"`
	// Error is why the run failed; empty otherwise.
	Error string `json:"error,omitempty"`
}

// ExportPeriodResult says how an export ended.
type ExportPeriodResult struct {
	// WorkflowID is that of the run that exported the period.
	WorkflowID string `json:"workflow_id"`
	// Joined is true where that run had been started before: its result is its own.
	Joined bool `json:"joined,omitempty"`
	// AlreadyFinal is true where the period's final export was done before: nothing ran.
	AlreadyFinal bool `json:"already_final,omitempty"`
	// Manifest is the name of the manifest in the blob store.
	Manifest string               `json:"manifest,omitempty"`
	Export   ExportPeriodProgress `json:"export,omitzero"`
}

// ExportPeriod exports a billing period. Its workflow ID is [ExportPeriodID]; started
// under another one, it runs the one with that ID. While the period is open, the export is
// provisional: it has what was used before the run began. A final export that
// is done is answered, and not made again.
//
// The stages are those of [billing.Stage], in this order: waiting, rollups, freezing,
// writing, done. Rating, variance review, approval and delivery have their place
// between writing and done: they work on the frozen usage, and are each a stage
// with a method of its own, called by exportRun.run after write.
func ExportPeriod(ctx workflow.Context, in ExportPeriodInput) (ExportPeriodResult, error) {
	period, err := periodOf(in.Period)
	if err != nil {
		return ExportPeriodResult{}, err
	}
	// Postgres keeps microseconds: the cut is the same everywhere.
	now := workflow.Now(ctx).UTC().Truncate(time.Microsecond)
	if now.Before(period.Start()) {
		return ExportPeriodResult{}, refuse(TypePeriodNotBegun, "period %s has not begun: it begins at %s", period, stamp(period.Start()))
	}
	if in.RequestedBy == "" {
		in.RequestedBy = "temporal-ui"
	}
	if workflow.GetInfo(ctx).WorkflowExecution.ID != ExportPeriodID(period) {
		return startExportPeriod(ctx, true, in, period)
	}
	run := newExportRun(in, period, now)
	if err := run.begin(ctx); err != nil {
		return ExportPeriodResult{}, run.end(ctx, err)
	}
	if err := run.run(ctx); err != nil {
		return ExportPeriodResult{}, run.end(ctx, err)
	}
	return run.result, nil
}

func periodOf(text string) (billing.Period, error) {
	if text == "" {
		return billing.Period{}, refuse(TypeInvalidInput, "period is missing: it must be a month of the form YYYY-MM")
	}
	period, err := billing.ParsePeriod(text)
	if err != nil {
		return billing.Period{}, refuse(TypeInvalidInput, "period: %s", err)
	}
	return period, nil
}

type exportRun struct {
	period billing.Period
	begun  activities.BegunExport
	result ExportPeriodResult
}

func newExportRun(in ExportPeriodInput, period billing.Period, now time.Time) *exportRun {
	run := &exportRun{period: period}
	run.result.WorkflowID = ExportPeriodID(period)
	run.result.Export = ExportPeriodProgress{
		Period: period.String(), Stage: billing.StageWaiting, Cut: period.End(),
		RequestedBy: in.RequestedBy, RequestedAt: now,
	}
	if now.Before(period.End()) {
		run.result.Export.Cut, run.result.Export.Provisional = now, true
	}
	return run
}

func (r *exportRun) progress() *ExportPeriodProgress { return &r.result.Export }

// begin records the run.
func (r *exportRun) begin(ctx workflow.Context) error {
	p := r.progress()
	if err := workflow.SetQueryHandler(ctx, QueryProgress, func() (ExportPeriodProgress, error) { return *p, nil }); err != nil {
		return fmt.Errorf("handle the query %s: %w", QueryProgress, err)
	}
	if err := workflow.UpsertTypedSearchAttributes(ctx, PeriodAttribute.ValueSet(p.Period)); err != nil {
		return fmt.Errorf("set %s: %w", PeriodAttribute.GetName(), err)
	}
	if err := r.show(ctx, billing.StageWaiting); err != nil {
		return err
	}
	err := workflow.ExecuteActivity(forRecord(ctx, "record the export"), onExport.BeginExport, activities.BeginExportInput{
		Period: r.period, Cut: p.Cut, Provisional: p.Provisional, RequestedBy: p.RequestedBy, RequestedAt: p.RequestedAt,
	}).Get(ctx, &r.begun)
	if err != nil {
		return err
	}
	p.ID, p.Cut, p.Provisional, p.Folder = r.begun.ID, r.begun.Cut, r.begun.Provisional, r.begun.Folder
	return nil
}

// run takes the export from stage to stage.
func (r *exportRun) run(ctx workflow.Context) error {
	if r.begun.Final {
		return r.answer(ctx)
	}
	for _, stage := range []func(workflow.Context) error{r.wait, r.rollUp, r.freeze, r.write, r.finish} {
		if err := stage(ctx); err != nil {
			return err
		}
	}
	return nil
}

// answer gives the period's final export, which was done before.
func (r *exportRun) answer(ctx workflow.Context) error {
	r.result.AlreadyFinal = true
	r.result.Manifest = r.begun.Folder + billing.ManifestFile
	r.progress().Files, r.progress().Totals = r.begun.Files, r.begun.Totals
	return r.show(ctx, billing.StageDone)
}

// wait is the stage waiting: all usage before the cut has to be in the store.
func (r *exportRun) wait(ctx workflow.Context) error {
	p := r.progress()
	var flushed activities.AwaitWatermarksResult
	waitCtx := forWaiting(ctx, fmt.Sprintf("until every live instance has flushed up to %s", stamp(p.Cut)))
	err := workflow.ExecuteActivity(waitCtx, onFleet.AwaitWatermarks, activities.AwaitWatermarksInput{Cut: p.Cut}).Get(ctx, &flushed)
	p.Live, p.Lost = flushed.Live, flushed.Lost
	return err
}

// rollUp is the stage rollups: the period's days that are over are rolled up. A day
// that stays out of date is counted from its batches instead.
func (r *exportRun) rollUp(ctx workflow.Context) error {
	if err := r.enter(ctx, billing.StageRollups); err != nil {
		return err
	}
	p := r.progress()
	last := plans.DayOf(p.Cut) - 1
	_, err := rollUpDays(ctx, r.period.FirstDay(), last, "export "+p.Period, func(day plans.Day, left int) {
		p.RollingUp, p.DaysLeft = day.String(), left
		r.showDetails(ctx)
	}, func() { p.RolledUp++ })
	p.RollingUp, p.DaysLeft = "", 0
	return err
}

// freeze is the stage freezing: from here on, nothing that is flushed changes the export.
func (r *exportRun) freeze(ctx workflow.Context) error {
	if err := r.enter(ctx, billing.StageFreezing); err != nil {
		return err
	}
	return workflow.ExecuteActivity(forBulk(ctx, "freeze the usage"), onExport.FreezeUsage, activities.FreezeUsageInput{ID: r.begun.ID}).Get(ctx, nil)
}

// write is the stage writing.
func (r *exportRun) write(ctx workflow.Context) error {
	if err := r.enter(ctx, billing.StageWriting); err != nil {
		return err
	}
	var written activities.WriteUsageFileResult
	err := workflow.ExecuteActivity(forBulk(ctx, "write "+billing.UsageFile), onExport.WriteUsageFile, activities.WriteUsageFileInput{
		ID: r.begun.ID, Folder: r.begun.Folder,
	}).Get(ctx, &written)
	if err != nil {
		return err
	}
	r.progress().Files = append(r.progress().Files, written.File)
	r.progress().Totals = written.Totals
	return nil
}

// finish writes the manifest and records that the run is done. From here on a
// cancel comes too late: half of this would be worse than all of it.
func (r *exportRun) finish(ctx workflow.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	detached, _ := workflow.NewDisconnectedContext(ctx)
	var finished activities.FinishExportResult
	err := workflow.ExecuteActivity(forBulk(detached, "write "+billing.ManifestFile+" and finish"), onExport.FinishExport, activities.FinishExportInput{
		Export: r.begun, Files: r.progress().Files, Totals: r.progress().Totals,
	}).Get(detached, &finished)
	if err != nil {
		return err
	}
	r.result.Manifest = finished.Manifest
	return r.show(ctx, billing.StageDone)
}

// end records that the run has failed or was canceled, also where it was canceled:
// nothing of it counts.
func (r *exportRun) end(ctx workflow.Context, failure error) error {
	p := r.progress()
	stage := billing.StageFailed
	p.Error = reason(failure)
	if isCanceled(ctx) {
		stage, p.Error = billing.StageCanceled, "canceled in stage "+string(p.Stage)
	}
	detached, _ := workflow.NewDisconnectedContext(ctx)
	if r.begun.ID != uuid.Nil {
		err := workflow.ExecuteActivity(forStore(detached, "record that the export has "+string(stage)), onExport.FailExport, activities.FailExportInput{
			ID: r.begun.ID, Stage: stage, Reason: p.Error,
		}).Get(detached, nil)
		if err != nil {
			workflow.GetLogger(ctx).Error("The end of an export could not be recorded", "export", r.begun.ID, "error", err)
		}
	}
	if err := r.show(detached, stage); err != nil {
		return err
	}
	return failure
}

// enter records a stage and shows it.
func (r *exportRun) enter(ctx workflow.Context, stage billing.Stage) error {
	if err := r.show(ctx, stage); err != nil {
		return err
	}
	return workflow.ExecuteActivity(forStore(ctx, "record stage "+string(stage)), onExport.SetExportStage, activities.SetExportStageInput{
		ID: r.begun.ID, Stage: stage,
	}).Get(ctx, nil)
}

// show changes the stage where people look.
func (r *exportRun) show(ctx workflow.Context, stage billing.Stage) error {
	r.progress().Stage = stage
	r.showDetails(ctx)
	return setStage(ctx, string(stage))
}

func (r *exportRun) showDetails(ctx workflow.Context) {
	p := r.progress()
	kind := "final"
	if p.Provisional {
		kind = "provisional: what was used before " + stamp(p.Cut)
	}
	var files, totals []string
	for _, f := range p.Files {
		files = append(files, fmt.Sprintf("%s (%d rows, %d bytes)", f.Name, f.Rows, f.Bytes))
	}
	for _, t := range p.Totals {
		totals = append(totals, fmt.Sprintf("%s %s of %d organizations", t.Meter, t.Value, t.Organizations))
	}
	rows := [][2]string{
		{"kind", kind},
		{"requested", p.RequestedBy + ", " + stamp(p.RequestedAt)},
		{"instances that have flushed", strconv.Itoa(p.Live)},
		{"days rolled up", strconv.Itoa(p.RolledUp)},
		{"rolling up", p.RollingUp},
		{"folder", p.Folder},
		{"files", strings.Join(files, ", ")},
		{"totals", strings.Join(totals, "; ")},
		{"error", p.Error},
	}
	for _, lost := range p.Lost {
		rows = append(rows, [2]string{"lost", fmt.Sprintf("instance `%s` on %s: what it admitted after %s is missing", lost.Instance, lost.Host, stamp(lost.Watermark))})
	}
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("**%s** · period %s\n\n%s", p.Stage, p.Period, table(rows...)))
}

// startExportPeriod runs the period's ExportPeriod, or finds it running.
func startExportPeriod(ctx workflow.Context, follow bool, in ExportPeriodInput, period billing.Period) (ExportPeriodResult, error) {
	options := childOptions(ExportPeriodID(period), ExportPeriodSummary(period), exportPeriodAttributes(period)...)
	options.Memo = map[string]any{MemoRequestedBy: in.RequestedBy}
	var result ExportPeriodResult
	joined, err := runFixed(ctx, follow, options, ExportPeriod, in, &result)
	if joined {
		result = ExportPeriodResult{WorkflowID: ExportPeriodID(period), Joined: true}
	}
	return result, err
}

func exportPeriodAttributes(period billing.Period) []temporal.SearchAttributeUpdate {
	return []temporal.SearchAttributeUpdate{
		PeriodAttribute.ValueSet(period.String()), StageAttribute.ValueSet(string(billing.StageWaiting)),
	}
}

// ExportPeriodAttributes are the search attributes with which an ExportPeriod is started.
func ExportPeriodAttributes(period billing.Period) temporal.SearchAttributes {
	return temporal.NewSearchAttributes(exportPeriodAttributes(period)...)
}

// ExportPeriodSummary is the one line that lists of workflows show of an ExportPeriod.
func ExportPeriodSummary(period billing.Period) string {
	return fmt.Sprintf("Exports the billing period %s", period)
}
