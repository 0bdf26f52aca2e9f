package app

import (
	"errors"
	"slices"
	"time"

	"github.com/riverline/tollgate/meter/journal"
	"github.com/riverline/tollgate/plans"
)

// postponedEvery is the time between two attempts to replay copies of journals.
const postponedEvery = 5 * time.Second

// replayPostponed replays what an instance that was alive has left, once it isn't any more: the
// folder is a copy of its, or was moved to another device.
func (i *instance) replayPostponed(catalog *plans.Catalog, damaged int64) {
	ticker := time.NewTicker(postponedEvery)
	defer ticker.Stop()
	for i.journal.Postponed() > 0 {
		select {
		case <-i.background.Done():
			return
		case <-ticker.C:
		}
		replayed := i.journal.ReplayPostponed(i.background, i.replayed, catalog)
		// What is alive still has been said.
		replayed = slices.DeleteFunc(replayed, func(r journal.Replayed) bool { return errors.Is(r.Err, journal.ErrAlive) })
		damaged += i.report(replayed)
		i.tellReplayed()
		i.stuck.Store(damaged + int64(i.journal.Postponed()))
	}
}

// replayedAtMost bounds the organizations that are loaded only to find out what they are to be told of: the
// others are looked at with their next request.
const replayedAtMost = 10_000

// tellReplayed has the watcher look at what was replayed of earlier instances' journals.
func (i *instance) tellReplayed() {
	ids := i.replayed.Take()
	if len(ids) > replayedAtMost {
		ids = ids[:replayedAtMost]
	}
	for _, id := range ids {
		if i.background.Err() != nil {
			return
		}
		levels, err := i.meter.LevelsOf(i.background, id, i.watcher.WatchFrom(), clock())
		if err != nil {
			i.logger.Warn("What an earlier instance has left may have reached a threshold, and can't be looked at", "organization", id, "error", err)
			continue
		}
		i.watcher.Watch(i.background, levels)
	}
	if len(ids) > 0 {
		i.logger.Info("Looked at whose usage was replayed, for what they are to be told of", "organizations", len(ids))
	}
}
