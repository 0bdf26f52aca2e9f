package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/riverline/tollgate/cmd/internal/app"
	"github.com/riverline/tollgate/internal/config"
	"github.com/riverline/tollgate/internal/demo"
	"github.com/riverline/tollgate/internal/devstack"
	"github.com/riverline/tollgate/web"
)

// devCommand runs every part on one machine, for trying and for developing.
type devCommand struct {
	config.Log
	config.Catalog
	config.Stripe
	config.Transport
	Port           int           `default:"8080" env:"TOLLGATE_DEV_PORT" help:"Port of the API and its pages."`
	PostgresPort   int           `default:"0" env:"TOLLGATE_DEV_POSTGRES_PORT" help:"Port of the private Postgres; 0 takes a free one."`
	TemporalPort   int           `default:"7233" env:"TOLLGATE_DEV_TEMPORAL_PORT" help:"Port of Temporal."`
	TemporalUIPort int           `name:"temporal-ui-port" default:"8233" env:"TOLLGATE_DEV_TEMPORAL_UI_PORT" help:"Port of Temporal's UI."`
	MetricsPort    int           `default:"9091" env:"TOLLGATE_DEV_METRICS_PORT" help:"Port of the API's metrics."`
	WorkerPort     int           `default:"9090" env:"TOLLGATE_DEV_WORKER_PORT" help:"Port of the worker's metrics and readiness."`
	DataDir        string        `type:"path" default:".tollgate" env:"TOLLGATE_DEV_DATA_DIR" help:"Folder for the data of Postgres and Temporal, export files, logs and dev.env."`
	DatabaseURL    string        `secret:"" env:"DATABASE_URL" placeholder:"URL" help:"Use this Postgres, as a role that owns the schema, in place of a private one."`
	FlushInterval  time.Duration `default:"10s" env:"TOLLGATE_FLUSH_INTERVAL" help:"Time between flushes."`
}

// stopTimeout bounds the clean stop of each private server.
const stopTimeout = 20 * time.Second

// Validate checks the ports.
func (c *devCommand) Validate() error {
	for flag, port := range map[string]int{
		"--port": c.Port, "--temporal-port": c.TemporalPort, "--temporal-ui-port": c.TemporalUIPort, "--metrics-port": c.MetricsPort, "--worker-port": c.WorkerPort,
	} {
		if port < 1 || port > 65535 {
			return fmt.Errorf("%s is %d: it must be 1 to 65535", flag, port)
		}
	}
	if c.PostgresPort < 0 || c.PostgresPort > 65535 {
		return fmt.Errorf("--postgres-port is %d: it must be 0 to 65535", c.PostgresPort)
	}
	return c.Stripe.Validate()
}

// Run starts everything, says where it is, and stops it when the context ends.
func (c *devCommand) Run(ctx context.Context, out *output) error {
	started := time.Now()
	c.Log.Logger()
	if err := c.prepare(); err != nil {
		return err
	}
	servers, err := c.startServers(ctx, out)
	defer servers.stop()
	if err != nil {
		return err
	}
	apiURL, err := servers.prepareDatabase(ctx, c)
	if err != nil {
		return err
	}
	upstream, err := startEcho()
	if err != nil {
		return err
	}
	defer func() { _ = upstream.Close() }()

	// Temporal is found as in production: by its own environment variables.
	for name, value := range map[string]string{"TEMPORAL_ADDRESS": servers.temporal.Address(), "TEMPORAL_NAMESPACE": devstack.TemporalNamespace} {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	shared := app.Shared{
		Log:      c.Log,
		Database: config.Database{Transport: c.Transport, DatabaseURL: apiURL, MaxConnections: 16},
		Blobs:    config.Blobs{BlobURL: (&url.URL{Scheme: "file", Path: filepath.Join(c.DataDir, "blobs")}).String()},
		Catalog:  c.Catalog,
		// Receivers are on this machine, too.
		Webhooks: app.Webhooks{WebhookAllowPrivate: true},
	}
	settings, err := c.apiSettings(shared, upstream.Addr, servers.temporal.UIURL())
	if err != nil {
		return err
	}
	api := app.NewAPI(settings)
	worker := app.NewWorker(app.WorkerConfig{Shared: shared, Stripe: c.Stripe, Listen: loopback(c.WorkerPort)})

	group, groupCtx := errgroup.WithContext(ctx)
	// The worker outlives the API, whose last flush and farewell it helps with.
	workerCtx, stopWorker := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorker()
	group.Go(func() error { return worker.Run(workerCtx) })
	group.Go(func() error {
		defer stopWorker()
		return api.Run(groupCtx)
	})
	group.Go(func() error { return servers.watch(groupCtx) })
	group.Go(func() error {
		if err := app.AwaitReady(groupCtx, api, worker); err != nil {
			return err
		}
		env, organizations, err := c.seed(groupCtx, apiURL)
		if err != nil {
			return err
		}
		api.OfferDemo(demoVisitors(env, organizations))
		return c.announce(out, servers, env, upstream.Addr, time.Since(started))
	})
	err = group.Wait()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		_, _ = fmt.Fprintln(out, "Flushed and stopped.")
		return nil
	}
	return err
}

