package workflows

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/meter"
)

// All timeouts, heartbeats and retries are here. What waits for a database or an
// object store is tried again without end: an operator sees it as a pending activity
// with its last failure, and it goes on by itself once the cause is gone. What can't
// succeed is not tried again: the activity says so (activities.classify).
const (
	// DefaultEpoch is how long one Flush, or one Dispatch, works. Longer epochs cost fewer
	// events; a worker's stop or a drain ends one early.
	DefaultEpoch = 10 * time.Minute

	// flushHeartbeat is the longest silence of a Flush. It says only that the activity is to be tried
	// again: whether the instance lives, the store knows, which has seen it at its last flush.
	// flushThrottle is the least time between two heartbeats of an instance that reach the server: 120
	// an hour, of which each is a billable action.
	flushHeartbeat = 75 * time.Second
	flushThrottle  = 30 * time.Second

	// heartbeat is the longest silence of a long activity. After it the activity is
	// tried again: elsewhere, or, on an instance's queue, by nobody if it is gone.
	heartbeat = 30 * time.Second

	// DefaultLostAfter is how long an instance's queue may stand still before the store is asked,
	// and how long the store must not have seen the instance before it is declared lost.
	// LostIntervals is the least in flush intervals: the instance's own ticker flushes
	// after three without a driver.
	DefaultLostAfter = meter.DefaultLostAfter
	LostIntervals    = 5

	// promptPickup is how long a task waits on an instance's queue where a person or a
	// stopping process waits.
	promptPickup = 10 * time.Second

	// flushSlack is how much longer than its epoch a Flush may run: its last flush.
	flushSlack = 2 * time.Minute
	// flushOnceTimeout bounds one attempt of a flush on demand or a last flush,
	// promptTimeout all attempts together, and promptAttempts their number.
	flushOnceTimeout = time.Minute
	promptTimeout    = 2 * time.Minute
	promptAttempts   = 3

	// storeTimeout bounds one attempt of a short statement.
	storeTimeout = 30 * time.Second
	// bulkTimeout bounds one attempt of what touches a day's or a period's usage.
	bulkTimeout = 6 * time.Hour
	// awaitTimeout bounds one attempt of waiting for instances; then it waits again.
	awaitTimeout = 24 * time.Hour

	// ratingPageSize is how many organizations one activity rates, and ratingAtOnce how
	// many such activities one export runs at a time.
	ratingPageSize = 2500
	ratingAtOnce   = 4
	// deliveryPageSize is how many statements one activity hands to a sink, and
	// deliveriesAtOnce how many such activities run at a time: a sink limits its rate.
	deliveryPageSize = 2500
	deliveriesAtOnce = 4
	// DefaultRemindAfter is the time between reminders of a decision that is waited for.
	DefaultRemindAfter = 24 * time.Hour

	// joinedPoll is the time between looks at a run that is not recorded yet.
	joinedPoll = 5 * time.Second
	// rollUpAttempts is how often one run rolls up the same day: usage that keeps coming
	// for a day that is over must not hold up what follows.
	rollUpAttempts = 3
	// rollUpLookback is how many days before yesterday DailyRollUp looks for days that
	// it missed, or that usage came to late: the billing month before, at least.
	rollUpLookback = 35
	// partitionMonths is how many months ahead partitions are made.
	partitionMonths = 3

	// Catch-up windows: after an outage of the server that is shorter, what a schedule
	// missed is started late, each with its own scheduled time.
	dailyCatchUp   = 35 * 24 * time.Hour
	monthlyCatchUp = 92 * 24 * time.Hour
	// What the housekeeping missed, the next one does.
	housekeepingCatchUp = 24 * time.Hour

	// dispatchPoll is the time between two looks for events, dispatchSlack how much longer
	// than its epoch a Dispatch may run: a page that is under way.
	dispatchPoll  = time.Second
	dispatchSlack = 5 * time.Minute
	// attemptTimeout bounds one attempt of a delivery, reading what to send included.
	attemptTimeout = time.Minute

	// againFirst and againMost are the first and the longest wait after a failure for good of what
	// nobody else does.
	againFirst = time.Minute
	againMost  = time.Hour

	// sharedSlots is how many activities, and how many tasks of workflows, a worker on the shared
	// queue has at a time: many of them only wait. webhookSpare is how many more than attempts a
	// worker on the webhooks' queue has.
	sharedSlots  = 100
	webhookSpare = 32
	// sinkPickup is how long a delivery waits for a worker that has the key of its sink.
	sinkPickup = time.Hour

	// workerStop is how long a stopping worker lets its activities finish.
	workerStop = 10 * time.Second
	// heartbeatThrottle is the least time between two heartbeats that reach the server;
	// a cancel reaches an activity no faster.
	heartbeatThrottle = 5 * time.Second
)

