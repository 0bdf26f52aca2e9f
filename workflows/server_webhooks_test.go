package workflows_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/webhooks"
	"github.com/riverline/tollgate/workflows"
	"github.com/riverline/tollgate/workflows/starter"
)

// happen publishes an event.
func (s *system) happen(t *testing.T, key string) events.Event {
	t.Helper()
	e := events.Event{
		ID: uuid.Must(uuid.NewV7()), Key: key, Kind: events.ExportIssued, OccurredAt: time.Now().UTC(), Data: json.RawMessage(`{}`),
	}
	s.store.publish(e)
	return e
}

// answer sets what the receiver answers.
func (s *system) answer(statuses ...int) {
	s.store.hooksMu.Lock()
	defer s.store.hooksMu.Unlock()
	s.store.answers, s.store.sent = nil, 0
	for _, status := range statuses {
		s.store.answers = append(s.store.answers, webhooks.Response{Status: status, At: time.Now().UTC()})
	}
}

func TestServerDispatchesAndDelivers(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.answer(200)
	first, second := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	s.store.endpoints = []uuid.UUID{first, second}
	for _, key := range []string{"1", "2", "3", "1"} {
		s.happen(t, key)
	}
	in := workflows.DispatchEventsInput{Epoch: activities.Duration(200 * time.Millisecond), Poll: activities.Duration(20 * time.Millisecond)}
	run, err := starter.EnsureDispatchEvents(t.Context(), s.client, in)
	require.NoError(t, err)
	again, err := starter.EnsureDispatchEvents(t.Context(), s.client, in)
	require.NoError(t, err)
	require.Equal(t, starter.Started{WorkflowID: "dispatch-events", RunID: run.RunID, Joined: true}, again)

	eventually(t, "six deliveries", func() bool { return len(s.store.recorded()) == 6 })
	late := s.happen(t, "4")
	eventually(t, "two more", func() bool { return len(s.store.recorded()) == 8 })
	delivery, err := starter.StartDeliverEvent(t.Context(), s.client, deliveryInput(late.ID, first))
	require.NoError(t, err)
	require.True(t, delivery.Joined, "what has ended is not sent again")
	seen := map[[2]uuid.UUID]bool{}
	for _, a := range s.store.recorded() {
		require.Equal(t, webhooks.Delivered, a.State)
		seen[[2]uuid.UUID{a.Event, a.Endpoint}] = true
	}
	require.Len(t, seen, 8, "each once")
	eventually(t, "an epoch", func() bool {
		p, err := progressOf[workflows.DispatchEventsProgress](t, s, workflows.DispatchEventsID)
		// What an attempt did that was cut off, as on a busy machine, is in no count.
		return err == nil && p.Epochs >= 2 && p.Events > 0 && p.Events <= 4 && p.Deliveries > 0 && p.Deliveries <= 8
	})
	require.Contains(t, s.details(t, run), "Starts the deliveries of events")
	require.Equal(t, "dispatching", s.stage(t, run))
	require.Contains(t, s.summaries(t, run), `"dispatch for 200ms"`)
	require.NoError(t, s.client.CancelWorkflow(t.Context(), run.WorkflowID, run.RunID))
	_, err = result[workflows.DispatchEventsProgress](t, s, run)
	require.True(t, temporal.IsCanceledError(err), err)
	s.keep(t, "dispatch-events", run)
}

func TestServerRedelivers(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.answer(500, 500, 200)
	e := s.happen(t, "1")
	in := deliveryInput(e.ID, uuid.Must(uuid.NewV7()))
	run, err := starter.StartDeliverEvent(t.Context(), s.client, in)
	require.NoError(t, err)
	eventually(t, "two attempts", func() bool { return len(s.store.recorded()) == 2 })
	require.Equal(t, "pending", s.stage(t, run))
	require.Contains(t, s.details(t, run), "Delivers event "+e.ID.String())
	asked, err := starter.Redeliver(t.Context(), s.client, in)
	require.NoError(t, err)
	require.Equal(t, run.RunID, asked.RunID, "the run that waits takes it")
	out, err := result[workflows.DeliverEventProgress](t, s, run)
	require.NoError(t, err)
	require.Equal(t, workflows.DeliverEventProgress{State: webhooks.Delivered, Attempts: 3, LastStatus: 200}, out)
	require.Equal(t, "delivered", s.stage(t, run))
	require.True(t, s.store.recorded()[2].Manual)
	require.Contains(t, s.summaries(t, run), `"try 3 of 3"`)
	s.keep(t, "deliver-event-redelivered", run)

	after, err := starter.Redeliver(t.Context(), s.client, in)
	require.NoError(t, err)
	require.NotEqual(t, run.RunID, after.RunID, "one that has ended begins anew")
	out, err = result[workflows.DeliverEventProgress](t, s, after)
	require.NoError(t, err)
	require.Equal(t, workflows.DeliverEventProgress{State: webhooks.Delivered, Attempts: 1, LastStatus: 200}, out)
	require.True(t, s.store.recorded()[3].Manual)
	s.keep(t, "deliver-event-again", after)
}

func TestServerDeliveryIsExhaustedOrCanceled(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.answer(500)
	e := s.happen(t, "1")
	in := deliveryInput(e.ID, uuid.Must(uuid.NewV7()))
	in.Schedule = in.Schedule[:2]
	run, err := starter.StartDeliverEvent(t.Context(), s.client, in)
	require.NoError(t, err)
	out, err := result[workflows.DeliverEventProgress](t, s, run)
	require.NoError(t, err)
	require.Equal(t, webhooks.Exhausted, out.State)
	require.Equal(t, "exhausted", s.stage(t, run))
	s.keep(t, "deliver-event-exhausted", run)

	waits := deliveryInput(e.ID, uuid.Must(uuid.NewV7()))
	run, err = starter.StartDeliverEvent(t.Context(), s.client, waits)
	require.NoError(t, err)
	eventually(t, "two attempts", func() bool { return len(s.store.recorded()) == 4 })
	require.NoError(t, s.client.CancelWorkflow(t.Context(), run.WorkflowID, run.RunID))
	_, err = result[workflows.DeliverEventProgress](t, s, run)
	require.True(t, temporal.IsCanceledError(err), err)
	s.store.hooksMu.Lock()
	defer s.store.hooksMu.Unlock()
	require.Equal(t, "canceled by an operator", s.store.ended[e.ID])
	s.keep(t, "deliver-event-canceled", run)
}
