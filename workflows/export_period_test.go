package workflows_test

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/billing/documents"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/workflows"
)

func exportInput() workflows.ExportPeriodInput {
	return workflows.ExportPeriodInput{Period: "2026-10", RequestedBy: "finance"}
}

// cut is now as Postgres keeps it.
var cut = now.Truncate(time.Microsecond)

func begun(provisional bool) activities.BegunExport {
	out := activities.BegunExport{
		ID: uuid.Max, Period: october, Stage: billing.StageWaiting, Cut: october.End(), Folder: "exports/2026-10/x/",
	}
	if provisional {
		out.Cut, out.Provisional = cut, true
	}
	return out
}

var (
	aFile   = billing.File{Name: documents.UsageFile, Rows: 3}
	aTotals = []billing.ControlTotal{{Meter: "evaluations", Organizations: 2, Value: "1230"}}
)

// step is an activity, or a stage, that a test answers.
type step struct {
	name   string
	expect func()
}

// script is what a run does, in its order.
type script []step

func (s script) index(name string) int {
	i := slices.IndexFunc(s, func(one step) bool { return one.name == name })
	if i < 0 {
		panic("there is no step " + name)
	}
	return i
}

// from returns the steps from one of them on.
func (s script) from(name string) script { return s[s.index(name):] }

// with returns the steps, where one of them is answered in another way.
func (s script) with(name string, expect func()) script {
	out := slices.Clone(s)
	out[s.index(name)].expect = expect
	return out
}

// answer answers steps up to, and without, one of them.
func (e environment) answer(until string, steps script) {
	for _, step := range steps {
		if step.name == until {
			return
		}
		step.expect()
	}
}

// matching compares what begins an export, and wants with it what was requested, whatever it says.
func matching(want activities.BeginExportInput) any {
	return mock.MatchedBy(func(in activities.BeginExportInput) bool {
		var request workflows.ExportPeriodInput
		if json.Unmarshal(in.Request, &request) != nil || request.Period != in.Period.String() {
			return false
		}
		in.Request = nil
		return reflect.DeepEqual(in, want)
	})
}

// untilFrozen are the steps before usage is frozen.
func (e environment) untilFrozen(b activities.BegunExport) script {
	return script{
		{"BeginExport", func() {
			e.OnActivity(onExport.BeginExport, mock.Anything, matching(activities.BeginExportInput{
				Period: october, Cut: b.Cut, Provisional: b.Provisional, RequestedBy: "finance", RequestedAt: e.Now().UTC().Truncate(time.Microsecond),
			})).Return(b, nil).Once()
		}},
		{"AwaitWatermarks", func() {
			e.OnActivity(onFleet.AwaitWatermarks, mock.Anything, activities.AwaitWatermarksInput{Cut: b.Cut, Patience: activities.Duration(5 * time.Second)}).
				Return(activities.AwaitWatermarksResult{Live: 2}, nil).After(time.Minute).Once()
		}},
		{"rollups", func() { e.stage(billing.StageRollups) }},
		{"DaysToRollUp", func() {
			last := calendar.DayOf(b.Cut) - 1
			listing(e, october.FirstDay(), last, []calendar.Day{last}, nil)
			rollingUp(e, nil, last)
		}},
		{"freezing", func() { e.stage(billing.StageFreezing) }},
		{"FreezeUsage", func() {
			e.OnActivity(onExport.FreezeUsage, mock.Anything, activities.FreezeUsageInput{ID: uuid.Max}).Return(activities.FreezeUsageResult{Instances: 2}, nil).Once()
		}},
	}
}

// pages are the last organizations of the pages that are rated.
var pages = []uuid.UUID{{0: 1}, {0: 2}}

var (
	aStatementFile = billing.File{Name: documents.StatementsFile, Rows: 2}
	aMoney         = []billing.MoneyTotal{{Currency: "USD", Statements: 2, Lines: 5}}
)

