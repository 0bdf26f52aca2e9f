// Package alerts finds, beside the hot path, what organizations are told about their usage:
// that it reached a percentage of a limit, and that a limit was exceeded.
package alerts

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/meter"
)

// Config is what a [Watcher] is made from.
type Config struct {
	// Thresholds are percentages of a limit, each 1 to 100. None: only limits that were
	// exceeded are told of.
	Thresholds []int
	// Publish keeps an event, idempotently by its key. Required.
	Publish func(context.Context, events.Event) error
	// Now tells the time, UTC. Required.
	Now func() time.Time
	// Logger takes failures. Nil: slog.Default.
	Logger *slog.Logger
}

// Watcher publishes an event for each threshold that usage crosses in a window. It knows
// what it has published: a crossing costs one call, however often it is seen. What other
// replicas, and this one before a restart, have published is known by the event's key.
type Watcher struct {
	config Config

	mu sync.Mutex
	// waiting are the crossings that are yet to be published.
	waiting []crossing
	// published has the end of the window of each crossing, until it is over.
	published map[crossed]time.Time
	sweptAt   time.Time
}

// crossed identifies a crossing; percent is 0 for a limit that was exceeded.
type crossed struct {
	organization uuid.UUID
	meter        string
	start        int64
	percent      int
}

type crossing struct {
	crossed
	level meter.Level
}

// sweepEvery is the time between two looks for windows that are over.
const sweepEvery = 10 * time.Minute

// NewWatcher makes a watcher. It panics where a required field of the config is missing.
func NewWatcher(config Config) *Watcher {
	if config.Publish == nil || config.Now == nil {
		panic("alerts: Config.Publish and Now are required")
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	return &Watcher{config: config, published: map[crossed]time.Time{}}
}

// WatchFrom returns the least threshold, for [meter.FlusherConfig].
func (w *Watcher) WatchFrom() int {
	if len(w.config.Thresholds) == 0 {
		return 100
	}
	return slices.Min(w.config.Thresholds)
}

// Watch publishes what the levels have crossed for the first time. What can't be published
// now is tried again at the next call.
func (w *Watcher) Watch(ctx context.Context, levels []meter.Level) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.config.Now()
	w.sweep(now)
	for _, level := range levels {
		if level.Exceeded {
			w.add(level, 0)
		}
		for _, percent := range w.config.Thresholds {
			if level.Reached(percent) {
				w.add(level, percent)
			}
		}
	}
	for len(w.waiting) > 0 {
		next := w.waiting[0]
		if err := w.publish(ctx, next, now); err != nil {
			if ctx.Err() == nil {
				w.config.Logger.Warn("What organizations are told about their usage can't be kept: it is tried again after the next flush",
					"waiting", len(w.waiting), "error", err)
			}
			return
		}
		w.waiting = w.waiting[1:]
	}
	w.waiting = nil
}

// add notes a crossing unless it is known.
func (w *Watcher) add(level meter.Level, percent int) {
	c := crossed{level.Organization, level.Entitlement.Meter, level.Window.Start.Unix(), percent}
	if _, known := w.published[c]; known {
		return
	}
	w.published[c] = level.Window.End
	w.waiting = append(w.waiting, crossing{c, level})
}

// publish publishes one crossing. What can never be published is logged and left.
func (w *Watcher) publish(ctx context.Context, c crossing, now time.Time) error {
	l := c.level
	e, err := events.NewUsage(events.Usage{
		Organization: l.Organization, Meter: l.Entitlement.Meter, Plan: l.Plan, Mode: l.Entitlement.Mode,
		Window: l.Entitlement.Window, WindowStart: l.Window.Start, WindowEnd: l.Window.End,
		Percent: c.percent, Current: l.Current, Held: l.Held, Max: l.Entitlement.Max,
	}, now)
	if err == nil {
		err = w.config.Publish(ctx, e)
	}
	var asked fault.Retryable
	if err != nil && ctx.Err() == nil && errors.As(err, &asked) && !asked.Retryable() {
		w.config.Logger.Error("What an organization is told about its usage can't be kept", "organization", l.Organization, "event", e.Key, "error", err)
		return nil
	}
	return err
}

// sweep forgets windows that are over.
func (w *Watcher) sweep(now time.Time) {
	if now.Sub(w.sweptAt) < sweepEvery {
		return
	}
	w.sweptAt = now
	for c, end := range w.published {
		// A clock that steps back must not make an event known as new.
		if end.Add(time.Hour).Before(now) {
			delete(w.published, c)
		}
	}
}
