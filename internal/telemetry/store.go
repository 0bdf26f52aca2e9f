package telemetry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/sinks"
	"github.com/riverline/tollgate/webhooks"
)

// Figures are what a store says of all instances and organizations together.
type Figures interface {
	// WebhookBacklog returns what is on its way to endpoints.
	WebhookBacklog(ctx context.Context) (webhooks.Backlog, error)
	// OpenExports returns the exports that have not ended.
	OpenExports(ctx context.Context) ([]billing.Export, error)
	// UndeliveredStatements returns how many statements of closed periods a sink has not taken, by state.
	UndeliveredStatements(ctx context.Context) (map[sinks.State]int64, error)
	// CountInstances returns how many instances there are, by status.
	CountInstances(ctx context.Context) (map[meter.InstanceStatus]int64, error)
	// DaysToRollUp returns the days of a range, both ends included, that need a rollup.
	DaysToRollUp(ctx context.Context, from, to calendar.Day) ([]calendar.Day, error)
}

const (
	// unrolledAfter is how long a day has been over when it is due to be rolled up, and unrolledDays
	// how many such days are looked at, as rollups do.
	unrolledAfter = 6 * time.Hour
	unrolledDays  = 35
)

// ObserveStore makes the metrics of what the store says of all instances. They are asked for when
// they are scraped; while the store can't say, there are no values.
func ObserveStore(provider metric.MeterProvider, figures Figures, now func() time.Time) error {
	s := &storeMetrics{
		now: now, backlog: newAsked(figures.WebhookBacklog), open: newAsked(figures.OpenExports),
		undelivered: newAsked(figures.UndeliveredStatements), counted: newAsked(figures.CountInstances),
		toRollUp: newAsked(func(ctx context.Context) ([]calendar.Day, error) {
			last := calendar.DayOf(now().Add(-unrolledAfter)) - 1
			return figures.DaysToRollUp(ctx, last-unrolledDays+1, last)
		}),
	}
	scope := provider.Meter("github.com/riverline/tollgate/pgstore")
	count := func(name, help string) metric.Int64ObservableGauge {
		g, err := scope.Int64ObservableGauge(name, metric.WithDescription(help))
		s.failed = errors.Join(s.failed, err)
		return g
	}
	seconds := func(name, help string) metric.Float64ObservableGauge {
		g, err := scope.Float64ObservableGauge(name, metric.WithDescription(help), metric.WithUnit("s"))
		s.failed = errors.Join(s.failed, err)
		return g
	}
	s.undispatched = count("tollgate_undispatched_events", "Events whose deliveries are not all started.")
	s.oldest = seconds("tollgate_undispatched_events_oldest_seconds", "Age of the oldest of them; 0 where there is none.")
	s.deliveries = count("tollgate_webhook_deliveries", "Deliveries of webhooks by state: pending, failing, and exhausted within the last day.")
	s.stages = seconds("tollgate_export_stage_seconds", "Time for which an export has been in the stage in which it is: the longest, by stage.")
	s.statements = count("tollgate_undelivered_statements", "Statements of closed periods that a sink has not taken, by state: no_customer, failed.")
	s.instances = count("tollgate_instances", "Instances by status: live, and lost within the last day.")
	s.unrolled = count("tollgate_unrolled_days", "Days that have been over for six hours and are not rolled up, of the last 35.")
	if s.failed != nil {
		return fmt.Errorf("make the store's metrics: %w", s.failed)
	}
	_, err := scope.RegisterCallback(s.observe, s.undispatched, s.oldest, s.deliveries, s.stages, s.statements, s.instances, s.unrolled)
	if err != nil {
		return fmt.Errorf("register the store's metrics: %w", err)
	}
	return nil
}

type storeMetrics struct {
	now         func() time.Time
	backlog     *asked[webhooks.Backlog]
	open        *asked[[]billing.Export]
	undelivered *asked[map[sinks.State]int64]
	counted     *asked[map[meter.InstanceStatus]int64]
	toRollUp    *asked[[]calendar.Day]

	undispatched, deliveries, statements, instances, unrolled metric.Int64ObservableGauge
	oldest, stages                                            metric.Float64ObservableGauge
	failed                                                    error
}

func (s *storeMetrics) observe(_ context.Context, o metric.Observer) error {
	return errors.Join(s.observeWebhooks(o), s.observeExports(o), s.observeInstances(o))
}

func (s *storeMetrics) observeWebhooks(o metric.Observer) error {
	backlog, err := s.backlog.read()
	if err != nil {
		return err
	}
	age := time.Duration(0)
	if backlog.Undispatched > 0 {
		age = max(0, s.now().Sub(backlog.UndispatchedSince))
	}
	o.ObserveInt64(s.undispatched, backlog.Undispatched)
	o.ObserveFloat64(s.oldest, age.Seconds())
	o.ObserveInt64(s.deliveries, backlog.Pending, metric.WithAttributes(attribute.String("state", "pending")))
	o.ObserveInt64(s.deliveries, backlog.Failing, metric.WithAttributes(attribute.String("state", "failing")))
	o.ObserveInt64(s.deliveries, backlog.Exhausted, metric.WithAttributes(attribute.String("state", "exhausted")))
	return nil
}

func (s *storeMetrics) observeExports(o metric.Observer) error {
	open, err := s.open.read()
	if err != nil {
		return err
	}
	longest := map[billing.Stage]time.Duration{}
	for _, stage := range billing.OpenStages() {
		longest[stage] = 0
	}
	for _, e := range open {
		longest[e.Stage] = max(longest[e.Stage], s.now().Sub(e.StagedAt))
	}
	for stage, age := range longest {
		o.ObserveFloat64(s.stages, age.Seconds(), metric.WithAttributes(attribute.String("stage", string(stage))))
	}
	undelivered, err := s.undelivered.read()
	if err != nil {
		return err
	}
	for state, n := range undelivered {
		o.ObserveInt64(s.statements, n, metric.WithAttributes(attribute.String("state", string(state))))
	}
	return nil
}

func (s *storeMetrics) observeInstances(o metric.Observer) error {
	counts, err := s.counted.read()
	if err != nil {
		return err
	}
	for status, n := range counts {
		o.ObserveInt64(s.instances, n, metric.WithAttributes(attribute.String("status", string(status))))
	}
	days, err := s.toRollUp.read()
	if err != nil {
		return err
	}
	o.ObserveInt64(s.unrolled, int64(len(days)))
	return nil
}
