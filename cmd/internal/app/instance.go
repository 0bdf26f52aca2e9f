package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/api"
	"github.com/riverline/tollgate/internal/alerts"
	"github.com/riverline/tollgate/internal/telemetry"
	"github.com/riverline/tollgate/internal/wallclock"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/meter/journal"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/plans"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

// instance is what meters in one process, and what flushes it: the activities on its
// own queue, driven by its flush loop, and the flusher's own ticker as the net.
type instance struct {
	id     uuid.UUID
	host   string
	config APIConfig
	meter  *meter.Meter
	// refresher reads again what has changed.
	refresher *meter.Refresher
	journal   *journal.Journal
	flusher   *meter.Flusher
	watcher   *alerts.Watcher
	// replayed is the store for what earlier instances have left.
	replayed *alerts.Replayed
	store    *pgstore.Store
	temporal client.Client
	logger   *slog.Logger

	// behind has room for one: the store has lost something that it had acknowledged. rewound
	// likewise: it has it again, and all else that is known of it is to be read anew.
	behind, rewound chan struct{}

	// stopBackground ends what runs beside the requests, running is how many do.
	stopBackground context.CancelFunc
	background     context.Context
	running        sync.WaitGroup

	// stuck counts the earlier instances whose journals could not be replayed.
	stuck atomic.Int64

	// workerMu guards worker, which is there once Temporal has been reached.
	workerMu sync.Mutex
	worker   worker.Worker
}

func clock() time.Time { return wallclock.Now() }

// startInstance registers a new instance, writes what earlier ones left in its journal's
// folder, and begins to flush.
func startInstance(ctx context.Context, b *base, config APIConfig) (_ *instance, err error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make the instance's id: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	i := &instance{id: id, host: host, config: config, store: b.store, replayed: alerts.NewReplayed(b.store), temporal: b.temporal, logger: b.logger.With("instance", id)}
	if err := i.openJournal(ctx, b.catalog); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			i.closeJournal()
		}
	}()
	now := clock()
	as := meter.Instance{ID: id, Host: host, Status: meter.InstanceLive, StartedAt: now, SeenAt: now, Watermark: now, LostAfter: config.lostAfter()}
	if err := b.store.RegisterInstance(ctx, as); err != nil {
		return nil, err
	}
	i.behind, i.rewound = make(chan struct{}, 1), make(chan struct{}, 1)
	meterConfig := meter.Config{
		Catalog: b.catalog, Store: b.store, Logger: i.logger, Now: clock,
		Leases: b.store, Instance: id, LeaseFor: config.lostAfter() * leasePart / leaseWhole, DenyUnleased: config.LeasesAway == "deny",
		Identities: b.store, MaxIdentified: config.MaxIdentified, RedateAfter: config.RedateAfter, RefuseUnjournalled: config.JournalFull == "refuse", Behind: func() { poke(i.behind) },
	}
	if journal.Durability(config.Durability) != journal.Memory {
		meterConfig.Journal = i.journal
	}
	i.meter = meter.New(meterConfig)
	i.refresher = meter.NewRefresher(meter.RefresherConfig{Meter: i.meter, Catalog: b.store.CatalogSeen, Now: clock})
	i.watcher = newAlerts(b, config)
	i.flusher = meter.NewFlusher(meter.FlusherConfig{
		Meter: i.meter, Store: b.store, Instance: id, Now: clock, Interval: config.FlushInterval, Logger: i.logger,
		Rewinds: b.store, As: as, Rewound: func() { poke(i.rewound) },
		Undriven: i.ensureLoop, Watch: i.watcher.Watch, WatchFrom: i.watcher.WatchFrom(), IdleAfter: config.IdleAfter,
	})
	err = errors.Join(
		telemetry.ObserveMetering(b.telemetry.Metrics, i.meter, i.flusher, clock),
		telemetry.ObserveOpenReservations(b.telemetry.Metrics, i.meter, clock),
		telemetry.ObserveQuarantine(b.telemetry.Metrics, b.store.QuarantinedRows),
		telemetry.ObserveStuckReservations(b.telemetry.Metrics, b.store.StuckReservations),
		telemetry.ObserveMissingBatches(b.telemetry.Metrics, b.store.CountMissingBatches),
		telemetry.ObserveBatchConflicts(b.telemetry.Metrics, b.store.CountBatchConflicts),
		telemetry.ObserveJournal(b.telemetry.Metrics, i.journal),
	)
	if err != nil {
		i.meter.Close()
		return nil, err
	}
	i.background, i.stopBackground = context.WithCancel(context.Background())
	i.running.Go(func() { i.flusher.Run(i.background) })
	i.running.Go(func() { i.catchUp() })
	i.running.Go(func() { i.offerWork() })
	i.running.Go(func() { i.expireReservations() })
	i.running.Go(func() { i.tellReplayed() })
	i.running.Go(func() { i.replayPostponed(b.catalog, i.stuck.Load()-int64(i.journal.Postponed())) })
	return i, nil
}

