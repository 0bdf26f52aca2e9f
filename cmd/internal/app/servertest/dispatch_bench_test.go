package servertest_test

import (
	"context"
	"flag"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
	"github.com/riverline/tollgate/internal/webhookclient"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/webhooks"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

// dispatched is how many events BenchmarkDispatch dispatches.
var dispatched = flag.Int("events", 1000, "how many events are dispatched in BenchmarkDispatch")

// BenchmarkDispatch measures how many events a second are dispatched to one endpoint each: two
// transactions and the start of a workflow. Nobody delivers meanwhile.
func BenchmarkDispatch(b *testing.B) {
	waiting := *dispatched
	database, temporal := pgtest.NewDatabase(b), temporaltest.NewNamespace(b)
	store := database.Open(b, pgstore.Config{MaxConns: 16})
	_, err := store.CreateEndpoint(b.Context(), webhooks.Endpoint{URL: "https://example.com", Secrets: webhooks.Secrets{Current: webhooks.NewSecret()}})
	require.NoError(b, err)
	var started atomic.Int64
	var stop chan struct{}
	group := activities.NewWebhooks(activities.WebhooksConfig{
		Store: store, Sender: webhookclient.New(webhookclient.Config{}),
		Start: func(ctx context.Context, d webhooks.Delivery) error {
			_, err := starter.StartDeliverEvent(ctx, temporal, workflows.DeliverEventInput{
				Event: d.Event, Endpoint: d.Endpoint, Schedule: []activities.Duration{0},
			})
			if started.Add(1) == int64(waiting) {
				close(stop)
			}
			return err
		},
	})
	var took time.Duration
	for b.Loop() {
		for i := range waiting {
			require.NoError(b, store.PublishEvents(b.Context(), events.Event{
				ID: uuid.Must(uuid.NewV7()), Key: uuid.NewString(), Kind: events.ExportReminder,
				OccurredAt: time.Now().UTC().Truncate(time.Microsecond), Data: fmt.Appendf(nil, `{"n":%d}`, i),
			}))
		}
		var suite testsuite.WorkflowTestSuite
		environment := suite.NewTestActivityEnvironment()
		environment.SetTestTimeout(time.Hour)
		stop = make(chan struct{})
		started.Store(0)
		environment.SetWorkerStopChannel(stop)
		environment.RegisterActivity(group)
		began := time.Now()
		_, err := environment.ExecuteActivity(group.Dispatch, activities.DispatchInput{Epoch: activities.Duration(time.Hour), Poll: activities.Duration(time.Millisecond)})
		took += time.Since(began)
		require.NoError(b, err)
	}
	b.ReportMetric(float64(waiting)*float64(b.N)/took.Seconds(), "events/s")
}
