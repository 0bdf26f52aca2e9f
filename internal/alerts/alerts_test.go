package alerts_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/internal/alerts"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

var noon = time.Date(2026, 10, 17, 12, 0, 0, 0, time.UTC)

// kept are the events that were published, by whichever replica.
type kept struct {
	keys []string
	seen map[string]events.Event
	// calls counts all of them, new those that kept an event.
	calls, new int
	err        error
	// bad are parts of keys that are refused for good.
	bad string
}

func (k *kept) publish(_ context.Context, list ...events.Event) error {
	if len(list) == 0 {
		return errors.New("a call without events")
	}
	k.calls++
	if k.err != nil {
		return k.err
	}
	var refused events.RefusedError
	before := len(k.keys)
	for _, e := range list {
		if err := e.Validate(); err != nil {
			return err
		}
		if k.bad != "" && strings.Contains(e.Key, k.bad) {
			refused.Add(e, errors.New("it is bad"))
			continue
		}
		if _, known := k.seen[e.Key]; known {
			continue
		}
		if k.seen == nil {
			k.seen = map[string]events.Event{}
		}
		k.seen[e.Key] = e
		k.keys = append(k.keys, strings.ReplaceAll(e.Key, "/"+uuid.Max.String(), ""))
	}
	if len(k.keys) > before {
		k.new++
	}
	if len(refused.Refused) > 0 {
		return &refused
	}
	return nil
}

func newWatcher(k *kept, now *time.Time, thresholds ...int) *alerts.Watcher {
	return alerts.NewWatcher(alerts.Config{
		Thresholds: thresholds, Publish: k.publish, Now: func() time.Time { return *now }, Logger: slog.New(slog.DiscardHandler),
	})
}

// level is a level that a row of the batch has taken from one usage to another.
func level(before, used int64, at time.Time) meter.Level {
	return meter.Level{
		Organization: uuid.Max, Plan: "free", Entitlement: plans.Entitlement{Meter: "evaluations", Mode: plans.Hard, Window: calendar.WindowDay, Max: 1000},
		Window: calendar.WindowDay.At(at), Before: before, Stored: used, Current: used,
	}
}

// refused is what is known of a request that a limit refused.
func refused(at time.Time) meter.Level {
	l := level(0, 0, at)
	l.Current, l.Exceeded = 1000, true
	return l
}

// soft makes a limit a soft one.
func soft(l meter.Level) meter.Level {
	l.Entitlement.Mode = plans.Soft
	return l
}

func TestWatch(t *testing.T) {
	t.Parallel()
	now, k := noon, &kept{}
	w := newWatcher(k, &now, 80, 100)
	require.Equal(t, 80, w.WatchFrom())
	for _, l := range []meter.Level{
		level(790, 799, noon), level(799, 800, noon), level(800, 850, noon), level(850, 1000, noon), refused(noon), refused(noon), level(1000, 1000, noon),
	} {
		w.Watch(t.Context(), []meter.Level{l})
	}
	require.Equal(t, []string{
		"usage.threshold_reached/evaluations/day/2026-10-17/80",
		"usage.threshold_reached/evaluations/day/2026-10-17/100",
		"plan.limit_exceeded/evaluations/day/2026-10-17/100",
	}, k.keys)
	require.Equal(t, 3, k.calls)
	now = noon.Add(24 * time.Hour)
	w.Watch(t.Context(), []meter.Level{level(0, 1000, now)})
	require.Len(t, k.keys, 5, "two thresholds of another window")
	require.Equal(t, 4, k.calls, "in one call")
}

func TestWatchTriesAgain(t *testing.T) {
	t.Parallel()
	now, k := noon, &kept{err: errors.New("the store is away")}
	w := newWatcher(k, &now, 50)
	w.Watch(t.Context(), []meter.Level{level(0, 600, noon), refused(noon)})
	w.Watch(t.Context(), []meter.Level{level(600, 700, noon), refused(noon)})
	require.Empty(t, k.keys)
	k.err = nil
	now = noon.Add(time.Second)
	w.Watch(t.Context(), nil)
	require.Len(t, k.keys, 2)
	require.Equal(t, noon, k.seen["usage.threshold_reached/"+uuid.Max.String()+"/evaluations/day/2026-10-17/50"].OccurredAt, "when it was found")
}

