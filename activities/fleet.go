package activities

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
)

// FleetStore knows all instances.
type FleetStore interface {
	// InstancesSince returns the live instances, and those that are gone and were seen since a time.
	InstancesSince(ctx context.Context, since time.Time) ([]meter.Instance, error)
	// MarkInstanceLost declares a live instance lost unless it was seen within its own
	// LostAfter. It returns the instance as it is afterwards, and whether this call
	// marked it.
	MarkInstanceLost(ctx context.Context, id uuid.UUID) (meter.Instance, bool, error)
}

// FleetConfig is what a [Fleet] is made from.
type FleetConfig struct {
	// Store knows the instances. Required.
	Store FleetStore
	// Drive starts the flush loop of an instance, or finds it running. It is called for
	// an instance that is waited for and has not been seen for its LostAfter: the loop is
	// what declares it lost. Nil: nobody does.
	Drive func(ctx context.Context, instance meter.Instance) error
	// Poll is the time between looks at the store. Zero: 1 s.
	Poll time.Duration
	// Now tells the time, UTC. Nil: time.Now.
	Now func() time.Time
}

// Fleet has the activities about all instances.
type Fleet struct{ config FleetConfig }

// NewFleet makes the activities about all instances. It panics where a required
// field of the config is missing.
func NewFleet(config FleetConfig) *Fleet {
	if config.Store == nil {
		panic("activities: FleetConfig.Store is required")
	}
	if config.Poll == 0 {
		config.Poll = time.Second
	}
	if config.Now == nil {
		config.Now = func() time.Time { return time.Now().UTC() }
	}
	return &Fleet{config: config}
}

// AwaitWatermarksInput says what to wait for.
type AwaitWatermarksInput struct {
	// Cut is the time up to which every live instance must have flushed. Required.
	Cut time.Time `json:"cut"`
	// Patience is how long the wait may take; then the result says whom it waited for. Zero: as
	// long as it takes.
	Patience Duration `json:"patience,omitzero"`
	// Since is from when on what lost instances admitted counts. Zero: the beginning of the cut's
	// billing month.
	Since time.Time `json:"since,omitzero"`
}

// AwaitHeartbeat is what [Fleet.AwaitWatermarks] heartbeats.
type AwaitHeartbeat struct {
	Cut time.Time `json:"cut"`
	// Waiting counts the instances whose watermark is before the cut.
	Waiting int `json:"waiting"`
	// For holds the first of them, at most 20.
	For []billing.AwaitedInstance `json:"for,omitempty"`
}

// AwaitWatermarksResult says who has flushed.
type AwaitWatermarksResult struct {
	// Live counts the live instances, all of which have flushed up to the cut.
	Live int `json:"live"`
	// Waiting holds those that had not when the patience was over, at most 500, who is furthest
	// behind first; empty: all have.
	Waiting []billing.AwaitedInstance `json:"waiting,omitempty"`
	// Lost holds the instances that are lost with a watermark before the cut, at most 20: what
	// they admitted after it is missing. One whose journal is replayed is not lost any more.
	Lost []billing.AwaitedInstance `json:"lost,omitempty"`
}

// maxAwaited bounds how many instances a heartbeat names, and maxWaiting how many a result does
// whose patience is over: a decision to go on without them names them.
const (
	maxAwaited = 20
	maxWaiting = 500
)

// clockMargin is what the clocks of instances and of Postgres may be apart.
const clockMargin = 24 * time.Hour

// tellEvery is the time between two log lines about who is waited for.
const tellEvery = time.Minute

// AwaitWatermarks returns once every live instance has flushed all that it admitted
// before the cut, or when its patience is over.
func (f *Fleet) AwaitWatermarks(ctx context.Context, in AwaitWatermarksInput) (AwaitWatermarksResult, error) {
	if in.Cut.IsZero() {
		return AwaitWatermarksResult{}, missing("cut")
	}
	beats := startBeating(ctx, AwaitHeartbeat{Cut: in.Cut})
	defer beats.stop()
	tick := time.NewTicker(f.config.Poll)
	defer tick.Stop()
	var over <-chan time.Time
	if in.Patience > 0 {
		over = time.After(time.Duration(in.Patience))
	}
	told := time.Time{}
	if in.Since.IsZero() {
		in.Since = calendar.PeriodOf(in.Cut.Add(-time.Nanosecond)).Start()
	}
	watch := watch{since: in.Since, cut: in.Cut, driven: map[uuid.UUID]time.Time{}}
	for {
		// Whose watermark is later than that was seen then: by Postgres's clock, which may be another's.
		instances, err := f.config.Store.InstancesSince(ctx, in.Since.Add(-clockMargin))
		if err != nil {
			return AwaitWatermarksResult{}, classify(err)
		}
		waiting := watch.look(instances)
		if len(waiting) == 0 {
			return watch.result, nil
		}
		beats.record(AwaitHeartbeat{Cut: in.Cut, Waiting: len(waiting), For: awaited(waiting, maxAwaited)})
		if now := f.config.Now(); now.Sub(told) >= tellEvery {
			told = now
			for _, i := range awaited(waiting, maxAwaited) {
				activity.GetLogger(ctx).Info("Waiting for an instance to flush up to the cut",
					"instance", i.Instance, "host", i.Host, "watermark", i.Watermark, "seen_at", i.SeenAt, "cut", in.Cut,
					"open", i.Open, "open_since", i.OpenSince, "open_organization", i.OpenOrganization, "open_meter", i.OpenMeter)
			}
		}
		f.drive(ctx, &watch, waiting)
		select {
		case <-over:
			watch.result.Waiting = awaited(waiting, maxWaiting)
			return watch.result, nil
		case <-tick.C:
		case <-ctx.Done():
			return AwaitWatermarksResult{}, ctx.Err()
		case <-activity.GetWorkerStopChannel(ctx):
			return AwaitWatermarksResult{}, handOver(ctx)
		}
	}
}

