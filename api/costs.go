package api

import (
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
)

// What requests cost, in tokens: about 10 µs of this process or of Postgres each. The document says them, too
// (x-tollgate-cost), and a test compares.
const (
	// costMemory is for what is answered from memory, as a rule.
	costMemory = 50
	// costRead and costWrite are for some queries of Postgres, and for a transaction that locks and writes.
	costRead  = 100
	costWrite = 200
	// costBill is for the days of a month, which are read and rated twice.
	costBill = 1_000
	// costUpgrade is for a change of plan: it reads the catalog, and every instance takes it over.
	costUpgrade = 5_000
	// costRedelivery is for a run of Temporal's.
	costRedelivery = 2_000
	// costItem is for an item of a batch, and for a row of a history; costEvent for an event or a delivery of a page.
	costItem  = 1
	costEvent = 10
)

// costWindow is how long an organization's tokens are collected: a bucket has as many as come in that time.
const costWindow = 10 * time.Second

// costs bounds what the requests of each organization cost, one token bucket each: its plan's rate limit bounds
// what is metered, and nothing else. What a request costs is taken before it is carried out as far as that is known by
// then; the rest is charged after it, and may leave a bucket in debt.
type costs struct {
	// rate is how many tokens come in a second. Zero: any cost is free.
	rate   float64
	shards [keyShards]struct {
		mu      sync.Mutex
		buckets map[uuid.UUID]*costBucket
	}
}

type costBucket struct {
	tokens float64
	at     time.Time
}

func newCosts(rate int) *costs {
	c := &costs{rate: float64(rate)}
	for i := range c.shards {
		c.shards[i].buckets = map[uuid.UUID]*costBucket{}
	}
	return c
}

// costLimitError says that an organization has used up what its requests may cost.
type costLimitError struct {
	// retryAfter is how long it takes until there are tokens enough.
	retryAfter time.Duration
}

func (e *costLimitError) Error() string {
	return fmt.Sprintf("the organization's requests cost more than they may: wait for %s", e.retryAfter.Round(time.Millisecond))
}

// take takes tokens of an organization, or answers a [*costLimitError] and takes none.
func (c *costs) take(organization uuid.UUID, tokens int, now time.Time) error {
	if c.rate == 0 {
		return nil
	}
	// A request that costs more than a bucket has is for a full one.
	needed := min(float64(tokens), c.burst())
	return c.with(organization, now, func(b *costBucket) error {
		if b.tokens < needed {
			return &costLimitError{retryAfter: time.Duration((needed - b.tokens) / c.rate * float64(time.Second))}
		}
		b.tokens -= float64(tokens)
		return nil
	})
}

// charge takes tokens for what was carried out. Nothing is below a debt that takes a minute to pay.
func (c *costs) charge(organization uuid.UUID, tokens int, now time.Time) {
	if c.rate == 0 || tokens <= 0 {
		return
	}
	_ = c.with(organization, now, func(b *costBucket) error {
		b.tokens = max(b.tokens-float64(tokens), -c.rate*time.Minute.Seconds())
		return nil
	})
}

func (c *costs) burst() float64 { return c.rate * costWindow.Seconds() }

// with has fn see a bucket as it is now, under its lock.
func (c *costs) with(organization uuid.UUID, now time.Time, fn func(*costBucket) error) error {
	shard := &c.shards[organization[15]%keyShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	b := shard.buckets[organization]
	if b == nil {
		b = &costBucket{tokens: c.burst(), at: now}
		shard.buckets[organization] = b
	}
	if passed := now.Sub(b.at); passed > 0 {
		b.tokens = min(b.tokens+passed.Seconds()*c.rate, c.burst())
		b.at = now
	}
	return fn(b)
}

// charge charges a tenant for what its request has brought; others pay nothing.
func (s *Server) charge(p *principal, tokens int) {
	if p.role == roleTenant {
		s.costs.charge(p.organization, tokens, s.config.Now())
	}
}