// backlog is what the instance has acknowledged and not written.
func (i *instance) backlog() api.Backlog {
	kept := i.journal.Stats()
	return api.Backlog{Instance: i.id, Retained: i.flusher.Retained(), Segments: kept.Sealed, Bytes: kept.Size, Journal: i.journalHealth()}
}

// follow keeps plans, limits and keys up to date.
func (i *instance) follow(keys keys) {
	c := &changes{
		store: i.store, instance: i.id, meter: i.meter, refresher: i.refresher, logger: i.logger, keys: keys,
		interval: resyncEvery, rewound: i.rewound, behind: i.behind, since: clock(), due: make(chan struct{}, 1),
		takeover: meter.NewTakeover(meter.TakeoverConfig{
			Refresher: i.refresher, Flusher: i.flusher, Store: i.store, Instance: i.id, Now: clock,
		}),
	}
	i.running.Go(func() { c.run(i.background) })
}

// offerWork registers the instance's activities on its queue, as soon as Temporal can
// be reached, and starts its flush loop.
func (i *instance) offerWork() {
	for {
		// A worker that could not start can't be started again.
		w := worker.New(i.temporal, workflows.InstanceQueue(i.id), workflows.InstanceWorkerOptions())
		w.RegisterActivity(activities.NewInstance(activities.InstanceConfig{ID: i.id, Flusher: i.flusher, Store: i.store}))
		err := w.Start()
		if err == nil {
			i.workerMu.Lock()
			i.worker = w
			i.workerMu.Unlock()
			i.ensureLoop(i.background)
			return
		}
		i.logger.Warn("Temporal can't be reached: the instance flushes itself until it can", "error", err)
		select {
		case <-i.background.Done():
			return
		case <-time.After(retryTemporal):
		}
	}
}

// expireEvery is the time between two looks for stored reservations that have expired.
const expireEvery = time.Second

// expireReservations ends stored reservations whose time is over. Every instance does;
// those that one has begun to end are left out by the others.
func (i *instance) expireReservations() {
	ticker := time.NewTicker(expireEvery)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-i.background.Done():
			return
		case <-ticker.C:
		}
		_, err := i.store.ExpireReservations(i.background)
		if err != nil && !failing && i.background.Err() == nil {
			i.logger.Warn("Reservations that have expired can't be ended: their quota stays held until they can", "error", err)
		}
		failing = err != nil
	}
}

// ensureLoop starts the instance's flush loop unless it runs.
func (i *instance) ensureLoop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	_, err := starter.EnsureFlushLoop(ctx, i.temporal, workflows.FlushLoopInput{
		Instance: i.id, Host: i.host, Interval: activities.Duration(i.config.FlushInterval),
		LostAfter: activities.Duration(i.config.lostAfter()),
	})
	if err != nil && i.background.Err() == nil {
		i.logger.Warn("The flush loop could not be started: the instance flushes itself", "error", err)
	}
}

// drain writes all that was counted, says farewell and gives the journal's folder to the next process,
// after the last request: within [farewell], and what activities take to end. The flush loop does it where it
// can be reached, so that it ends, too; the instance itself makes sure.
func (i *instance) drain() error {
	defer i.closeJournal()
	last, cancelLast := context.WithTimeout(context.Background(), farewell)
	defer cancelLast()
	// Half of the time is for the instance itself, should Temporal not answer.
	ctx, cancel := context.WithTimeout(last, farewell/2)
	defer cancel()
	if _, err := starter.Drain(ctx, i.temporal, i.id); err != nil {
		i.logger.Warn("The flush loop could not be drained: the instance flushes itself", "error", err)
	}
	i.close()
	summary, err := i.flusher.Flush(last)
	if err != nil {
		return fmt.Errorf("flush for the last time: usage since %s is written when the journal is replayed, at the next start: %w",
			summary.Watermark.Format(time.RFC3339), err)
	}
	i.watcher.Finish(last)
	if err := i.store.StopInstance(last, i.id); err != nil {
		return fmt.Errorf("say that the instance has stopped: %w", err)
	}
	i.logger.Info("Flushed for the last time", "seq", summary.Seq, "watermark", summary.Watermark)
	return nil
}

