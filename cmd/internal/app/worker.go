package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/worker"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/api"
	"github.com/riverline/tollgate/internal/blobstore"
	"github.com/riverline/tollgate/internal/config"
	"github.com/riverline/tollgate/internal/stripesink"
	"github.com/riverline/tollgate/internal/telemetry"
	"github.com/riverline/tollgate/internal/version"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

// WorkerConfig are the settings of the worker.
type WorkerConfig struct {
	Shared
	config.Stripe
	Listen        string        `default:"127.0.0.1:9090" env:"TOLLGATE_WORKER_LISTEN" help:"Address of /healthz, /livez, /readyz and /metrics."`
	KeepInterval  time.Duration `hidden:"" env:"TOLLGATE_KEEP_INTERVAL" help:"Time between two looks at what Temporal must have, for tests. Default: 1m."`
	KeepSchedules bool          `env:"TOLLGATE_KEEP_SCHEDULES" help:"Leave Temporal's schedules and search attributes alone; somebody else manages them."`
}

// Validate checks the settings.
func (c WorkerConfig) Validate() error {
	return errors.Join(c.Shared.Validate(), c.Stripe.Validate(), config.CheckListen("--listen", c.Listen), within("--keep-interval", c.KeepInterval, 0, time.Hour))
}

// Worker runs the workflows, and the activities that any process may run.
type Worker struct {
	config WorkerConfig
	ready  *ready
}

// NewWorker makes a worker that does not run yet.
func NewWorker(config WorkerConfig) *Worker { return &Worker{config: config, ready: newReady()} }

// Ready is closed once the worker takes work.
func (w *Worker) Ready() <-chan struct{} { return w.ready.done }

// retryTemporal is the time between two attempts to reach Temporal at the start.
const retryTemporal = time.Second

// Run works until the context ends; what is under way is then finished or handed
// back to Temporal.
func (w *Worker) Run(ctx context.Context) (err error) {
	b, err := w.config.open(ctx, "tollgate-worker", "")
	if err != nil {
		return err
	}
	defer b.close()
	blobs, err := blobstore.Open(ctx, w.config.BlobURL)
	if err != nil {
		return fmt.Errorf("--blob-url: %w", err)
	}
	defer func() { err = errors.Join(err, blobs.Close()) }()
	var working, keeping atomic.Bool
	watched, err := observeWorker(b, &keeping)
	if err != nil {
		return err
	}
	listener, err := listen(ctx, "--listen", w.config.Listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: operations(b, &working, &keeping, b.schemaHealth), ReadHeaderTimeout: 5 * time.Second}
	failed := serve(server, listener)
	defer func() { _ = server.Close() }()

	runner, err := w.register(b, blobs)
	if err != nil {
		return err
	}
	if err := untilReached(ctx, b, func() error { return w.prepare(ctx, b) }); err != nil {
		return ignoreEnd(ctx, err)
	}
	if err := untilReached(ctx, b, runner.Start); err != nil {
		return ignoreEnd(ctx, err)
	}
	defer runner.Stop()
	if err := untilReached(ctx, b, func() error { return ensureDispatch(ctx, b) }); err != nil {
		return ignoreEnd(ctx, err)
	}
	working.Store(true)
	keeping.Store(true)
	kept := make(chan struct{})
	keepCtx, stopKeeping := context.WithCancel(ctx)
	go func() {
		defer close(kept)
		w.keep(keepCtx, b, &keeping, watched)
	}()
	defer func() { stopKeeping(); <-kept }()
	w.ready.set()
	b.logger.Info("The worker takes work", "queue", workflows.TaskQueue, "listen", listener.Addr().String())
	select {
	case <-ctx.Done():
		working.Store(false)
		return nil
	case err := <-failed:
		return err
	}
}

