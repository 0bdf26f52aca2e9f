package workflows_test

import (
	"context"
	"flag"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"google.golang.org/grpc"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/internal/benchline"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

// actionsOf counts what Temporal Cloud bills of a run's history: its start, activities with their
// retries, timers, signals, updates, search attributes that are set, markers and children. What is
// billed and isn't in a history are heartbeats and queries.
func actionsOf(history *historypb.History) (actions int) {
	for _, e := range history.GetEvents() {
		switch {
		case e.GetWorkflowExecutionStartedEventAttributes() != nil,
			e.GetTimerStartedEventAttributes() != nil,
			e.GetWorkflowExecutionSignaledEventAttributes() != nil,
			e.GetWorkflowExecutionUpdateAcceptedEventAttributes() != nil,
			e.GetUpsertWorkflowSearchAttributesEventAttributes() != nil,
			e.GetMarkerRecordedEventAttributes() != nil,
			e.GetStartChildWorkflowExecutionInitiatedEventAttributes() != nil,
			e.GetActivityTaskScheduledEventAttributes() != nil:
			actions++
		}
		// An activity that is tried again leaves the number of its last attempt.
		if started := e.GetActivityTaskStartedEventAttributes(); started != nil {
			actions += int(started.GetAttempt()) - 1
		}
	}
	return actions
}

// What each path costs at most. Whoever adds an action to it says so here.
func TestRecordedRunsAreCheap(t *testing.T) {
	t.Parallel()
	for file, most := range map[string]int{
		"flush-loop-canceled.json":               2,
		"flush-loop-flush-now-and-drain.json":    14, // one for each epoch of 300 ms
		"flush-loop-lost.json":                   9,
		"roll-up-day-done.json":                  7,
		"daily-roll-up.json":                     9,
		"housekeeping.json":                      6,
		"dispatch-events.json":                   9, // one for each epoch of 300 ms
		"deliver-event-again.json":               5,
		"deliver-event-exhausted.json":           6,
		"export-already-final.json":              3,
		"export-provisional.json":                21,
		"export-final.json":                      37,
		"export-reviewed-and-approved.json":      38,
		"export-rejected.json":                   27,
		"export-canceled-awaiting-approval.json": 25,
	} {
		actions := actionsOf(recorded(t, file))
		t.Logf("%s: %d of at most %d actions", file, actions, most)
		require.LessOrEqual(t, actions, most, file)
	}
}

// An instance costs at most 130 actions an hour: the activities of its loop, and the heartbeats that its
// worker lets through.
func TestAnInstanceHourIsCheap(t *testing.T) {
	t.Parallel()
	env := loopEnvironment(t)
	epochs := 0
	env.OnActivity(onInstance.Flush, mock.Anything, mock.Anything).Return(activities.FlushSummary{Flushes: 60}, nil).After(workflows.DefaultEpoch).Run(func(mock.Arguments) { epochs++ })
	attributes := 0
	env.OnUpsertTypedSearchAttributes(mock.Anything).Return(nil).Run(func(mock.Arguments) { attributes++ }).Maybe()
	require.NoError(t, env.SetTypedSearchAttributesOnStart(workflows.FlushLoopAttributes(uuid.Max)))
	env.RegisterDelayedCallback(env.CancelWorkflow, time.Hour-time.Second)
	_, err := ended[workflows.FlushLoopResult](t, env, workflows.FlushLoop, workflows.FlushLoopInput{Instance: uuid.Max, Host: "host-1"})
	require.True(t, temporal.IsCanceledError(err), err)
	require.Zero(t, attributes, "the start has set them")
	require.LessOrEqual(t, epochs, 6)

	options := workflows.InstanceWorkerOptions()
	require.Equal(t, options.DefaultHeartbeatThrottleInterval, options.MaxHeartbeatThrottleInterval)
	heartbeats := int(time.Hour / options.MaxHeartbeatThrottleInterval)
	t.Logf("an instance-hour: %d activities and %d heartbeats", epochs, heartbeats)
	require.LessOrEqual(t, epochs+heartbeats, 130)
}

// economy is for how long TestServerAnInstanceIsCheap measures:
//
//	make economy
var economy = flag.Duration("economy", 2*time.Second, "for how long what an instance costs is measured")

// What an instance costs by what its worker and the server say: calls of heartbeats, and the history.
func TestServerAnInstanceIsCheap(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	var heartbeats beats
	counting := func(ctx context.Context, method string, in, out any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		if strings.HasSuffix(method, "/RecordActivityTaskHeartbeat") {
			heartbeats.add()
		}
		return invoke(ctx, method, in, out, conn, options...)
	}
	counted, err := client.DialContext(t.Context(), client.Options{
		HostPort: s.address, Namespace: s.namespace, Logger: quietLogger(),
		ConnectionOptions: client.ConnectionOptions{DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(counting)}},
	})
	require.NoError(t, err)
	t.Cleanup(counted.Close)
	i := s.registerInstance(t)
	w := worker.New(counted, workflows.InstanceQueue(i.id), workflows.InstanceWorkerOptions())
	w.RegisterActivity(activities.NewInstance(activities.InstanceConfig{ID: i.id, Flusher: i.flusher, Store: s.store}))
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	run, err := starter.EnsureFlushLoop(t.Context(), s.client, workflows.FlushLoopInput{Instance: i.id, Host: "host-1"})
	require.NoError(t, err)
	began := time.Now()
	eventually(t, "the instance heartbeats", func() bool { return heartbeats.count() > 0 })
	time.Sleep(*economy)
	took := time.Since(began)
	history := actionsOf(s.history(t, run))
	t.Logf("in %s: %d actions of the history and %d heartbeats", took.Round(time.Second), history, heartbeats.count())
	hours := took.Hours()
	require.LessOrEqual(t, float64(history+heartbeats.count()), 130*hours+4, "4 for the start and the epoch at hand")

	actions, events := s.costOfAnEpoch(t)
	epochs := float64(time.Hour / workflows.DefaultEpoch)
	require.NoError(t, benchline.Write(os.Stdout, "InstanceHour", 1, benchline.Figures{
		"actions/h": heartbeats.anHour() + epochs*actions, "history-events/h": epochs * events,
	}))
}

