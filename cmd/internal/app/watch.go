package app

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/riverline/tollgate/internal/telemetry"
	"github.com/riverline/tollgate/workflows/starter"
)

// endedFor is how long a run that ended as it should not is counted.
const endedFor = 24 * time.Hour

// observeWorker makes the metrics of a worker, and returns what is to be told of runs.
func observeWorker(b *base, keeping *atomic.Bool) (func(telemetry.Runs), error) {
	if err := telemetry.ObserveUnclosedPeriods(b.telemetry.Metrics, b.store.CountUnclosedPeriods); err != nil {
		return nil, err
	}
	if err := telemetry.ObserveStore(b.telemetry.Metrics, b.store, clock); err != nil {
		return nil, err
	}
	err := telemetry.ObserveParts(b.telemetry.Metrics, func(ctx context.Context) map[string]bool {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return map[string]bool{
			"postgres": b.store.Ping(ctx) == nil,
			"schema":   b.schemaHealth(ctx) == nil,
			"temporal": keeping.Load(),
		}
	})
	if err != nil {
		return nil, err
	}
	return telemetry.ObserveRuns(b.telemetry.Metrics)
}

// watch asks Temporal what became of workflows and schedules.
func watch(ctx context.Context, b *base) (telemetry.Runs, error) {
	var runs telemetry.Runs
	ended, err := starter.EndedRuns(ctx, b.temporal, b.namespace, clock().Add(-endedFor))
	if err != nil {
		return runs, err
	}
	for run, count := range ended {
		runs.Ended = append(runs.Ended, telemetry.EndedRuns{Type: run.Type, Status: run.Status, Count: count})
	}
	schedules, err := starter.ScheduleStates(ctx, b.temporal)
	for _, s := range schedules {
		runs.Schedules = append(runs.Schedules, telemetry.ScheduleState(s))
	}
	return runs, err
}