// LostAfter is after how long an instance is declared lost, unless it is said otherwise:
// [DefaultLostAfter], or [LostIntervals] of its flush intervals where that is more.
func LostAfter(interval time.Duration) time.Duration {
	return max(DefaultLostAfter, LostIntervals*interval)
}

// withoutEnd tries again after 1 s, 2 s, … 1 min.
func withoutEnd() *temporal.RetryPolicy {
	return &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute}
}

// promptly tries again every second, a few times: somebody waits for the answer.
func promptly() *temporal.RetryPolicy {
	return &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 1, MaximumAttempts: promptAttempts}
}

// forFlush are the options of Flush, on the instance's queue.
func forFlush(ctx workflow.Context, instance uuid.UUID, epoch, lostAfter time.Duration, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              InstanceQueue(instance),
		ScheduleToStartTimeout: lostAfter,
		StartToCloseTimeout:    epoch + flushSlack,
		HeartbeatTimeout:       min(flushHeartbeat, lostAfter),
		RetryPolicy:            withoutEnd(),
		Summary:                summary,
	})
}

// forLook are the options of MarkInstanceLost, which has no more time than the instance had to take
// work: the loop doesn't wait for a store that doesn't answer, it drives the instance, which may be
// alive.
func forLook(ctx workflow.Context, lostAfter time.Duration) workflow.Context {
	options := workflow.GetActivityOptions(forStore(ctx, fmt.Sprintf("not seen for %s?", lostAfter)))
	options.StartToCloseTimeout = min(storeTimeout, lostAfter)
	options.ScheduleToCloseTimeout = lostAfter
	return workflow.WithActivityOptions(ctx, options)
}

// forPromptFlush are the options of FlushOnce and DrainInstance, on the instance's queue.
func forPromptFlush(ctx workflow.Context, instance uuid.UUID, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              InstanceQueue(instance),
		ScheduleToStartTimeout: promptPickup,
		StartToCloseTimeout:    flushOnceTimeout,
		ScheduleToCloseTimeout: promptTimeout,
		RetryPolicy:            promptly(),
		Summary:                summary,
	})
}

// forStore are the options of short statements.
func forStore(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: storeTimeout,
		RetryPolicy:         withoutEnd(),
		Summary:             summary,
	})
}

// forReminder are those of a reminder: the next one makes up for it.
func forReminder(ctx workflow.Context, summary string, next time.Duration) workflow.Context {
	options := workflow.GetActivityOptions(forStore(ctx, summary))
	options.ScheduleToCloseTimeout = max(next, storeTimeout)
	return workflow.WithActivityOptions(ctx, options)
}

// forRecord are those of a short statement after which a cancel has something to undo:
// a cancel waits for its answer.
func forRecord(ctx workflow.Context, summary string) workflow.Context {
	options := workflow.GetActivityOptions(forStore(ctx, summary))
	options.WaitForCancellation = true
	return workflow.WithActivityOptions(ctx, options)
}

// forBulk are the options of what touches much usage: it heartbeats, and a cancel
// waits until it has let go, so that nothing half-done is left.
func forBulk(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: bulkTimeout,
		HeartbeatTimeout:    heartbeat,
		WaitForCancellation: true,
		RetryPolicy:         withoutEnd(),
		Summary:             summary,
	})
}

// An export shows whom it waits for after firstPatience, and looks again every furtherPatience: each
// look is a few events of its history. nowPatience is that of a look alone.
const (
	firstPatience   = 5 * time.Second
	furtherPatience = time.Hour
	nowPatience     = time.Millisecond
)

// forWaiting are the options of AwaitWatermarks and AwaitRun.
func forWaiting(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: awaitTimeout,
		HeartbeatTimeout:    heartbeat,
		RetryPolicy:         withoutEnd(),
		Summary:             summary,
	})
}

