package api

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// confirmation is what is known of all keys that are kept.
type confirmation struct {
	revoked func(ctx context.Context, since time.Time) ([]uuid.UUID, time.Time, error)
	// at is the time as of which every revoked key was forgotten, recheckAllAt the time before which
	// none has been looked up that may be relied on; both in Unix nanoseconds.
	at, recheckAllAt atomic.Int64

	// mu is held while the store is asked. since is the time, by the store's clock, from which
	// revocations have not been read; zero: they have never been.
	mu    sync.Mutex
	since time.Time
}

// revocationOverlap is how far a reading of what was revoked looks back before the last one: a
// revocation that was under way then had an earlier time. The store's calls take less.
const revocationOverlap = time.Minute

// confirmAll forgets the keys that were revoked since the last call, of which no word may have come:
// all others that are kept are confirmed, with one question for all of them. Of the first call they
// are not, since nobody knows what was revoked before: each is looked up again. An error leaves
// everything as it was.
func (c *keyCache) confirmAll(ctx context.Context, now time.Time) error {
	known := &c.confirmation
	known.mu.Lock()
	defer known.mu.Unlock()
	revoked, asOf, err := known.revoked(ctx, known.since)
	if err != nil {
		return err
	}
	if known.since.IsZero() {
		c.forget(uuid.Nil, now)
	}
	for _, id := range revoked {
		c.forget(id, now)
	}
	known.since = asOf.Add(-revocationOverlap)
	known.at.Store(now.UnixNano())
	return nil
}

// confirmedAt is when the store has last confirmed a key, by itself or together with all, in Unix
// nanoseconds.
func (c *keyCache) confirmedAt(k *cachedKey) int64 {
	return max(k.confirmedAt, c.confirmation.at.Load())
}

// lateBy is for how long a key has been due to be looked up by itself; negative: it isn't.
func (c *keyCache) lateBy(k *cachedKey, now time.Time) time.Duration {
	due := c.confirmedAt(k) + int64(k.recheckAfter)
	if all := c.confirmation.recheckAllAt.Load(); k.confirmedAt <= all {
		due = all
	}
	return time.Duration(now.UnixNano() - max(due, k.retryAt.Load()))
}