// beats are heartbeats as they come.
type beats struct {
	mu          sync.Mutex
	n           int
	first, last time.Time
}

func (b *beats) add() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n, b.last = b.n+1, time.Now()
	if b.n == 1 {
		b.first = b.last
	}
}

func (b *beats) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}

// anHour is how many there are an hour: as counted, or as a worker lets through where only one was.
func (b *beats) anHour() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n < 2 {
		return float64(time.Hour / workflows.InstanceWorkerOptions().MaxHeartbeatThrottleInterval)
	}
	return float64(b.n-1) / b.last.Sub(b.first).Hours()
}

// costOfAnEpoch counts what a flush loop's epoch adds to the history, by short ones: however long, it is
// one activity.
func (s *system) costOfAnEpoch(t *testing.T) (actions, events float64) {
	t.Helper()
	i := s.newInstance(t)
	run, err := starter.EnsureFlushLoop(t.Context(), s.client, workflows.FlushLoopInput{Instance: i.id, Host: "host-1", Epoch: activities.Duration(300 * time.Millisecond)})
	require.NoError(t, err)
	var history *historypb.History
	var ends []int
	for began := time.Now(); len(ends) < 4; time.Sleep(100 * time.Millisecond) {
		require.Less(t, time.Since(began), wait, "some epochs are over")
		history, ends = s.history(t, run), nil
		for at, e := range history.GetEvents() {
			if e.GetActivityTaskCompletedEventAttributes() != nil {
				ends = append(ends, at)
			}
		}
	}
	first, last := ends[0], ends[len(ends)-1]
	between := &historypb.History{Events: history.GetEvents()[first+1 : last+1]}
	epochs := float64(len(ends) - 1)
	return float64(actionsOf(between)) / epochs, float64(last-first) / epochs
}
