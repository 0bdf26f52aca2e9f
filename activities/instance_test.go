package activities_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/meter"
)

// flusher counts flushes, and answers as it is told.
type flusher struct {
	mu      sync.Mutex
	flushes int
	driven  int
	// err decides on each flush by its number.
	err func(n int) error
	// hold makes a flush take that long.
	hold chan struct{}
	// flushed is sent each flush's number.
	flushed chan int
}

func (f *flusher) Flush(ctx context.Context) (meter.FlushSummary, error) {
	f.mu.Lock()
	f.flushes++
	n := f.flushes
	f.mu.Unlock()
	if f.flushed != nil {
		f.flushed <- n
	}
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
			return meter.FlushSummary{Retained: 1}, ctx.Err()
		}
	}
	if f.err != nil {
		if err := f.err(n); err != nil {
			return meter.FlushSummary{Seq: int64(n - 1), Retained: 2}, err
		}
	}
	return meter.FlushSummary{Seq: int64(n), Batches: 1, Rows: 10, Watermark: now.Add(time.Duration(n) * time.Second)}, nil
}

func (f *flusher) Driven(at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at.Equal(now) {
		f.driven++
	}
}

func (f *flusher) Interval() time.Duration { return 20 * time.Millisecond }

func (f *flusher) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.flushes
}

// stops records who has stopped.
type stops struct {
	stopped []uuid.UUID
	err     error
}

func (s *stops) StopInstance(_ context.Context, id uuid.UUID) error {
	s.stopped = append(s.stopped, id)
	return s.err
}

func newInstance(f *flusher, s *stops) *activities.Instance {
	return activities.NewInstance(activities.InstanceConfig{ID: uuid.Max, Flusher: f, Store: s, Now: func() time.Time { return now }})
}

func epoch(d time.Duration) activities.FlushInput {
	return activities.FlushInput{Epoch: activities.Duration(d)}
}

func TestFlushFlushesForAnEpoch(t *testing.T) {
	t.Parallel()
	f := &flusher{}
	a := newInstance(f, &stops{})
	e := newEnvironment(t, a)
	out, err := run[activities.FlushSummary](t, e, a.Flush, epoch(time.Second))
	require.NoError(t, err)
	require.GreaterOrEqual(t, out.Flushes, 3, "at the instance's own interval of 20 ms")
	require.LessOrEqual(t, out.Flushes, 51)
	require.Equal(t, activities.FlushSummary{
		Seq: int64(out.Flushes), Watermark: now.Add(time.Duration(out.Flushes) * time.Second),
		Flushes: out.Flushes, Batches: out.Flushes, Rows: 10 * out.Flushes,
	}, out)
	require.Equal(t, out.Flushes, f.driven, "the ticker is told each time")
	beats := heartbeats[activities.FlushHeartbeat](t, e)
	require.Contains(t, beats, activities.FlushHeartbeat{Seq: 1, Watermark: now.Add(time.Second)})
}

func TestFlushTakesTheIntervalThatItIsGiven(t *testing.T) {
	t.Parallel()
	f := &flusher{}
	a := newInstance(f, &stops{})
	in := epoch(30 * time.Millisecond)
	in.Interval = activities.Duration(80 * time.Millisecond)
	out, err := run[activities.FlushSummary](t, newEnvironment(t, a), a.Flush, in)
	require.NoError(t, err)
	require.LessOrEqual(t, out.Flushes, 2)
}

// A flush that fails is made up for by the next, and seen.
func TestFlushGoesOnAfterAFailure(t *testing.T) {
	t.Parallel()
	f := &flusher{err: func(n int) error {
		if n <= 2 {
			return errAway
		}
		return nil
	}}
	a := newInstance(f, &stops{})
	e := newEnvironment(t, a)
	out, err := run[activities.FlushSummary](t, e, a.Flush, epoch(200*time.Millisecond))
	require.NoError(t, err)
	require.Equal(t, 2, out.Failed)
	require.Positive(t, out.Flushes)
	require.Contains(t, heartbeats[activities.FlushHeartbeat](t, e), activities.FlushHeartbeat{Pending: 2, Error: "the store is away"})
}

// No failure of a flush is given up on, not even one that seems permanent: somebody has
// to see that usage waits.
func TestFlushFailsWhereNothingWasFlushed(t *testing.T) {
	t.Parallel()
	f := &flusher{err: func(int) error { return meter.ErrSequenceGap }}
	a := newInstance(f, &stops{})
	_, err := run[activities.FlushSummary](t, newEnvironment(t, a), a.Flush, epoch(50*time.Millisecond))
	requireTriedAgain(t, err, "flushes succeeded: batch sequence has a gap")
}

