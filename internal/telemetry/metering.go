package telemetry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/riverline/tollgate/meter"
)

// ObserveQuarantine makes the metric of usage that was set aside and waits for a decision;
// count asks the store. While it can't say, there is no value.
func ObserveQuarantine(provider metric.MeterProvider, count func(context.Context) (int64, error)) error {
	return observeCount(provider, "tollgate_quarantined_rows", count,
		"Usage that was set aside because it is refused for good, and waits for a decision: rows, of all instances.")
}

// ObserveStuckReservations makes the metric of reservations that have expired and can't be
// ended; count asks the store. While it can't say, there is no value.
func ObserveStuckReservations(provider metric.MeterProvider, count func(context.Context) (int64, error)) error {
	return observeCount(provider, "tollgate_stuck_reservations", count,
		"Reservations that have expired and that Postgres refuses to end, so that they stay held: of all instances.")
}

// ObserveMissingBatches makes the metric of batches that Postgres has lost and that nobody could
// send again; count asks the store. While it can't say, there is no value.
func ObserveMissingBatches(provider metric.MeterProvider, count func(context.Context) (int64, error)) error {
	return observeCount(provider, "tollgate_missing_batches", count,
		"Batches of acknowledged usage that Postgres has lost and that nobody could send again: of all instances.")
}

// ObserveBatchConflicts makes the metric of batches that differ from the one that was applied
// under their identity; count asks the store. While it can't say, there is no value.
func ObserveBatchConflicts(provider metric.MeterProvider, count func(context.Context) (int64, error)) error {
	return observeCount(provider, "tollgate_batch_conflicts", count,
		"Batches that differ from the one that was applied under their identity, and are kept beside it: of all instances.")
}

// ObserveUnclosedPeriods makes the metric of billing periods that are over and that nobody closes; count
// asks the store.
func ObserveUnclosedPeriods(provider metric.MeterProvider, count func(context.Context) (int64, error)) error {
	return observeCount(provider, "tollgate_unclosed_periods", count,
		"Billing periods with usage that are over and have neither a final export nor a run that makes one: the last three, and those before them whose batch rows are kept.")
}

// observeCount makes a metric of what the store counts.
func observeCount(provider metric.MeterProvider, name string, count func(context.Context) (int64, error), help string) error {
	scope := provider.Meter("github.com/riverline/tollgate/meter")
	counted := newAsked(count)
	_, err := scope.Int64ObservableGauge(name, metric.WithDescription(help),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			n, err := counted.read()
			if err != nil {
				return fmt.Errorf("count for %s: %w", name, err)
			}
			o.Observe(n)
			return nil
		}))
	if err != nil {
		return fmt.Errorf("make the metric %s: %w", name, err)
	}
	return nil
}

