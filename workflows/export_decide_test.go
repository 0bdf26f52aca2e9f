package workflows_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/workflows"
)

var (
	requester = billing.Actor{ID: uuid.UUID{15: 1}, Name: "finance"}
	approver  = billing.Actor{ID: uuid.UUID{15: 2}, Name: "controlling"}
)

func approval() workflows.DecideInput {
	return workflows.DecideInput{Action: billing.ActionApproved, Actor: approver}
}

// decide sends a decision after a delay.
func (e environment) decide(after time.Duration, in workflows.DecideInput) *asked {
	return e.ask(after, workflows.UpdateDecide, in)
}

// comparing answers ReviewVariances with a count.
func (e environment) comparing(variances int64) {
	e.OnActivity(onExport.ReviewVariances, mock.Anything, activities.ReviewVariancesInput{
		ID: uuid.Max, Threshold: billing.VarianceThreshold{Percent: 50, Least: "1"},
	}).Return(activities.ReviewVariancesResult{Counts: billing.RatingCounts{Variances: variances}}, nil).Once()
}

// recording expects that a decision is recorded once.
func (e environment) recording(action billing.Action) {
	e.OnActivity(onExport.RecordDecision, mock.Anything, mock.MatchedBy(func(in activities.RecordDecisionInput) bool {
		return in.Export == uuid.Max && in.ID != uuid.Nil && in.Decision.Action == action && in.Decision.Actor.Name != "" && !in.Decision.At.IsZero()
	})).Return(nil).After(time.Minute).Once()
}

// untilClosed are the steps after an approval.
func (e environment) untilClosed() script {
	return script{
		{"issuing", func() { e.stage(billing.StageIssuing) }},
		{"IssueStatements", func() {
			e.OnActivity(onExport.IssueStatements, mock.Anything, activities.IssueStatementsInput{ID: uuid.Max}).Return(nil).After(time.Minute).Once()
		}},
		{"delivering", func() { e.stage(billing.StageDelivering) }},
		{"ListSinks", func() { e.sinking() }},
		{"CompleteExport", e.completing},
	}
}

// waiting makes an environment whose final export waits for a decision after a few minutes.
func waiting(t *testing.T, parked, variances int64) environment {
	t.Helper()
	env := newEnvironment(t, "export/2026-10")
	env.SetStartTime(october.End())
	b := begun(false)
	steps := append(env.untilFrozen(b), env.untilWritten(b, parked)...)
	steps = steps.with("BeginExport", func() { env.OnActivity(onExport.BeginExport, mock.Anything, mock.Anything).Return(b, nil).Once() })
	env.answer("", steps)
	env.comparing(variances)
	if variances > 0 {
		env.stage(billing.StageReviewing)
	} else {
		env.stage(billing.StageApproving)
	}
	return env
}

func requestedInput() workflows.ExportPeriodInput {
	in := exportInput()
	in.RequestedByID = requester.ID
	return in
}

func TestExportPeriodIsApproved(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]time.Time{"at the period's end": october.End(), "later": october.End().AddDate(0, 3, 0)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := waiting(t, 0, 0)
			env.SetStartTime(at)
			env.recording(billing.ActionApproved)
			env.answer("", env.untilClosed())
			env.RegisterDelayedCallback(func() {
				p := progress[workflows.ExportPeriodProgress](t, env)
				require.Equal(t, billing.StageApproving, p.Stage)
				require.False(t, p.AwaitingSince.IsZero())
				require.Zero(t, p.Reminders)
			}, 30*time.Minute)
			approved := env.decide(time.Hour, approval())
			out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
			require.NoError(t, err)
			require.NoError(t, approved.rejected)
			require.NoError(t, approved.err)
			require.True(t, approved.done)
			require.Equal(t, workflows.DecideResult{Stage: billing.StageApproving}, approved.decided)
			require.Equal(t, billing.StageClosed, out.Export.Stage)
			require.Equal(t, "controlling", out.Export.ApprovedBy)
			require.Equal(t, october.End(), out.Export.Cut)
			require.False(t, out.Export.Provisional)
			require.Equal(t, "exports/2026-10/x/manifest.json", out.Manifest)
		})
	}
}

