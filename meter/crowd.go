package meter

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// crowd keeps reports with an identity from coming faster than the store takes them. Each is a row
// of its own, so that their flush may take longer than the time until the next one: then each flush has more to
// write than the one before, and the watermark falls behind, until as many wait as may. Where many are undrained, a
// flush is due at once, and who brings more waits until they are drained: the store's own speed is
// the pace, and what waits is bounded.
type crowd struct {
	// undrained counts those since the last drain; many is a crowd of them: as many as the store took in
	// [crowdWait], within bounds.
	undrained   atomic.Int64
	many        atomic.Int64
	least, most int64
	// due is told when there is a crowd.
	due chan struct{}
	// away says that the last flush failed. Nobody waits then: what is admitted waits in memory, as far as it may.
	away atomic.Bool

	mu sync.Mutex
	// drained is closed at the next drain. Nil: nobody waits.
	drained chan struct{}
}

const (
	// crowdLeast and crowdMost are the parts of [Config.MaxIdentified] that a crowd is between.
	crowdLeast, crowdMost = 100, 10
	// crowdWait is how long a request waits at most for those before it. A client whose request takes
	// so long sends few.
	crowdWait = 2 * time.Second
	// crowdKnown is how many a batch must have to tell how fast the store takes them.
	crowdKnown = 1_000
)

// begin sets the crowd of a meter that holds so many at most.
func (c *crowd) begin(most int) {
	c.least, c.most, c.due = max(1, int64(most)/crowdLeast), max(1, int64(most)/crowdMost), make(chan struct{}, 1)
	c.many.Store(c.most)
}

// pace says in which time the store has taken so many.
func (c *crowd) pace(n int64, took time.Duration) {
	if n < crowdKnown || took <= 0 {
		return
	}
	rate := float64(n) / took.Seconds()
	c.many.Store(int64(min(max(rate*crowdWait.Seconds(), float64(c.least)), float64(c.most))))
}

// enter counts one more.
func (c *crowd) enter() {
	if c.undrained.Add(1) < c.many.Load() {
		return
	}
	select {
	case c.due <- struct{}{}:
	default:
	}
}

// leave says that so many were drained.
func (c *crowd) leave(n int64) {
	c.undrained.Add(-n)
	c.wake()
}

// succeeds says whether the store has taken what it was given.
func (c *crowd) succeeds(taken bool) {
	if c.away.Swap(!taken) != !taken {
		c.wake()
	}
}

// wake has all who wait look again.
func (c *crowd) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drained != nil {
		close(c.drained)
		c.drained = nil
	}
}

// there reports whether many are undrained, and the store takes some.
func (c *crowd) there() bool { return c.undrained.Load() >= c.many.Load() && !c.away.Load() }

// await waits while there is a crowd, for at most [crowdWait].
func (c *crowd) await(ctx context.Context) {
	if !c.there() {
		return
	}
	timer := time.NewTimer(crowdWait)
	defer timer.Stop()
	for {
		drained := c.next()
		if !c.there() {
			return
		}
		select {
		case <-drained:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// next is closed at the next drain.
func (c *crowd) next() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drained == nil {
		c.drained = make(chan struct{})
	}
	return c.drained
}