// untilWritten are the steps from rating on, until there is a manifest.
func (e environment) untilWritten(b activities.BegunExport, parked int64) script {
	return script{
		{"rating", func() { e.stage(billing.StageRating) }},
		{"PlanRating", func() {
			e.OnActivity(onExport.PlanRating, mock.Anything, activities.PlanRatingInput{ID: uuid.Max, PageSize: 2500}).
				Return(activities.PlanRatingResult{Until: pages}, nil).Once()
		}},
		{"RateOrganizations", func() {
			e.OnActivity(onExport.RateOrganizations, mock.Anything, activities.RateOrganizationsInput{ID: uuid.Max, Until: pages[0]}).
				Return(activities.RateOrganizationsResult{Rated: 2 - parked, Parked: parked}, nil).After(time.Minute).Once()
			e.OnActivity(onExport.RateOrganizations, mock.Anything, activities.RateOrganizationsInput{ID: uuid.Max, After: pages[0], Until: pages[1]}).
				Return(activities.RateOrganizationsResult{}, nil).After(time.Minute).Once()
		}},
		{"writing", func() { e.stage(billing.StageWriting) }},
		{"WriteStatements", func() {
			e.OnActivity(onExport.WriteStatements, mock.Anything, activities.WriteStatementsInput{
				ID: uuid.Max, Folder: b.Folder, Options: fileOptions(), Numbered: !b.Provisional,
			}).Return(activities.WriteStatementsResult{Files: []billing.File{aStatementFile}}, nil).Once()
		}},
		{"WriteUsageFile", func() { e.usageFile(b).After(time.Minute).Once() }},
		{"WriteManifest", func() { e.manifest(b, parked).After(time.Minute).Once() }},
	}
}

func (e environment) usageFile(b activities.BegunExport) *testsuite.MockCallWrapper {
	return e.OnActivity(onExport.WriteUsageFile, mock.Anything, activities.WriteUsageFileInput{ID: uuid.Max, Folder: b.Folder}).
		Return(activities.WriteUsageFileResult{File: aFile, Totals: aTotals}, nil)
}

func (e environment) manifest(b activities.BegunExport, parked int64) *testsuite.MockCallWrapper {
	return e.OnActivity(onExport.WriteManifest, mock.Anything, activities.WriteManifestInput{
		Export: b, Files: []billing.File{aStatementFile, aFile}, Totals: aTotals,
	}).Return(activities.WriteManifestResult{
		Name: b.Folder + documents.ManifestFile, Money: aMoney, Counts: billing.RatingCounts{Organizations: 2, Statements: 2 - parked, Parked: parked},
	}, nil)
}

// fileOptions are the options of files that are used where none are given.
func fileOptions() documents.Options {
	return documents.Options{Focus: documents.DefaultFocusVersion, Issuer: "Tollgate"}
}

// expect answers the activities of an export up to, and without, one of them, or until
// it waits for a decision.
func (e environment) expect(provisional bool, until string) {
	b := begun(provisional)
	steps := append(e.untilFrozen(b), e.untilWritten(b, 0)...)
	if provisional {
		steps = append(steps, step{"CompleteExport", e.completing})
	}
	e.answer(until, steps)
}

func (e environment) completing() {
	e.OnActivity(onExport.CompleteExport, mock.Anything, activities.CompleteExportInput{ID: uuid.Max}).Return(nil).Once()
}

func (e environment) stage(stage billing.Stage) {
	e.OnActivity(onExport.SetExportStage, mock.Anything, activities.SetExportStageInput{ID: uuid.Max, Stage: stage}).Return(nil).Once()
}

// failing expects that the end of a run is recorded.
func (e environment) failing(stage billing.Stage, reason string) {
	e.OnActivity(onExport.FailExport, mock.Anything, activities.FailExportInput{ID: uuid.Max, Stage: stage, Reason: reason}).Return(nil).Once()
}

func TestExportPeriodRefusesInput(t *testing.T) {
	t.Parallel()
	for period, want := range map[string][2]string{
		"":           {workflows.TypeInvalidInput, "period is missing"},
		"2026-10-01": {workflows.TypeInvalidInput, `period: period "2026-10-01" is not a month`},
		"2026-11":    {workflows.TypePeriodNotBegun, "period 2026-11 has not begun: it begins at 2026-11-01 00:00:00 UTC"},
	} {
		_, err := ended[workflows.ExportPeriodResult](t, newEnvironment(t, "export/"+period), workflows.ExportPeriod, workflows.ExportPeriodInput{Period: period})
		requireRefused(t, err, want[0], want[1])
	}
}

func TestExportPeriodAnswersTheFinalExport(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	env.SetStartTime(october.End())
	final := begun(false)
	final.Stage, final.Final, final.Files, final.Totals = billing.StageDone, true, []billing.File{aFile}, aTotals
	env.OnActivity(onExport.BeginExport, mock.Anything, mock.Anything).Return(final, nil).Once()
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	require.NoError(t, err)
	require.True(t, out.AlreadyFinal)
	require.Equal(t, "exports/2026-10/x/manifest.json", out.Manifest)
	require.Equal(t, []billing.File{aFile}, out.Export.Files)
	require.Equal(t, billing.StageDone, out.Export.Stage)
}

