package workflows_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

func (s *system) startRollUp(t *testing.T, day calendar.Day) starter.Started {
	t.Helper()
	options := client.StartWorkflowOptions{
		ID: workflows.RollUpDayID(day), TaskQueue: workflows.TaskQueue, StaticSummary: workflows.RollUpDaySummary(day),
		TypedSearchAttributes: temporal.NewSearchAttributes(
			workflows.PeriodAttribute.ValueSet(calendar.PeriodOf(day.Start()).String()), workflows.StageAttribute.ValueSet(string(workflows.RollUpWaiting)),
		),
		Memo:                                     map[string]any{workflows.MemoRequestedBy: "operator"},
		WorkflowExecutionErrorWhenAlreadyStarted: true,
	}
	run, err := s.client.ExecuteWorkflow(t.Context(), options, workflows.RollUpDay, workflows.RollUpDayInput{Day: day.String(), RequestedBy: "operator"})
	var running *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &running) {
		return starter.Started{WorkflowID: options.ID, RunID: running.RunId, Joined: true}
	}
	require.NoError(t, err)
	return starter.Started{WorkflowID: options.ID, RunID: run.GetRunID()}
}

func TestServerRollUpWaitsForEveryInstance(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	behind := meter.Instance{
		ID: uuid.Max, Host: "host-2", Status: meter.InstanceLive,
		SeenAt: time.Now(), Watermark: yesterday().End().Add(-time.Second),
	}
	s.store.put(behind)
	run := s.startRollUp(t, yesterday())
	eventually(t, "the rollup waits", func() bool { return s.stage(t, run) == "waiting" })
	require.True(t, s.startRollUp(t, yesterday()).Joined)
	behind.Watermark = yesterday().End()
	s.store.put(behind)
	ended, err := result[workflows.RollUpDayResult](t, s, run)
	require.NoError(t, err)
	require.Equal(t, &billing.DayRollup{Day: yesterday(), Revision: 1, Batches: 2, Rows: 3}, ended.Progress.Rollup)
	require.Equal(t, 1, ended.Progress.Live)
	require.Equal(t, "done", s.stage(t, run))
	require.Contains(t, s.details(t, run), "Closes the day "+yesterday().String())
	s.keep(t, "roll-up-day-done", run)

	// It may run again: usage came late.
	again, err := result[workflows.RollUpDayResult](t, s, s.startRollUp(t, yesterday()))
	require.NoError(t, err)
	require.Equal(t, 2, again.Progress.Rollup.Revision)
}

// An instance that nobody drives and nobody has seen for long doesn't hold up a
// rollup: its flush loop is started, and finds out that it is gone.
func TestServerRollUpFindsOutThatAnInstanceIsGone(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.store.put(meter.Instance{
		ID: uuid.Max, Host: "host-2", Status: meter.InstanceLive,
		SeenAt: time.Now().Add(-time.Hour), Watermark: yesterday().End().Add(-time.Hour), LostAfter: time.Second,
	})
	run := s.startRollUp(t, yesterday())
	ended, err := result[workflows.RollUpDayResult](t, s, run)
	require.NoError(t, err)
	require.Zero(t, ended.Progress.Live)
	require.Len(t, ended.Progress.Lost, 1)
	require.Equal(t, uuid.Max, ended.Progress.Lost[0].Instance)
	require.Equal(t, meter.InstanceLost, s.store.instance(uuid.Max).Status)
	require.Contains(t, s.details(t, run), "on host-2: what it admitted after")
	s.keep(t, "roll-up-day-lost-instance", run)
}

func TestServerRollUpFails(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.store.hook = func(_ context.Context, what string) error {
		if what == "RollUpDay" {
			return permanentError("the day is cursed")
		}
		return nil
	}
	run := s.startRollUp(t, yesterday())
	_, err := result[workflows.RollUpDayResult](t, s, run)
	require.ErrorContains(t, err, "the day is cursed")
	require.Equal(t, "failed", s.stage(t, run))
	s.keep(t, "roll-up-day-failed", run)
}

func TestServerRollUpIsCanceled(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.store.put(meter.Instance{ID: uuid.Max, Status: meter.InstanceLive, SeenAt: time.Now().Add(time.Hour)})
	run := s.startRollUp(t, yesterday())
	eventually(t, "the rollup waits", func() bool { return s.stage(t, run) == "waiting" })
	require.NoError(t, s.client.CancelWorkflow(t.Context(), run.WorkflowID, run.RunID))
	_, err := result[workflows.RollUpDayResult](t, s, run)
	var canceled *temporal.CanceledError
	require.ErrorAs(t, err, &canceled)
	require.Equal(t, "canceled", s.stage(t, run))
	s.keep(t, "roll-up-day-canceled", run)
}

// trigger makes a schedule start what it starts, as an operator does in the UI.
func (s *system) trigger(t *testing.T, id string) starter.Started {
	t.Helper()
	handle := s.client.ScheduleClient().GetHandle(t.Context(), id)
	require.NoError(t, handle.Trigger(t.Context(), client.ScheduleTriggerOptions{}))
	var run starter.Started
	eventually(t, "the schedule starts a workflow", func() bool {
		described, err := handle.Describe(t.Context())
		require.NoError(t, err)
		if recent := described.Info.RecentActions; len(recent) > 0 {
			started := recent[len(recent)-1].StartWorkflowResult
			run = starter.Started{WorkflowID: started.WorkflowID, RunID: started.FirstExecutionRunID}
		}
		return run.RunID != ""
	})
	return run
}

