package workflows_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/internal/blobstore"
	"github.com/riverline/tollgate/internal/temporaltest"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/webhooks"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

// record makes the tests on the real server write the histories that TestReplay replays:
//
//	go test ./workflows -run TestServer -record
var record = flag.Bool("record", false, "write the histories of the tests on the real server to testdata/histories")

func TestMain(m *testing.M) { temporaltest.Main(m) }

// system is a namespace of the real server with a worker, and stores in memory.
type system struct {
	client    client.Client
	address   string
	namespace string
	store     *fakeStore
	blobs     *blobstore.Store
}

// wait bounds everything that a test waits for.
const wait = 90 * time.Second

func newSystem(t *testing.T) *system {
	t.Helper()
	return newSystemWith(t, nil)
}

// newSystemWith makes a system whose statements go to a sink; nil: there is none.
func newSystemWith(t *testing.T, sinkOf func(*fakeStore) activities.Sink) *system {
	t.Helper()
	s := newSystemWithout(t)
	var sink activities.Sink
	if sinkOf != nil {
		sink = sinkOf(s.store)
	}
	s.startWorkers(t, sink, workflows.Version{})
	return s
}

// newSystemWithout makes a system without workers.
func newSystemWithout(t *testing.T) *system {
	t.Helper()
	namespace := temporaltest.Register(t)
	s := &system{client: namespace.Dial(t), address: namespace.Address, namespace: namespace.Name, store: newFakeStore()}
	blobs, err := blobstore.Open(t.Context(), "mem://")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, blobs.Close()) })
	s.blobs = blobs
	s.store.usage = someUsage()
	return s
}

// startWorkers starts a worker of a version on each queue.
func (s *system) startWorkers(t *testing.T, sink activities.Sink, version workflows.Version) {
	t.Helper()
	shared := worker.New(s.client, workflows.TaskQueue, version.Of(quick(workflows.WorkerOptions())))
	workflows.Register(shared)
	shared.RegisterActivity(activities.NewFleet(activities.FleetConfig{
		Store: s.store, Poll: 20 * time.Millisecond,
		Drive: func(ctx context.Context, i meter.Instance) error {
			_, err := starter.EnsureFlushLoop(ctx, s.client, workflows.FlushLoopInput{
				Instance: i.ID, Host: i.Host, LostAfter: activities.Duration(i.Patience()),
			})
			return err
		},
	}))
	shared.RegisterActivity(activities.NewRuns(activities.RunsConfig{
		Poll: 20 * time.Millisecond, IsRunning: func(ctx context.Context, id string) (bool, error) { return starter.IsRunning(ctx, s.client, id) },
	}))
	shared.RegisterActivity(activities.NewRollup(activities.RollupConfig{Store: s.store}))
	shared.RegisterActivity(activities.NewCredits(activities.CreditsConfig{Store: s.store}))
	shared.RegisterActivity(activities.NewExport(activities.ExportConfig{Store: s.store, Blobs: s.blobs, Program: "1.0.0", PageSize: 1, BatchSize: 1}))
	hooks := activities.NewWebhooks(activities.WebhooksConfig{
		Store: s.store, Sender: s.store, PageSize: 2, Attempts: someAttempts,
		Start: func(ctx context.Context, d webhooks.Delivery) error {
			in := deliveryInput(d.Event, d.Endpoint)
			in.Organization = d.Organization
			_, err := starter.StartDeliverEvent(ctx, s.client, in)
			return err
		},
	})
	shared.RegisterActivity(hooks)
	shared.RegisterActivity(activities.NewSinks(activities.SinksConfig{Store: s.store}))
	require.NoError(t, shared.Start())
	t.Cleanup(shared.Stop)
	apart := worker.New(s.client, workflows.WebhooksQueue, version.Of(workflows.WebhooksWorkerOptions(someAttempts, 0)))
	workflows.RegisterWebhooks(apart)
	apart.RegisterActivity(hooks)
	require.NoError(t, apart.Start())
	t.Cleanup(apart.Stop)
	if sink != nil {
		s.store.sinks = []string{sink.Name()}
		keyed := worker.New(s.client, workflows.SinksQueue, version.Of(quick(workflows.SinksWorkerOptions())))
		keyed.RegisterActivity(activities.NewSinks(activities.SinksConfig{Store: s.store, Sink: sink}))
		require.NoError(t, keyed.Start())
		t.Cleanup(keyed.Stop)
	}
}

// someAttempts is how many attempts to deliver events a test's worker makes at once.
const someAttempts = 16

// quick lets cancels arrive at once.
func quick(options worker.Options) worker.Options {
	options.MaxHeartbeatThrottleInterval = 50 * time.Millisecond
	options.DefaultHeartbeatThrottleInterval = 50 * time.Millisecond
	return options
}

// instance is an API instance with a worker on its queue.
type instance struct {
	id      uuid.UUID
	flusher *fakeFlusher
	stop    func()
}

// newInstance registers a live instance, and starts its worker.
func (s *system) newInstance(t *testing.T) *instance {
	t.Helper()
	i := s.registerInstance(t)
	s.startWorker(t, i)
	return i
}

