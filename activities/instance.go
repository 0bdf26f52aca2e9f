package activities

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/riverline/tollgate/meter"
)

// Flusher writes what an instance has counted. [meter.Flusher] is one.
type Flusher interface {
	// Flush writes all that was admitted before; on an error nothing is lost.
	Flush(ctx context.Context) (meter.FlushSummary, error)
	// Driven tells the flusher that somebody else flushes it at its interval.
	Driven(now time.Time)
	// Interval is the time between flushes.
	Interval() time.Duration
}

// InstanceStore keeps what is known of instances.
type InstanceStore interface {
	// StopInstance records that an instance has flushed all and is gone.
	StopInstance(ctx context.Context, id uuid.UUID) error
}

// InstanceConfig is what an [Instance] is made from.
type InstanceConfig struct {
	// ID is the instance's identity. Required.
	ID uuid.UUID
	// Flusher is the instance's own. Required.
	Flusher Flusher
	// Store records that the instance has stopped. Required.
	Store InstanceStore
	// Now tells the time, UTC. Nil: time.Now.
	Now func() time.Time
}

// Instance has the activities of one API instance. They run on its own queue.
type Instance struct {
	config InstanceConfig

	// mu is held while flushing, so that a drain and an epoch don't overlap.
	mu sync.Mutex
	// drainedBy is the run of the workflow that drained the instance last. A late
	// attempt of that run must not flush again: it would make the instance live again.
	drainedBy string

	wakeMu sync.Mutex
	// wake is closed when the epochs that run have to end.
	wake chan struct{}
}

// NewInstance makes the activities of an instance. It panics where a required field
// of the config is missing.
func NewInstance(config InstanceConfig) *Instance {
	if config.ID == uuid.Nil || config.Flusher == nil || config.Store == nil {
		panic("activities: InstanceConfig.ID, Flusher and Store are required")
	}
	if config.Now == nil {
		config.Now = func() time.Time { return time.Now().UTC() }
	}
	return &Instance{config: config, wake: make(chan struct{})}
}

// FlushInput says how long to flush, and how often.
type FlushInput struct {
	// Epoch is the time after which the activity returns. Required.
	Epoch Duration `json:"epoch"`
	// Interval is the time between flushes. Zero: the instance's own.
	Interval Duration `json:"interval,omitzero"`
}

// FlushSummary says what was flushed.
type FlushSummary struct {
	// Seq is the sequence of the last batch that the store has.
	Seq int64 `json:"seq"`
	// Watermark is the time up to which all that was admitted has been flushed, UTC.
	Watermark time.Time `json:"watermark,omitzero"`
	// Flushes counts the flushes that succeeded, Failed those that didn't.
	Flushes int `json:"flushes"`
	Failed  int `json:"failed,omitempty"`
	// Batches and Rows count what was written.
	Batches int `json:"batches"`
	Rows    int `json:"rows"`
	// Retained counts the batches that still wait for the store.
	Retained int `json:"retained,omitempty"`
}

func (s *FlushSummary) add(one meter.FlushSummary, err error) {
	s.Batches += one.Batches
	s.Rows += one.Rows
	s.Seq, s.Watermark, s.Retained = one.Seq, one.Watermark, one.Retained
	if err != nil {
		s.Failed++
	} else {
		s.Flushes++
	}
}

// FlushHeartbeat is what [Instance.Flush] heartbeats.
type FlushHeartbeat struct {
	Seq       int64     `json:"seq"`
	Watermark time.Time `json:"watermark,omitzero"`
	// Pending counts the batches that wait for the store.
	Pending int `json:"pending"`
	// Error is why the last flush failed; empty where it didn't.
	Error string `json:"error,omitempty"`
}

