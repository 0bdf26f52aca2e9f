package telemetry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Runs is what Temporal says of the workflows and schedules.
type Runs struct {
	// Ended counts the runs that ended within the last day otherwise than they should.
	Ended []EndedRuns
	// Schedules has each schedule that there should be.
	Schedules []ScheduleState
}

// EndedRuns is how many runs of one type ended in one way.
type EndedRuns struct {
	// Type is the workflow's name. Status is "failed", "terminated" or "timed_out".
	Type, Status string
	Count        int64
}

// ScheduleState is how far a schedule is.
type ScheduleState struct {
	ID string
	// Fired is when it last started something; before the first time, when it was made.
	Fired time.Time
	// Paused says that somebody has paused it.
	Paused bool
}

// ObserveRuns makes the metrics of what Temporal says of workflows and schedules, and returns what
// is to be told of it. There are no values before the first.
func ObserveRuns(provider metric.MeterProvider) (func(Runs), error) {
	scope := provider.Meter("github.com/riverline/tollgate/workflows")
	ended, err1 := scope.Int64ObservableGauge("tollgate_ended_runs",
		metric.WithDescription("Runs of workflows that failed, timed out or were terminated within the last day, by type and status."))
	fired, err2 := scope.Float64ObservableGauge("tollgate_schedule_fired_time_seconds", metric.WithUnit("s"),
		metric.WithDescription("When a schedule last started something, in Unix time; before the first time, when it was made."))
	paused, err3 := scope.Int64ObservableGauge("tollgate_schedule_paused", metric.WithDescription("1 while a schedule is paused, 0 otherwise."))
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("make the metrics of runs: %w", err)
	}
	var mu sync.Mutex
	var last Runs
	_, err := scope.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range last.Ended {
			o.ObserveInt64(ended, e.Count, metric.WithAttributes(attribute.String("workflow_type", e.Type), attribute.String("status", e.Status)))
		}
		for _, s := range last.Schedules {
			by := metric.WithAttributes(attribute.String("schedule", s.ID))
			o.ObserveFloat64(fired, float64(s.Fired.Unix()), by)
			value := int64(0)
			if s.Paused {
				value = 1
			}
			o.ObserveInt64(paused, value, by)
		}
		return nil
	}, ended, fired, paused)
	if err != nil {
		return nil, fmt.Errorf("register the metrics of runs: %w", err)
	}
	return func(runs Runs) {
		mu.Lock()
		defer mu.Unlock()
		last = runs
	}, nil
}