// close ends what runs beside the requests. A second call does nothing.
func (i *instance) close() {
	i.stopBackground()
	i.running.Wait()
	i.workerMu.Lock()
	w := i.worker
	i.worker = nil
	i.workerMu.Unlock()
	if w != nil {
		w.Stop()
	}
	i.meter.Close()
}

// leasePart/leaseWhole is for how much of the time after which it is declared lost an
// instance relies on its leases, since the store has last seen it: clocks differ.
const leasePart, leaseWhole = 2, 3

// openJournal opens the journal's folder, and writes what earlier processes left there.
// What can't be written now stays, and keeps nobody from serving.
func (i *instance) openJournal(ctx context.Context, catalog *plans.Catalog) (err error) {
	if i.journal, err = i.takeJournal(ctx); err != nil {
		return fmt.Errorf("--journal-dir: %w", err)
	}
	i.stuck.Store(i.report(i.journal.Replay(ctx, i.replayed, catalog)))
	return nil
}

// report logs what became of earlier journals, and counts those that are not replayed.
func (i *instance) report(replayed []journal.Replayed) (stuck int64) {
	for _, r := range replayed {
		log := i.logger.With("earlier", r.Instance, "segments", r.Segments, "applied", r.Applied,
			"records", r.Records, "again", r.Again, "cut_bytes", r.Cut, "missing", r.Missing)
		if r.Err != nil {
			stuck++
			log.Error("The journal of an earlier instance is not replayed: its files are kept, see the runbook", "error", r.Err)
			continue
		}
		if r.Differing > 0 {
			log.Error("Another process has written other batches as an earlier instance: both are kept, see usage_batch_conflicts and the runbook",
				"differing", r.Differing)
			continue
		}
		if r.Again > 0 || r.Missing > 0 {
			log.Warn("Replayed the journal of an earlier instance, of which the store had lost batches")
			continue
		}
		log.Info("Replayed the journal of an earlier instance")
	}
	return stuck
}

// journalPoll is the time between two tries to take a journal's folder.
const journalPoll = 50 * time.Millisecond

// takeJournal opens the journal, and waits for the process before, which may still be stopping.
func (i *instance) takeJournal(ctx context.Context) (*journal.Journal, error) {
	for began, told := clock(), false; ; {
		opened, err := journal.Open(journal.Config{
			Dir: i.config.JournalDir, Instance: i.id, Durability: journal.Durability(i.config.Durability),
			Fenced: true, Keep: i.config.JournalKeep, KeepBytes: i.config.JournalKeepMiB << 20, Now: clock,
		})
		if !errors.Is(err, journal.ErrLocked) || clock().Sub(began) >= i.config.JournalWait {
			return opened, err
		}
		if !told {
			told = true
			i.logger.Warn("The journal's folder is in use: the start waits for it", "at_most", i.config.JournalWait, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(journalPoll):
		}
	}
}

// closeJournal gives the folder to the next process.
func (i *instance) closeJournal() {
	if err := i.journal.Close(); err != nil {
		i.logger.Warn("The journal could not be closed", "error", err)
	}
}

// errStuck says that the journal of an earlier instance waits for somebody to look at it.
var errStuck = errors.New("the journal of an earlier instance is not replayed")

// poke says once that something is due.
func poke(due chan<- struct{}) {
	select {
	case due <- struct{}{}:
	default:
	}
}

// catchUpRetry is the time before what could not be brought up to date is tried again.
const catchUpRetry = time.Second

// catchUp flushes at once where the store may have gone back in time: an ask for quota has found
// that it is behind, or it was away.
func (i *instance) catchUp() {
	for {
		select {
		case <-i.background.Done():
			return
		case <-i.behind:
		}
		_, err := i.flusher.Flush(i.background)
		if err == nil {
			err = i.flusher.CompareLeases(i.background)
		}
		if err != nil && i.background.Err() == nil {
			i.logger.Warn("The store can't be brought up to date: it is tried again", "error", err)
			time.AfterFunc(catchUpRetry, func() { poke(i.behind) })
		}
	}
}

// flushHealth says whether the last flush has failed.
func (i *instance) flushHealth() error {
	if i.flusher.Retained() > 0 {
		return api.PartFailing
	}
	return nil
}

// usageHealth says whether acknowledged usage is lost.
func (i *instance) usageHealth(ctx context.Context) error {
	n, err := i.store.CountMissingBatches(ctx)
	if err == nil && n > 0 {
		return api.PartIncomplete
	}
	return err
}

// journalHealth says what is wrong with the journal.
func (i *instance) journalHealth() error {
	if i.stuck.Load() > 0 {
		return errStuck
	}
	return i.journal.Health()
}