// What breaks a rule is refused, and the export waits on.
func TestExportPeriodRefusesDecisions(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		parked, variances int64
		in                workflows.DecideInput
		kind, says        string
	}{
		"self approval":   {0, 0, workflows.DecideInput{Action: "approved", Actor: requester}, workflows.TypeSelfApproval, "finance requested the export of 2026-10: somebody else"},
		"nobody's key":    {0, 0, workflows.DecideInput{Action: "approved", Actor: billing.Actor{Name: "somebody"}}, workflows.TypeInvalidInput, "actor.id is missing"},
		"nobody":          {0, 0, workflows.DecideInput{Action: "approved"}, workflows.TypeInvalidInput, "actor is missing"},
		"no action":       {0, 0, workflows.DecideInput{Actor: approver}, workflows.TypeInvalidInput, `action "" must be reviewed, approved, rejected, retried, canceled or continued`},
		"another action":  {0, 0, workflows.DecideInput{Action: "reopened", Actor: approver}, workflows.TypeInvalidInput, `action "reopened" must be`},
		"reject silently": {0, 0, workflows.DecideInput{Action: "rejected", Actor: approver, Note: " \t"}, workflows.TypeInvalidInput, "note is missing: say why"},
		"long note":       {0, 0, workflows.DecideInput{Action: "rejected", Actor: approver, Note: strings.Repeat("é", 1001)}, workflows.TypeInvalidInput, "note has 1001 characters"},
		"nothing parked":  {0, 0, workflows.DecideInput{Action: "retried", Actor: approver}, workflows.TypeNotAwaiting, "has nothing parked"},
		"nothing varies":  {0, 0, workflows.DecideInput{Action: "reviewed", Actor: approver, Note: "x"}, workflows.TypeNotAwaiting, "no variances"},
		"parked":          {1, 0, workflows.DecideInput{Action: "approved", Actor: approver}, workflows.TypeParked, "1 organizations could not be rated"},
		"not reviewed":    {0, 3, workflows.DecideInput{Action: "approved", Actor: approver}, workflows.TypeNotReviewed, "has 3 variances that nobody has reviewed"},
		"neither":         {1, 3, workflows.DecideInput{Action: "approved", Actor: approver, WithoutParked: true}, workflows.TypeNotReviewed, "3 variances"},
		"review silently": {0, 3, workflows.DecideInput{Action: "reviewed", Actor: approver}, workflows.TypeInvalidInput, "note is missing: say what explains"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := waiting(t, tc.parked, tc.variances)
			refused := env.decide(time.Hour, tc.in)
			stage := billing.StageApproving
			if tc.variances > 0 {
				stage = billing.StageReviewing
			}
			env.RegisterDelayedCallback(func() {
				require.Equal(t, stage, progress[workflows.ExportPeriodProgress](t, env).Stage)
				env.CancelWorkflow()
			}, 2*time.Hour)
			env.failing(billing.StageCanceled, "canceled in stage "+string(stage))
			_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
			var canceled *temporal.CanceledError
			require.ErrorAs(t, err, &canceled)
			requireRefused(t, refused.rejected, tc.kind, tc.says)
		})
	}
}

func TestExportPeriodAllowsSelfApproval(t *testing.T) {
	t.Parallel()
	for _, actor := range []billing.Actor{requester, {Name: "temporal-ui"}} {
		env := waiting(t, 0, 0)
		env.recording(billing.ActionApproved)
		env.answer("", env.untilClosed())
		env.decide(time.Hour, workflows.DecideInput{Action: billing.ActionApproved, Actor: actor})
		in := requestedInput()
		in.AllowSelfApproval = true
		out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, in)
		require.NoError(t, err)
		require.Equal(t, actor.Name, out.Export.ApprovedBy)
	}
}

