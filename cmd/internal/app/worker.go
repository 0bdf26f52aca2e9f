package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/converter"

	"github.com/riverline/tollgate/api"
	"github.com/riverline/tollgate/internal/blobstore"
	"github.com/riverline/tollgate/internal/config"
	"github.com/riverline/tollgate/internal/telemetry"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

// WorkerConfig are the settings of the worker.
type WorkerConfig struct {
	Shared
	config.Stripe
	Retention
	Listen          string        `default:"127.0.0.1:9090" env:"TOLLGATE_WORKER_LISTEN" help:"Address of /healthz, /livez, /readyz and /metrics."`
	WebhookAttempts int           `default:"64" env:"TOLLGATE_WEBHOOK_ATTEMPTS" help:"Attempts to deliver events that the worker makes at once, 4 to 10000. An organization has at most a quarter of those that are free."`
	WebhookRate     int           `default:"200" env:"TOLLGATE_WEBHOOK_RATE" help:"Most steps of deliveries that the worker begins a second, 1 to 100000. Each has a connection to Postgres for some milliseconds."`
	BuildID         string        `env:"TOLLGATE_BUILD_ID" placeholder:"ID" help:"Version of this worker in --deployment-name, 1 to 255 letters, digits and ._-: Temporal gives it work once an operator has made it the current or the ramping one. Default: unversioned, it takes work at once."`
	DeploymentName  string        `default:"tollgate" env:"TOLLGATE_DEPLOYMENT_NAME" placeholder:"NAME" help:"Temporal's worker deployment that --build-id is a version of, 1 to 255 letters, digits and _-."`
	KeepInterval    time.Duration `hidden:"" env:"TOLLGATE_KEEP_INTERVAL" help:"Time between two looks at what Temporal must have, for tests. Default: 1m."`
	KeepSchedules   bool          `env:"TOLLGATE_KEEP_SCHEDULES" help:"Leave Temporal's schedules and search attributes alone; somebody else manages them."`
}

// Validate checks the settings.
func (c WorkerConfig) Validate() error {
	return errors.Join(c.Shared.Validate(), c.Stripe.Validate(), c.Retention.Validate(), config.CheckListen("--listen", c.Listen), within("--keep-interval", c.KeepInterval, 0, time.Hour),
		checkVersion(c), between("--webhook-attempts", c.WebhookAttempts, 4, 10_000), between("--webhook-rate", c.WebhookRate, 1, 100_000))
}

// version is that of all queues of the worker.
func (c WorkerConfig) version() workflows.Version {
	return workflows.Version{BuildID: c.BuildID, Deployment: c.DeploymentName}
}

// Temporal joins both names by a dot.
var (
	buildIDForm    = regexp.MustCompile(`^[A-Za-z0-9._-]{0,255}$`)
	deploymentForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)
)

func checkVersion(c WorkerConfig) error {
	switch {
	case !buildIDForm.MatchString(c.BuildID):
		return fmt.Errorf("--build-id is %q: it must be 1 to 255 letters, digits and ._-", c.BuildID)
	case c.BuildID != "" && !deploymentForm.MatchString(c.DeploymentName):
		return fmt.Errorf("--deployment-name is %q: it must be 1 to 255 letters, digits and _-", c.DeploymentName)
	}
	return nil
}

func between(flag string, value, least, most int) error {
	if value < least || value > most {
		return fmt.Errorf("%s is %d: it must be %d to %d", flag, value, least, most)
	}
	return nil
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
	polled, err := newQueues(b, w.config, blobs)
	if err != nil {
		return err
	}
	works := func() bool { return working.Load() && !polled.ended.Load() }
	server := &http.Server{Handler: operations(b, works, &keeping, b.schemaHealth), ReadHeaderTimeout: 5 * time.Second}
	failed := serve(server, listener)
	defer func() { _ = server.Close() }()

	if err := untilReached(ctx, b, func() error { return w.prepare(ctx, b) }); err != nil {
		return ignoreEnd(ctx, err)
	}
	if err := w.seeSink(ctx, b); err != nil {
		b.logger.Warn("The sink can't be recorded: it is tried again", "error", err)
	}
	defer polled.stop()
	if err := untilReached(ctx, b, polled.start); err != nil {
		return ignoreEnd(ctx, err)
	}
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
	if w.config.BuildID != "" {
		b.logger.Info("Temporal gives this version work once it is the current or the ramping one",
			"deployment", w.config.DeploymentName, "build_id", w.config.BuildID)
	}
	select {
	case <-ctx.Done():
		working.Store(false)
		return nil
	case err := <-failed:
		return err
	}
}

// seeSink tells the store that there is a worker with the key of a sink.
func (w *Worker) seeSink(ctx context.Context, b *base) error {
	if sink := sinkOf(w.config.Stripe); sink != nil {
		return b.store.SeeSink(ctx, sink.Name())
	}
	return nil
}

// prepare makes what workflows need of Temporal.
func (w *Worker) prepare(ctx context.Context, b *base) error {
	if err := starter.CheckChanges(ctx, b.temporal, b.namespace, workflows.Changes(), b.logger); err != nil {
		return err
	}
	if w.config.KeepSchedules {
		return nil
	}
	changed, err := starter.Prepare(ctx, b.temporal, b.namespace, b.logger, b.codec)
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
		Temporal: b.temporal, Codecs: []converter.PayloadCodec{b.codec}, Store: b.store, Namespace: b.namespace, KeepSchedules: w.config.KeepSchedules,
		LateBy: keepLate * interval, Delivery: w.config.deliveryOf, Logger: b.logger,
	})
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		bounded, cancel := context.WithTimeout(ctx, max(interval, keepInterval))
		err := errors.Join(w.seeSink(bounded, b), keeper.Keep(bounded))
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
func operations(b *base, working func() bool, keeping *atomic.Bool, schema func(context.Context) error) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", b.telemetry.Handler())
	alive := func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") }
	mux.HandleFunc("GET /healthz", alive)
	mux.HandleFunc("GET /livez", alive)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if !working() {
			answer(w, http.StatusServiceUnavailable, "starting or stopping, or a worker has ended: see the log")
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
