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

	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// Config is what a [Watcher] is made from.
type Config struct {
	// Thresholds are percentages of a limit, each 1 to 100. None: only limits that were
	// exceeded are told of.
	Thresholds []int
	// Publish keeps events, idempotently by their keys, in one call. Of an [*events.RefusedError] some can
	// never be kept, and all others are. Required.
	Publish func(context.Context, ...events.Event) error
	// Patience is how long what others have crossed is left to them, from when it is first seen: longer
	// than they take to publish after their flush, and again after the next. Zero: 1 minute.
	Patience time.Duration
	// Now tells the time, UTC. Required.
	Now func() time.Time
	// Logger takes failures. Nil: slog.Default.
	Logger *slog.Logger
}

// Watcher publishes an event for each threshold that usage crosses in a window. The batch that took the
// usage across is published at once, by its own replica. A replica that sees that others have done so asks
// nothing for as long as its patience; then it makes sure, for all that it has seen, so that nothing is lost
// with a replica that died meanwhile, or that nobody has seen cross. It knows what it has published: a
// crossing costs at most one call, however often it is seen. What other replicas, and this one before a
// restart, have published is known by the event's key.
type Watcher struct {
	config Config

	mu sync.Mutex
	// waiting are the crossings that are yet to be published, seen those that are left to others.
	waiting []crossing
	seen    map[crossed]crossing
	// published has the end of the window of each crossing that was seen or is to be published, until it
	// is over.
	published map[crossed]time.Time
	sweptAt   time.Time
	// watchedAt is the time of the last call, and age how long the watcher has watched: it never goes back.
	watchedAt time.Time
	age       time.Duration
}

// crossed identifies a crossing; percent is 0 for a limit that was exceeded. The limit is no part of it:
// one that is raised, and reached again in the same window, is told of once.
type crossed struct {
	organization uuid.UUID
	meter        string
	window       calendar.WindowKind
	start        int64
	percent      int
}

type crossing struct {
	crossed
	level meter.Level
	// at is when it was found, since the watcher's age then.
	at    time.Time
	since time.Duration
}

// sweepEvery is the time between two looks for windows that are over.
const sweepEvery = 10 * time.Minute

// NewWatcher makes a watcher. It panics where a required field of the config is missing.
func NewWatcher(config Config) *Watcher {
	if config.Publish == nil || config.Now == nil {
		panic("alerts: Config.Publish and Now are required")
	}
	if config.Patience == 0 {
		config.Patience = time.Minute
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	return &Watcher{config: config, published: map[crossed]time.Time{}, seen: map[crossed]crossing{}}
}

// WatchFrom returns the least threshold, for [meter.FlusherConfig].
func (w *Watcher) WatchFrom() int {
	if len(w.config.Thresholds) == 0 {
		return 100
	}
	return slices.Min(w.config.Thresholds)
}

// Watch publishes what the levels have crossed for the first time, and what was left to others for long
// enough: all at once. What can't be published now is tried again at the next call.
func (w *Watcher) Watch(ctx context.Context, levels []meter.Level) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.config.Now()
	if !w.watchedAt.IsZero() {
		w.age += max(0, now.Sub(w.watchedAt))
	}
	w.watchedAt = now
	w.sweep(now)
	for i := range levels {
		w.look(&levels[i], now)
	}
	for _, c := range w.seen {
		if w.age-c.since >= w.config.Patience {
			w.makeSure()
			break
		}
	}
	w.publish(ctx)
}

// Finish publishes all that is left to others: the watcher watches no more, and they may have died.
func (w *Watcher) Finish(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.makeSure()
	w.publish(ctx)
}

// look takes note of what a level has crossed or reached. What a limit refuses has no batch that crosses: each
// replica that refuses says so at once, by one call, and with it what was reached by then, as the plan may be
// another one by the time of the flush. What passes a soft limit has a batch.
func (w *Watcher) look(l *meter.Level, now time.Time) {
	refused := l.Exceeded && l.Entitlement.Mode != plans.Soft
	if l.Exceeded || l.Passed() {
		w.note(l, 0, refused || l.CrossedLimit(), now)
	}
	for _, percent := range w.config.Thresholds {
		if l.Reached(percent) {
			w.note(l, percent, refused || l.Crossed(percent), now)
		}
	}
}

// note notes a crossing unless it is known. It is this replica's, or left to others.
func (w *Watcher) note(level *meter.Level, percent int, own bool, now time.Time) {
	c := crossing{
		crossed: crossed{level.Organization, level.Entitlement.Meter, level.Entitlement.Window, level.Window.Start.Unix(), percent},
		level:   *level, at: now, since: w.age,
	}
	_, known := w.published[c.crossed]
	_, left := w.seen[c.crossed]
	switch {
	case own && (left || !known):
		delete(w.seen, c.crossed)
		w.waiting = append(w.waiting, c)
	case !known:
		w.seen[c.crossed] = c
	default:
		return
	}
	w.published[c.crossed] = level.Window.End
}

// makeSure has all published that was left to others.
func (w *Watcher) makeSure() {
	for _, c := range w.seen {
		w.waiting = append(w.waiting, c)
	}
	clear(w.seen)
}

// publish publishes what waits, in one call. What can never be published is logged and left.
func (w *Watcher) publish(ctx context.Context) {
	list := make([]events.Event, 0, len(w.waiting))
	for i := range w.waiting {
		e, err := w.waiting[i].event()
		if err != nil {
			w.refused(e, err)
			continue
		}
		list = append(list, e)
	}
	if len(list) == 0 {
		w.waiting = nil
		return
	}
	err := w.config.Publish(ctx, list...)
	var refused *events.RefusedError
	switch {
	case errors.As(err, &refused):
		for _, one := range refused.Refused {
			w.refused(one.Event, one.Err)
		}
	case err != nil:
		if ctx.Err() == nil {
			w.config.Logger.Warn("What organizations are told about their usage can't be kept: it is tried again after the next flush",
				"waiting", len(w.waiting), "error", err)
		}
		return
	}
	w.waiting = nil
}

func (c *crossing) event() (events.Event, error) {
	l := &c.level
	return events.NewUsage(events.Usage{
		Organization: l.Organization, Meter: l.Entitlement.Meter, Plan: l.Plan, Mode: l.Entitlement.Mode,
		Window: l.Entitlement.Window, WindowStart: l.Window.Start, WindowEnd: l.Window.End,
		Percent: c.percent, Current: l.Current, Held: l.Held, Max: l.Entitlement.Max,
	}, c.at)
}

func (w *Watcher) refused(e events.Event, err error) {
	w.config.Logger.Error("What an organization is told about its usage can't be kept", "organization", e.Organization, "event", e.Key, "error", err)
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
