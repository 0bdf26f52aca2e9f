package workflows_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

// requestExport starts an export that somebody with a key asked for.
func (s *system) requestExport(t *testing.T, in workflows.ExportPeriodInput) starter.Started {
	t.Helper()
	in.Period, in.RequestedBy, in.RequestedByID = past().String(), requester.Name, requester.ID
	run, err := starter.StartExport(t.Context(), s.client, in)
	require.NoError(t, err)
	require.False(t, run.Joined)
	return run
}

// awaitStage waits until an export of a period is in a stage.
func (s *system) awaitStage(t *testing.T, period calendar.Period, stage billing.Stage) workflows.ExportPeriodProgress {
	t.Helper()
	var progress workflows.ExportPeriodProgress
	eventually(t, "the export is "+string(stage), func() bool {
		var err error
		progress, err = starter.ExportProgress(t.Context(), s.client, period)
		// Beginning to wait comes right after the stage.
		return err == nil && progress.Stage == stage && !progress.AwaitingSince.IsZero()
	})
	return progress
}

// decide tells the export what finance decided.
func (s *system) decide(t *testing.T, in workflows.DecideInput) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	_, err := starter.Decide(ctx, s.client, past(), uuid.Nil, in)
	return err
}

// approve approves an export as soon as it waits for that.
func (s *system) approve(t *testing.T, period calendar.Period) {
	t.Helper()
	s.awaitStage(t, period, billing.StageApproving)
	require.NoError(t, s.decide(t, approval()))
}

// requireRefusedDecision checks that a decision was refused before it was taken.
func requireRefusedDecision(t *testing.T, err error, kind, says string) {
	t.Helper()
	var refused *temporal.ApplicationError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, kind, refused.Type())
	require.ErrorContains(t, err, says)
}

// actions are those of the audit trail.
func actions(decisions []billing.ExportDecision) (out []billing.Action) {
	for _, d := range decisions {
		out = append(out, d.Action)
	}
	return out
}

// The whole close: variances are reviewed, the requester may not approve, somebody else does.
func TestServerExportIsReviewedAndApproved(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.store.variances = 2
	run := s.requestExport(t, workflows.ExportPeriodInput{Documents: documents.Options{Compress: true}})
	waiting := s.awaitStage(t, past(), billing.StageReviewing)
	require.EqualValues(t, 2, waiting.Variances)
	require.Equal(t, "reviewing", s.stage(t, run))
	require.Contains(t, s.details(t, run), "waits since")
	requireRefusedDecision(t, s.decide(t, approval()), workflows.TypeNotReviewed, "2 variances")
	require.NoError(t, s.decide(t, workflows.DecideInput{Action: billing.ActionReviewed, Actor: requester, Note: "a new customer"}))
	s.awaitStage(t, past(), billing.StageApproving)
	requireRefusedDecision(t, s.decide(t, workflows.DecideInput{Action: billing.ActionApproved, Actor: requester}), workflows.TypeSelfApproval, "somebody else")
	require.Empty(t, s.store.allIssued())
	require.NoError(t, s.decide(t, approval()))

	ended, err := result[workflows.ExportPeriodResult](t, s, run)
	require.NoError(t, err)
	require.Equal(t, billing.StageClosed, ended.Export.Stage)
	require.Equal(t, []uuid.UUID{ended.Export.ID}, s.store.allIssued())
	manifest := s.verify(t, ended.Export.Folder)
	require.Len(t, manifest.Files, 5)
	require.Len(t, manifest.Money, 1)
	decided := s.store.decided()
	require.Equal(t, []billing.Action{billing.ActionReviewed, billing.ActionApproved}, actions(decided))
	require.Equal(t, approver, decided[1].Actor)
	require.ErrorIs(t, s.decide(t, approval()), starter.ErrNotRunning)
	s.keep(t, "export-reviewed-and-approved", run)
}

