// Package telemetry sets up logs, metrics and traces the same way for every
// process: slog to standard error, Prometheus metrics over HTTP, and OpenTelemetry
// traces to wherever the standard OTEL_* environment says.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Config is what telemetry is set up from.
type Config struct {
	// Service names the process in traces and metrics: "tollgate-api". Required.
	Service string
	// Version is the program's version. Empty: "unknown".
	Version string
}

// Telemetry is one process's metrics and traces.
type Telemetry struct {
	// Registry holds every metric of the process.
	Registry *prometheus.Registry
	// Metrics and Traces are given to whatever is instrumented.
	Metrics metric.MeterProvider
	Traces  trace.TracerProvider

	shutdown []func(context.Context) error
}

// Setup makes a process's telemetry. Traces are exported by OTLP over HTTP where
// OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set (the
// OpenTelemetry specification's variables, with all that belong to them), and are
// not made otherwise.
func Setup(ctx context.Context, config Config) (*Telemetry, error) {
	if config.Version == "" {
		config.Version = "unknown"
	}
	described, err := resource.Merge(resource.Default(), resource.NewSchemaless(
		attribute.String("service.name", config.Service),
		attribute.String("service.version", config.Version),
	))
	if err != nil {
		return nil, fmt.Errorf("describe the process for telemetry: %w", err)
	}
	t := &Telemetry{Registry: prometheus.NewRegistry(), Traces: noop.NewTracerProvider()}
	t.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(t.Registry), otelprometheus.WithoutScopeInfo())
	if err != nil {
		return nil, fmt.Errorf("make the Prometheus exporter: %w", err)
	}
	metrics := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter), sdkmetric.WithResource(described), sdkmetric.WithView(temporalLatencies, bounded))
	t.Metrics = metrics
	t.shutdown = append(t.shutdown, metrics.Shutdown)

	if tracesWanted() {
		exporter, err := otlptracehttp.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("make the OTLP trace exporter: %w", err)
		}
		traces := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(described))
		t.Traces = traces
		t.shutdown = append(t.shutdown, traces.Shutdown)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		slog.Warn("Telemetry could not be exported", "error", err)
	}))
	return t, nil
}

// temporalLatencies gives the latencies of Temporal's SDK, which are in seconds, buckets of seconds:
// the SDK names none, and OpenTelemetry's own are for milliseconds.
var temporalLatencies = sdkmetric.NewView(
	sdkmetric.Instrument{Name: "temporal_*_latency*", Kind: sdkmetric.InstrumentKindHistogram},
	sdkmetric.Stream{Aggregation: sdkmetric.AggregationExplicitBucketHistogram{
		Boundaries: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86400},
	}},
)

// bounded leaves out of the metrics of HTTP servers what a caller chooses: the port that its Host
// header names, and the version of HTTP that it speaks.
var bounded = sdkmetric.NewView(sdkmetric.Instrument{Name: "http.server.*"}, sdkmetric.Stream{
	AttributeFilter: attribute.NewDenyKeysFilter("server.port", "network.protocol.name", "network.protocol.version"),
})

func tracesWanted() bool {
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// Propagator carries traces between processes: W3C Trace Context and Baggage.
func Propagator() propagation.TextMapPropagator {
	return propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
}

// Handler serves the metrics in the Prometheus and OpenMetrics text formats.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(t.Registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// Shutdown exports what is left. Call it last.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	var failed []error
	for _, stop := range t.shutdown {
		failed = append(failed, stop(ctx))
	}
	return errors.Join(failed...)
}

// NewLogger returns a logger that writes to standard error: as text where format is
// "text", as JSON where it is "json".
func NewLogger(level slog.Level, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}
