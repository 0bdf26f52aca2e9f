package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/contrib/instrumentation/github.com/gin-gonic/gin/otelgin"

	"github.com/riverline/tollgate/api"
	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/internal/blobstore"
	"github.com/riverline/tollgate/internal/connections"
	"github.com/riverline/tollgate/internal/telemetry"
	"github.com/riverline/tollgate/web"
	"github.com/riverline/tollgate/web/site"
	"github.com/riverline/tollgate/workflows/starter"
)

// API serves HTTP: it meters, enforces, and flushes what it has counted.
type API struct {
	config APIConfig
	ready  *ready
	// callers is how many connections of callers are held.
	callers int
	// demo is whom the first page offers.
	demo atomic.Pointer[[]web.DemoVisitor]
}

// OfferDemo has the first page offer keys, to whoever opens it on this machine. It is for `tollgate dev` alone.
func (a *API) OfferDemo(visitors []web.DemoVisitor) { a.demo.Store(&visitors) }

func (a *API) offered() []web.DemoVisitor {
	if visitors := a.demo.Load(); visitors != nil {
		return *visitors
	}
	return nil
}

// NewAPI makes an API that does not run yet.
func NewAPI(config APIConfig) *API { return &API{config: config, ready: newReady()} }

// Ready is closed once the API serves.
func (a *API) Ready() <-chan struct{} { return a.ready.done }

// apiService names the API in traces, metrics and logs.
const apiService = "tollgate-api"

// resyncEvery is the time between two re-reads of what changed, should a
// notification have been missed.
const resyncEvery = time.Minute

// Run serves until the context ends. Then it becomes unready, answers the requests
// that are under way, and flushes for the last time.
func (a *API) Run(ctx context.Context) (err error) {
	gin.SetMode(gin.ReleaseMode)
	budget := connections.Budget{Files: connections.RaiseFileLimit(), Postgres: int(a.config.MaxConnections), Forwards: a.config.Upstream != ""}
	if a.callers, err = budget.Connections(a.config.Callers); err != nil {
		return fmt.Errorf("--callers: %w", err)
	}
	secure, err := a.config.TLS.openCertificate()
	if err != nil {
		return err
	}
	b, err := a.config.open(ctx, apiService, a.config.ListenDatabaseURL)
	if err != nil {
		return err
	}
	defer b.close()
	if err := a.config.check(ctx, b.store); err != nil {
		return err
	}
	if err := a.config.publishDefault(ctx, b); err != nil {
		return err
	}
	blobs, err := blobstore.Open(ctx, a.config.BlobURL)
	if err != nil {
		return fmt.Errorf("--blob-url: %w", err)
	}
	defer func() { err = errors.Join(err, blobs.Close()) }()
	opened, err := listen(ctx, "--listen", a.config.Listen)
	if err != nil {
		return err
	}
	listener := connections.Limit(opened, a.callers)
	defer func() { _ = listener.Close() }()
	stopMetrics, err := a.serveMetrics(ctx, b, listener)
	if err != nil {
		return err
	}
	defer stopMetrics()
	instance, err := startInstance(ctx, b, a.config)
	if err != nil {
		return err
	}
	defer instance.close()
	shedder, stopShedding, err := a.startShedder(b)
	if err != nil {
		return err
	}
	defer stopShedding()
	server, err := a.newServer(b, instance, blobs, shedder)
	if err != nil {
		return err
	}
	instance.follow(server)
	pages := a.servePages(b, server)

	httpServer := api.NewHTTPServer(api.HTTPConfig{
		Handler: server.Handler(), HeaderTimeout: a.config.HeaderTimeout, BodyTimeout: a.config.BodyTimeout,
	})
	httpServer.RegisterOnShutdown(pages.Stop)
	secure(httpServer)
	listener.Serve(httpServer, api.IsProbe)
	secured := httpServer.TLSConfig != nil
	failed := serve(httpServer, listener)
	server.SetReady(true)
	a.ready.set()
	b.logger.Info("The API serves", "listen", listener.Addr().String(), "tls", secured, "metrics", a.config.MetricsListen, "instance", instance.id, "connections", a.callers)
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	return errors.Join(err, a.stop(ctx, b, server, httpServer), instance.drain())
}

// servePages answers what people open.
func (a *API) servePages(b *base, server *api.Server) *web.Pages {
	pages := web.New(web.Config{
		API: server, SignIns: b.store, OpenID: a.config.provider(), NoKeys: !a.config.SignInByKey, Demo: a.offered, Logger: b.logger,
	})
	server.ServePages(pages)
	return pages
}

// tracing makes spans, and the metrics of HTTP servers, of what passes it.
func tracing(b *base) gin.HandlerFunc {
	return otelgin.Middleware(apiService, otelgin.WithTracerProvider(b.telemetry.Traces), otelgin.WithMeterProvider(b.telemetry.Metrics))
}

// serveMetrics serves /metrics, apart from the tenants' address, until it is stopped: while the API
// starts and while it stops, too.
func (a *API) serveMetrics(ctx context.Context, b *base, callers *connections.Listener) (stop func(), err error) {
	if err := telemetry.ObserveConnections(b.telemetry.Metrics, callers.Counts); err != nil {
		return nil, err
	}
	if a.config.MetricsListen == "" {
		return func() {}, nil
	}
	listener, err := listen(ctx, "--metrics-listen", a.config.MetricsListen)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", b.telemetry.Handler())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute}
	failed := serve(server, listener)
	go func() {
		if err := <-failed; err != nil {
			b.logger.Error("Metrics are no longer served", "error", err)
		}
	}()
	return func() { _ = server.Close() }, nil
}