// A decision that is sent again, as its answer was lost, has the first one's answer, also once the run
// has ended, and is in the trail once.
func TestServerADecisionIsMadeOnce(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	run := s.requestExport(t, workflows.ExportPeriodInput{})
	s.awaitStage(t, past(), billing.StageApproving)
	id := uuid.Must(uuid.NewV7())
	decide := func() (workflows.DecideResult, error) {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		return starter.Decide(ctx, s.client, past(), id, approval())
	}
	first, err := decide()
	require.NoError(t, err)
	again, err := decide()
	require.NoError(t, err)
	require.Equal(t, first, again)
	_, err = result[workflows.ExportPeriodResult](t, s, run)
	require.NoError(t, err)
	again, err = decide()
	require.NoError(t, err)
	require.Equal(t, first, again)
	id = uuid.Must(uuid.NewV7())
	_, err = decide()
	require.ErrorIs(t, err, starter.ErrNotRunning)
	require.Len(t, s.store.decided(), 1)
}

// A decision on a run that has ended is sent again when another run of the month is open: it is
// refused, and that one goes on.
func TestServerADecisionIsOfOneRun(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	id := uuid.Must(uuid.NewV7())
	reject := func() error {
		_, err := starter.Decide(t.Context(), s.client, past(), id,
			workflows.DecideInput{Action: billing.ActionRejected, Actor: approver, Note: "prices are wrong"})
		return err
	}
	run := s.requestExport(t, workflows.ExportPeriodInput{})
	s.awaitStage(t, past(), billing.StageApproving)
	require.NoError(t, reject())
	_, err := result[workflows.ExportPeriodResult](t, s, run)
	require.NoError(t, err)

	next := s.requestExport(t, workflows.ExportPeriodInput{})
	s.awaitStage(t, past(), billing.StageApproving)
	requireRefusedDecision(t, reject(), activities.TypeDecidedBefore, "on another export")
	require.NoError(t, s.decide(t, approval()))
	ended, err := result[workflows.ExportPeriodResult](t, s, next)
	require.NoError(t, err)
	require.Equal(t, billing.StageClosed, ended.Export.Stage)
}

func TestServerExportIsRejected(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	run := s.requestExport(t, workflows.ExportPeriodInput{})
	s.awaitStage(t, past(), billing.StageApproving)
	require.NoError(t, s.decide(t, workflows.DecideInput{Action: billing.ActionRejected, Actor: approver, Note: "prices are wrong"}))
	ended, err := result[workflows.ExportPeriodResult](t, s, run)
	require.NoError(t, err, "a rejection is a result")
	require.Equal(t, billing.StageRejected, ended.Export.Stage)
	require.Equal(t, "rejected by controlling: prices are wrong", ended.Export.Error)
	kept := s.store.allExports()
	require.Len(t, kept, 1)
	require.Equal(t, billing.StageRejected, kept[0].Stage)
	require.Empty(t, s.store.allIssued())
	require.Equal(t, "rejected", s.stage(t, run))
	s.keep(t, "export-rejected", run)
}

// Canceled by a decision while days are rolled up, the run ends as canceled, and its record says by whom.
func TestServerExportIsCanceledByADecision(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.store.toRollUp = []calendar.Day{past().LastDay()}
	reached, let := s.store.blockOn("RollUpDay")
	defer let()
	run := s.requestExport(t, workflows.ExportPeriodInput{})
	require1(t, reached, "the export rolls up")
	require.NoError(t, s.decide(t, workflows.DecideInput{Action: billing.ActionCanceled, Actor: requester, Note: "usage is missing"}))
	_, err := result[workflows.ExportPeriodResult](t, s, run)
	var canceled *temporal.CanceledError
	require.ErrorAs(t, err, &canceled)
	kept := s.store.allExports()
	require.Equal(t, billing.StageCanceled, kept[0].Stage)
	require.Contains(t, kept[0].Error, "by "+requester.Name+": usage is missing")
	require.Equal(t, []billing.Action{billing.ActionCanceled}, actions(s.store.decided()))
	s.keep(t, "export-canceled-by-a-decision", run)
}

