package activities

import (
	"context"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
)

// maxBeat is the longest time between heartbeats: a cancel arrives with one. That of what is hardly ever
// canceled, and runs for ever, is longer: each heartbeat is a billable action.
const (
	maxBeat     = 5 * time.Second
	maxSlowBeat = 10 * time.Second
)

// beating heartbeats while a call runs, so that a worker's death is noticed long
// before the activity's timeout, and a cancel arrives. The call must bound itself:
// it is kept alive as long as its process lives.
type beating struct {
	ctx  context.Context
	mu   sync.Mutex
	last any
	done chan struct{}
	end  sync.WaitGroup
}

// startBeating begins with the details as they are now.
func startBeating(ctx context.Context, details any) *beating {
	return startBeatingEvery(ctx, maxBeat, details)
}

// startBeatingEvery is [startBeating] with a longest time between heartbeats.
func startBeatingEvery(ctx context.Context, every time.Duration, details any) *beating {
	b := &beating{ctx: ctx, last: details, done: make(chan struct{})}
	if timeout := activity.GetInfo(ctx).HeartbeatTimeout; timeout > 0 {
		every = min(every, timeout/3)
	}
	b.record(details)
	b.end.Go(func() { b.run(every) })
	return b
}

func (b *beating) run(every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-b.done:
			return
		case <-b.ctx.Done():
			return
		case <-ticker.C:
			b.mu.Lock()
			activity.RecordHeartbeat(b.ctx, b.last)
			b.mu.Unlock()
		}
	}
}

// record heartbeats at once, with new details that later heartbeats repeat.
func (b *beating) record(details any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = details
	activity.RecordHeartbeat(b.ctx, details)
}

// stop ends the heartbeats and waits until none is on its way.
func (b *beating) stop() {
	close(b.done)
	b.end.Wait()
}

// resume returns what the attempt before heartbeated last, or where the first one begins.
func resume[T any](ctx context.Context, begin T) T {
	var last T
	if !activity.HasHeartbeatDetails(ctx) || activity.GetHeartbeatDetails(ctx, &last) != nil {
		return begin
	}
	return last
}

// mayGoOn ends an activity whose context is over, or whose worker stops.
func mayGoOn(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-activity.GetWorkerStopChannel(ctx):
		return handOver(ctx)
	default:
		return nil
	}
}