// forDispatch are the options of Dispatch.
func forDispatch(ctx workflow.Context, epoch time.Duration) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: epoch + dispatchSlack,
		HeartbeatTimeout:    heartbeat,
		RetryPolicy:         withoutEnd(),
		Summary:             "dispatch for " + epoch.String(),
	})
}

// forAttempt are the options of Attempt. What it is tried again for is the store's absence
// or a worker's end: a receiver that fails is a result.
func forAttempt(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: attemptTimeout,
		RetryPolicy:         withoutEnd(),
		Summary:             summary,
	})
}

// childOptions are those of a workflow with a fixed ID that outlives who started it:
// others may have met in it.
func childOptions(id, summary string, attributes ...temporal.SearchAttributeUpdate) workflow.ChildWorkflowOptions {
	return workflow.ChildWorkflowOptions{
		WorkflowID:            id,
		TaskQueue:             TaskQueue,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_ABANDON,
		WaitForCancellation:   true,
		TypedSearchAttributes: temporal.NewSearchAttributes(attributes...),
		StaticSummary:         summary,
	}
}

// forSink are the options of what only a worker with the key of a sink can do. Where there is none for
// long the delivery fails: it is made again by hand.
func forSink(ctx workflow.Context, summary string) workflow.Context {
	options := workflow.GetActivityOptions(forBulk(ctx, summary))
	options.TaskQueue = SinksQueue
	options.ScheduleToStartTimeout = sinkPickup
	return workflow.WithActivityOptions(ctx, options)
}

// WorkerOptions are the options of a worker on the shared queue.
func WorkerOptions() worker.Options {
	return worker.Options{
		MaxConcurrentActivityExecutionSize:     sharedSlots,
		MaxConcurrentWorkflowTaskExecutionSize: sharedSlots,
		WorkerStopTimeout:                      workerStop,
		MaxHeartbeatThrottleInterval:           heartbeatThrottle,
		DefaultHeartbeatThrottleInterval:       heartbeatThrottle,
	}
}

// Version is that of a worker in a deployment of Temporal's, by which an operator decides when, and for
// how many runs, it takes over.
type Version struct {
	// BuildID tells versions apart. Empty: the worker is unversioned, and takes work at once.
	BuildID string
	// Deployment is what the versions are of. Required with a BuildID.
	Deployment string
}

// Of makes the options of a worker those of a version. All workflows move to the version that is
// current: they replay under newer code, by [Changes].
func (v Version) Of(options worker.Options) worker.Options {
	if v.BuildID == "" {
		return options
	}
	options.DeploymentOptions = worker.DeploymentOptions{
		UseVersioning:             true,
		Version:                   worker.WorkerDeploymentVersion{DeploymentName: v.Deployment, BuildID: v.BuildID},
		DefaultVersioningBehavior: workflow.VersioningBehaviorAutoUpgrade,
	}
	return options
}

// WebhooksWorkerOptions are the options of a worker on [WebhooksQueue] that makes a number of
// attempts at once (0: [activities.DefaultAttempts]), and begins at most so many activities a second
// (0: any number).
func WebhooksWorkerOptions(attempts int, perSecond float64) worker.Options {
	if attempts == 0 {
		attempts = activities.DefaultAttempts
	}
	options := WorkerOptions()
	// What records an attempt, or finds no turn, needs a slot besides.
	options.MaxConcurrentActivityExecutionSize = attempts + webhookSpare
	options.MaxConcurrentWorkflowTaskExecutionSize = webhookSpare
	options.WorkerActivitiesPerSecond = perSecond
	return options
}

// SinksWorkerOptions are the options of a worker on [SinksQueue]: activities only.
func SinksWorkerOptions() worker.Options {
	options := WorkerOptions()
	options.DisableWorkflowWorker = true
	options.MaxConcurrentActivityExecutionSize = 2 * deliveriesAtOnce
	return options
}

// InstanceWorkerOptions are the options of an API instance's worker on its own queue:
// activities only.
func InstanceWorkerOptions() worker.Options {
	options := WorkerOptions()
	options.DisableWorkflowWorker = true
	options.MaxHeartbeatThrottleInterval = flushThrottle
	options.DefaultHeartbeatThrottleInterval = flushThrottle
	return options
}