func TestOneBadEventHoldsUpNoOthers(t *testing.T) {
	t.Parallel()
	now, k := noon, &kept{bad: "threshold"}
	w := newWatcher(k, &now, 50)
	w.Watch(t.Context(), []meter.Level{level(0, 600, noon), refused(noon)})
	require.Equal(t, []string{"plan.limit_exceeded/evaluations/day/2026-10-17/100"}, k.keys)
	k.bad = ""
	w.Watch(t.Context(), []meter.Level{level(600, 700, noon)})
	require.Equal(t, 1, k.calls, "what can never be kept is not tried for ever")
}

func TestWatchWithoutThresholds(t *testing.T) {
	t.Parallel()
	now, k := noon, &kept{}
	w := newWatcher(k, &now)
	require.Equal(t, 100, w.WatchFrom())
	w.Watch(t.Context(), []meter.Level{level(0, 1000, noon)})
	require.Zero(t, k.calls)
	require.Panics(t, func() { alerts.NewWatcher(alerts.Config{}) })
}

// What others have crossed is left to them, and made sure of at once for all, when it has been seen for a minute.
func TestWhatOthersCrossIsLeftToThem(t *testing.T) {
	t.Parallel()
	now, k := noon, &kept{}
	w := newWatcher(k, &now, 10, 20, 30)
	w.Watch(t.Context(), []meter.Level{level(150, 160, now)})
	now = noon.Add(50 * time.Second)
	w.Watch(t.Context(), []meter.Level{level(250, 260, now)})
	require.Zero(t, k.calls)
	now = noon.Add(time.Minute)
	w.Watch(t.Context(), nil)
	require.ElementsMatch(t, []string{"usage.threshold_reached/evaluations/day/2026-10-17/10", "usage.threshold_reached/evaluations/day/2026-10-17/20"}, k.keys)
	require.Equal(t, 1, k.calls)
	now = noon.Add(time.Hour)
	w.Watch(t.Context(), []meter.Level{level(250, 260, now)})
	require.Equal(t, 1, k.calls)
}

func TestWhatIsLeftToOthersAndThenCrossedIsPublishedAtOnce(t *testing.T) {
	t.Parallel()
	now, k := noon, &kept{}
	w := newWatcher(k, &now, 80)
	// It fell, as after a restore, and this replica takes it across.
	w.Watch(t.Context(), []meter.Level{level(810, 820, now)})
	w.Watch(t.Context(), []meter.Level{level(700, 900, now)})
	require.Equal(t, 1, k.new)
	w.Watch(t.Context(), []meter.Level{level(700, 900, now)})
	require.Equal(t, 1, k.calls, "told once, however often it is crossed")
}

func TestAWatcherThatEndsMakesSure(t *testing.T) {
	t.Parallel()
	now, k := noon, &kept{}
	w := newWatcher(k, &now, 80)
	w.Finish(t.Context())
	require.Zero(t, k.calls)
	w.Watch(t.Context(), []meter.Level{level(810, 820, now)})
	w.Finish(t.Context())
	require.Len(t, k.keys, 1)
}

// A clock that steps back delays nothing for longer than patience, and one that steps on loses nothing.
func TestPatienceUnderAClockThatSteps(t *testing.T) {
	t.Parallel()
	now, k := noon, &kept{}
	w := newWatcher(k, &now, 80)
	w.Watch(t.Context(), []meter.Level{level(810, 820, now)})
	now = noon.Add(-6 * time.Hour)
	for range 5 {
		w.Watch(t.Context(), nil)
		now = now.Add(10 * time.Second)
	}
	require.Zero(t, k.calls)
	now = now.Add(20 * time.Second)
	w.Watch(t.Context(), nil)
	require.Equal(t, 1, k.new)
	now = noon.Add(-24 * time.Hour)
	w.Watch(t.Context(), []meter.Level{level(700, 820, noon)})
	require.Equal(t, 1, k.calls, "it is known still")
}

