package app

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"go.temporal.io/sdk/worker"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/internal/blobstore"
	"github.com/riverline/tollgate/internal/config"
	"github.com/riverline/tollgate/internal/stripesink"
	"github.com/riverline/tollgate/internal/telemetry"
	"github.com/riverline/tollgate/internal/version"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

// queues are the workers of a process, one for each queue that it polls.
type queues struct {
	base    *base
	version workflows.Version
	workers []worker.Worker
	started int
	// ended is true once one of them has ended by itself: it takes no work any more.
	ended atomic.Bool
}

// newQueues makes the workers: that of the shared queue, that of webhooks, and with the key of a sink
// that of sinks.
func newQueues(b *base, c WorkerConfig, blobs *blobstore.Store) (*queues, error) {
	reconciled, err := telemetry.ObserveReconciliations(b.telemetry.Metrics, clock)
	if err != nil {
		return nil, err
	}
	q := &queues{base: b, version: c.version()}
	hooks := newWebhooks(b, c.Webhooks, c.WebhookAttempts)
	shared := q.add(workflows.TaskQueue, workflows.WorkerOptions())
	workflows.Register(shared)
	shared.RegisterActivity(activities.NewFleet(activities.FleetConfig{
		Store: b.store,
		Drive: func(ctx context.Context, i meter.Instance) error {
			_, err := starter.EnsureFlushLoop(ctx, b.temporal, workflows.FlushLoopInput{
				Instance: i.ID, Host: i.Host, LostAfter: activities.Duration(i.Patience()),
			})
			return err
		},
	}))
	shared.RegisterActivity(activities.NewRuns(activities.RunsConfig{
		IsRunning: func(ctx context.Context, id string) (bool, error) { return starter.IsRunning(ctx, b.temporal, id) },
	}))
	shared.RegisterActivity(activities.NewRollup(activities.RollupConfig{Store: b.store, Audit: b.store, Blobs: blobs, Retention: c.ofHousekeeping(), Reconciled: reconciled}))
	shared.RegisterActivity(activities.NewCredits(activities.CreditsConfig{Store: b.store}))
	shared.RegisterActivity(activities.NewExport(activities.ExportConfig{Store: b.store, Blobs: blobs, Program: version.String(), AllowSelfApproval: c.AllowSelfApproval}))
	shared.RegisterActivity(activities.NewSinks(activities.SinksConfig{Store: b.store}))
	shared.RegisterActivity(hooks)

	deliveries := q.add(workflows.WebhooksQueue, workflows.WebhooksWorkerOptions(c.WebhookAttempts, float64(c.WebhookRate)))
	workflows.RegisterWebhooks(deliveries)
	deliveries.RegisterActivity(hooks)

	if sink := sinkOf(c.Stripe); sink != nil {
		keyed := q.add(workflows.SinksQueue, workflows.SinksWorkerOptions())
		keyed.RegisterActivity(activities.NewSinks(activities.SinksConfig{Store: b.store, Sink: sink}))
	}
	return q, nil
}

// sinkOf returns what takes statements; nil where there is no key of Stripe's.
func sinkOf(settings config.Stripe) activities.Sink {
	if settings.StripeKey == "" {
		return nil
	}
	return stripesink.New(settings.StripeKey, settings.StripeURL)
}

func (q *queues) add(queue string, options worker.Options) worker.Worker {
	options = q.version.Of(options)
	options.OnFatalError = func(err error) {
		q.ended.Store(true)
		q.base.logger.Error("A worker has ended, and the process is not ready any more: restart it", "queue", queue, "error", err)
	}
	w := worker.New(q.base.temporal, queue, options)
	q.workers = append(q.workers, w)
	return w
}

// start starts all that are not started yet.
func (q *queues) start() error {
	for ; q.started < len(q.workers); q.started++ {
		if err := q.workers[q.started].Start(); err != nil {
			return fmt.Errorf("start a worker: %w", err)
		}
	}
	return nil
}

// stop stops all at once, within the time that one takes.
func (q *queues) stop() {
	var stopping sync.WaitGroup
	for _, w := range q.workers[:q.started] {
		stopping.Go(w.Stop)
	}
	stopping.Wait()
}
