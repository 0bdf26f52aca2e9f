package gate

import (
	"math"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// ratePolicy is the name of the policy in the RateLimit fields.
const ratePolicy = `"requests"`

// Limiter bounds the speed of each organization's requests by its plan's
// [plans.RateLimit]: a token bucket per organization. Its methods may be called by
// any number of goroutines.
type Limiter struct {
	// buckets maps *meter.Organization to *bucket.
	buckets sync.Map

	// mu guards what follows, and is held while a bucket is made or taken over. An organization that left
	// memory and comes back finds its bucket as it was.
	mu   sync.Mutex
	byID map[uuid.UUID]*bucket
	// sweepAt is how many buckets there are when those are next looked for that nobody needs.
	sweepAt int
}

// firstSweep is how many buckets there are when they are first looked through.
const firstSweep = 1024

// NewLimiter makes a limiter whose buckets are all full.
func NewLimiter() *Limiter { return &Limiter{byID: map[uuid.UUID]*bucket{}, sweepAt: firstSweep} }

type bucket struct {
	// owner is the organization that has it; the limiter's lock guards it.
	owner  *meter.Organization
	mu     sync.Mutex
	tokens *rate.Limiter
	policy atomic.Pointer[policy]
}

// policy is a rate limit, with its header value ready to be sent.
type policy struct {
	limit  plans.RateLimit
	header []string
}

func newPolicy(limit plans.RateLimit) *policy {
	window := max(1, (limit.Burst+limit.RequestsPerSecond-1)/limit.RequestsPerSecond)
	return &policy{
		limit:  limit,
		header: []string{ratePolicy + ";q=" + strconv.Itoa(limit.Burst) + ";w=" + strconv.Itoa(window)},
	}
}

// Pace is the answer of a [Limiter].
type Pace struct {
	// Allowed is false where there was no token; none was taken then.
	Allowed bool
	// Limited is false where the plan has no rate limit; the other fields are zero then.
	Limited bool
	// Remaining is how many tokens are left.
	Remaining int
	// Reset is, where Allowed, how long it takes until the bucket is full again;
	// otherwise, how long it takes until there is a token.
	Reset time.Duration

	policy *policy
}

// Take takes a token of the organization's bucket. A limit that differs from the
// one before changes the bucket's size and speed, and keeps what is in it.
func (l *Limiter) Take(o *meter.Organization, limit plans.RateLimit, now time.Time) Pace {
	if limit.RequestsPerSecond <= 0 {
		return Pace{Allowed: true}
	}
	b := l.bucket(o, limit, now)
	p := b.policy.Load()
	if p.limit != limit {
		p = b.change(limit, now)
	}
	pace := Pace{Limited: true, policy: p, Allowed: b.tokens.AllowN(now, 1)}
	tokens := b.tokens.TokensAt(now)
	if !pace.Allowed {
		pace.Reset = seconds((1 - tokens) / float64(limit.RequestsPerSecond))
		return pace
	}
	pace.Remaining = max(0, int(tokens))
	pace.Reset = seconds((float64(limit.Burst) - tokens) / float64(limit.RequestsPerSecond))
	return pace
}

func (l *Limiter) bucket(o *meter.Organization, limit plans.RateLimit, now time.Time) *bucket {
	if found, ok := l.buckets.Load(o); ok {
		return found.(*bucket)
	}
	return l.own(o, limit, now)
}

// own gives an organization the bucket of the one in whose place it is, or a full one.
func (l *Limiter) own(o *meter.Organization, limit plans.RateLimit, now time.Time) *bucket {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.byID[o.ID()]
	if b == nil {
		if len(l.byID) >= l.sweepAt {
			l.sweep(now)
		}
		b = &bucket{tokens: rate.NewLimiter(rate.Limit(limit.RequestsPerSecond), limit.Burst)}
		b.policy.Store(newPolicy(limit))
		l.byID[o.ID()] = b
	}
	if b.owner != o {
		l.buckets.Delete(b.owner)
		b.owner = o
		l.buckets.Store(o, b)
	}
	return b
}

// sweep forgets the buckets of organizations that left memory, once they are full: as good as new. The
// caller holds mu.
func (l *Limiter) sweep(now time.Time) {
	for id, b := range l.byID {
		if b.owner.Forgotten() && b.tokens.TokensAt(now) >= float64(b.tokens.Burst()) {
			l.buckets.Delete(b.owner)
			delete(l.byID, id)
		}
	}
	l.sweepAt = max(firstSweep, 2*len(l.byID))
}

func (b *bucket) change(limit plans.RateLimit, now time.Time) *policy {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.policy.Load()
	if p.limit == limit {
		return p
	}
	b.tokens.SetLimitAt(now, rate.Limit(limit.RequestsPerSecond))
	b.tokens.SetBurstAt(now, limit.Burst)
	p = newPolicy(limit)
	b.policy.Store(p)
	return p
}

// setHeaders writes RateLimit-Policy and RateLimit
// (draft-ietf-httpapi-ratelimit-headers-10), and Retry-After where there was no
// token. The window of the policy is the time in which an empty bucket fills.
func (p Pace) setHeaders(h http.Header) {
	if !p.Limited {
		return
	}
	reset := wholeSeconds(p.Reset)
	if !p.Allowed {
		reset = max(1, reset)
		h["Retry-After"] = []string{strconv.FormatInt(reset, 10)}
	}
	h["Ratelimit-Policy"] = p.policy.header
	var buffer [64]byte
	value := append(buffer[:0], ratePolicy+";r="...)
	value = strconv.AppendInt(value, int64(p.Remaining), 10)
	value = append(value, ";t="...)
	value = strconv.AppendInt(value, reset, 10)
	h["Ratelimit"] = []string{string(value)}
}

func seconds(s float64) time.Duration { return time.Duration(max(0, s) * float64(time.Second)) }

// wholeSeconds rounds up: the fields have no fractions, and too early is wrong.
func wholeSeconds(d time.Duration) int64 { return int64(math.Ceil(d.Seconds())) }
