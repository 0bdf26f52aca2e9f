package servertest_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/riverline/tollgate/accounts"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/cmd/internal/app"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/internal/config"
	"github.com/riverline/tollgate/internal/devstack"
	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
	"github.com/riverline/tollgate/pgstore"
	"github.com/riverline/tollgate/webhooks"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

// TestTemporalIsReplaced holds that Postgres is what counts: a worker under which Temporal is replaced by
// an empty one makes the schedules and the dispatch again, tries the deliveries that are due, and takes a
// close to where it was.
func TestTemporalIsReplaced(t *testing.T) {
	database, server := pgtest.NewDatabase(t), temporaltest.NewServer(t)
	t.Setenv("TEMPORAL_ADDRESS", server.Address())
	t.Setenv("TEMPORAL_NAMESPACE", devstack.TemporalNamespace)
	worker := app.NewWorker(app.WorkerConfig{
		Shared: app.Shared{
			Database: config.Database{DatabaseURL: database.APIURL, MaxConnections: 8},
			Blobs:    config.Blobs{BlobURL: "file://" + t.TempDir()},
			Webhooks: app.Webhooks{WebhookAllowPrivate: true, WebhookSchedule: []time.Duration{0, 2 * time.Second, 0}},
		},
		Listen: freeAddress(t), KeepInterval: 500 * time.Millisecond,
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(ctx) }()
	t.Cleanup(func() { stop(); require.NoError(t, <-ended) })
	awaited, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, app.AwaitReady(awaited, worker))
	store := database.Open(t, pgstore.Config{})
	temporal := dial(t, server)

	october := calendar.PeriodOf(time.Now()).Previous()
	newPerson := func(name string) billing.Actor {
		secret := "tg_finance_" + name
		key, err := store.CreateKey(t.Context(), accounts.Key{Role: accounts.RoleFinance, Name: name, Owner: name, Prefix: accounts.SecretPrefix(secret)}, accounts.HashSecret(secret))
		require.NoError(t, err)
		return billing.Actor{ID: key.ID, Name: name}
	}
	ann, bob := newPerson("ann"), newPerson("bob")
	_, err := starter.StartExport(t.Context(), temporal, workflows.ExportPeriodInput{Period: october.String(), RequestedBy: ann.Name, RequestedByID: ann.ID})
	require.NoError(t, err)
	waiting := openExport(t, store, billing.StageApproving, "")
	var refusing atomic.Bool
	refusing.Store(true)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if refusing.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(receiver.Close)
	endpoint, err := store.CreateEndpoint(t.Context(), webhooks.Endpoint{ID: uuid.Must(uuid.NewV7()), URL: receiver.URL, Secrets: webhooks.Secrets{Current: webhooks.NewSecret()}, Kinds: []events.Kind{events.ExportClosed}})
	require.NoError(t, err)
	publish := func() uuid.UUID {
		e := events.Event{ID: uuid.Must(uuid.NewV7()), Key: uuid.NewString(), Kind: events.ExportClosed, OccurredAt: time.Now(), Data: []byte(`{}`)}
		require.NoError(t, store.PublishEvents(t.Context(), e))
		return e.ID
	}
	become := func(event uuid.UUID, attempts int, state webhooks.State) {
		t.Helper()
		require.Eventually(t, func() bool {
			d, err := store.WebhookDelivery(t.Context(), uuid.Nil, event, endpoint.ID)
			return err == nil && d.Attempts == attempts && d.State == state
		}, 2*time.Minute, 20*time.Millisecond)
	}
	waits := publish()
	become(waits, 1, webhooks.Pending)

	temporal.Close()
	server.Replace(t)
	become(waits, 2, webhooks.Pending)
	become(waits, 3, webhooks.Exhausted)
	refusing.Store(false)
	become(publish(), 1, webhooks.Delivered)
	temporal = dial(t, server)
	for _, schedule := range workflows.Schedules() {
		_, err := temporal.ScheduleClient().GetHandle(t.Context(), schedule.ID).Describe(t.Context())
		require.NoError(t, err)
	}
	again := openExport(t, store, billing.StageApproving, waiting.RunID)
	require.Equal(t, ann.ID, again.RequestedByID)
	_, err = starter.Decide(t.Context(), temporal, october, uuid.Nil, workflows.DecideInput{
		Action: billing.ActionApproved, Actor: ann, Note: "fine",
	})
	require.ErrorContains(t, err, "ann", "who asked for it may still not approve it")
	_, err = starter.Decide(t.Context(), temporal, october, uuid.Nil, workflows.DecideInput{
		Action: billing.ActionApproved, Actor: bob, Note: "fine",
	})
	require.NoError(t, err)
	reach(t, store, again.ID, billing.StageClosed)

	// What an operator ends in Temporal isn't started again.
	require.Eventually(t, func() bool { // The first revision's run ends just after it is recorded.
		started, err := starter.StartExport(t.Context(), temporal, workflows.ExportPeriodInput{Period: october.String(), RequestedBy: "ann", Reopen: true, Reason: "late"})
		return err == nil && !started.Joined
	}, 2*time.Minute, 50*time.Millisecond)
	revision := openExport(t, store, billing.StageApproving, again.RunID)
	require.NoError(t, temporal.TerminateWorkflow(t.Context(), revision.WorkflowID, "", "a mistake"))
	reach(t, store, revision.ID, billing.StageCanceled)
}

func dial(t *testing.T, server *temporaltest.Server) client.Client {
	t.Helper()
	return temporaltest.Namespace{Address: server.Address(), Name: devstack.TemporalNamespace}.Dial(t)
}

// openExport waits until one run is open, is in a stage, and is not `but`.
func openExport(t *testing.T, store *pgstore.Store, stage billing.Stage, but string) (found billing.Export) {
	t.Helper()
	require.Eventually(t, func() bool {
		open, err := store.OpenExports(t.Context())
		if err == nil && len(open) == 1 {
			found = open[0]
		}
		return found.Stage == stage && found.RunID != but
	}, 2*time.Minute, 20*time.Millisecond)
	return found
}

// reach waits until a run is in a stage.
func reach(t *testing.T, store *pgstore.Store, id uuid.UUID, stage billing.Stage) {
	t.Helper()
	require.Eventually(t, func() bool {
		runs, err := store.Exports(t.Context(), uuid.Nil, 10)
		return err == nil && slices.ContainsFunc(runs, func(e billing.Export) bool { return e.ID == id && e.Stage == stage })
	}, 2*time.Minute, 20*time.Millisecond)
}