// A run that was never recorded has no end to record.
func TestExportPeriodFailsToBegin(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	env.OnActivity(onExport.BeginExport, mock.Anything, mock.Anything).Return(activities.BegunExport{}, permanently("no table")).Once()
	_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	requireRefused(t, err, activities.TypePermanent, "no table")
	require.Equal(t, billing.StageFailed, progress[workflows.ExportPeriodProgress](t, env).Stage)
}

// That the end can't be recorded doesn't hide why it ended.
func TestExportPeriodKeepsItsErrorWhenTheEndCannotBeRecorded(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	env.expect(true, "AwaitWatermarks")
	env.OnActivity(onFleet.AwaitWatermarks, mock.Anything, mock.Anything).Return(activities.AwaitWatermarksResult{}, permanently("cursed")).Once()
	env.OnActivity(onExport.FailExport, mock.Anything, mock.Anything).Return(permanently("the export has ended")).Once()
	_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	requireRefused(t, err, activities.TypePermanent, "cursed")
}

// While it rolls up, an export that is canceled ends, and leaves the rollup alone.
func TestExportPeriodIsCanceledWhileItRollsUp(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	env.expect(true, "DaysToRollUp")
	env.OnActivity(onRollup.DaysToRollUp, mock.Anything, mock.Anything).Return(activities.DaysToRollUpResult{Days: []calendar.Day{friday}}, nil).Once()
	env.OnWorkflow(workflows.RollUpDay, mock.Anything, mock.Anything).Return(
		func(ctx workflow.Context, _ workflows.RollUpDayInput) (workflows.RollUpDayResult, error) {
			return workflows.RollUpDayResult{}, workflow.Sleep(ctx, time.Hour)
		}).Once()
	var recorded time.Duration
	env.OnActivity(onExport.FailExport, mock.Anything, activities.FailExportInput{
		ID: uuid.Max, Stage: billing.StageCanceled, Reason: "canceled in stage rollups",
	}).Return(func(context.Context, activities.FailExportInput) error {
		recorded = env.Now().Sub(now)
		return nil
	}).Once()
	env.RegisterDelayedCallback(env.CancelWorkflow, 90*time.Second)
	_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	var canceled *temporal.CanceledError
	require.ErrorAs(t, err, &canceled)
	require.Equal(t, 90*time.Second, recorded.Truncate(time.Second))
}

func TestExportPeriodUnderAnotherID(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "my export")
	env.expect(true, "")
	out, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	require.NoError(t, err)
	require.Equal(t, "export/2026-10", out.WorkflowID)
	require.Equal(t, billing.StageDone, out.Export.Stage)
}

// Who started an export under another ID may cancel it there.
func TestExportPeriodUnderAnotherIDIsCanceled(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "my export")
	env.expect(true, "rollups")
	env.failing(billing.StageCanceled, "canceled in stage waiting")
	env.RegisterDelayedCallback(env.CancelWorkflow, 30*time.Second)
	_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	var canceled *temporal.CanceledError
	require.ErrorAs(t, err, &canceled)
}

func TestMonthlyExport(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		at     time.Time
		period string
	}{
		"in time":         {october.End().Add(30 * time.Minute), "2026-10"},
		"weeks late":      {october.End().Add(30 * time.Minute), "2026-10"},
		"across the year": {time.Date(2027, 1, 1, 0, 30, 0, 0, time.UTC), "2026-12"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := scheduled(t, tc.at)
			env.SetStartTime(tc.at.AddDate(0, 0, 40)) // the clock says nothing
			env.OnWorkflow(workflows.ExportPeriod, mock.Anything, workflows.ExportPeriodInput{Period: tc.period, RequestedBy: "schedule"}).
				Return(workflows.ExportPeriodResult{Manifest: "m"}, nil).Once()
			out, err := ended[workflows.MonthlyExportResult](t, env, workflows.MonthlyExport, workflows.MonthlyExportInput{})
			require.NoError(t, err)
			require.Equal(t, workflows.MonthlyExportResult{Period: tc.period, Export: workflows.ExportPeriodResult{Manifest: "m"}}, out)
			require.Equal(t, out, progress[workflows.MonthlyExportResult](t, env))
		})
	}
}