// registerInstance registers a live instance.
func (s *system) registerInstance(t *testing.T) *instance {
	t.Helper()
	id, err := uuid.NewV7()
	require.NoError(t, err)
	now := time.Now().UTC()
	s.store.put(meter.Instance{ID: id, Host: "host-1", Status: meter.InstanceLive, StartedAt: now, SeenAt: now, Watermark: now, LostAfter: time.Second})
	return &instance{id: id, flusher: &fakeFlusher{store: s.store, id: id, interval: 100 * time.Millisecond}}
}

func (s *system) startWorker(t *testing.T, i *instance) {
	t.Helper()
	w := worker.New(s.client, workflows.InstanceQueue(i.id), quick(workflows.InstanceWorkerOptions()))
	w.RegisterActivity(activities.NewInstance(activities.InstanceConfig{ID: i.id, Flusher: i.flusher, Store: s.store}))
	require.NoError(t, w.Start())
	stopped := false
	i.stop = func() {
		if !stopped {
			stopped = true
			w.Stop()
		}
	}
	t.Cleanup(i.stop)
}

func (s *system) startFlushLoop(t *testing.T, i *instance) starter.Started {
	t.Helper()
	started, err := starter.EnsureFlushLoop(t.Context(), s.client, workflows.FlushLoopInput{
		Instance: i.id, Host: "host-1", Epoch: activities.Duration(300 * time.Millisecond), LostAfter: activities.Duration(2 * time.Second),
	})
	require.NoError(t, err)
	return started
}

// result waits for a run's end, and returns its result or its error.
func result[T any](t *testing.T, s *system, run starter.Started) (T, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	var out T
	err := s.client.GetWorkflow(ctx, run.WorkflowID, run.RunID).GetWithOptions(ctx, &out, client.WorkflowRunGetOptions{DisableFollowingRuns: true})
	require.NoError(t, ctx.Err(), "%s doesn't end", run.WorkflowID)
	return out, err
}

// progressOf asks a workflow how far it is, one that has ended too.
func progressOf[T any](t *testing.T, s *system, id string) (out T, err error) {
	t.Helper()
	value, err := s.client.QueryWorkflow(t.Context(), id, "", workflows.QueryProgress)
	if err == nil {
		err = value.Get(&out)
	}
	return out, err
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, wait, 20*time.Millisecond, what)
}

// history reads what a run has done so far.
func (s *system) history(t *testing.T, run starter.Started) *historypb.History {
	t.Helper()
	history := &historypb.History{}
	events := s.client.GetWorkflowHistory(t.Context(), run.WorkflowID, run.RunID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		require.NoError(t, err)
		history.Events = append(history.Events, event)
	}
	return history
}

// own matches what a history says of the machine on which it was recorded: the
// identity of a worker, and the name of its sticky queue.
var own = regexp.MustCompile(`"(identity|name)": "[^"]*(?:@|:[0-9a-f]{8}-)[^"]*"`)

// keep replays the history of a run, and with -record writes it to a file.
func (s *system) keep(t *testing.T, name string, run starter.Started) {
	t.Helper()
	history := s.history(t, run)
	require.NoError(t, replay(history))
	if !*record {
		return
	}
	for _, event := range history.GetEvents() {
		if signaled := event.GetWorkflowExecutionSignaledEventAttributes(); signaled != nil {
			// Ballast that nobody reads.
			signaled.Input = nil
		}
	}
	document, err := temporalproto.CustomJSONMarshalOptions{Indent: " "}.Marshal(history)
	require.NoError(t, err)
	document = own.ReplaceAll(document, []byte(`"$1": "recorder"`))
	require.NoError(t, os.MkdirAll(histories, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(histories, name+".json"), append(document, '\n'), 0o644))
}

// details returns what Temporal's UI shows of a run: its summary and its current details.
func (s *system) details(t *testing.T, run starter.Started) string {
	t.Helper()
	described, err := s.client.DescribeWorkflow(t.Context(), run.WorkflowID, run.RunID)
	require.NoError(t, err)
	summary, err := described.GetStaticSummary()
	require.NoError(t, err)
	value, err := s.client.QueryWorkflow(t.Context(), run.WorkflowID, run.RunID, "__temporal_workflow_metadata")
	require.NoError(t, err)
	var metadata sdkpb.WorkflowMetadata
	require.NoError(t, value.Get(&metadata))
	return summary + "\n" + metadata.GetCurrentDetails()
}

// stage returns the search attribute TollgateStage of a run.
func (s *system) stage(t *testing.T, run starter.Started) string {
	t.Helper()
	described, err := s.client.DescribeWorkflow(t.Context(), run.WorkflowID, run.RunID)
	require.NoError(t, err)
	stage, _ := described.TypedSearchAttributes.GetKeyword(workflows.StageAttribute)
	return stage
}

// count counts the runs that a query finds.
func (s *system) count(t *testing.T, query string) int64 {
	t.Helper()
	found, err := s.client.CountWorkflow(t.Context(), &workflowservice.CountWorkflowExecutionsRequest{Query: query})
	require.NoError(t, err)
	return found.GetCount()
}

// summaries returns the summaries of what a run has scheduled.
func (s *system) summaries(t *testing.T, run starter.Started) []string {
	t.Helper()
	var out []string
	for _, event := range s.history(t, run).GetEvents() {
		if data := event.GetUserMetadata().GetSummary().GetData(); len(data) > 0 {
			out = append(out, string(data))
		}
	}
	return out
}

var errAway = errors.New("the store is away")
