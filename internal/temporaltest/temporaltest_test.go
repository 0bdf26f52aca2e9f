package temporaltest_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/riverline/tollgate/internal/temporaltest"
)

func TestMain(m *testing.M) { temporaltest.Main(m) }

const queue = "temporaltest"

// greet is a workflow that sets a search attribute and waits for a signal.
func greet(ctx workflow.Context, name string) (string, error) {
	period := temporal.NewSearchAttributeKeyKeyword("TollgatePeriod")
	if err := workflow.UpsertTypedSearchAttributes(ctx, period.ValueSet("2026-10")); err != nil {
		return "", err
	}
	workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
	return "hello " + name, nil
}

// startGreet starts a worker and a workflow that waits for its signal.
func startGreet(t *testing.T, temporalClient client.Client) client.WorkflowRun {
	t.Helper()
	greeter := worker.New(temporalClient, queue, worker.Options{})
	greeter.RegisterWorkflow(greet)
	require.NoError(t, greeter.Start())
	t.Cleanup(greeter.Stop)
	run, err := temporalClient.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "greet", TaskQueue: queue}, greet, "world")
	require.NoError(t, err)
	return run
}

// requireGreeting lets the workflow end.
func requireGreeting(t *testing.T, temporalClient client.Client, run client.WorkflowRun) {
	t.Helper()
	require.NoError(t, temporalClient.SignalWorkflow(t.Context(), run.GetID(), "", "go", nil))
	var greeting string
	require.NoError(t, run.Get(t.Context(), &greeting))
	require.Equal(t, "hello world", greeting)
}

// Several tests use the same workflow ID at once, each in its own namespace.
func TestNewNamespaceIsUsableAtOnceAndForOneTestOnly(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"first", "second", "with unusual/characters?"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			temporalClient := temporaltest.NewNamespace(t)
			run := startGreet(t, temporalClient)
			requireGreeting(t, temporalClient, run)
			require.Eventually(t, func() bool {
				count, err := temporalClient.CountWorkflow(t.Context(), &workflowservice.CountWorkflowExecutionsRequest{Query: "TollgatePeriod = '2026-10'"})
				return err == nil && count.GetCount() == 1
			}, 30*time.Second, 20*time.Millisecond)
		})
	}
}

func TestServerRestarts(t *testing.T) {
	t.Parallel()
	server := temporaltest.NewServer(t)
	address := server.Address()
	temporalClient := server.Register(t).Dial(t)
	run := startGreet(t, temporalClient)

	server.Stop(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := temporalClient.DescribeWorkflowExecution(ctx, run.GetID(), "")
	require.Error(t, err)
	server.Start(t)
	require.Equal(t, address, server.Address())

	server.Crash(t)
	server.Start(t)
	requireGreeting(t, temporalClient, run)
}
