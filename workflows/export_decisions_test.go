package workflows_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/workflows"
)

// decisionModel is what the audit trail may say: decisions one after the other, each by what those
// before it left, and none after one that ends the run.
type decisionModel struct {
	stage             billing.Stage
	parked, variances int64
	over              billing.Action
}

func newDecisionModel(parked, variances int64) *decisionModel {
	m := &decisionModel{parked: parked, variances: variances}
	m.compared()
	return m
}

func (m *decisionModel) compared() {
	m.stage = billing.StageApproving
	if m.variances > 0 {
		m.stage = billing.StageReviewing
	}
}

// take reports whether a decision may be, and follows it.
func (m *decisionModel) take(action billing.Action, actor billing.Actor, withoutParked bool) bool {
	if m.over != "" {
		return false
	}
	switch action {
	case billing.ActionCanceled, billing.ActionRejected:
		m.over = action
	case billing.ActionApproved:
		if m.stage != billing.StageApproving || actor == requester || m.parked > 0 && !withoutParked {
			return false
		}
		m.over = action
	case billing.ActionReviewed:
		if m.stage != billing.StageReviewing {
			return false
		}
		m.stage = billing.StageApproving
	case billing.ActionRetried:
		if m.parked == 0 {
			return false
		}
		m.compared()
	default:
		return false
	}
	return true
}

// trail is what was recorded, in its order.
type trail struct {
	decisions []billing.ExportDecision
	issued    int
	ended     billing.Stage
}

// recordingAll makes a run whose export waits for a decision after a few minutes, and in which any
// decision may follow. Each takes its time to be recorded, or is not.
func recordingAll(t *testing.T, parked, variances int64, took []time.Duration, fails []bool) (environment, *trail) {
	t.Helper()
	env := newEnvironment(t, "export/2026-10")
	env.SetStartTime(october.End())
	seen, n := &trail{}, 0
	env.OnActivity(onExport.RecordDecision, mock.Anything, mock.Anything).Maybe().Return(
		func(_ context.Context, in activities.RecordDecisionInput) error {
			if n++; fails[n%len(fails)] {
				return permanently("cursed")
			}
			seen.decisions = append(seen.decisions, in.Decision)
			return nil
		}).AfterFn(func() time.Duration { return took[n%len(took)] })
	b := begun(false)
	always := func(activity, result any) *testsuite.MockCallWrapper {
		return env.OnActivity(activity, mock.Anything, mock.Anything).Maybe().Return(result, nil)
	}
	always(onExport.BeginExport, b)
	always(onFleet.AwaitWatermarks, activities.AwaitWatermarksResult{Live: 2}).After(time.Minute)
	always(onRollup.DaysToRollUp, activities.DaysToRollUpResult{})
	always(onExport.FreezeUsage, activities.FreezeUsageResult{})
	always(onExport.PlanRating, activities.PlanRatingResult{}).After(time.Minute)
	always(onExport.RetryParked, activities.RateOrganizationsResult{}).After(time.Minute)
	always(onExport.WriteStatements, activities.WriteStatementsResult{})
	always(onExport.WriteUsageFile, activities.WriteUsageFileResult{})
	always(onExport.WriteManifest, activities.WriteManifestResult{Counts: billing.RatingCounts{Parked: parked}}).After(time.Minute)
	always(onExport.ReviewVariances, activities.ReviewVariancesResult{Counts: billing.RatingCounts{Variances: variances}})
	env.OnActivity(onExport.SetExportStage, mock.Anything, mock.Anything).Maybe().Return(nil)
	env.OnActivity(onExport.IssueStatements, mock.Anything, mock.Anything).Maybe().Return(
		func(context.Context, activities.IssueStatementsInput) error { seen.issued++; return nil }).After(time.Minute)
	env.OnActivity(onSinks.ListSinks, mock.Anything).Maybe().Return(activities.ListSinksResult{}, nil)
	env.OnActivity(onExport.CompleteExport, mock.Anything, mock.Anything).Maybe().Return(
		func(context.Context, activities.CompleteExportInput) error {
			seen.ended = billing.StageClosed
			return nil
		})
	env.OnActivity(onExport.FailExport, mock.Anything, mock.Anything).Maybe().Return(
		func(_ context.Context, in activities.FailExportInput) error { seen.ended = in.Stage; return nil })
	return env, seen
}

