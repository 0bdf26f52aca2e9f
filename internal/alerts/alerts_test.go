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

// kept are the keys that were published, without the organization.
type kept struct {
	keys []string
	err  error
}

func (k *kept) publish(_ context.Context, e events.Event) error {
	if k.err != nil {
		return k.err
	}
	if err := e.Validate(); err != nil {
		return err
	}
	k.keys = append(k.keys, strings.ReplaceAll(e.Key, "/"+uuid.Max.String(), ""))
	return nil
}

func newWatcher(k *kept, now *time.Time, thresholds ...int) *alerts.Watcher {
	return alerts.NewWatcher(alerts.Config{
		Thresholds: thresholds, Publish: k.publish, Now: func() time.Time { return *now }, Logger: slog.New(slog.DiscardHandler),
	})
}

func level(used int64, at time.Time, exceeded bool) meter.Level {
	return meter.Level{
		Organization: uuid.Max, Plan: "free", Entitlement: plans.Entitlement{Meter: "evaluations", Mode: plans.Hard, Window: calendar.WindowDay, Max: 1000},
		Window: calendar.WindowDay.At(at), Current: used, Exceeded: exceeded,
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	now, k := noon, &kept{}
	w := newWatcher(k, &now, 80, 100)
	require.Equal(t, 80, w.WatchFrom())
	for _, l := range []meter.Level{
		level(799, noon, false), level(800, noon, false), level(850, noon, false), level(1000, noon, true), level(1000, noon, true),
	} {
		w.Watch(t.Context(), []meter.Level{l})
	}
	require.Equal(t, []string{
		"usage.threshold_reached/evaluations/2026-10-17/80",
		"plan.limit_exceeded/evaluations/2026-10-17/100",
		"usage.threshold_reached/evaluations/2026-10-17/100",
	}, k.keys)
	now = noon.Add(24 * time.Hour)
	w.Watch(t.Context(), []meter.Level{level(900, now, false)})
	require.Equal(t, "usage.threshold_reached/evaluations/2026-10-18/80", k.keys[3], "another window")
}

func TestWatchTriesAgain(t *testing.T) {
	t.Parallel()
	now, k := noon, &kept{err: errors.New("the store is away")}
	w := newWatcher(k, &now, 50)
	w.Watch(t.Context(), []meter.Level{level(600, noon, true)})
	w.Watch(t.Context(), []meter.Level{level(600, noon, true)})
	require.Empty(t, k.keys)
	k.err = nil
	w.Watch(t.Context(), nil)
	require.Len(t, k.keys, 2)

	k.err = permanentError("no such organization")
	now = noon.Add(48 * time.Hour)
	w.Watch(t.Context(), []meter.Level{level(600, now, false)})
	k.err = nil
	w.Watch(t.Context(), []meter.Level{level(600, now, false)})
	require.Len(t, k.keys, 2, "what can never be kept is not tried for ever")
}

type permanentError string

func (e permanentError) Error() string { return string(e) }
func (permanentError) Retryable() bool { return false }

func TestWatchWithoutThresholds(t *testing.T) {
	t.Parallel()
	now, k := noon, &kept{}
	w := newWatcher(k, &now)
	require.Equal(t, 100, w.WatchFrom())
	w.Watch(t.Context(), []meter.Level{level(1000, noon, false)})
	require.Empty(t, k.keys)
	require.Panics(t, func() { alerts.NewWatcher(alerts.Config{}) })
}

// However usage grows and publishing fails, each threshold is told of once a window.
func TestEachCrossingOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now, k := noon, &kept{}
		w := newWatcher(k, &now, 25, 80, 100)
		used, want := int64(0), map[string]bool{}
		for range rapid.IntRange(1, 30).Draw(t, "flushes") {
			used += rapid.Int64Range(0, 200).Draw(t, "more")
			for _, percent := range []int{25, 80, 100} {
				if used >= int64(percent)*10 {
					want[fmt.Sprintf("usage.threshold_reached/evaluations/2026-10-17/%d", percent)] = true
				}
			}
			k.err = nil
			if rapid.Bool().Draw(t, "away") {
				k.err = errors.New("away")
			}
			w.Watch(context.Background(), []meter.Level{level(used, noon, false)})
		}
		k.err = nil
		w.Watch(context.Background(), nil)
		require.Len(t, k.keys, len(want))
		for _, key := range k.keys {
			require.True(t, want[key], key)
		}
	})
}
