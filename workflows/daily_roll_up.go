package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/calendar"
)

// DailyRollUpInput is empty: the day comes from the scheduled time.
type DailyRollUpInput struct{}

// DailyRollUpResult says what was rolled up.
type DailyRollUpResult struct {
	// Day is the day before the scheduled time.
	Day string `json:"day"`
	// RolledUp counts the rollups that were needed, earlier days included.
	RolledUp int `json:"rolled_up"`
	// Stale names a day that was rolled up and is out of date again, because usage of
	// it keeps coming; empty where there is none. The next run takes it up.
	Stale string `json:"stale,omitempty"`
}

// DailyRollUp runs once a day, on its schedule. It rolls up the day before its scheduled time, and
// before that, in order, the days that an earlier run missed or that usage came to late. A run that
// leaves a day out of date ends in the stage stale, others in the stage done.
func DailyRollUp(ctx workflow.Context, _ DailyRollUpInput) (DailyRollUpResult, error) {
	at, err := scheduledAt(ctx, `RollUpDay with {"day":"YYYY-MM-DD"}`)
	if err != nil {
		return DailyRollUpResult{}, err
	}
	day := calendar.DayOf(at) - 1
	result := DailyRollUpResult{Day: day.String()}
	if err := workflow.SetQueryHandler(ctx, QueryProgress, func() (DailyRollUpResult, error) { return result, nil }); err != nil {
		return result, fmt.Errorf("handle the query %s: %w", QueryProgress, err)
	}
	apart := changeHousekeeping.version(ctx) != workflow.DefaultVersion
	if !apart {
		if err := (&housekeeping{at: at}).partitions(ctx); err != nil {
			return result, err
		}
	}
	stale, err := rollUpDays(ctx, day-rollUpLookback, day, "schedule", func(day calendar.Day, _ int) {
		workflow.SetCurrentDetails(ctx, fmt.Sprintf("Rolling up **%s**; %d days are done.\n", day, result.RolledUp))
	}, func() { result.RolledUp++ })
	if err != nil {
		return result, err
	}
	if stale != nil {
		result.Stale = stale.String()
	}
	result.show(ctx)
	if apart {
		return result, setStage(ctx, result.stage())
	}
	return result, result.keepHouse(ctx, at)
}

// keepHouse is what a run does that began before [Housekeeping] was one of its own.
func (r *DailyRollUpResult) keepHouse(ctx workflow.Context, at time.Time) error {
	h := &housekeeping{at: at}
	if err := h.deleteExpired(ctx); err != nil {
		return err
	}
	return h.expireCredits(ctx)
}

// The stages of a [DailyRollUp] that has ended well.
const (
	stageRolledUp = "done"
	stageStale    = "stale" // a day stays out of date
)

// show says how the run ended.
func (r DailyRollUpResult) show(ctx workflow.Context) {
	details := fmt.Sprintf("Days up to **%s** are rolled up; %d rollups were needed.\n", r.Day, r.RolledUp)
	if r.Stale != "" {
		details = fmt.Sprintf("Day **%s** stays out of date: usage of it keeps coming; the next run takes it up. %d rollups were done.\n", r.Stale, r.RolledUp)
	}
	workflow.SetCurrentDetails(ctx, details)
}

func (r DailyRollUpResult) stage() string {
	if r.Stale != "" {
		return stageStale
	}
	return stageRolledUp
}

// rollUpDays rolls up the days of a range that need it, in order: a day continues the
// one before it, so that rolling them up side by side would do the work twice. It
// calls began with the day and how many are left, and done after each. Where a day
// stays out of date although it was rolled up [rollUpAttempts] times, it stops there and
// returns that day.
func rollUpDays(ctx workflow.Context, from, to calendar.Day, requestedBy string, began func(day calendar.Day, left int), done func()) (*calendar.Day, error) {
	attempts := map[calendar.Day]int{}
	for from <= to {
		var found activities.DaysToRollUpResult
		storeCtx := forStore(ctx, fmt.Sprintf("days to roll up from %s to %s", from, to))
		err := workflow.ExecuteActivity(storeCtx, onRollup.DaysToRollUp, activities.DaysToRollUpInput{From: from, To: to}).Get(ctx, &found)
		if err != nil {
			return nil, err
		}
		if len(found.Days) == 0 {
			return nil, nil
		}
		day := found.Days[0]
		if attempts[day] == rollUpAttempts {
			workflow.GetLogger(ctx).Warn("A day stays out of date: usage of it keeps coming", "day", day.String())
			return &day, nil
		}
		began(day, len(found.Days))
		result, err := startRollUpDay(ctx, false, day, requestedBy)
		if err != nil {
			return nil, fmt.Errorf("roll up %s: %w", day, err)
		}
		if result.Joined {
			if err := awaitRun(ctx, result.WorkflowID, "rollup of "+day.String()+" runs already"); err != nil {
				return nil, err
			}
			continue
		}
		attempts[day]++
		done()
	}
	return nil, nil
}