// A close that waits names the instance, and goes on without it by the decision of somebody else.
func TestServerExportIsContinued(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.store.toRollUp = []calendar.Day{past().FirstDay()}
	held := meter.Instance{
		ID: uuid.Must(uuid.NewV7()), Host: "host-7", Status: meter.InstanceLive, SeenAt: time.Now().Add(time.Hour), Watermark: past().End().Add(-time.Microsecond),
		Open: meter.OpenUsage{Count: 1, Since: past().End().Add(-time.Minute), Organization: s.store.usage[0].Organization, Meter: "evaluations"},
	}
	s.store.put(held)
	run := s.requestExport(t, workflows.ExportPeriodInput{})
	goOn := workflows.DecideInput{Action: billing.ActionContinued, Actor: approver, Note: "the upload hangs"}
	eventually(t, "the run says whom it waits for", func() bool {
		p, err := starter.ExportProgress(t.Context(), s.client, past())
		return err == nil && len(p.Waiting) == 1 && p.Waiting[0].Instance == held.ID
	})
	require.Contains(t, s.details(t, run), "of 1 requests under way the oldest is of organization `"+held.Open.Organization.String())
	bySelf := goOn
	bySelf.Actor = requester
	requireRefusedDecision(t, s.decide(t, bySelf), workflows.TypeSelfApproval, "somebody else")
	require.NoError(t, s.decide(t, goOn))
	requireRefusedDecision(t, s.decide(t, goOn), workflows.TypeNotAwaiting, "waits for no instance")
	s.approve(t, past())
	ended, err := result[workflows.ExportPeriodResult](t, s, run)
	require.NoError(t, err)
	require.Equal(t, billing.StageClosed, ended.Export.Stage)
	require.Equal(t, 1, ended.Export.RolledUp, "days that it has flushed are rolled up")
	manifest := s.verify(t, ended.Export.Folder)
	require.Len(t, manifest.Continued, 1)
	require.Equal(t, held.ID, manifest.Continued[0].Without[0].Instance)
	s.keep(t, "export-continued", run)
}

// What is parked is rated again once its cause is gone, and the files hold it.
func TestServerExportRetriesWhatIsParked(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	cursed := s.store.usage[2].Organization
	s.store.curse(cursed, true)
	run := s.requestExport(t, workflows.ExportPeriodInput{})
	waiting := s.awaitStage(t, past(), billing.StageApproving)
	require.EqualValues(t, 1, waiting.Parked)
	require.EqualValues(t, 1, waiting.Statements)
	requireRefusedDecision(t, s.decide(t, approval()), workflows.TypeParked, "1 organizations could not be rated")
	require.NoError(t, s.decide(t, workflows.DecideInput{Action: billing.ActionRetried, Actor: requester}))
	eventually(t, "the retry is over", func() bool {
		return s.decide(t, workflows.DecideInput{Action: billing.ActionRetried, Actor: requester}) == nil
	})
	s.store.curse(cursed, false)
	eventually(t, "what was parked is rated", func() bool {
		_ = s.decide(t, workflows.DecideInput{Action: billing.ActionRetried, Actor: requester})
		progress, err := starter.ExportProgress(t.Context(), s.client, past())
		return err == nil && progress.Parked == 0
	})
	eventually(t, "the export is approved", func() bool { return s.decide(t, approval()) == nil })
	ended, err := result[workflows.ExportPeriodResult](t, s, run)
	require.NoError(t, err)
	require.EqualValues(t, 2, ended.Export.Statements)
	require.Zero(t, ended.Export.Parked)
	manifest := s.verify(t, ended.Export.Folder)
	require.EqualValues(t, 2, manifest.Money[0].Statements)
	s.keep(t, "export-retried", run)
}