func TestServerSchedules(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, err := starter.EnsureSchedules(t.Context(), s.client)
	require.NoError(t, err)
	s.store.toRollUp = []calendar.Day{yesterday() - 3, yesterday()}

	daily := s.trigger(t, workflows.DailyRollUpScheduleID)
	require.Regexp(t, `^rollup/scheduled-\d{4}-`, daily.WorkflowID)
	rolledUp, err := result[workflows.DailyRollUpResult](t, s, daily)
	require.NoError(t, err)
	require.Equal(t, workflows.DailyRollUpResult{Day: yesterday().String(), RolledUp: 2}, rolledUp)
	require.Empty(t, s.store.partitions)
	require.Equal(t, map[calendar.Day]int{yesterday() - 3: 1, yesterday(): 1}, s.store.revisions)
	require.Contains(t, s.details(t, daily), "Closes the day before")
	require.Equal(t, "done", s.stage(t, daily))
	s.keep(t, "daily-roll-up", daily)
	eventually(t, "the run is found by its stage", func() bool {
		return s.count(t, `WorkflowType = "DailyRollUp" AND TollgateStage = "done"`) == 1
	})
	// The query of the recipe in versions.go: it finds what runs without a change.
	const unchanged = `(TemporalChangeVersion IS NULL OR TemporalChangeVersion != "housekeeping-apart-1")`
	require.Zero(t, s.count(t, `WorkflowType = "DailyRollUp" AND `+unchanged))
	eventually(t, "the runs without the change are found", func() bool {
		return s.count(t, `WorkflowType = "RollUpDay" AND `+unchanged) == 2
	})

	// Somebody has started the export of the period before the schedule does.
	reached, let := s.store.blockOn("FreezeExport")
	mine := s.startExport(t, past())
	require1(t, reached, "the export freezes")
	joined, err := result[workflows.MonthlyExportResult](t, s, s.trigger(t, workflows.MonthlyExportScheduleID))
	require.NoError(t, err)
	require.Equal(t, workflows.MonthlyExportResult{
		Period: past().String(), Export: workflows.ExportPeriodResult{WorkflowID: mine.WorkflowID, Joined: true},
	}, joined)
	let()
	s.approve(t, past())
	_, err = result[workflows.ExportPeriodResult](t, s, mine)
	require.NoError(t, err)
}

// A day that can't be rolled up stops nothing else.
func TestServerHousekeepingBesideACursedDay(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, err := starter.EnsureSchedules(t.Context(), s.client)
	require.NoError(t, err)
	s.store.toRollUp = []calendar.Day{yesterday()}
	s.store.hook = func(_ context.Context, what string) error {
		if what == "RollUpDay" {
			return permanentError("the day is cursed")
		}
		return nil
	}
	_, err = result[workflows.DailyRollUpResult](t, s, s.trigger(t, workflows.DailyRollUpScheduleID))
	require.ErrorContains(t, err, "the day is cursed")
	run := s.trigger(t, workflows.HousekeepingScheduleID)
	done, err := result[workflows.HousekeepingResult](t, s, run)
	require.NoError(t, err)
	require.Equal(t, workflows.HousekeepingResult{
		Partitions: true, Expired: &billing.Expired{Identities: 7}, ExpiredCredits: &billing.ExpiredCredits{Grants: 4},
	}, done)
	require.Equal(t, []calendar.Day{yesterday()}, s.store.partitions)
	require.Equal(t, "done", s.stage(t, run))
	s.keep(t, "housekeeping", run)
}

func TestServerMonthlyExport(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, err := starter.EnsureSchedules(t.Context(), s.client)
	require.NoError(t, err)
	monthly := s.trigger(t, workflows.MonthlyExportScheduleID)
	s.approve(t, past())
	exported, err := result[workflows.MonthlyExportResult](t, s, monthly)
	require.NoError(t, err)
	require.Equal(t, billing.StageClosed, exported.Export.Export.Stage)
	require.Equal(t, "schedule", exported.Export.Export.RequestedBy)
	require.Equal(t, past().String(), exported.Period)
	require.Len(t, s.store.allExports(), 1)
	require.Contains(t, s.details(t, monthly), "is exported by `export/"+past().String())
	s.keep(t, "monthly-export", monthly)
}

// A rollup that somebody else has started is waited for.
func TestServerDailyRollUpJoinsARollUp(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, err := starter.EnsureSchedules(t.Context(), s.client)
	require.NoError(t, err)
	s.store.toRollUp = []calendar.Day{yesterday()}
	reached, let := s.store.blockOn("RollUpDay")
	mine := s.startRollUp(t, yesterday())
	require1(t, reached, "the rollup folds")
	daily := s.trigger(t, workflows.DailyRollUpScheduleID)
	joining := `"rollup of ` + yesterday().String() + ` runs already"`
	eventually(t, "the daily rollup waits", func() bool {
		for _, summary := range s.summaries(t, daily) {
			if summary == joining {
				return true
			}
		}
		return false
	})
	events := len(s.history(t, daily).GetEvents())
	time.Sleep(500 * time.Millisecond) // 25 looks
	require.LessOrEqual(t, len(s.history(t, daily).GetEvents()), events+1, "a wait adds nothing to the history, however long it is")
	let()
	_, err = result[workflows.RollUpDayResult](t, s, mine)
	require.NoError(t, err)
	rolledUp, err := result[workflows.DailyRollUpResult](t, s, daily)
	require.NoError(t, err)
	require.Zero(t, rolledUp.RolledUp)
	require.Equal(t, map[calendar.Day]int{yesterday(): 1}, s.store.revisions)
	s.keep(t, "daily-roll-up-joins", daily)
}