// apiSettings are those of an API of which nothing is said, but for what is on this machine.
func (c *devCommand) apiSettings(shared app.Shared, upstream, temporalUI string) (app.APIConfig, error) {
	settings, err := app.DefaultAPIConfig()
	if err != nil {
		return settings, err
	}
	settings.Shared = shared
	settings.ListenDatabase = app.ListenDatabase{}
	settings.Listen, settings.MetricsListen = loopback(c.Port), loopback(c.MetricsPort)
	settings.Upstream = "http://" + upstream
	settings.TemporalUIURL = temporalUI
	settings.FlushInterval = c.FlushInterval
	settings.JournalDir = filepath.Join(c.DataDir, "journal")
	return settings, settings.Validate()
}

func (c *devCommand) prepare() error {
	folder, err := filepath.Abs(c.DataDir)
	if err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	c.DataDir = folder
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	// The servers check their own ports, once they have ended what a killed run of this
	// folder left behind.
	return errors.Join(
		devstack.CheckPort(loopback(c.Port), "--port"),
		devstack.CheckPort(loopback(c.MetricsPort), "--metrics-port"),
		devstack.CheckPort(loopback(c.WorkerPort), "--worker-port"),
	)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// devServers are the private servers that are running.
type devServers struct {
	postgres *devstack.Postgres // nil where DATABASE_URL is used
	temporal *devstack.Temporal
	ownerURL string
}

func (c *devCommand) startServers(ctx context.Context, out *output) (*devServers, error) {
	servers := &devServers{ownerURL: c.DatabaseURL}
	group, ctx := errgroup.WithContext(ctx)
	if c.DatabaseURL == "" {
		group.Go(func() (err error) {
			servers.postgres, err = devstack.StartPostgres(ctx, devstack.PostgresConfig{
				DataDir: filepath.Join(c.DataDir, "postgres"), DataDirFlag: "--data-dir",
				Port: c.PostgresPort, PortFlag: "--postgres-port", Durable: true, Output: out,
			})
			if err == nil {
				servers.ownerURL = servers.postgres.URL("tollgate")
			}
			return err
		})
	}
	group.Go(func() (err error) {
		servers.temporal, err = devstack.StartTemporal(ctx, devstack.TemporalConfig{
			DatabaseFile: filepath.Join(c.DataDir, "temporal.db"), DatabaseFlag: "--data-dir",
			Port: c.TemporalPort, PortFlag: "--temporal-port",
			UIPort: c.TemporalUIPort, UIPortFlag: "--temporal-ui-port", Durable: true, Output: out,
		})
		return err
	})
	return servers, group.Wait()
}

// stop stops what runs, Temporal first: it needs nothing of ours any more.
func (s *devServers) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if s.temporal != nil {
		if err := s.temporal.Stop(ctx); err != nil {
			slog.Error("Temporal did not stop cleanly", "error", err)
		}
	}
	if s.postgres != nil {
		if err := s.postgres.Stop(ctx); err != nil {
			slog.Error("Postgres did not stop cleanly", "error", err)
		}
	}
}

