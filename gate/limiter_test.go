package gate_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/gate"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
	"github.com/riverline/tollgate/plans"
)

func TestLimiter(t *testing.T) {
	r := newRig(t, "hard", nil)
	limiter := gate.NewLimiter()
	limit := plans.RateLimit{RequestsPerSecond: 10, Burst: 3}
	now := noon
	for left := 2; left >= 0; left-- {
		pace := limiter.Take(r.organization, limit, now)
		require.True(t, pace.Allowed)
		require.Equal(t, left, pace.Remaining)
		require.Equal(t, time.Duration(3-left)*100*time.Millisecond, pace.Reset.Round(time.Millisecond))
	}
	pace := limiter.Take(r.organization, limit, now)
	require.False(t, pace.Allowed)
	require.Equal(t, 100*time.Millisecond, pace.Reset.Round(time.Millisecond))

	other, err := r.meter.Organization(t.Context(), uuid.Must(uuid.NewV7()), noon)
	require.NoError(t, err)
	require.True(t, limiter.Take(other, limit, now).Allowed, "each organization has a bucket of its own")

	now = now.Add(100 * time.Millisecond)
	require.True(t, limiter.Take(r.organization, limit, now).Allowed)
	require.False(t, limiter.Take(r.organization, limit, now).Allowed)

	require.Equal(t, gate.Pace{Allowed: true}, limiter.Take(r.organization, plans.RateLimit{}, now), "no rate limit")
}

// An organization that left memory has no more tokens when it is back than it had.
func TestLimiterKeepsBucketsOfTheForgotten(t *testing.T) {
	r := newRig(t, "hard", nil)
	limiter := gate.NewLimiter()
	limit := plans.RateLimit{RequestsPerSecond: 1, Burst: 2}
	require.True(t, limiter.Take(r.organization, limit, noon).Allowed)
	require.True(t, limiter.Take(r.organization, limit, noon).Allowed)
	id, now := r.organization.ID(), noon
	flusher := meter.NewFlusher(meter.FlusherConfig{
		Meter: r.meter, Store: metertest.NewStore(), Instance: uuid.New(), IdleAfter: time.Nanosecond,
		Now: func() time.Time { now = now.Add(time.Second); return now },
	})
	for range 3 {
		_, err := flusher.Flush(t.Context())
		require.NoError(t, err)
	}
	require.True(t, r.organization.Forgotten())
	back, err := r.meter.Organization(t.Context(), id, noon)
	require.NoError(t, err)
	require.False(t, limiter.Take(back, limit, noon).Allowed)
	require.False(t, limiter.Take(r.organization, limit, noon).Allowed, "nor who has found it before")
	require.True(t, limiter.Take(back, limit, noon.Add(time.Second)).Allowed)
}

func TestLimiterFollowsThePlan(t *testing.T) {
	r := newRig(t, "hard", nil)
	limiter := gate.NewLimiter()
	small, large := plans.RateLimit{RequestsPerSecond: 1, Burst: 1}, plans.RateLimit{RequestsPerSecond: 100, Burst: 100}
	require.True(t, limiter.Take(r.organization, small, noon).Allowed)
	require.False(t, limiter.Take(r.organization, small, noon).Allowed)
	require.False(t, limiter.Take(r.organization, large, noon).Allowed, "an upgrade doesn't fill the bucket")
	require.True(t, limiter.Take(r.organization, large, noon.Add(10*time.Millisecond)).Allowed, "but it fills faster")
	require.False(t, limiter.Take(r.organization, small, noon.Add(11*time.Millisecond)).Allowed)
}

func TestLimiterIsExactUnderConcurrency(t *testing.T) {
	r := newRig(t, "hard", nil)
	limiter := gate.NewLimiter()
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 1000 {
				if limiter.Take(r.organization, plans.RateLimit{RequestsPerSecond: 1, Burst: 500}, noon).Allowed {
					allowed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(500), allowed.Load())
}