func (w *Worker) register(b *base, blobs *blobstore.Store) (worker.Worker, error) {
	reconciled, err := telemetry.ObserveReconciliations(b.telemetry.Metrics, clock)
	if err != nil {
		return nil, err
	}
	runner := worker.New(b.temporal, workflows.TaskQueue, workflows.WorkerOptions())
	workflows.Register(runner)
	runner.RegisterActivity(activities.NewFleet(activities.FleetConfig{
		Store: b.store,
		Drive: func(ctx context.Context, i meter.Instance) error {
			_, err := starter.EnsureFlushLoop(ctx, b.temporal, workflows.FlushLoopInput{
				Instance: i.ID, Host: i.Host, LostAfter: activities.Duration(i.Patience()),
			})
			return err
		},
	}))
	runner.RegisterActivity(activities.NewRuns(activities.RunsConfig{
		IsRunning: func(ctx context.Context, id string) (bool, error) { return starter.IsRunning(ctx, b.temporal, id) },
	}))
	runner.RegisterActivity(activities.NewRollup(activities.RollupConfig{Store: b.store, Reconciled: reconciled}))
	runner.RegisterActivity(activities.NewCredits(activities.CreditsConfig{Store: b.store}))
	runner.RegisterActivity(activities.NewExport(activities.ExportConfig{Store: b.store, Blobs: blobs, Program: version.String()}))
	runner.RegisterActivity(activities.NewSinks(activities.SinksConfig{Store: b.store, Sink: sinkOf(w.config.Stripe)}))
	runner.RegisterActivity(newWebhooks(b, w.config.Webhooks))
	return runner, nil
}

// sinkOf returns what takes statements; nil where there is no key of Stripe's.
func sinkOf(settings config.Stripe) activities.Sink {
	if settings.StripeKey == "" {
		return nil
	}
	return stripesink.New(settings.StripeKey, settings.StripeURL)
}

// prepare makes what workflows need of Temporal.
func (w *Worker) prepare(ctx context.Context, b *base) error {
	if w.config.KeepSchedules {
		return nil
	}
	changed, err := starter.Prepare(ctx, b.temporal, b.namespace, b.logger)
	if len(changed) > 0 {
		b.logger.Info("Schedules are made or changed", "schedules", changed)
	}
	return err
}

// keepInterval is the time between two looks at what Temporal must have, and keepLate how many of them
// a delivery may be late before it is looked for.
const (
	keepInterval = time.Minute
	keepLate     = 2
)

// keep brings Temporal to what Postgres says, until the context ends: its state may be lost or replaced
// at any time.
func (w *Worker) keep(ctx context.Context, b *base, keeping *atomic.Bool, watched func(telemetry.Runs)) {
	interval := w.config.KeepInterval
	if interval == 0 {
		interval = keepInterval
	}
	keeper := starter.NewKeeper(starter.KeeperConfig{
		Temporal: b.temporal, Store: b.store, Namespace: b.namespace, KeepSchedules: w.config.KeepSchedules,
		LateBy: keepLate * interval, Delivery: w.config.deliveryOf, Logger: b.logger,
	})
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		bounded, cancel := context.WithTimeout(ctx, max(interval, keepInterval))
		err := keeper.Keep(bounded)
		runs, unknown := watch(bounded, b)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			b.logger.Warn("What Temporal must have can't be ensured: it is tried again", "error", err)
		}
		keeping.Store(err == nil)
		if unknown == nil {
			watched(runs)
		} else if err == nil {
			b.logger.Warn("What became of workflows and schedules can't be asked: their metrics stay as they are", "error", unknown)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// untilReached repeats what fails because Temporal is away, until it succeeds.
func untilReached(ctx context.Context, b *base, fn func() error) error {
	for {
		err := fn()
		if err == nil {
			return nil
		}
		b.logger.Warn("Temporal can't be reached: trying again", "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryTemporal):
		}
	}
}

// ignoreEnd drops an error that only says that the process was asked to stop.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// operations serves what the people and programs that run the worker ask.
func operations(b *base, working, keeping *atomic.Bool, schema func(context.Context) error) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", b.telemetry.Handler())
	alive := func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") }
	mux.HandleFunc("GET /healthz", alive)
	mux.HandleFunc("GET /livez", alive)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if !working.Load() {
			answer(w, http.StatusServiceUnavailable, "starting or stopping")
			return
		}
		if err := schema(r.Context()); errors.Is(err, api.PartTooOld) || errors.Is(err, api.PartTooNew) {
			answer(w, http.StatusServiceUnavailable, "the database's schema: "+err.Error())
			return
		}
		if !keeping.Load() {
			answer(w, http.StatusServiceUnavailable, "Temporal or Postgres is away, or lacks what it must have: see the log")
			return
		}
		answer(w, http.StatusOK, "ready")
	})
	return mux
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "{\"status\":%q}\n", text)
}