// Flush flushes the instance at its interval for an epoch. A flush that fails is
// logged, shown in the heartbeat and made up for by the next; where none has succeeded
// by the end of the epoch, the activity fails and is tried again. It ends early,
// with what it has done, when the worker stops or the instance is drained.
func (a *Instance) Flush(ctx context.Context, in FlushInput) (FlushSummary, error) {
	epoch, interval := time.Duration(in.Epoch), time.Duration(in.Interval)
	if epoch <= 0 {
		return FlushSummary{}, missing("epoch")
	}
	if interval <= 0 {
		interval = a.config.Flusher.Interval()
	}
	woken := a.woken()
	beats := startBeating(ctx, FlushHeartbeat{})
	defer beats.stop()
	end := time.NewTimer(max(epoch, interval))
	defer end.Stop()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var summary FlushSummary
	var failure error
	for {
		one, err := a.flush(ctx)
		if ctx.Err() != nil {
			return summary, ctx.Err()
		}
		if errors.Is(err, errDrained) {
			return summary, nil
		}
		summary.add(one, err)
		beat := FlushHeartbeat{Seq: one.Seq, Watermark: one.Watermark, Pending: one.Retained}
		if err != nil {
			failure = err
			beat.Error = err.Error()
			activity.GetLogger(ctx).Warn("Flush failed: the next one makes up for it", "error", err)
		}
		beats.record(beat)
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
			return summary, ctx.Err()
		case <-end.C:
		case <-woken:
		case <-activity.GetWorkerStopChannel(ctx):
		}
		return summary, a.outcome(summary, failure)
	}
}

// outcome is nil where at least one flush of an epoch succeeded. No failure of a
// flush is permanent: the usage is kept, and somebody has to see that it waits.
func (a *Instance) outcome(summary FlushSummary, failure error) error {
	if failure == nil || summary.Flushes > 0 {
		return nil
	}
	return temporal.NewApplicationErrorWithCause(
		fmt.Sprintf("none of %d flushes succeeded: %s", summary.Failed, failure), TypeNothingFlushed, failure)
}

// flush flushes once, unless the workflow's run has drained the instance.
func (a *Instance) flush(ctx context.Context) (meter.FlushSummary, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.drainedBy != "" && a.drainedBy == activity.GetInfo(ctx).WorkflowExecution.RunID {
		return meter.FlushSummary{}, errDrained
	}
	a.config.Flusher.Driven(a.config.Now())
	return a.config.Flusher.Flush(ctx)
}

// FlushOnce flushes now.
func (a *Instance) FlushOnce(ctx context.Context) (FlushSummary, error) {
	var summary FlushSummary
	one, err := a.flush(ctx)
	if err != nil {
		return summary, classify(fmt.Errorf("flush: %w", err))
	}
	summary.add(one, nil)
	return summary, nil
}

// DrainInstance ends the epochs that run, flushes for the last time and records that the
// instance has stopped. An instance that counts on afterwards is live again with its
// next flush, which its own ticker makes.
func (a *Instance) DrainInstance(ctx context.Context) (FlushSummary, error) {
	a.wakeAll()
	beats := startBeating(ctx, FlushHeartbeat{})
	defer beats.stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.config.Flusher.Driven(a.config.Now())
	var summary FlushSummary
	one, err := a.config.Flusher.Flush(ctx)
	summary.add(one, err)
	if err != nil {
		return summary, classify(fmt.Errorf("flush for the last time: %w", err))
	}
	if err := a.config.Store.StopInstance(ctx, a.config.ID); err != nil {
		return summary, classify(fmt.Errorf("record that the instance has stopped: %w", err))
	}
	a.drainedBy = activity.GetInfo(ctx).WorkflowExecution.RunID
	return summary, nil
}

func (a *Instance) woken() <-chan struct{} {
	a.wakeMu.Lock()
	defer a.wakeMu.Unlock()
	return a.wake
}

func (a *Instance) wakeAll() {
	a.wakeMu.Lock()
	defer a.wakeMu.Unlock()
	close(a.wake)
	a.wake = make(chan struct{})
}