// ObserveMetering makes the metrics of an instance's meter and flusher. They are
// read when they are scraped and cost the hot path nothing.
func ObserveMetering(provider metric.MeterProvider, m *meter.Meter, f *meter.Flusher, now func() time.Time) error {
	scope := provider.Meter("github.com/riverline/tollgate/meter")
	var failed error
	counter := func(name, help string) metric.Int64ObservableCounter {
		c, err := scope.Int64ObservableCounter(name, metric.WithDescription(help))
		failed = errors.Join(failed, err)
		return c
	}
	gauge := func(name, help string, options ...metric.Float64ObservableGaugeOption) metric.Float64ObservableGauge {
		g, err := scope.Float64ObservableGauge(name, append(options, metric.WithDescription(help))...)
		failed = errors.Join(failed, err)
		return g
	}
	decisions := counter("tollgate_decisions", "Metered requests by meter and decision: admitted, refused.")
	over := counter("tollgate_over_limit", "Admitted requests beyond a soft limit, by meter.")
	unloaded := counter("tollgate_unloaded", "Requests admitted because the store could not be asked (fail-open), by meter.")
	unleased := counter("tollgate_unleased", "Quantity admitted under hard limits while quota could not be had from Postgres (fail-open).")
	unjournalled := counter("tollgate_unjournalled", "Reports that were counted although the journal could not keep them.")
	conflicts := counter("tollgate_identity_conflicts", "Reports acknowledged and not counted, since another instance had taken their key with other ones (usage_conflicts).")
	sentAgain := counter("tollgate_batches_sent_again", "Batches that Postgres had lost, and that this instance has sent again.")
	forgotten := counter("tollgate_organizations_forgotten", "Organizations that left memory, because they were idle.")
	redated := counter("tollgate_redated", "Reservations of requests under way that were moved from a day that has passed to a later one.")
	waited := counter("tollgate_quota_waits", "Requests that waited for quota.")
	organizations := gauge("tollgate_organizations", "Organizations in memory.")
	identified := gauge("tollgate_identified_waiting", "Reports with an identity that Postgres doesn't have yet: as many as may wait, and more are refused.")
	away := gauge("tollgate_leases_away", "1 while quota can't be had from Postgres, so that hard limits are open (or closed, by the setting), 0 otherwise.")
	retained := gauge("tollgate_flush_retained_batches", "Batches that the last flush could not write and that are kept.")
	sequence := gauge("tollgate_flush_sequence", "Sequence of the last batch that the store has.")
	lag := gauge("tollgate_flush_watermark_lag_seconds", "Time since the watermark: the age of the oldest usage that may be unwritten.", metric.WithUnit("s"))
	if failed != nil {
		return fmt.Errorf("make the metering metrics: %w", failed)
	}
	started := now()
	_, err := scope.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for i, one := range m.Catalog().Meters {
			counts := m.Counts(meter.Index(i))
			name := attribute.String("meter", one.Key)
			o.ObserveInt64(decisions, counts.Admitted, metric.WithAttributes(name, attribute.String("decision", "admitted")))
			o.ObserveInt64(decisions, counts.Refused, metric.WithAttributes(name, attribute.String("decision", "refused")))
			o.ObserveInt64(over, counts.OverLimit, metric.WithAttributes(name))
			o.ObserveInt64(unloaded, counts.Unloaded, metric.WithAttributes(name))
		}
		totals := m.Totals()
		o.ObserveInt64(unleased, totals.Unleased)
		o.ObserveInt64(unjournalled, totals.Unjournalled)
		o.ObserveInt64(waited, totals.Waited)
		o.ObserveInt64(redated, totals.Redated)
		o.ObserveInt64(forgotten, totals.Forgotten)
		o.ObserveInt64(sentAgain, totals.SentAgain)
		o.ObserveInt64(conflicts, totals.Conflicts)
		last := f.Last()
		o.ObserveFloat64(organizations, float64(m.Organizations()))
		o.ObserveFloat64(identified, float64(m.Identified()))
		without := 0.0
		if m.LeasesAway() != nil {
			without = 1
		}
		o.ObserveFloat64(away, without)
		o.ObserveFloat64(retained, float64(f.Retained()))
		o.ObserveFloat64(sequence, float64(last.Seq))
		watermark := last.Watermark
		if watermark.IsZero() {
			watermark = started
		}
		o.ObserveFloat64(lag, now().Sub(watermark).Seconds())
		return nil
	}, decisions, over, unloaded, unleased, unjournalled, waited, sentAgain, conflicts, redated, forgotten, organizations, identified, away, retained, sequence, lag)
	if err != nil {
		return fmt.Errorf("register the metering metrics: %w", err)
	}
	return nil
}

// ObserveOpenReservations makes the metrics of the requests under way that hold something. They are
// read when they are scraped.
func ObserveOpenReservations(provider metric.MeterProvider, m *meter.Meter, now func() time.Time) error {
	scope := provider.Meter("github.com/riverline/tollgate/meter")
	open, failed := scope.Int64ObservableGauge("tollgate_open_reservations", metric.WithDescription("Reservations of requests that are under way."))
	oldest, err := scope.Float64ObservableGauge("tollgate_open_reservations_oldest_seconds", metric.WithUnit("s"),
		metric.WithDescription("Age of the oldest of them: it may hold the watermark up."))
	if failed = errors.Join(failed, err); failed == nil {
		_, failed = scope.RegisterCallback(func(_ context.Context, o metric.Observer) error {
			held := m.Open()
			age := time.Duration(0)
			if held.Count > 0 {
				age = now().Sub(held.Since)
			}
			o.ObserveInt64(open, int64(held.Count))
			o.ObserveFloat64(oldest, age.Seconds())
			return nil
		}, open, oldest)
	}
	if failed != nil {
		return fmt.Errorf("make the metrics of open reservations: %w", failed)
	}
	return nil
}
