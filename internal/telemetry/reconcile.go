package telemetry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/riverline/tollgate/billing"
)

// ObserveReconciliations makes the metrics of reconciliations, and returns what is to be
// told of each. The figures are those of the last one; there are none before the first.
func ObserveReconciliations(provider metric.MeterProvider, now func() time.Time) (func(billing.Reconciliation), error) {
	scope := provider.Meter("github.com/riverline/tollgate/activities")
	differences, err1 := scope.Int64ObservableGauge("tollgate_reconcile_differences",
		metric.WithDescription("Differences between two layers of usage that the last reconciliation found, by comparison; 0 is right."))
	compared, err2 := scope.Int64ObservableGauge("tollgate_reconcile_compared",
		metric.WithDescription("What the last reconciliation has compared, by comparison."))
	at, err3 := scope.Float64ObservableGauge("tollgate_reconcile_time_seconds", metric.WithUnit("s"),
		metric.WithDescription("When the last reconciliation ended, in Unix time."))
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("make the reconciler's metrics: %w", err)
	}
	var mu sync.Mutex
	var last *billing.Reconciliation
	var ended time.Time
	_, err := scope.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		mu.Lock()
		defer mu.Unlock()
		if last == nil {
			return nil
		}
		o.ObserveFloat64(at, float64(ended.UnixMilli())/1000)
		for _, c := range last.Compared {
			by := metric.WithAttributes(attribute.String("comparison", c.String()))
			o.ObserveInt64(differences, c.Different, by)
			o.ObserveInt64(compared, c.Compared, by)
		}
		return nil
	}, differences, compared, at)
	if err != nil {
		return nil, fmt.Errorf("register the reconciler's metrics: %w", err)
	}
	return func(found billing.Reconciliation) {
		mu.Lock()
		defer mu.Unlock()
		last, ended = &found, now()
	}, nil
}
