package telemetry

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Pool is what a process's connections to Postgres are doing.
type Pool struct {
	// Used and Idle count the connections that are open, Most is how many there may be.
	Used, Idle, Most int64
	// Waits counts how often all were used, so that somebody had to wait for one.
	Waits int64
}

// ObservePool makes the metrics of a process's connections to Postgres. They are read when they are scraped.
func ObservePool(provider metric.MeterProvider, pool func() Pool) error {
	scope := provider.Meter("github.com/riverline/tollgate/pgstore")
	connections, failed := scope.Int64ObservableGauge("tollgate_database_connections",
		metric.WithDescription("Connections to Postgres: used, idle, and the most that there may be."))
	waits, err := scope.Int64ObservableCounter("tollgate_database_waits",
		metric.WithDescription("How often a connection to Postgres had to be waited for."))
	if failed = errors.Join(failed, err); failed == nil {
		_, failed = scope.RegisterCallback(func(_ context.Context, o metric.Observer) error {
			p := pool()
			for state, n := range map[string]int64{"used": p.Used, "idle": p.Idle, "most": p.Most} {
				o.ObserveInt64(connections, n, metric.WithAttributes(attribute.String("state", state)))
			}
			o.ObserveInt64(waits, p.Waits)
			return nil
		}, connections, waits)
	}
	if failed != nil {
		return fmt.Errorf("make the metrics of connections to Postgres: %w", failed)
	}
	return nil
}
