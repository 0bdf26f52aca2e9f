package telemetry

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/metric"

	"github.com/riverline/tollgate/meter/journal"
)

// ObserveJournal makes the metrics of an instance's journal.
func ObserveJournal(provider metric.MeterProvider, j *journal.Journal) error {
	scope := provider.Meter("github.com/riverline/tollgate/meter/journal")
	appended, err1 := scope.Int64ObservableCounter("tollgate_journal_appended", metric.WithDescription("Records that the journal has taken."))
	failed, err2 := scope.Int64ObservableCounter("tollgate_journal_failed", metric.WithDescription("Records that the journal could not take."))
	segments, err3 := scope.Int64ObservableGauge("tollgate_journal_segments", metric.WithDescription("Sealed segments that wait for their batch to be written."))
	size, err4 := scope.Int64ObservableGauge("tollgate_journal_segment_bytes", metric.WithUnit("By"), metric.WithDescription("Size of the active segment."))
	healthy, err5 := scope.Int64ObservableGauge("tollgate_journal_healthy", metric.WithDescription("1 while the journal takes records, 0 while it can't."))
	kept, err6 := scope.Int64ObservableGauge("tollgate_journal_kept_segments", metric.WithDescription("Segments that are kept although they are written, for a Postgres that goes back in time."))
	keptBytes, err7 := scope.Int64ObservableGauge("tollgate_journal_kept_bytes", metric.WithUnit("By"), metric.WithDescription("What they take on disk."))
	keptMost, err8 := scope.Int64ObservableGauge("tollgate_journal_kept_most_bytes", metric.WithUnit("By"), metric.WithDescription("The most that they may take; 0 where none is kept."))
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7, err8); err != nil {
		return fmt.Errorf("make the journal's metrics: %w", err)
	}
	_, err := scope.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		stats := j.Stats()
		o.ObserveInt64(appended, stats.Appended)
		o.ObserveInt64(failed, stats.Failed)
		o.ObserveInt64(segments, int64(stats.Sealed))
		o.ObserveInt64(size, stats.Size)
		o.ObserveInt64(kept, int64(stats.Kept))
		o.ObserveInt64(keptBytes, stats.KeptBytes)
		o.ObserveInt64(keptMost, stats.KeptMost)
		ok := int64(1)
		if j.Health() != nil {
			ok = 0
		}
		o.ObserveInt64(healthy, ok)
		return nil
	}, appended, failed, segments, size, kept, keptBytes, keptMost, healthy)
	if err != nil {
		return fmt.Errorf("register the journal's metrics: %w", err)
	}
	return nil
}