func TestMonthlyExportFindsTheExportRunning(t *testing.T) {
	t.Parallel()
	env := scheduled(t, october.End())
	env.SetStartTime(october.End())
	env.OnWorkflow(workflows.ExportPeriod, mock.Anything, mock.Anything).Return(workflows.ExportPeriodResult{}, runsAlready).Once()
	env.finding(activities.FindExportResult{Running: true})
	out, err := ended[workflows.MonthlyExportResult](t, env, workflows.MonthlyExport, workflows.MonthlyExportInput{})
	require.NoError(t, err)
	require.Equal(t, workflows.ExportPeriodResult{WorkflowID: "export/2026-10", Joined: true}, out.Export)
}

// finding answers which export is recorded as under way.
func (e environment) finding(found activities.FindExportResult) {
	e.OnActivity(onExport.FindExport, mock.Anything, activities.FindExportInput{Period: october}).Return(found, nil).Once()
}

// A provisional run under the same ID closes nothing: the month's export begins once it has ended.
// What isn't recorded yet is looked for again.
func TestTheMonthIsClosedAfterAProvisionalRun(t *testing.T) {
	t.Parallel()
	env := scheduled(t, october.End())
	env.SetStartTime(october.End())
	began := 0
	env.OnWorkflow(workflows.ExportPeriod, mock.Anything, mock.Anything).Return(
		func(workflow.Context, workflows.ExportPeriodInput) (workflows.ExportPeriodResult, error) {
			if began++; began < 4 {
				return workflows.ExportPeriodResult{}, runsAlready
			}
			return workflows.ExportPeriodResult{Manifest: "m"}, nil
		}).Times(4)
	env.finding(activities.FindExportResult{})
	env.finding(activities.FindExportResult{Running: true, Provisional: true})
	env.awaiting("export/2026-10", time.Hour)
	env.finding(activities.FindExportResult{})
	out, err := ended[workflows.MonthlyExportResult](t, env, workflows.MonthlyExport, workflows.MonthlyExportInput{})
	require.NoError(t, err)
	require.Equal(t, workflows.ExportPeriodResult{Manifest: "m"}, out.Export)
}

// A rollup that somebody cancels fails the export that rests on it: its record and its end agree.
func TestExportPeriodFailsWhereItsRollUpIsCanceled(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	env.expect(true, "DaysToRollUp")
	env.OnActivity(onRollup.DaysToRollUp, mock.Anything, mock.Anything).Return(activities.DaysToRollUpResult{Days: []calendar.Day{friday}}, nil).Once()
	rollingUp(env, temporal.NewCanceledError(), friday)
	env.failing(billing.StageFailed, "rollup/2026-10-16 was canceled")
	_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	require.ErrorContains(t, err, workflows.TypeRunCanceled)
	var canceled *temporal.CanceledError
	require.NotErrorAs(t, err, &canceled)
}

func TestMonthlyExportFails(t *testing.T) {
	t.Parallel()
	_, err := ended[workflows.MonthlyExportResult](t, newEnvironment(t, "x"), workflows.MonthlyExport, workflows.MonthlyExportInput{})
	requireRefused(t, err, workflows.TypeInvalidInput, "is started by its schedule")

	env := scheduled(t, october.End())
	env.OnWorkflow(workflows.ExportPeriod, mock.Anything, mock.Anything).Return(workflows.ExportPeriodResult{}, permanently("cursed")).Once()
	_, err = ended[workflows.MonthlyExportResult](t, env, workflows.MonthlyExport, workflows.MonthlyExportInput{})
	require.ErrorContains(t, err, "cursed")
}

// A timeout has no message of its own to show.
func TestExportPeriodSaysThatItTimedOut(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, "export/2026-10")
	env.expect(true, "AwaitWatermarks")
	env.OnActivity(onFleet.AwaitWatermarks, mock.Anything, mock.Anything).Return(
		func(context.Context, activities.AwaitWatermarksInput) (activities.AwaitWatermarksResult, error) {
			return activities.AwaitWatermarksResult{}, gone
		}).Once()
	env.OnActivity(onExport.FailExport, mock.Anything, mock.MatchedBy(func(in activities.FailExportInput) bool {
		return in.Stage == billing.StageFailed && in.Reason[:10] == "timed out:"
	})).Return(nil).Once()
	_, err := ended[workflows.ExportPeriodResult](t, env, workflows.ExportPeriod, exportInput())
	require.Error(t, err)
}
