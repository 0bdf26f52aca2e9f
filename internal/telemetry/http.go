package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/internal/connections"
)

// requestBuckets are the bounds of the request histogram, in seconds: from what a
// decision in memory takes to what a download takes.
var requestBuckets = []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10}

// methodLabel is the method where it is one of the nine of HTTP (RFC 9110 and 5789). A caller may
// choose any other: past OpenTelemetry's bound of series all that is new is one, and a caller could
// hide there what others do.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return method
	default:
		return "other"
	}
}

// statusLabel is the status, or the hundreds of one that has no name: an upstream may answer with any.
func statusLabel(status int) string {
	if http.StatusText(status) == "" && status != gate.StatusClientClosedRequest {
		return strconv.Itoa(status/100) + "xx"
	}
	return strconv.Itoa(status)
}

// ObserveRequests returns what is to be told of every request: the method, the
// route's pattern, the status and the time it took.
func ObserveRequests(provider metric.MeterProvider) (func(method, route string, status int, elapsed time.Duration), error) {
	duration, err := provider.Meter("github.com/riverline/tollgate/api").Float64Histogram("tollgate_request_duration",
		metric.WithUnit("s"), metric.WithDescription("Requests by method, route and status."),
		metric.WithExplicitBucketBoundaries(requestBuckets...))
	if err != nil {
		return nil, fmt.Errorf("make the request metric: %w", err)
	}
	return func(method, route string, status int, elapsed time.Duration) {
		duration.Record(context.Background(), elapsed.Seconds(), metric.WithAttributes(
			attribute.String("method", methodLabel(method)), attribute.String("route", route), attribute.String("status", statusLabel(status)),
		))
	}, nil
}

// ObserveGate makes the metrics of a gate. They are read when they are scraped.
func ObserveGate(provider metric.MeterProvider, counts func() gate.Counts) error {
	scope := provider.Meter("github.com/riverline/tollgate/gate")
	for name, one := range map[string]struct {
		help  string
		count func(gate.Counts) int64
	}{
		"tollgate_rate_limited": {"Requests answered with 429.", func(c gate.Counts) int64 { return c.RateLimited }},
		"tollgate_released":     {"Admitted requests that gave their quantity back: no 2xx.", func(c gate.Counts) int64 { return c.Released }},
		"tollgate_unclassified": {"Requests to the gateway that no rule knew.", func(c gate.Counts) int64 { return c.Unclassified }},
	} {
		_, err := scope.Int64ObservableCounter(name, metric.WithDescription(one.help),
			metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(one.count(counts()))
				return nil
			}))
		if err != nil {
			return fmt.Errorf("make the gate's metrics: %w", err)
		}
	}
	return nil
}

// ObserveShedder makes the metrics of what is shed. They are read when they are scraped.
func ObserveShedder(provider metric.MeterProvider, counts func() gate.ShedCounts) error {
	scope := provider.Meter("github.com/riverline/tollgate/gate")
	active, failed := scope.Int64ObservableGauge("tollgate_overloaded",
		metric.WithDescription("1 while there is more to do than can be done, 0 otherwise."))
	shed, err := scope.Int64ObservableCounter("tollgate_shed",
		metric.WithDescription("Requests answered with 503 because there was more to do than could be done, by reason: the caller's share, the budget of all."))
	if failed = errors.Join(failed, err); failed == nil {
		_, failed = scope.RegisterCallback(func(_ context.Context, o metric.Observer) error {
			c := counts()
			o.ObserveInt64(active, c.Active)
			o.ObserveInt64(shed, c.OverShare, metric.WithAttributes(attribute.String("reason", "share")))
			o.ObserveInt64(shed, c.OverBudget, metric.WithAttributes(attribute.String("reason", "budget")))
			return nil
		}, active, shed)
	}
	if failed != nil {
		return fmt.Errorf("make the metrics of what is shed: %w", failed)
	}
	return nil
}

// ObserveConnections makes the metrics of the connections that a server holds. They are read when
// they are scraped.
func ObserveConnections(provider metric.MeterProvider, counts func() connections.Counts) error {
	scope := provider.Meter("github.com/riverline/tollgate/internal/connections")
	held, failed := scope.Int64ObservableGauge("tollgate_connections",
		metric.WithDescription("Connections of callers: held, and the most that are served."))
	crowded, err := scope.Int64ObservableCounter("tollgate_connections_turned_away",
		metric.WithDescription("Connections for which there was no room: idle ones that were closed for others, those that were answered 503, and those that were closed at once."))
	if failed = errors.Join(failed, err); failed == nil {
		_, failed = scope.RegisterCallback(func(_ context.Context, o metric.Observer) error {
			c := counts()
			o.ObserveInt64(held, c.Held, metric.WithAttributes(attribute.String("state", "held")))
			o.ObserveInt64(held, c.Most, metric.WithAttributes(attribute.String("state", "most")))
			o.ObserveInt64(crowded, c.Evicted, metric.WithAttributes(attribute.String("how", "evicted")))
			o.ObserveInt64(crowded, c.Crowded, metric.WithAttributes(attribute.String("how", "crowded")))
			o.ObserveInt64(crowded, c.Refused, metric.WithAttributes(attribute.String("how", "closed")))
			return nil
		}, held, crowded)
	}
	if failed != nil {
		return fmt.Errorf("make the metrics of connections: %w", failed)
	}
	return nil
}
