package activities_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/meter"
)

// fleet answers looks at the instances one after the other, the last one again and again.
type fleet struct {
	mu    sync.Mutex
	looks [][]meter.Instance
	err   error
	// looked is sent each look.
	looked chan struct{}

	marked meter.Instance
}

func (f *fleet) InstancesSince(context.Context, time.Time) ([]meter.Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.looked != nil {
		f.looked <- struct{}{}
	}
	if f.err != nil {
		return nil, f.err
	}
	now := f.looks[0]
	if len(f.looks) > 1 {
		f.looks = f.looks[1:]
	}
	return now, nil
}

func (f *fleet) MarkInstanceLost(context.Context, uuid.UUID) (meter.Instance, bool, error) {
	return f.marked, f.marked.Status == meter.InstanceLost, f.err
}

func newFleet(f *fleet) *activities.Fleet {
	return activities.NewFleet(activities.FleetConfig{Store: f, Poll: time.Millisecond, Now: func() time.Time { return now }})
}

func numbered(n int, status meter.InstanceStatus, watermark time.Time) meter.Instance {
	return meter.Instance{ID: uuid.UUID{15: byte(n)}, Host: fmt.Sprintf("host-%d", n), Status: status, Watermark: watermark, SeenAt: watermark}
}

var until = activities.AwaitWatermarksInput{Cut: now}

func TestAwaitWatermarks(t *testing.T) {
	t.Parallel()
	before := now.Add(-time.Nanosecond)
	f := &fleet{looks: [][]meter.Instance{
		{
			numbered(1, meter.InstanceLive, before), numbered(2, meter.InstanceLive, now), numbered(3, meter.InstanceLive, before),
			// Gone before anybody waited: nothing to wait for. What is lost before the month is another's.
			numbered(4, meter.InstanceStopped, before), numbered(5, meter.InstanceLost, now.AddDate(0, -1, 0)),
		},
		{numbered(1, meter.InstanceLive, now.Add(time.Hour)), numbered(2, meter.InstanceLive, now), numbered(3, meter.InstanceLive, before)},
		{numbered(1, meter.InstanceLive, now.Add(time.Hour)), numbered(2, meter.InstanceLive, now), numbered(3, meter.InstanceLost, before)},
	}}
	a := newFleet(f)
	e := newEnvironment(t, a)
	out, err := run[activities.AwaitWatermarksResult](t, e, a.AwaitWatermarks, until)
	require.NoError(t, err)
	lost := billing.AwaitedInstance{Instance: uuid.UUID{15: 3}, Host: "host-3", Watermark: before, SeenAt: before}
	require.Equal(t, activities.AwaitWatermarksResult{Live: 2, Lost: []billing.AwaitedInstance{lost}}, out)
	beats := heartbeats[activities.AwaitHeartbeat](t, e)
	require.Equal(t, 2, beats[1].Waiting)
	require.Equal(t, "host-1", beats[1].For[0].Host)
	require.Equal(t, []billing.AwaitedInstance{lost}, beats[2].For)
}

// Another attempt has not seen who was lost before it began: the worker died meanwhile, or the
// instance was lost just before the close. Finance is told all the same.
func TestAwaitWatermarksNamesWhoWasLostBetweenAttempts(t *testing.T) {
	t.Parallel()
	day := now.Add(-time.Hour)
	for _, tc := range []struct {
		name      string
		since     time.Time
		watermark time.Time
		missing   bool
	}{
		{"in the month", time.Time{}, day, true},
		{"at the beginning of what counts", day, day, true},
		{"before what counts", day, day.Add(-time.Nanosecond), false},
		{"flushed up to the cut", time.Time{}, now, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a := newFleet(&fleet{looks: [][]meter.Instance{{numbered(1, meter.InstanceLost, tc.watermark)}}})
			out, err := run[activities.AwaitWatermarksResult](t, newEnvironment(t, a), a.AwaitWatermarks, activities.AwaitWatermarksInput{Since: tc.since, Cut: now})
			require.NoError(t, err)
			require.Equal(t, tc.missing, len(out.Lost) == 1)
		})
	}
}

// Whether an instance is driven depends on what it has said itself, not on who waits for it.
func TestAwaitWatermarksIsAsPatientAsTheInstance(t *testing.T) {
	t.Parallel()
	patient, hasty := numbered(1, meter.InstanceLive, now.Add(-time.Hour)), numbered(2, meter.InstanceLive, now.Add(-10*time.Second))
	patient.LostAfter, hasty.LostAfter = 2*time.Hour, 9*time.Second
	var driven []uuid.UUID
	a := activities.NewFleet(activities.FleetConfig{
		Store: &fleet{looks: [][]meter.Instance{{patient, hasty}, nil}}, Poll: time.Millisecond, Now: func() time.Time { return now },
		Drive: func(_ context.Context, i meter.Instance) error {
			driven = append(driven, i.ID)
			return nil
		},
	})
	_, err := run[activities.AwaitWatermarksResult](t, newEnvironment(t, a), a.AwaitWatermarks, until)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{hasty.ID}, driven)
}