// TestDecisionsAreOneOrderedStateMachine sends decisions at any times, close together too, and holds
// that the audit trail is one that the model allows, that what was answered is in it and what was
// refused isn't, and that the run ends as it says: what was canceled is never issued.
func TestDecisionsAreOneOrderedStateMachine(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		parked, variances := rapid.Int64Range(0, 1).Draw(rt, "parked"), rapid.Int64Range(0, 1).Draw(rt, "variances")
		seconds := rapid.Custom(func(rt *rapid.T) time.Duration {
			return time.Duration(rapid.IntRange(0, 90).Draw(rt, "seconds")) * time.Second
		})
		took := rapid.SliceOfN(seconds, 1, 4).Draw(rt, "took")
		fails := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) bool { return rapid.IntRange(0, 9).Draw(rt, "fails") == 0 }), 1, 4).Draw(rt, "fails")
		env, seen := recordingAll(t, parked, variances, took, fails)
		type sent struct {
			in  workflows.DecideInput
			out *asked
		}
		var all []sent
		at := time.Duration(0)
		for range rapid.IntRange(1, 7).Draw(rt, "decisions") {
			at += rapid.SampledFrom([]time.Duration{0, time.Second, 20 * time.Second, time.Minute, 2 * time.Hour}).Draw(rt, "later")
			in := workflows.DecideInput{
				Action: rapid.SampledFrom([]billing.Action{
					billing.ActionReviewed, billing.ActionApproved, billing.ActionApproved, billing.ActionRejected,
					billing.ActionRetried, billing.ActionCanceled, billing.ActionCanceled, billing.ActionContinued,
				}).Draw(rt, "action"),
				Actor: rapid.SampledFrom([]billing.Actor{requester, approver}).Draw(rt, "actor"),
				Note:  "n", WithoutParked: rapid.Bool().Draw(rt, "without parked"),
			}
			all = append(all, sent{in, env.decide(at, in)})
		}
		env.RegisterDelayedCallback(env.CancelWorkflow, at+24*time.Hour)
		_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())

		model := newDecisionModel(parked, variances)
		for i, d := range seen.decisions {
			withoutParked := slices.ContainsFunc(all, func(s sent) bool {
				return s.in.Action == billing.ActionApproved && s.in.WithoutParked && s.out.done && s.out.err == nil
			})
			if !model.take(d.Action, d.Actor, withoutParked) {
				rt.Fatalf("decision %d, %s by %s, may not be after those before it: %v", i, d.Action, d.Actor.Name, seen.decisions)
			}
		}
		answered := 0
		for _, s := range all {
			if s.out.done && s.out.err == nil {
				answered++
			}
		}
		if answered != len(seen.decisions) {
			rt.Fatalf("%d decisions were answered, and %d are recorded: %v", answered, len(seen.decisions), seen.decisions)
		}
		requireEnd(rt, model.over, err, seen)
	})
}

// requireEnd compares how a run has ended with the decision that ended it.
func requireEnd(rt *rapid.T, by billing.Action, err error, seen *trail) {
	var canceled *temporal.CanceledError
	switch by {
	case billing.ActionApproved:
		require.NoError(rt, err)
		require.Equal(rt, billing.StageClosed, seen.ended)
		require.Equal(rt, 1, seen.issued)
		return
	case billing.ActionRejected:
		require.Equal(rt, billing.StageRejected, seen.ended)
	default: // by a decision, or, where nobody made one, in Temporal
		require.ErrorAs(rt, err, &canceled)
		require.Equal(rt, billing.StageCanceled, seen.ended)
	}
	require.Zero(rt, seen.issued)
}

// TestACancelThatWasAnsweredIsNeverIssued holds it for the two decisions that meet most often.
func TestACancelThatWasAnsweredIsNeverIssued(t *testing.T) {
	t.Parallel()
	cancel := workflows.DecideInput{Action: billing.ActionCanceled, Actor: approver, Note: "stop"}
	env := waiting(t, 0, 0)
	env.recording(billing.ActionApproved)
	env.answer("", env.untilClosed())
	env.decide(time.Hour, approval())
	late := env.decide(time.Hour+30*time.Second, cancel)
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, requestedInput())
	require.NoError(t, err)
	require.Equal(t, billing.StageClosed, out.Export.Stage)
	requireRefused(t, late.rejected, workflows.TypeNotAwaiting, "was approved by controlling a moment ago")
}

// A provisional run that is being canceled doesn't end as done.
func TestAProvisionalExportWaitsForTheCancelOfIt(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	env.expect(true, "CompleteExport")
	env.recording(billing.ActionCanceled)
	env.failing(billing.StageCanceled, "canceled in stage writing by controlling: stop")
	canceled := env.decide(235*time.Second, workflows.DecideInput{Action: billing.ActionCanceled, Actor: approver, Note: "stop"})
	_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	var ended *temporal.CanceledError
	require.ErrorAs(t, err, &ended)
	require.True(t, canceled.done)
	require.NoError(t, canceled.err)
}

// Who decides before the run is recorded has an answer that says so.
func TestADecisionBeforeTheRunIsRecordedIsRefused(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	env.OnActivity(onExport.BeginExport, mock.Anything, mock.Anything).
		Return(activities.BegunExport{}, permanently("cursed")).After(time.Minute).Once()
	var early []*asked
	for _, action := range []billing.Action{billing.ActionApproved, billing.ActionCanceled, billing.ActionContinued} {
		early = append(early, env.decide(time.Second, workflows.DecideInput{Action: action, Actor: billing.Actor{ID: uuid.Max, Name: "x"}, Note: "n"}))
	}
	_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	requireRefused(t, err, activities.TypePermanent, "cursed")
	for _, one := range early {
		requireRefused(t, one.rejected, workflows.TypeNotAwaiting, "is not recorded yet")
	}
}
