package activities

import (
	"context"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
)

// maxBeat is the longest time between heartbeats: a cancel arrives with one.
const maxBeat = 5 * time.Second

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
	b := &beating{ctx: ctx, last: details, done: make(chan struct{})}
	every := maxBeat
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