func TestFlushNeedsAnEpoch(t *testing.T) {
	t.Parallel()
	a := newInstance(&flusher{}, &stops{})
	_, err := run[activities.FlushSummary](t, newEnvironment(t, a), a.Flush, activities.FlushInput{})
	requirePermanent(t, err, activities.TypeInvalidInput, "epoch is missing")
}

func TestFlushEndsWithItsWorker(t *testing.T) {
	t.Parallel()
	f := &flusher{flushed: make(chan int, 100)}
	a := newInstance(f, &stops{})
	e := newEnvironment(t, a)
	go func() {
		<-f.flushed
		close(e.stop)
	}()
	began := time.Now()
	out, err := run[activities.FlushSummary](t, e, a.Flush, epoch(time.Hour))
	require.NoError(t, err)
	require.Positive(t, out.Flushes)
	require.Less(t, time.Since(began), time.Minute)
}

func TestFlushEndsWhenItIsCanceled(t *testing.T) {
	t.Parallel()
	for name, hold := range map[string]chan struct{}{"between flushes": nil, "amid a flush": make(chan struct{})} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &flusher{flushed: make(chan int, 1000), hold: hold}
			a := newInstance(f, &stops{})
			e := newEnvironment(t, a)
			ctx, cancel := context.WithCancel(t.Context())
			e.cancelWith(ctx)
			go func() {
				<-f.flushed
				cancel()
			}()
			_, err := run[activities.FlushSummary](t, e, a.Flush, epoch(time.Hour))
			require.ErrorContains(t, err, "canceled")
		})
	}
}

func TestFlushOnce(t *testing.T) {
	t.Parallel()
	f := &flusher{}
	a := newInstance(f, &stops{})
	out, err := run[activities.FlushSummary](t, newEnvironment(t, a), a.FlushOnce)
	require.NoError(t, err)
	require.Equal(t, activities.FlushSummary{Seq: 1, Watermark: now.Add(time.Second), Flushes: 1, Batches: 1, Rows: 10}, out)
	require.Equal(t, 1, f.driven)

	f.err = func(int) error { return errAway }
	_, err = run[activities.FlushSummary](t, newEnvironment(t, a), a.FlushOnce)
	requireTriedAgain(t, err, "flush: the store is away")
}

func TestDrainInstance(t *testing.T) {
	t.Parallel()
	f, s := &flusher{}, &stops{}
	a := newInstance(f, s)
	e := newEnvironment(t, a)
	out, err := run[activities.FlushSummary](t, e, a.DrainInstance)
	require.NoError(t, err)
	require.Equal(t, 10, out.Rows)
	require.Equal(t, []uuid.UUID{uuid.Max}, s.stopped)

	// A late attempt of the same run must not make the instance live again.
	late, err := run[activities.FlushSummary](t, e, a.Flush, epoch(time.Hour))
	require.NoError(t, err)
	require.Zero(t, late)
	_, err = run[activities.FlushSummary](t, e, a.FlushOnce)
	requirePermanent(t, err, activities.TypeDrained, "the instance is drained")
	require.Equal(t, 1, f.count())
}

func TestDrainInstanceEndsTheEpoch(t *testing.T) {
	t.Parallel()
	f := &flusher{flushed: make(chan int, 1000)}
	a := newInstance(f, &stops{})
	e := newEnvironment(t, a)
	done := make(chan activities.FlushSummary, 1)
	go func() {
		var out activities.FlushSummary
		if value, err := e.ExecuteActivity(a.Flush, epoch(time.Hour)); err != nil {
			t.Error(err)
		} else if err := value.Get(&out); err != nil {
			t.Error(err)
		}
		done <- out
	}()
	<-f.flushed
	_, err := run[activities.FlushSummary](t, newEnvironment(t, a), a.DrainInstance)
	require.NoError(t, err)
	select {
	case out := <-done:
		require.Positive(t, out.Flushes)
	case <-time.After(10 * time.Second):
		require.Fail(t, "the epoch goes on")
	}
	after := f.count()
	time.Sleep(60 * time.Millisecond)
	require.Equal(t, after, f.count())
}

func TestDrainInstanceFails(t *testing.T) {
	t.Parallel()
	f, s := &flusher{err: func(int) error { return errAway }}, &stops{}
	a := newInstance(f, s)
	_, err := run[activities.FlushSummary](t, newEnvironment(t, a), a.DrainInstance)
	requireTriedAgain(t, err, "flush for the last time: the store is away")
	require.Empty(t, s.stopped, "what isn't flushed isn't over")

	f.err, s.err = nil, meter.ErrUnknownInstance
	_, err = run[activities.FlushSummary](t, newEnvironment(t, a), a.DrainInstance)
	requirePermanent(t, err, activities.TypeUnknownInstance, "record that the instance has stopped: instance not found")
	s.err = nil
	_, err = run[activities.FlushSummary](t, newEnvironment(t, a), a.FlushOnce)
	require.NoError(t, err, "it is not drained")
}
