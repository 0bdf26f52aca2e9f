package workflows_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/workflows"
)

// Canceled while a decision is being recorded, the run ends, and whoever decided has an answer.
func TestExportPeriodIsCanceledWhileADecisionIsRecorded(t *testing.T) {
	t.Parallel()
	env := waiting(t, 0, 0)
	env.recording(billing.ActionApproved)
	env.failing(billing.StageCanceled, "canceled in stage awaiting_approval")
	decided := env.decide(time.Hour, approval())
	env.RegisterDelayedCallback(env.CancelWorkflow, time.Hour+30*time.Second)
	_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
	var canceled *temporal.CanceledError
	require.ErrorAs(t, err, &canceled)
	require.True(t, decided.done)
}

// Once statements are being issued, a cancel comes too late.
func TestExportPeriodIsCanceledTooLate(t *testing.T) {
	t.Parallel()
	env := waiting(t, 0, 0)
	env.recording(billing.ActionApproved)
	env.answer("", env.untilClosed())
	env.decide(time.Hour, approval())
	env.RegisterDelayedCallback(env.CancelWorkflow, time.Hour+90*time.Second)
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
	require.NoError(t, err)
	require.Equal(t, billing.StageClosed, out.Export.Stage)
}

// What fails while statements are issued has failed, though a cancel had come.
func TestExportPeriodFailsToIssue(t *testing.T) {
	t.Parallel()
	for name, cancel := range map[string]bool{"by itself": false, "after a cancel": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := waiting(t, 0, 0)
			env.recording(billing.ActionApproved)
			env.answer("IssueStatements", env.untilClosed())
			stale := temporal.NewNonRetryableApplicationError("stale", activities.TypeCorrectionsStale, nil)
			env.OnActivity(onExport.IssueStatements, mock.Anything, mock.Anything).Return(stale).After(time.Minute).Once()
			env.failing(billing.StageFailed, "stale")
			env.decide(time.Hour, approval())
			if cancel {
				env.RegisterDelayedCallback(env.CancelWorkflow, time.Hour+90*time.Second)
			}
			_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
			requireRefused(t, err, activities.TypeCorrectionsStale, "stale")
			require.Equal(t, billing.StageFailed, progress[workflows.ExportPeriodProgress](t, env).Stage)
		})
	}
}

// A decision cancels a run in any stage, says by whom, and nothing else is decided after it.
func TestExportPeriodIsCanceledByADecision(t *testing.T) {
	t.Parallel()
	env := waiting(t, 0, 0)
	env.recording(billing.ActionCanceled)
	env.failing(billing.StageCanceled, "canceled in stage awaiting_approval by controlling: usage is missing")
	cancel := workflows.DecideInput{Action: billing.ActionCanceled, Actor: approver, Note: "usage is missing"}
	silent := env.decide(time.Hour, workflows.DecideInput{Action: billing.ActionCanceled, Actor: approver, Note: " "})
	decided := env.decide(2*time.Hour, cancel)
	late := env.decide(2*time.Hour+30*time.Second, approval())
	_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
	var canceled *temporal.CanceledError
	require.ErrorAs(t, err, &canceled)
	requireRefused(t, silent.rejected, workflows.TypeInvalidInput, "say why the export is canceled")
	require.NoError(t, decided.err)
	requireRefused(t, late.rejected, workflows.TypeNotAwaiting, "was canceled by controlling a moment ago")
	require.Equal(t, billing.StageCanceled, progress[workflows.ExportPeriodProgress](t, env).Stage)
}

// Once statements are being issued, a decision to cancel is refused.
func TestExportPeriodRefusesALateCancel(t *testing.T) {
	t.Parallel()
	env := waiting(t, 0, 0)
	env.recording(billing.ActionApproved)
	env.answer("", env.untilClosed())
	env.decide(time.Hour, approval())
	late := env.decide(time.Hour+90*time.Second, workflows.DecideInput{Action: billing.ActionCanceled, Actor: approver, Note: "wait"})
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
	require.NoError(t, err)
	requireRefused(t, late.rejected, workflows.TypeNotAwaiting, "too late to cancel")
	require.Equal(t, billing.StageClosed, out.Export.Stage)
}
