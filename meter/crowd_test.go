package meter_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/metertest"
)

// crowded is a reporter that a tenth of most, reported one by one, wait for.
func crowded(t *testing.T, most int) *reporter {
	t.Helper()
	r := newReporter(t, "enterprise", most)
	for n := range most / 10 {
		require.Zero(t, r.waits(t), "after %d", n)
		_, err := r.report(t, n, 1)
		require.NoError(t, err)
	}
	return r
}

// waits is for how long a request with an identity waits before it is decided on, in the time of the bubble.
func (r *reporter) waits(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	r.org.Known(t.Context(), []meter.Identity{{1}})
	return time.Since(began)
}

// TestACrowdWaitsForItsDrain has requests wait while more are undrained than the store takes in a moment, until
// they are drained, and not for ever.
func TestACrowdWaitsForItsDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := crowded(t, 100)
		require.Equal(t, 2*time.Second, r.waits(t), "nobody drains")
		began := time.Now()
		r.org.Known(t.Context(), nil)
		require.Zero(t, time.Since(began), "other usage waits for nobody")

		time.AfterFunc(500*time.Millisecond, func() {
			_, err := r.flusher.Flush(t.Context())
			require.NoError(t, err)
		})
		require.Equal(t, 500*time.Millisecond, r.waits(t))
		require.Zero(t, r.waits(t))

		gone, cancel := context.WithCancel(t.Context())
		for n := range 10 {
			_, err := r.report(t, 100+n, 1)
			require.NoError(t, err)
		}
		time.AfterFunc(time.Second, cancel)
		began = time.Now()
		r.org.Known(gone, []meter.Identity{{1}})
		require.Equal(t, time.Second, time.Since(began), "the caller is gone")
	})
}

// TestACrowdWaitsForNoStoreThatIsAway has a flush fail: what is reported waits in memory then, as far as it may, and
// nobody is slowed down for a store that takes nothing.
func TestACrowdWaitsForNoStoreThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := crowded(t, 100)
		r.store.Set(func(s *metertest.Store) { s.Away = true })
		time.AfterFunc(300*time.Millisecond, func() { _, _ = r.flusher.Flush(t.Context()) })
		require.Equal(t, 300*time.Millisecond, r.waits(t))
		for n := range 40 {
			_, err := r.report(t, 200+n, 1)
			require.NoError(t, err)
			require.Zero(t, r.waits(t))
		}
		r.store.Set(func(s *metertest.Store) { s.Away = false })
		_, err := r.flusher.Flush(t.Context())
		require.NoError(t, err)
		require.Zero(t, r.waits(t))
		for n := range 10 {
			require.Zero(t, r.waits(t))
			_, err := r.report(t, 300+n, 1)
			require.NoError(t, err)
		}
		require.Positive(t, r.waits(t), "the store is there again")
	})
}

// TestACrowdIsFlushedAheadOfTime has the flush not wait for its interval, once for each crowd, and not again and
// again where the store is away.
func TestACrowdIsFlushedAheadOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReporter(t, "enterprise", 100)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go r.flusher.Run(ctx)
		began := time.Now()
		for n := range 35 {
			_, err := r.report(t, n, 1)
			require.NoError(t, err)
			synctest.Wait()
			require.EqualValues(t, (n+1)%10, r.meter.Identified())
		}
		require.Zero(t, time.Since(began))
		require.EqualValues(t, 3, r.flusher.Last().Seq)

		r.store.Set(func(s *metertest.Store) { s.Away = true })
		for n := range 60 {
			_, err := r.report(t, 100+n, 1)
			require.NoError(t, err)
			synctest.Wait()
		}
		require.EqualValues(t, 1, r.lines.Load(), "one flush has failed")
		require.EqualValues(t, 65, r.meter.Identified())
	})
}

// TestACrowdIsWhatTheStoreTakes has the store take reports at several speeds: a crowd is what it takes in two
// seconds, and neither a small batch nor a stopped clock says anything.
func TestACrowdIsWhatTheStoreTakes(t *testing.T) {
	for _, tt := range []struct {
		name string
		n    int64
		took time.Duration
		want int64
	}{
		{"fast", 100_000, time.Second, 100_000},
		{"ordinary", 50_000, 4 * time.Second, 25_000},
		{"slow", 1_000, time.Minute, 10_000},
		{"few", 999, time.Minute, 100_000},
		{"no time", 5_000, 0, 100_000},
		{"a clock that went back", 5_000, -time.Second, 100_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, meter.CrowdAfter(1_000_000, tt.n, tt.took))
		})
	}
	require.EqualValues(t, 1, meter.CrowdAfter(5, 1_000, time.Hour), "it is never none")
}
