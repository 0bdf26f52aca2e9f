package pgstore_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/webhooks"
)

func TestDeleteEvents(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	acme := f.organization("Acme", "free").ID
	f.exec(`DELETE FROM events`)
	to, gone := f.endpoint(acme), f.endpoint(acme)
	publish := func(key string) uuid.UUID {
		e := occurred(key, events.ExportIssued, acme)
		require.NoError(t, f.PublishEvents(t.Context(), e))
		return e.ID
	}
	dispatch := func(event uuid.UUID) {
		_, err := f.PrepareWebhookDeliveries(t.Context(), event)
		require.NoError(t, err)
		require.NoError(t, f.MarkEventDispatched(t.Context(), event))
	}
	end := func(event, endpoint uuid.UUID, state webhooks.State) {
		require.NoError(t, f.RecordWebhookAttempt(t.Context(), webhooks.Attempt{
			Event: event, Endpoint: endpoint, ID: uuid.NewString(), State: state, Response: webhooks.Response{Status: 200, At: today.Start()},
		}))
	}
	delivered, pending, retried, undispatched := publish("delivered"), publish("pending"), publish("retried"), publish("undispatched")
	for _, event := range []uuid.UUID{delivered, pending, retried} {
		dispatch(event)
		end(event, to.ID, webhooks.Delivered)
	}
	end(delivered, gone.ID, webhooks.Exhausted)
	end(retried, gone.ID, webhooks.Delivered)
	err := f.DeleteEndpoint(t.Context(), acme, gone.ID)
	require.NoError(t, err)
	f.exec(`UPDATE events SET created_at = created_at - interval '100 days'`)
	f.exec(`UPDATE webhook_deliveries SET updated_at = updated_at - interval '100 days' WHERE event_id <> $1`, retried)
	f.exec(`UPDATE webhook_endpoints SET deleted_at = deleted_at - interval '100 days' WHERE id = $1`, gone.ID)

	deleted, err := f.DeleteEvents(t.Context(), time.Now().Add(-101*24*time.Hour))
	require.NoError(t, err)
	require.Equal(t, billing.Expired{}, deleted)
	before := time.Now().Add(-90 * 24 * time.Hour)
	deleted, err = f.DeleteEvents(t.Context(), before)
	require.NoError(t, err)
	require.Equal(t, billing.Expired{Events: 1}, deleted, "what is undispatched, pending or was tried since stays, and the endpoint that it was sent to")
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM events WHERE id = $1`, undispatched))
	require.EqualValues(t, 2, f.count(`SELECT count(*) FROM webhook_deliveries WHERE event_id = $1`, pending))
	require.Zero(t, f.count(`SELECT count(*) FROM webhook_attempts WHERE event_id = $1`, delivered))

	end(pending, gone.ID, webhooks.Exhausted)
	f.exec(`UPDATE webhook_deliveries SET updated_at = updated_at - interval '100 days'`)
	deleted, err = f.DeleteEvents(t.Context(), before)
	require.NoError(t, err)
	require.Equal(t, billing.Expired{Events: 2, Endpoints: 1}, deleted)
}