// watch is what is known from one look at the instances to the next.
type watch struct {
	since  time.Time
	cut    time.Time
	driven map[uuid.UUID]time.Time
	result AwaitWatermarksResult
}

// look returns the live instances that have not flushed up to the cut. What it finds of lost ones
// depends on the store alone: another attempt, or another worker, finds the same.
func (w *watch) look(instances []meter.Instance) []meter.Instance {
	w.result = AwaitWatermarksResult{}
	var waiting, lost []meter.Instance
	for _, i := range instances {
		behind := i.Watermark.Before(w.cut)
		switch {
		case i.Status == meter.InstanceLive && behind:
			waiting = append(waiting, i)
		case i.Status == meter.InstanceLost && behind && !i.Watermark.Before(w.since):
			lost = append(lost, i)
		}
		if i.Status == meter.InstanceLive {
			w.result.Live++
		}
	}
	w.result.Lost = awaited(lost, maxAwaited)
	return waiting
}

// drive makes sure that instances which have not been seen for long have a flush
// loop: without one, nobody would find out that they are gone.
func (f *Fleet) drive(ctx context.Context, w *watch, waiting []meter.Instance) {
	if f.config.Drive == nil {
		return
	}
	now := f.config.Now()
	for _, i := range waiting {
		if now.Sub(i.SeenAt) < i.Patience() || now.Sub(w.driven[i.ID]) < i.Patience() {
			continue
		}
		w.driven[i.ID] = now
		if err := f.config.Drive(ctx, i); err != nil {
			activity.GetLogger(ctx).Warn("Could not start the flush loop of an instance that is waited for", "instance", i.ID, "error", err)
		}
	}
}

// awaited names instances, at most a number of them, who is furthest behind first.
func awaited(instances []meter.Instance, most int) []billing.AwaitedInstance {
	instances = slices.SortedStableFunc(slices.Values(instances), func(a, b meter.Instance) int { return a.Watermark.Compare(b.Watermark) })
	var out []billing.AwaitedInstance
	for _, i := range instances[:min(len(instances), most)] {
		out = append(out, billing.AwaitedInstance{
			Instance: i.ID, Host: i.Host, Watermark: i.Watermark.UTC(), SeenAt: i.SeenAt.UTC(),
			Open: i.Open.Count, OpenSince: i.Open.Since.UTC(), OpenOrganization: i.Open.Organization, OpenMeter: i.Open.Meter,
		})
	}
	return out
}

// MarkInstanceLostInput says which instance seems to be gone.
type MarkInstanceLostInput struct {
	// Instance is its id. Required.
	Instance uuid.UUID `json:"instance"`
}

// MarkInstanceLostResult says what the store knows of the instance.
type MarkInstanceLostResult struct {
	// Alive is true where the store has seen it within that time: it is not lost.
	Alive bool `json:"alive"`
	// Status is its state.
	Status meter.InstanceStatus `json:"status"`
	// SeenAt and Watermark are when it was last seen, and up to when it has flushed, UTC.
	SeenAt    time.Time `json:"seen_at"`
	Watermark time.Time `json:"watermark"`
}

// MarkInstanceLost declares an instance lost that nobody has seen for long: how long, the
// instance itself has said. It asks the store first: an instance that only Temporal can't reach is alive.
func (f *Fleet) MarkInstanceLost(ctx context.Context, in MarkInstanceLostInput) (MarkInstanceLostResult, error) {
	if in.Instance == uuid.Nil {
		return MarkInstanceLostResult{}, missing("instance")
	}
	i, _, err := f.config.Store.MarkInstanceLost(ctx, in.Instance)
	if err != nil {
		return MarkInstanceLostResult{}, classify(err)
	}
	return MarkInstanceLostResult{
		Alive: i.Status == meter.InstanceLive, Status: i.Status,
		SeenAt: i.SeenAt.UTC(), Watermark: i.Watermark.UTC(),
	}, nil
}
