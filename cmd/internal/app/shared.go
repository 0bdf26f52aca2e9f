// Package app wires the programs: it alone knows every part. An API and a worker
// are the same here whether they run as processes of their own or together in
// `tollgate dev`.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/exaring/otelpgx"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/contrib/opentelemetry"
	"go.temporal.io/sdk/interceptor"
	tlog "go.temporal.io/sdk/log"

	"github.com/riverline/tollgate/api"
	"github.com/riverline/tollgate/internal/config"
	"github.com/riverline/tollgate/internal/telemetry"
	"github.com/riverline/tollgate/internal/temporalcodec"
	"github.com/riverline/tollgate/internal/version"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/pgstore/pooler"
	"github.com/riverline/tollgate/plans"
)

// Shared are the settings that every process has.
type Shared struct {
	config.Log
	config.Database
	config.Blobs
	config.Catalog
	config.Temporal
	Webhooks
	FourEyes
}

// FourEyes say what takes two people. Give them to every process of an installation: a worker decides
// on approvals, and both publish catalogs.
type FourEyes struct {
	AllowSelfApproval bool `env:"TOLLGATE_ALLOW_SELF_APPROVAL" help:"Let who requested an export approve it; every API and every worker has to allow it. Default: somebody else has to."`
	PlansTakeTwo      bool `name:"plans-take-two" env:"TOLLGATE_PLANS_TAKE_TWO" help:"Have each version of a plan that comes by the API wait until a second person approves it, and refuse to start with a catalog that has others. Default: it is in force at once."`
}

// Validate checks the settings.
func (s Shared) Validate() error {
	return errors.Join(s.Database.Validate(), CheckTransport("--database-url", s.DatabaseURL, s.Transport), s.Blobs.Validate(), s.Temporal.Validate(), s.Webhooks.Validate())
}

// CheckTransport refuses a database whose password and data would, or could be made to, cross a network
// in the clear. The error names the setting and the host.
func CheckTransport(flag, url string, transport config.Transport) error {
	if url == "" || transport.AllowPlaintextDatabase {
		return nil
	}
	host := pooler.Unencrypted(url)
	if host == "" {
		return nil
	}
	return fmt.Errorf("%s may reach %s without TLS: add sslmode=verify-full (or verify-ca, or require) to it, "+
		"or set --allow-plaintext-database where the network is trusted", flag, host)
}

// base is what every process stands on.
type base struct {
	telemetry *telemetry.Telemetry
	store     *pgstore.Store
	temporal  client.Client
	namespace string // of Temporal
	codec     *temporalcodec.Codec
	catalog   *plans.Catalog
	logger    *slog.Logger
}

// open connects to Postgres, publishes the catalog file and prepares to reach Temporal,
// which need not answer yet. listenURL is where changes are listened for, if that is another one.
func (s Shared) open(ctx context.Context, service, listenURL string) (_ *base, err error) {
	b := &base{logger: slog.Default().With("service", service)}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	b.telemetry, err = telemetry.Setup(ctx, telemetry.Config{Service: service, Version: version.String()})
	if err != nil {
		return nil, err
	}
	published, err := s.Catalog.Load()
	if err != nil {
		return nil, err
	}
	b.store, err = pgstore.Open(ctx, pgstore.Config{
		URL: s.DatabaseURL, ListenURL: listenURL, MaxConns: s.MaxConnections, Logger: b.logger, PlansTakeTwo: s.PlansTakeTwo,
		Tracer: otelpgx.NewTracer(otelpgx.WithTracerProvider(b.telemetry.Traces), otelpgx.WithMeterProvider(b.telemetry.Metrics)),
	})
	if err != nil {
		return nil, err
	}
	if err := telemetry.ObservePool(b.telemetry.Metrics, func() telemetry.Pool { return telemetry.Pool(b.store.Pool()) }); err != nil {
		return nil, err
	}
	if err := b.store.CheckSchema(ctx); err != nil {
		return nil, err
	}
	if s.Own() {
		if err := b.store.PublishCatalog(ctx, published); err != nil {
			return nil, fmt.Errorf("--catalog %s: %w", s.Catalog.Catalog, err)
		}
	}
	if b.catalog, err = b.store.Catalog(ctx); err != nil {
		return nil, err
	}
	return b, b.dialTemporal(s.Temporal)
}

// schemaHealth says whether the program works with the database's schema, which may be migrated at any time.
func (b *base) schemaHealth(ctx context.Context) error {
	err := b.store.CheckSchemaVersion(ctx)
	switch {
	case errors.Is(err, pgstore.ErrSchema):
		return api.PartTooOld
	case errors.Is(err, pgstore.ErrSchemaNewer):
		return api.PartTooNew
	default:
		return err
	}
}