func TestExportPeriodIsReviewedThenApproved(t *testing.T) {
	t.Parallel()
	env := waiting(t, 0, 3)
	env.recording(billing.ActionReviewed)
	env.stage(billing.StageApproving)
	env.recording(billing.ActionApproved)
	env.answer("", env.untilClosed())
	note := strings.Repeat("é", 1000) // characters, not bytes
	reviewed := env.decide(time.Hour, workflows.DecideInput{Action: billing.ActionReviewed, Actor: requester, Note: note})
	env.decide(2*time.Hour, approval())
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
	require.NoError(t, err)
	require.NoError(t, reviewed.rejected)
	require.True(t, reviewed.done)
	require.True(t, out.Export.Reviewed)
	require.EqualValues(t, 3, out.Export.Variances)
	require.Equal(t, billing.StageClosed, out.Export.Stage)
}

// retrying expects that what is parked is rated again, and all files are written again.
func (e environment) retrying(parked, variances int64) {
	b := begun(false)
	e.recording(billing.ActionRetried)
	e.OnActivity(onExport.RetryParked, mock.Anything, activities.RetryParkedInput{ID: uuid.Max}).Return(activities.RateOrganizationsResult{Rated: 1}, nil).Once()
	e.OnActivity(onExport.WriteStatements, mock.Anything, mock.Anything).
		Return(activities.WriteStatementsResult{Files: []billing.File{aStatementFile}}, nil).Once()
	e.usageFile(b).Once()
	e.manifest(b, parked).Once()
	e.comparing(variances)
}

// A retry writes all files again, and what differs then is to be reviewed.
func TestExportPeriodRetriesWhatIsParked(t *testing.T) {
	t.Parallel()
	env := waiting(t, 1, 0)
	env.retrying(0, 1)
	env.stage(billing.StageReviewing)
	env.recording(billing.ActionReviewed)
	env.stage(billing.StageApproving)
	env.recording(billing.ActionApproved)
	env.answer("", env.untilClosed())
	env.decide(time.Hour, workflows.DecideInput{Action: billing.ActionRetried, Actor: requester})
	env.RegisterDelayedCallback(func() {
		p := progress[workflows.ExportPeriodProgress](t, env)
		require.Equal(t, billing.StageReviewing, p.Stage)
		require.Zero(t, p.Parked)
		require.EqualValues(t, 2, p.Statements)
	}, 90*time.Minute)
	env.decide(2*time.Hour, workflows.DecideInput{Action: billing.ActionReviewed, Actor: requester, Note: "they moved in"})
	env.decide(3*time.Hour, approval())
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
	require.NoError(t, err)
	require.Equal(t, billing.StageClosed, out.Export.Stage)
	require.Len(t, out.Export.Files, 2)
}

func TestExportPeriodIsApprovedWithoutWhatIsParked(t *testing.T) {
	t.Parallel()
	env := waiting(t, 1, 0)
	env.retrying(1, 0)
	env.stage(billing.StageApproving)
	env.recording(billing.ActionApproved)
	env.answer("", env.untilClosed())
	env.decide(time.Hour, workflows.DecideInput{Action: billing.ActionRetried, Actor: requester})
	still := env.decide(2*time.Hour, approval())
	without := approval()
	without.WithoutParked = true
	env.decide(3*time.Hour, without)
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
	require.NoError(t, err)
	requireRefused(t, still.rejected, workflows.TypeParked, "retry them, or approve without them")
	require.EqualValues(t, 1, out.Export.Parked)
	require.Equal(t, billing.StageClosed, out.Export.Stage)
}

func TestExportPeriodIsRejected(t *testing.T) {
	t.Parallel()
	for stage, variances := range map[billing.Stage]int64{billing.StageApproving: 0, billing.StageReviewing: 2} {
		t.Run(string(stage), func(t *testing.T) {
			t.Parallel()
			env := waiting(t, 0, variances)
			env.recording(billing.ActionRejected)
			env.failing(billing.StageRejected, "rejected by controlling: prices are wrong")
			env.decide(time.Hour, workflows.DecideInput{Action: billing.ActionRejected, Actor: approver, Note: "prices are wrong"})
			out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
			require.NoError(t, err, "a result, and nothing that alerts")
			require.Equal(t, billing.StageRejected, out.Export.Stage)
			require.Equal(t, "rejected by controlling: prices are wrong", out.Export.Error)
		})
	}
}