func TestALimitThatIsRaisedIsToldOfOnce(t *testing.T) {
	t.Parallel()
	now, k := noon, &kept{}
	w := newWatcher(k, &now, 80)
	w.Watch(t.Context(), []meter.Level{level(0, 800, now)})
	raised := level(1000, 1700, now)
	raised.Plan, raised.Entitlement.Max = "pro", 2000
	w.Watch(t.Context(), []meter.Level{raised})
	newWatcher(k, &now, 80).Watch(t.Context(), []meter.Level{raised})
	require.Len(t, k.keys, 1)
	require.Equal(t, 2, k.calls, "a replica that has just begun asks")
}

// A soft limit is crossed by a batch: the others leave it to that, also where they have let a request pass.
func TestASoftLimitIsPassedByABatch(t *testing.T) {
	t.Parallel()
	now, k := noon, &kept{}
	crosser, other := newWatcher(k, &now), newWatcher(k, &now)
	flagged := soft(refused(now))
	other.Watch(t.Context(), []meter.Level{soft(level(1001, 1005, now)), flagged})
	crosser.Watch(t.Context(), []meter.Level{soft(level(990, 1000, now))})
	require.Zero(t, k.calls)
	crosser.Watch(t.Context(), []meter.Level{soft(level(1000, 1001, now)), flagged})
	require.Equal(t, []string{"plan.limit_exceeded/evaluations/day/2026-10-17/100"}, k.keys)
	now = now.Add(time.Minute)
	other.Watch(t.Context(), nil)
	require.Equal(t, 2, k.calls)
	require.Len(t, k.keys, 1)
}

// However usage grows and publishing fails, each threshold is told of once a window.
func TestEachCrossingOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now, k := noon, &kept{}
		w := newWatcher(k, &now, 25, 80, 100)
		used, want := int64(0), map[string]bool{}
		for range rapid.IntRange(1, 30).Draw(t, "flushes") {
			before := used
			used += rapid.Int64Range(0, 200).Draw(t, "more")
			for _, percent := range []int{25, 80, 100} {
				if used >= int64(percent)*10 {
					want[fmt.Sprintf("usage.threshold_reached/evaluations/day/2026-10-17/%d", percent)] = true
				}
			}
			k.err = nil
			if rapid.Bool().Draw(t, "away") {
				k.err = errors.New("away")
			}
			w.Watch(context.Background(), []meter.Level{level(before, used, noon)})
		}
		k.err = nil
		w.Watch(context.Background(), nil)
		require.Len(t, k.keys, len(want))
		for _, key := range k.keys {
			require.True(t, want[key], key)
		}
	})
}

// TestARefusalTellsOfWhatWasReached has a limit refuse a request, and no batch that crosses: the plan is another
// one by the time of the flush. What was reached by then is told of, in the same call.
func TestARefusalTellsOfWhatWasReached(t *testing.T) {
	t.Parallel()
	var k kept
	now := noon
	w := newWatcher(&k, &now, 80, 100)
	w.Watch(t.Context(), []meter.Level{refused(noon)})
	require.ElementsMatch(t, []string{
		"plan.limit_exceeded/evaluations/day/2026-10-17/100",
		"usage.threshold_reached/evaluations/day/2026-10-17/80",
		"usage.threshold_reached/evaluations/day/2026-10-17/100",
	}, k.keys)
	require.Equal(t, 1, k.calls)

	early := refused(noon.AddDate(0, 0, 1))
	early.Current = 10
	w.Watch(t.Context(), []meter.Level{early})
	require.Len(t, k.keys, 4, "a request of more than remains reaches nothing")
}
