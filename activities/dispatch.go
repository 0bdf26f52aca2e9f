package activities

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"
	"golang.org/x/sync/errgroup"
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

// dispatchAtOnce is how many events are dispatched at once: each takes two transactions and a start.
const dispatchAtOnce = 16

// Dispatch looks for events for an epoch and starts a delivery for each endpoint that wants
// one, sixteen events at once. An event counts as dispatched once all are started, and a start is idempotent: a
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

// page dispatches some events, which it begins in their order, and reports whether the epoch is over.
// What fails holds up no other. It is an error where nothing else went well: then it isn't the event.
func (d *dispatch) page(ctx context.Context) (over bool, err error) {
	found, err := d.config.Store.UndispatchedEvents(ctx, d.failed, d.config.PageSize)
	if err != nil {
		return false, err
	}
	page := &dispatchedPage{dispatch: d}
	var running errgroup.Group
	running.SetLimit(dispatchAtOnce)
	for _, id := range found {
		if over, err = d.over(ctx); over || page.hopeless() {
			break
		}
		running.Go(func() error {
			started, err := d.event(ctx, id)
			page.note(ctx, id, started, classify(err))
			return nil
		})
	}
	// What becomes of an event is noted in the page.
	_ = running.Wait()
	switch {
	case over:
		return true, err
	case page.err != nil && page.ended == 0:
		return false, page.err
	}
	if len(found) > 0 {
		d.beats.record(d.summary)
	}
	if len(found) == d.config.PageSize && page.err == nil {
		return d.over(ctx)
	}
	return d.wait(ctx)
}

// dispatchedPage is what becomes of a page of events.
type dispatchedPage struct {
	*dispatch
	mu sync.Mutex
	// ended counts the events that are dispatched, or left for the next epoch, and passing those that
	// failed and may go well next time. err is the first of those failures.
	ended, passing int
	err            error
}

// hopeless reports whether no event goes well.
func (p *dispatchedPage) hopeless() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended == 0 && p.passing >= dispatchAtOnce
}

// note takes note of what became of an event, and how many deliveries were started for it.
func (p *dispatchedPage) note(ctx context.Context, id uuid.UUID, started int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.summary.Deliveries += started
	switch {
	case err == nil:
		p.summary.Events++
		p.ended++
	case isPermanent(err) && len(p.failed) < maxFailed:
		p.failed = append(p.failed, id)
		p.summary.Failed++
		p.ended++
		activity.GetLogger(ctx).Error("An event can't be dispatched: it is tried again", "event", id, "error", err)
	default:
		p.passing++
		p.err = cmp.Or(p.err, err)
	}
}

// event starts the deliveries of an event, and returns how many it has started.
func (d *dispatch) event(ctx context.Context, id uuid.UUID) (started int, err error) {
	deliveries, err := d.config.Store.PrepareWebhookDeliveries(ctx, id)
	if err != nil {
		return 0, err
	}
	for _, delivery := range deliveries {
		if delivery.State.Ended() {
			continue
		}
		if err := d.config.Start(ctx, delivery); err != nil {
			return started, err
		}
		started++
	}
	return started, d.config.Store.MarkEventDispatched(ctx, id)
}
