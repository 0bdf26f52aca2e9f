package workflows

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/calendar"
)

// ExportPeriodInput says what to export.
type ExportPeriodInput struct {
	// Period is a billing month of the form YYYY-MM that has begun. Required.
	Period string `json:"period"`
	// RequestedBy says who asked: a key's name, "schedule". Empty: "temporal-ui".
	RequestedBy string `json:"requested_by,omitempty"`
	// RequestedByID is that key, whose owner may not approve. Zero: who reviewed may not.
	RequestedByID uuid.UUID `json:"requested_by_id,omitzero"`
	// RequestID is the identity of what asked for the run, so that the same request, sent again, can be
	// answered with it. Zero: it has none.
	RequestID uuid.UUID `json:"request_id,omitzero"`
	// Reopen makes the run the next revision of a period that is closed; Reason says why
	// and is required then.
	Reopen bool   `json:"reopen,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Variance says which differences from the period before have to be reviewed.
	Variance billing.VarianceThreshold `json:"variance,omitzero"`
	// Documents says how files are written.
	Documents documents.Options `json:"documents,omitzero"`
	// AllowSelfApproval lets the requester approve. False: somebody else has to.
	AllowSelfApproval bool `json:"allow_self_approval,omitempty"`
	// RemindAfter is the time after which a wait for a decision reminds, again and again.
	// Zero: [DefaultRemindAfter].
	RemindAfter activities.Duration `json:"remind_after,omitzero"`
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
	Live int                       `json:"live"`
	Lost []billing.AwaitedInstance `json:"lost,omitempty"`
	// Waiting holds the instances that are waited for, at most 500, as of some time within the last
	// hour.
	Waiting []billing.AwaitedInstance `json:"waiting,omitempty"`
	// Without holds those that the export went on without, by a decision of ContinuedBy's.
	Without     []billing.AwaitedInstance `json:"without,omitempty"`
	ContinuedBy string                    `json:"continued_by,omitempty"`
	// RolledUp counts the days that were rolled up, DaysLeft those that are left, and
	// RollingUp is the day at hand.
	RolledUp  int    `json:"rolled_up"`
	DaysLeft  int    `json:"days_left"`
	RollingUp string `json:"rolling_up,omitempty"`
	// Revision counts the times that the period was opened again, from 1.
	Revision int `json:"revision,omitempty"`
	// Pages are the pages of organizations that are rated; PagesRated of them are done.
	Pages      int `json:"pages,omitempty"`
	PagesRated int `json:"pages_rated,omitempty"`
	// Statements counts the drafts, Parked the organizations that could not be rated.
	Statements int64 `json:"statements,omitempty"`
	Parked     int64 `json:"parked,omitempty"`
	// Variances counts the statements that differ from the period before; Reviewed says
	// that finance has looked at them.
	Variances int64 `json:"variances,omitempty"`
	Reviewed  bool  `json:"reviewed,omitempty"`
	// MissingBatches counts batches of acknowledged usage that are lost: it is in no statement.
	MissingBatches int64 `json:"missing_batches,omitempty"`
	// AwaitingSince is when a wait for a decision began, Reminders how often it reminded.
	AwaitingSince time.Time `json:"awaiting_since,omitzero"`
	Reminders     int       `json:"reminders,omitempty"`
	ApprovedBy    string    `json:"approved_by,omitempty"`
	// Money adds up the statements by currency.
	Money []billing.MoneyTotal `json:"money_totals,omitempty"`
	// Deliveries says what became of the statements in each sink, and DeliveryError why a
	// delivery did not end as it should; it holds up nothing.
	Deliveries    []SinkDelivery `json:"deliveries,omitempty"`
	DeliveryError string         `json:"delivery_error,omitempty"`
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
// The stages are those of [billing.Stage]: waiting, rollups, freezing, rating, writing,
// and for a final export reviewing, awaiting_approval, issuing, delivering. It ends as
// closed; provisional, as done; by a decision of finance's, as rejected, which is a result too.
// Finance decides by the update [UpdateDecide]. Cancel and reject leave nothing half-issued:
// until issuing, all that there is are drafts.
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
		in.RequestedBy = temporalUI
	}
	if workflow.GetInfo(ctx).WorkflowExecution.ID != ExportPeriodID(period) {
		return startExportPeriod(ctx, true, in, period)
	}
	if in, err = checkExportInput(in); err != nil {
		return ExportPeriodResult{}, err
	}
	run := newExportRun(in, period, now)
	run.recording = workflow.NewMutex(ctx)
	ctx, run.cancel = workflow.WithCancel(ctx)
	if err := run.begin(ctx); err != nil {
		return run.end(ctx, err)
	}
	if err := run.run(ctx); err != nil {
		return run.end(ctx, err)
	}
	return run.result, run.answerAll(ctx)
}

func periodOf(text string) (calendar.Period, error) {
	if text == "" {
		return calendar.Period{}, refuse(TypeInvalidInput, "period is missing: it must be a month of the form YYYY-MM")
	}
	period, err := calendar.ParsePeriod(text)
	if err != nil {
		return calendar.Period{}, refuse(TypeInvalidInput, "period: %s", err)
	}
	return period, nil
}

// checkExportInput fills in defaults and refuses what breaks a rule.
func checkExportInput(in ExportPeriodInput) (ExportPeriodInput, error) {
	var err error
	if in.Variance, err = in.Variance.WithDefaults(); err != nil {
		return in, refuse(TypeInvalidInput, "%s", err)
	}
	if in.Documents, err = in.Documents.WithDefaults(); err != nil {
		return in, refuse(TypeInvalidInput, "documents: %s", err)
	}
	if in.Reopen && strings.TrimSpace(in.Reason) == "" {
		return in, refuse(TypeInvalidInput, "reason is missing: say why the period is opened again")
	}
	return in, nil
}

type exportRun struct {
	in     ExportPeriodInput
	period calendar.Period
	begun  activities.BegunExport
	result ExportPeriodResult
	// decision is what finance decided, from when it is accepted until the run has followed it;
	// nil while the run waits. recorded says that it is in the audit trail.
	decision *billing.ExportDecision
	recorded bool
	// recording is held while a decision is being recorded; unrecorded counts those that are
	// accepted, and not yet answered.
	recording  workflow.Mutex
	unrecorded int
	// cancelation is who canceled the run by a decision, nil where nobody did; cancel ends what
	// the run waits for.
	cancelation *billing.ExportDecision
	cancel      workflow.CancelFunc
	// tooLate says that a cancel changes nothing any more: what fails then has failed.
	tooLate bool
}

func newExportRun(in ExportPeriodInput, period calendar.Period, now time.Time) *exportRun {
	run := &exportRun{in: in, period: period}
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
	// Before anything that takes time: who decides too early has an answer that says so.
	if err := r.handleDecisions(ctx); err != nil {
		return fmt.Errorf("handle the update %s: %w", UpdateDecide, err)
	}
	if err := setAttribute(ctx, PeriodAttribute, p.Period); err != nil {
		return err
	}
	if err := r.show(ctx, billing.StageWaiting); err != nil {
		return err
	}
	request, err := json.Marshal(r.in)
	if err != nil {
		return fmt.Errorf("keep what was requested: %w", err)
	}
	in := activities.BeginExportInput{
		Period: r.period, Cut: p.Cut, Provisional: p.Provisional, RequestedBy: p.RequestedBy, RequestedAt: p.RequestedAt,
		RequestedByID: r.in.RequestedByID, Reason: r.in.Reason, RequestID: r.in.RequestID, Request: request,
	}
	var recording workflow.Future
	if r.in.Reopen {
		recording = workflow.ExecuteActivity(forRecord(ctx, "open the period again"), onExport.ReopenExport, in)
	} else {
		recording = workflow.ExecuteActivity(forRecord(ctx, "record the export"), onExport.BeginExport, in)
	}
	if err := recording.Get(ctx, &r.begun); err != nil {
		return err
	}
	p.Revision = r.begun.Revision
	p.ID, p.Cut, p.Provisional, p.Folder = r.begun.ID, r.begun.Cut, r.begun.Provisional, r.begun.Folder
	return nil
}

// run takes the export from stage to stage.
func (r *exportRun) run(ctx workflow.Context) error {
	if r.begun.Final {
		return r.answer(ctx)
	}
	stages := []func(workflow.Context) error{r.wait, r.rollUp, r.freeze, r.rate, r.writeAll, r.review, r.issue}
	for _, stage := range stages {
		if err := stage(ctx); err != nil {
			return err
		}
	}
	return nil
}

// answer gives the period's final export, which was done before.
func (r *exportRun) answer(ctx workflow.Context) error {
	r.result.AlreadyFinal = true
	r.result.Manifest = r.begun.Folder + documents.ManifestFile
	r.progress().Files, r.progress().Totals = r.begun.Files, r.begun.Totals
	return r.show(ctx, r.begun.Stage)
}

// rollUp is the stage rollups: the period's days that are over are rolled up. A day
// that stays out of date is counted from its batches instead.
func (r *exportRun) rollUp(ctx workflow.Context) error {
	if err := r.enter(ctx, billing.StageRollups); err != nil {
		return err
	}
	p := r.progress()
	last := calendar.DayOf(p.Cut) - 1
	for _, i := range p.Without {
		// A rollup of a later day would wait for it: such days are counted from their batches.
		last = min(last, calendar.DayOf(i.Watermark)-1)
	}
	_, err := rollUpDays(ctx, r.period.FirstDay(), last, "export "+p.Period, func(day calendar.Day, left int) {
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

// end records that the run has failed, was canceled or was rejected, also where it was canceled:
// nothing of it counts. A rejection is a result: finance has decided, and nothing is broken.
func (r *exportRun) end(ctx workflow.Context, failure error) (ExportPeriodResult, error) {
	if err := r.settle(ctx); err != nil {
		return ExportPeriodResult{}, err
	}
	p := r.progress()
	stage := billing.StageFailed
	p.Error = reason(failure)
	var rejected rejection
	if errors.As(failure, &rejected) {
		stage = billing.StageRejected
	}
	if isCanceled(ctx) && !r.tooLate {
		stage, p.Error = billing.StageCanceled, "canceled in stage "+string(p.Stage)
		if c := r.cancelation; c != nil {
			p.Error += " by " + c.Actor.Name + ": " + c.Note
		}
	}
	ctx = detached(ctx)
	if r.begun.ID != uuid.Nil {
		err := workflow.ExecuteActivity(forStore(ctx, "record that the export has "+string(stage)), onExport.FailExport, activities.FailExportInput{
			ID: r.begun.ID, Stage: stage, Reason: p.Error,
		}).Get(ctx, nil)
		if err != nil {
			workflow.GetLogger(ctx).Error("The end of an export could not be recorded", "export", r.begun.ID, "error", err)
		}
	}
	if err := r.show(ctx, stage); err != nil {
		return ExportPeriodResult{}, err
	}
	if err := r.answerAll(ctx); err != nil {
		return ExportPeriodResult{}, err
	}
	if stage == billing.StageRejected {
		return r.result, nil
	}
	return ExportPeriodResult{}, failure
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

func exportPeriodAttributes(period calendar.Period) []temporal.SearchAttributeUpdate {
	return []temporal.SearchAttributeUpdate{
		PeriodAttribute.ValueSet(period.String()), StageAttribute.ValueSet(string(billing.StageWaiting)),
	}
}

// ExportPeriodAttributes are the search attributes with which an ExportPeriod is started.
func ExportPeriodAttributes(period calendar.Period) temporal.SearchAttributes {
	return temporal.NewSearchAttributes(exportPeriodAttributes(period)...)
}

// ExportPeriodSummary is the one line that lists of workflows show of an ExportPeriod.
func ExportPeriodSummary(period calendar.Period) string {
	return fmt.Sprintf("Exports the billing period %s", period)
}