func TestAwaitWatermarksOfNobody(t *testing.T) {
	t.Parallel()
	a := newFleet(&fleet{looks: [][]meter.Instance{nil}})
	out, err := run[activities.AwaitWatermarksResult](t, newEnvironment(t, a), a.AwaitWatermarks, until)
	require.NoError(t, err)
	require.Zero(t, out)
}

// A heartbeat stays small however many instances there are.
func TestAwaitWatermarksNamesTheFirst(t *testing.T) {
	t.Parallel()
	var many []meter.Instance
	for n := range 100 {
		many = append(many, numbered(n+1, meter.InstanceLive, now.Add(-time.Hour)))
	}
	a := newFleet(&fleet{looks: [][]meter.Instance{many, nil}})
	e := newEnvironment(t, a)
	_, err := run[activities.AwaitWatermarksResult](t, e, a.AwaitWatermarks, until)
	require.NoError(t, err)
	beat := heartbeats[activities.AwaitHeartbeat](t, e)[1]
	require.Equal(t, 100, beat.Waiting)
	require.Len(t, beat.For, 20)
}

func TestAwaitWatermarksEnds(t *testing.T) {
	t.Parallel()
	behind := [][]meter.Instance{{numbered(1, meter.InstanceLive, now.Add(-time.Hour))}}
	t.Run("with its worker", func(t *testing.T) {
		t.Parallel()
		f := &fleet{looks: behind, looked: make(chan struct{}, 10_000)}
		a := newFleet(f)
		e := newEnvironment(t, a)
		go func() {
			<-f.looked
			close(e.stop)
		}()
		_, err := run[activities.AwaitWatermarksResult](t, e, a.AwaitWatermarks, until)
		requireTriedAgain(t, err, "the worker stops: another one takes over AwaitWatermarks")
	})
	t.Run("when it is canceled", func(t *testing.T) {
		t.Parallel()
		f := &fleet{looks: behind, looked: make(chan struct{}, 10_000)}
		a := newFleet(f)
		e := newEnvironment(t, a)
		ctx, cancel := context.WithCancel(t.Context())
		e.cancelWith(ctx)
		go func() {
			<-f.looked
			cancel()
		}()
		_, err := run[activities.AwaitWatermarksResult](t, e, a.AwaitWatermarks, until)
		require.ErrorContains(t, err, "canceled")
	})
	t.Run("with the store's failure", func(t *testing.T) {
		t.Parallel()
		a := newFleet(&fleet{err: errAway})
		_, err := run[activities.AwaitWatermarksResult](t, newEnvironment(t, a), a.AwaitWatermarks, until)
		requireTriedAgain(t, err, "the store is away")
	})
	t.Run("without a cut", func(t *testing.T) {
		t.Parallel()
		a := newFleet(&fleet{})
		_, err := run[activities.AwaitWatermarksResult](t, newEnvironment(t, a), a.AwaitWatermarks, activities.AwaitWatermarksInput{})
		requirePermanent(t, err, activities.TypeInvalidInput, "cut is missing")
	})
}

// Only an instance that nobody has seen for long is driven, and not at every look.
func TestAwaitWatermarksDrivesWhoHasNotBeenSeen(t *testing.T) {
	t.Parallel()
	unseen, seen := numbered(1, meter.InstanceLive, now.Add(-time.Hour)), numbered(2, meter.InstanceLive, now.Add(-time.Second))
	var looks [][]meter.Instance
	for range 5 {
		looks = append(looks, []meter.Instance{unseen, seen})
	}
	var mu sync.Mutex
	var driven []uuid.UUID
	a := activities.NewFleet(activities.FleetConfig{
		Store: &fleet{looks: append(looks, nil)}, Poll: time.Millisecond, Now: func() time.Time { return now },
		Drive: func(_ context.Context, i meter.Instance) error {
			mu.Lock()
			defer mu.Unlock()
			driven = append(driven, i.ID)
			return errAway // and that holds nothing up
		},
	})
	_, err := run[activities.AwaitWatermarksResult](t, newEnvironment(t, a), a.AwaitWatermarks, until)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{unseen.ID}, driven)
}

func TestMarkInstanceLost(t *testing.T) {
	t.Parallel()
	in := activities.MarkInstanceLostInput{Instance: uuid.Max}
	for status, alive := range map[meter.InstanceStatus]bool{meter.InstanceLive: true, meter.InstanceLost: false, meter.InstanceStopped: false} {
		f := &fleet{marked: numbered(1, status, now)}
		a := newFleet(f)
		out, err := run[activities.MarkInstanceLostResult](t, newEnvironment(t, a), a.MarkInstanceLost, in)
		require.NoError(t, err)
		require.Equal(t, activities.MarkInstanceLostResult{Alive: alive, Status: status, SeenAt: now, Watermark: now}, out)
	}
	a := newFleet(&fleet{err: fmt.Errorf("mark: %w", meter.ErrUnknownInstance)})
	_, err := run[activities.MarkInstanceLostResult](t, newEnvironment(t, a), a.MarkInstanceLost, in)
	requirePermanent(t, err, activities.TypeUnknownInstance, "mark: instance not found")
	_, err = run[activities.MarkInstanceLostResult](t, newEnvironment(t, a), a.MarkInstanceLost, activities.MarkInstanceLostInput{})
	requirePermanent(t, err, activities.TypeInvalidInput, "instance is missing")
}
