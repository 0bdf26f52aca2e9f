package activities

import (
	"context"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"
)

// DispatchInput says for how long to look for events.
type DispatchInput struct {
	// Epoch is how long one activity looks, Poll the time between two looks. Required.
	Epoch Duration `json:"epoch"`
	Poll  Duration `json:"poll"`
}

// DispatchSummary says what was started; the activity heartbeats it, too.
type DispatchSummary struct {
	// Events counts the events that were dispatched, Deliveries what was started for them.
	Events     int `json:"events"`
	Deliveries int `json:"deliveries"`
	// Failed counts the events that could not be dispatched, and wait for the next epoch.
	Failed int `json:"failed,omitempty"`
}

// maxFailed is how many events may fail for good in one epoch: beyond that it isn't the events.
const maxFailed = 1000

// Dispatch looks for events for an epoch and starts a delivery for each endpoint that wants
// one. An event counts as dispatched once all are started, and a start is idempotent: a
// worker that dies in between loses nothing and doubles nothing. One that fails for good is
// logged and left for the next epoch, and holds up no other.
func (w *Webhooks) Dispatch(ctx context.Context, in DispatchInput) (DispatchSummary, error) {
	if in.Epoch <= 0 {
		return DispatchSummary{}, missing("epoch")
	}
	if in.Poll <= 0 {
		return DispatchSummary{}, missing("poll")
	}
	d := &dispatch{Webhooks: w, beats: startBeatingEvery(ctx, maxSlowBeat, DispatchSummary{}), epoch: time.NewTimer(time.Duration(in.Epoch)), poll: time.NewTicker(time.Duration(in.Poll))}
	defer d.beats.stop()
	defer d.epoch.Stop()
	defer d.poll.Stop()
	for {
		if over, err := d.page(ctx); over || err != nil {
			return d.summary, classify(err)
		}
	}
}

// dispatch is an epoch of [Webhooks.Dispatch].
type dispatch struct {
	*Webhooks
	beats   *beating
	epoch   *time.Timer
	poll    *time.Ticker
	failed  []uuid.UUID
	summary DispatchSummary
}

// over reports whether the epoch is over, or somebody ends it: it may have more to do.
func (d *dispatch) over(ctx context.Context) (bool, error) {
	select {
	case <-ctx.Done():
		return true, ctx.Err()
	case <-d.epoch.C:
		return true, nil
	case <-activity.GetWorkerStopChannel(ctx):
		return true, nil
	default:
		return false, nil
	}
}

// wait is over, once another look is due.
func (d *dispatch) wait(ctx context.Context) (bool, error) {
	select {
	case <-ctx.Done():
		return true, ctx.Err()
	case <-d.epoch.C:
		return true, nil
	case <-activity.GetWorkerStopChannel(ctx):
		return true, nil
	case <-d.poll.C:
		return false, nil
	}
}

// page dispatches some events, one after the other, and reports whether the epoch is over.
func (d *dispatch) page(ctx context.Context) (over bool, err error) {
	found, err := d.config.Store.UndispatchedEvents(ctx, d.failed, d.config.PageSize)
	if err != nil {
		return false, err
	}
	for _, id := range found {
		if over, err := d.over(ctx); over {
			return true, err
		}
		err := classify(d.event(ctx, id))
		switch {
		case err == nil:
			d.summary.Events++
		case isPermanent(err) && len(d.failed) < maxFailed:
			d.failed = append(d.failed, id)
			d.summary.Failed++
			activity.GetLogger(ctx).Error("An event can't be dispatched: it is tried again", "event", id, "error", err)
		default:
			return false, err
		}
	}
	if len(found) > 0 {
		d.beats.record(d.summary)
	}
	if len(found) == d.config.PageSize {
		return d.over(ctx)
	}
	return d.wait(ctx)
}

// event starts the deliveries of an event.
func (d *dispatch) event(ctx context.Context, id uuid.UUID) error {
	deliveries, err := d.config.Store.PrepareWebhookDeliveries(ctx, id)
	if err != nil {
		return err
	}
	for _, delivery := range deliveries {
		if delivery.State.Ended() {
			continue
		}
		if err := d.config.Start(ctx, delivery); err != nil {
			return err
		}
		d.summary.Deliveries++
	}
	return d.config.Store.MarkEventDispatched(ctx, id)
}