// stop becomes unready, and answers the requests that are under way.
func (a *API) stop(ctx context.Context, b *base, server *api.Server, httpServer *http.Server) error {
	server.SetReady(false)
	b.logger.Info("The API stops")
	if ctx.Err() != nil {
		time.Sleep(a.config.DrainDelay)
	}
	stopping, cancel := context.WithTimeout(context.Background(), a.config.ShutdownTimeout)
	defer cancel()
	if shutdown := httpServer.Shutdown(stopping); shutdown != nil {
		b.logger.Warn("Requests were cut off at the end", "error", shutdown)
		_ = httpServer.Close()
	}
	server.Close()
	return nil
}

// startShedder follows the delay of the process until it is stopped; nil: nothing is shed.
func (a *API) startShedder(b *base) (shedder *gate.Shedder, stop func(), err error) {
	if a.config.MaxDelay == 0 {
		return nil, func() {}, nil
	}
	probe, err := connections.OpenProbe()
	if err != nil {
		return nil, nil, err
	}
	shedder = gate.NewShedder(gate.ShedderConfig{MaxDelay: a.config.MaxDelay, Delay: probe.Delay})
	if err := telemetry.ObserveShedder(b.telemetry.Metrics, shedder.Counts); err != nil {
		probe.Close()
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { shedder.Run(ctx) })
	return shedder, func() {
		cancel()
		running.Wait()
		probe.Close()
	}, nil
}

func (a *API) newServer(b *base, i *instance, blobs *blobstore.Store, shedder *gate.Shedder) (*api.Server, error) {
	creditsTakeTwo, err := a.config.creditTakesTwo()
	if err != nil {
		return nil, err
	}
	serverConfig := api.Config{
		Meter: i.meter, Refresher: i.refresher, Store: b.store, Workflows: apiWorkflows{temporal: b.temporal, allowSelfApproval: a.config.AllowSelfApproval}, Blobs: blobs,
		WebhooksConfig: api.WebhooksConfig{
			Webhooks: b.store, Redeliverer: redeliverer{b.temporal, a.config.Webhooks}, AllowPrivateWebhooks: a.config.WebhookAllowPrivate,
		},
		Parts: []api.Part{
			{Name: "postgres", Check: b.store.Ping},
			{Name: "schema", Check: b.schemaHealth},
			{Name: "journal", Check: func(context.Context) error { return i.journalHealth() }},
			{Name: "leases", Check: func(context.Context) error { return i.meter.LeasesAway() }},
			{Name: "flush", Check: func(context.Context) error { return i.flushHealth() }},
			{Name: "usage", Check: i.usageHealth},
			{Name: "temporal", Check: func(ctx context.Context) error {
				_, err := b.temporal.CheckHealth(ctx, nil)
				return err
			}},
		},
		BodyTimeout: a.config.BodyTimeout, MaxGatewayBody: a.config.GatewayBodyMiB << 20, MaxUpstreamConns: a.callers,
		MaxUnderWay: cmp.Or(a.config.TenantRequests, max(1, a.callers/4)), TenantCost: cmp.Or(a.config.TenantCost, -1),
		CreditsTakeTwo: creditsTakeTwo, PlansTakeTwo: a.config.PlansTakeTwo,
		// Together with the rechecks, look-ups of keys take half of the connections at most.
		KeysAway: a.config.KeysAway, KeyLookups: max(1, int(a.config.MaxConnections)/4), MaxKeys: a.config.MaxKeys,
		Backlog:     i.backlog,
		Shedder:     shedder,
		MaxLate:     a.config.MaxLate,
		MaxAhead:    a.config.MaxAhead,
		PassUnknown: a.config.PassUnknown,
		Middleware:  []gin.HandlerFunc{tracing(b)},
		Logger:      b.logger,
	}
	if a.config.TemporalUIURL != "" {
		serverConfig.TemporalURL = func(workflowID, runID string) string {
			link, err := starter.Started{WorkflowID: workflowID, RunID: runID}.UILink(a.config.TemporalUIURL, b.namespace)
			if err != nil {
				return ""
			}
			return link
		}
	}
	if a.config.Upstream != "" {
		upstream, err := url.Parse(a.config.Upstream)
		if err != nil {
			return nil, fmt.Errorf("--upstream: %w", err)
		}
		serverConfig.Upstream = upstream
	}
	if a.config.GatewayRules != "" {
		document, err := os.ReadFile(a.config.GatewayRules)
		if err != nil {
			return nil, fmt.Errorf("--gateway-rules: %w", err)
		}
		if serverConfig.Rules, err = gate.ParseRules(document); err == nil {
			err = serverConfig.Rules.Check(b.catalog)
		}
		if err != nil {
			return nil, fmt.Errorf("--gateway-rules %s: %w", a.config.GatewayRules, err)
		}
	}
	if serverConfig.Observe, err = telemetry.ObserveRequests(b.telemetry.Metrics); err != nil {
		return nil, err
	}
	server := api.New(serverConfig)
	server.ServePages(site.New(b.logger))
	return server, errors.Join(
		telemetry.ObserveGate(b.telemetry.Metrics, server.GateCounts),
		telemetry.ObserveParts(b.telemetry.Metrics, server.HealthyParts),
	)
}
