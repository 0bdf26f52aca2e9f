package telemetry

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// ObserveParts makes the metric of what a process depends on. healthy says of each part whether it
// is as it should be; it is asked at each scrape.
func ObserveParts(provider metric.MeterProvider, healthy func(context.Context) map[string]bool) error {
	parts := newAsked(func(ctx context.Context) (map[string]bool, error) { return healthy(ctx), nil })
	_, err := provider.Meter("github.com/riverline/tollgate/api").Int64ObservableGauge("tollgate_part_healthy",
		metric.WithDescription("1 while a part that the process depends on is as it should be, 0 otherwise, by part."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			found, err := parts.read()
			if err != nil {
				return fmt.Errorf("ask which parts are healthy: %w", err)
			}
			for part, ok := range found {
				value := int64(0)
				if ok {
					value = 1
				}
				o.Observe(value, metric.WithAttributes(attribute.String("part", part)))
			}
			return nil
		}))
	if err != nil {
		return fmt.Errorf("make the metric of parts: %w", err)
	}
	return nil
}
