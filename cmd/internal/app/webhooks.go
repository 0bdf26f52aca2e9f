package app

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/api"
	"github.com/riverline/tollgate/internal/alerts"
	"github.com/riverline/tollgate/internal/version"
	"github.com/riverline/tollgate/internal/webhookclient"
	"github.com/riverline/tollgate/webhooks"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

// Webhooks are the settings of webhooks, which API and worker share.
type Webhooks struct {
	WebhookAllowPrivate bool            `env:"TOLLGATE_WEBHOOK_ALLOW_PRIVATE" help:"Let webhooks be sent to private addresses and by http: for development. Whoever may make an endpoint then reaches what the worker reaches."`
	WebhookSchedule     []time.Duration `hidden:"" env:"TOLLGATE_WEBHOOK_SCHEDULE" help:"Time before each attempt of a delivery, for tests. Default: that of Standard Webhooks."`
}

// Validate checks the settings.
func (w Webhooks) Validate() error {
	for _, wait := range w.WebhookSchedule {
		if err := within("--webhook-schedule", wait, 0, 7*24*time.Hour); err != nil {
			return err
		}
	}
	return nil
}

// deliveryOf is the input of the workflow of a delivery.
func (w Webhooks) deliveryOf(d webhooks.Delivery) workflows.DeliverEventInput {
	in := workflows.DeliverEventInput{Event: d.Event, Endpoint: d.Endpoint, Organization: d.Organization}
	schedule := webhooks.Schedule(w.WebhookSchedule)
	if len(schedule) == 0 {
		schedule = webhooks.StandardSchedule()
	}
	for _, wait := range schedule {
		in.Schedule = append(in.Schedule, activities.Duration(wait))
	}
	return in
}

// newWebhooks makes the activities that send events.
func newWebhooks(b *base, settings Webhooks, attempts int) *activities.Webhooks {
	return activities.NewWebhooks(activities.WebhooksConfig{
		Store: b.store, Attempts: attempts,
		Sender: webhookclient.New(webhookclient.Config{
			AllowPrivate: settings.WebhookAllowPrivate, UserAgent: "Tollgate-Webhooks/" + version.String(),
		}),
		Start: func(ctx context.Context, d webhooks.Delivery) error {
			_, err := starter.StartDeliverEvent(ctx, b.temporal, settings.deliveryOf(d))
			return err
		},
	})
}

// redeliverer gives the API the one thing that it asks of deliveries.
type redeliverer struct {
	temporal client.Client
	settings Webhooks
}

// Redeliver implements [api.Redeliverer].
func (r redeliverer) Redeliver(ctx context.Context, d webhooks.Delivery) (api.DeliveryRun, error) {
	run, err := starter.Redeliver(ctx, r.temporal, r.settings.deliveryOf(d))
	return api.DeliveryRun{WorkflowID: run.WorkflowID, RunID: run.RunID}, translate(err)
}

// checkThresholds checks --usage-thresholds.
func checkThresholds(thresholds []int) error {
	seen := map[int]bool{}
	for _, percent := range thresholds {
		if percent < 1 || percent > 100 || seen[percent] {
			return fmt.Errorf("--usage-thresholds has %d: each must be 1 to 100, and there once", percent)
		}
		seen[percent] = true
	}
	return nil
}

// patientFlushes is for how many flushes at least what another instance has crossed is left to it.
const patientFlushes = 3

// newAlerts makes what tells organizations about their usage.
func newAlerts(b *base, config APIConfig) *alerts.Watcher {
	return alerts.NewWatcher(alerts.Config{
		Thresholds: config.UsageThresholds, Publish: b.store.PublishEvents, Patience: max(time.Minute, patientFlushes*config.FlushInterval),
		Now: clock, Logger: b.logger,
	})
}

// ensureDispatch starts the one workflow that dispatches events unless it runs.
func ensureDispatch(ctx context.Context, b *base) error {
	_, err := starter.EnsureDispatchEvents(ctx, b.temporal, workflows.DispatchEventsInput{})
	return err
}