// Reminders come again and again, and the run waits on.
func TestExportPeriodReminds(t *testing.T) {
	t.Parallel()
	env := waiting(t, 0, 0)
	env.recording(billing.ActionApproved)
	env.answer("", env.untilClosed())
	env.RegisterDelayedCallback(func() {
		p := progress[workflows.ExportPeriodProgress](t, env)
		require.Equal(t, billing.StageApproving, p.Stage)
		require.Equal(t, 3, p.Reminders)
	}, 7*time.Hour)
	env.decide(9*time.Hour, approval())
	for n := 1; n <= 4; n++ {
		env.reminding(n).Return(nil).Once()
	}
	in := requestedInput()
	in.RemindAfter = activities.Duration(2 * time.Hour)
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, in)
	require.NoError(t, err)
	require.Equal(t, 4, out.Export.Reminders)
}

// reminding expects a reminder of a run that waits for an approval.
func (e environment) reminding(number int) *testsuite.MockCallWrapper {
	return e.OnActivity(onExport.Remind, mock.Anything, mock.MatchedBy(func(in activities.RemindInput) bool {
		return in.Export != uuid.Nil && in.Stage == billing.StageApproving && !in.Since.IsZero() && in.Number == number
	}))
}

// A reminder that can't be made holds up nothing: not the decision, and not the reminders after it.
func TestExportPeriodGoesOnWithoutReminders(t *testing.T) {
	t.Parallel()
	env := waiting(t, 0, 0)
	env.recording(billing.ActionApproved)
	env.answer("", env.untilClosed())
	env.reminding(1).Return(permanently("no events")).Once()
	env.reminding(2).Return(errAway)
	env.reminding(3).Return(errAway)
	env.decide(7*time.Hour, approval())
	in := requestedInput()
	in.RemindAfter = activities.Duration(2 * time.Hour)
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, in)
	require.NoError(t, err)
	require.Equal(t, billing.StageClosed, out.Export.Stage)
	require.Equal(t, 3, out.Export.Reminders)
}

func TestExportPeriodRemindsOnceADay(t *testing.T) {
	t.Parallel()
	env := waiting(t, 0, 0)
	env.recording(billing.ActionApproved)
	env.answer("", env.untilClosed())
	env.decide(60*time.Hour, approval())
	env.reminding(1).Return(nil).Once()
	env.reminding(2).Return(nil).Once()
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
	require.NoError(t, err)
	require.Equal(t, 2, out.Export.Reminders)
}

// Of two decisions at once the first counts.
func TestExportPeriodTakesOneDecisionAtATime(t *testing.T) {
	t.Parallel()
	env := waiting(t, 0, 0)
	env.recording(billing.ActionApproved)
	env.answer("", env.untilClosed())
	first := env.decide(time.Hour, approval())
	second := env.decide(time.Hour+time.Second, workflows.DecideInput{Action: billing.ActionRejected, Actor: requester, Note: "no"})
	late := env.decide(time.Hour+90*time.Second, approval())
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
	require.NoError(t, err)
	require.NoError(t, first.rejected)
	requireRefused(t, second.rejected, workflows.TypeNotAwaiting, "was approved by controlling a moment ago")
	requireRefused(t, late.rejected, workflows.TypeNotAwaiting, "is issuing: it waits for no decision")
	require.Equal(t, billing.StageClosed, out.Export.Stage)
}

// A decision that could not be recorded is none: it is asked for again.
func TestExportPeriodForgetsADecisionThatCouldNotBeRecorded(t *testing.T) {
	t.Parallel()
	env := waiting(t, 0, 0)
	env.OnActivity(onExport.RecordDecision, mock.Anything, mock.Anything).Return(permanently("cursed")).Once()
	env.recording(billing.ActionApproved)
	env.answer("", env.untilClosed())
	first := env.decide(time.Hour, approval())
	env.decide(2*time.Hour, approval())
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
	require.NoError(t, err)
	require.ErrorContains(t, first.err, "cursed")
	require.Equal(t, billing.StageClosed, out.Export.Stage)
}