// A closed period is opened again: the next revision takes the place of the one before.
func TestServerExportReopens(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, err := result[workflows.ExportPeriodResult](t, s, s.requestExport(t, workflows.ExportPeriodInput{Reopen: true, Reason: "too early"}))
	require.ErrorContains(t, err, billing.ErrNotClosed.Error())
	first := s.requestExport(t, workflows.ExportPeriodInput{})
	s.approve(t, past())
	_, err = result[workflows.ExportPeriodResult](t, s, first)
	require.NoError(t, err)

	second := s.requestExport(t, workflows.ExportPeriodInput{Reopen: true, Reason: "a late batch"})
	s.approve(t, past())
	ended, err := result[workflows.ExportPeriodResult](t, s, second)
	require.NoError(t, err)
	require.Equal(t, 2, ended.Export.Revision)
	require.Equal(t, billing.StageClosed, ended.Export.Stage)
	kept := s.store.allExports()
	require.Len(t, kept, 2)
	require.Equal(t, []billing.Stage{billing.StageSuperseded, billing.StageClosed}, []billing.Stage{kept[0].Stage, kept[1].Stage})
	require.Equal(t, "a late batch", kept[1].Reason)
	s.keep(t, "export-reopened", second)
}

func TestServerExportIsCanceledWhileItAwaitsApproval(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	run := s.requestExport(t, workflows.ExportPeriodInput{})
	s.awaitStage(t, past(), billing.StageApproving)
	require.NoError(t, s.client.CancelWorkflow(t.Context(), workflows.ExportPeriodID(past()), ""))
	_, err := result[workflows.ExportPeriodResult](t, s, run)
	var canceled *temporal.CanceledError
	require.ErrorAs(t, err, &canceled)
	require.Empty(t, s.store.allIssued())
	require.Equal(t, "canceled in stage awaiting_approval", s.store.allExports()[0].Error)
	s.keep(t, "export-canceled-awaiting-approval", run)
}

// Once statements are being issued, a cancel comes too late.
func TestServerExportIsCanceledTooLate(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	reached, let := s.store.blockOn("IssueExport")
	run := s.requestExport(t, workflows.ExportPeriodInput{})
	s.approve(t, past())
	require1(t, reached, "the export issues")
	require.NoError(t, s.client.CancelWorkflow(t.Context(), workflows.ExportPeriodID(past()), ""))
	let()
	ended, err := result[workflows.ExportPeriodResult](t, s, run)
	require.NoError(t, err)
	require.Equal(t, billing.StageClosed, ended.Export.Stage)
	require.Len(t, s.store.allIssued(), 1)
	s.keep(t, "export-canceled-too-late", run)
}

// Where one file fails, the run doesn't end before the other's writer has let go.
func TestServerExportLeavesNoWriterBehind(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	writing, letGo := make(chan struct{}), make(chan struct{})
	s.store.hook = func(ctx context.Context, what string) error {
		switch what {
		case "ExportTotals":
			close(writing)
			<-ctx.Done()
			time.Sleep(200 * time.Millisecond)
			close(letGo)
			return ctx.Err()
		case "Statements":
			<-writing
			return permanentError("the statements are cursed")
		}
		return nil
	}
	run := s.requestExport(t, workflows.ExportPeriodInput{})
	_, err := result[workflows.ExportPeriodResult](t, s, run)
	require.ErrorContains(t, err, "the statements are cursed")
	select {
	case <-letGo:
	default:
		require.Fail(t, "the run has ended, and usage is still being written")
	}
	files, err := s.blobs.List(t.Context(), "exports/")
	require.NoError(t, err)
	require.Empty(t, files)
	s.keep(t, "export-failed-in-writing", run)
}

// Reminders are timers, and events for others: the run waits on.
func TestServerExportReminds(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	id := workflows.ExportPeriodID(past())
	run, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: workflows.TaskQueue}, workflows.ExportPeriod, workflows.ExportPeriodInput{
		Period: past().String(), RequestedBy: requester.Name, RemindAfter: activities.Duration(200 * time.Millisecond),
	})
	require.NoError(t, err)
	eventually(t, "it reminds", func() bool {
		progress, err := starter.ExportProgress(t.Context(), s.client, past())
		return err == nil && progress.Reminders >= 2 && len(s.store.reminded()) >= 2
	})
	s.approve(t, past())
	started := starter.Started{WorkflowID: id, RunID: run.GetRunID()}
	ended, err := result[workflows.ExportPeriodResult](t, s, started)
	require.NoError(t, err)
	require.GreaterOrEqual(t, ended.Export.Reminders, 2)
	s.keep(t, "export-reminded", started)
}