// watch returns an error when a private server ends by itself.
func (s *devServers) watch(ctx context.Context) error {
	var postgres <-chan struct{}
	if s.postgres != nil {
		postgres = s.postgres.Done()
	}
	select {
	case <-ctx.Done():
		return nil
	case <-s.temporal.Done():
		return fmt.Errorf("Temporal ended by itself; its log is %s", s.temporal.LogFile())
	case <-postgres:
		return fmt.Errorf("Postgres ended by itself; its log is %s", s.postgres.LogFile())
	}
}

// startEcho starts the upstream that the gateway passes requests on to.
func startEcho() (*http.Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the demo upstream: %w", err)
	}
	server := &http.Server{Addr: listener.Addr().String(), Handler: demo.Echo(), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			slog.Error("The demo upstream ended", "error", err)
		}
	}()
	return server, nil
}

// demoVisitors are the roles to try.
func demoVisitors(env demo.Env, organizations []demo.Organization) []web.DemoVisitor {
	tenant := organizations[max(0, slices.IndexFunc(organizations, func(o demo.Organization) bool { return o.Plan == "free" }))]
	visitors := []web.DemoVisitor{
		{Name: "Tenant", Does: "Begins on plan " + tenant.Plan + ": where it stands against its limits, what it costs, what another plan changes.", Key: env[tenant.KeyVariable()], Page: "/usage"},
		{Name: "Finance", Does: "Closes months: what differs from the month before and why, approval by a second person, files.", Key: env["TOLLGATE_FINANCE_KEY"], Page: "/months"},
		{Name: "Finance, the second person", Does: "Approves what the first one has reviewed, and lets large credits pass.", Key: env["TOLLGATE_FINANCE2_KEY"], Page: "/months"},
		{Name: "Operator", Does: "Keeps it running: instances, what waits, what is stuck, whether all layers say the same.", Key: env["TOLLGATE_ADMIN_KEY"], Page: "/instances"},
		{Name: "Administrator", Does: "Organizations, keys, and plans with their prices, tried on last month before they are published.", Key: env["TOLLGATE_ADMIN_KEY"], Page: "/organizations"},
	}
	if tenant.Plan == "free" {
		visitors[0].Limited = "simulations"
	}
	return visitors
}

// announce says what to open, and what runs where.
func (c *devCommand) announce(out *output, servers *devServers, env demo.Env, upstream string, took time.Duration) error {
	_, _ = fmt.Fprintf(out, "\nTollgate is ready after %s. Ctrl-C flushes and stops it; the data stays.\n\n  Open %s/\n\n", took.Round(100*time.Millisecond), env["TOLLGATE_URL"])
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, row := range [][2]string{
		{"API", env["TOLLGATE_URL"] + "/api/v1, its reference at " + env["TOLLGATE_URL"] + "/docs"},
		{"Gateway", env["TOLLGATE_URL"] + "/gateway/ → echo at http://" + upstream},
		{"Temporal", servers.temporal.Address() + ", its UI at " + servers.temporal.UIURL()},
		{"Postgres", redacted(servers.ownerURL)},
		{"Metrics", "http://" + loopback(c.MetricsPort) + "/metrics, http://" + loopback(c.WorkerPort) + "/metrics"},
		{"Keys", c.envFile()},
	} {
		_, _ = fmt.Fprintf(table, "  %s\t%s\n", row[0], row[1])
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nIn a shell: set -a; . %s; set +a\n", c.envFile())
	return err
}

func (c *devCommand) envFile() string { return filepath.Join(c.DataDir, "dev.env") }

func redacted(database string) string {
	u, err := url.Parse(database)
	if err != nil {
		return "as DATABASE_URL says"
	}
	return u.Redacted()
}