// publishDefault publishes the built-in catalog where the process has no file. Only what
// serves requests does: a worker that lacks the file of its installation must not be the
// one that decides.
func (s Shared) publishDefault(ctx context.Context, b *base) error {
	if s.Own() {
		return nil
	}
	published, err := b.store.PublishDefaultCatalog(ctx)
	if err != nil {
		return err
	}
	if !published {
		b.logger.Warn("The installation has a catalog of its own, which counts: start this process with --catalog, too, to publish what changes in it")
	}
	b.catalog, err = b.store.Catalog(ctx)
	return err
}

// dialTemporal makes a client from Temporal's standard environment. It connects at
// its first use: Temporal may be away when a process starts.
func (b *base) dialTemporal(settings config.Temporal) error {
	environment, err := config.NewEnvironment("TEMPORAL_API_KEY")
	if err != nil {
		return fmt.Errorf("read Temporal's settings: %w", err)
	}
	options, err := envconfig.LoadClientOptions(envconfig.LoadClientOptionsRequest{EnvLookup: environment})
	if err != nil {
		return fmt.Errorf("read Temporal's settings: %w", err)
	}
	if options.Namespace == "" {
		options.Namespace = client.DefaultNamespace
	}
	b.namespace = options.Namespace
	tracing, err := opentelemetry.NewTracingInterceptor(opentelemetry.TracerOptions{
		Tracer: b.telemetry.Traces.Tracer("go.temporal.io/sdk"), TextMapPropagator: telemetry.Propagator(),
	})
	if err != nil {
		return fmt.Errorf("trace Temporal: %w", err)
	}
	options.Logger = tlog.NewStructuredLogger(quietTemporal(b.logger))
	options.Interceptors = append(options.Interceptors, interceptor.ClientInterceptor(tracing))
	options.MetricsHandler = opentelemetry.NewMetricsHandler(opentelemetry.MetricsHandlerOptions{
		Meter:                b.telemetry.Metrics.Meter("go.temporal.io/sdk"),
		OnError:              func(err error) { b.logger.Warn("A metric of Temporal's could not be recorded", "error", err) },
		UseMonotonicCounters: true,
	})
	if b.codec, err = settings.Codec(); err != nil {
		return err
	}
	b.codec.Use(&options)
	if b.temporal, err = client.NewLazyClient(options); err != nil {
		return fmt.Errorf("prepare to reach Temporal: %w", err)
	}
	return nil
}

// close ends what open began, in reverse.
func (b *base) close() {
	if b.temporal != nil {
		b.temporal.Close()
	}
	if b.store != nil {
		b.closeStore()
	}
	if b.telemetry != nil {
		ctx, cancel := context.WithTimeout(context.Background(), farewell)
		defer cancel()
		if err := b.telemetry.Shutdown(ctx); err != nil {
			b.logger.Warn("The last telemetry could not be exported", "error", err)
		}
	}
}

// closeStore ends the connections, and leaves to the end of the process those of a Postgres that doesn't answer.
func (b *base) closeStore() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		b.store.Close()
	}()
	select {
	case <-closed:
	case <-time.After(farewell / 2):
		b.logger.Warn("Postgres doesn't answer: its connections are left to the end of the process")
	}
}

// farewell bounds each step of a clean stop that talks to somebody else.
const farewell = 10 * time.Second

// ready is closed once a process serves.
type ready struct {
	once sync.Once
	done chan struct{}
}

func newReady() *ready { return &ready{done: make(chan struct{})} }

func (r *ready) set() { r.once.Do(func() { close(r.done) }) }

// Readier is a process whose start can be awaited.
type Readier interface{ Ready() <-chan struct{} }

// AwaitReady waits until every process serves, or the context ends.
func AwaitReady(ctx context.Context, processes ...Readier) error {
	for _, p := range processes {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.Ready():
		}
	}
	return nil
}

// listen opens a TCP port; its error names the flag.
func listen(ctx context.Context, flag, address string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return listener, nil
}

// serve serves until the server is shut down, with TLS where it has a configuration of it.
func serve(server *http.Server, listener net.Listener) (failed <-chan error) {
	ended := make(chan error, 1)
	go func() {
		run := server.Serve
		if server.TLSConfig != nil {
			run = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
		}
		if err := run(listener); !errors.Is(err, http.ErrServerClosed) {
			ended <- fmt.Errorf("serve HTTP: %w", err)
		}
		close(ended)
	}()
	return ended
}
