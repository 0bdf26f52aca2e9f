package pgstore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/sinks"
	"github.com/riverline/tollgate/webhooks"
)

func TestWebhookBacklog(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	backlog := func() webhooks.Backlog {
		t.Helper()
		b, err := f.WebhookBacklog(t.Context())
		require.NoError(t, err)
		return b
	}
	require.Zero(t, backlog())
	acme := f.organization("Acme", "free").ID
	to := f.endpoint(acme)
	var of []events.Event
	for _, key := range []string{"a", "b", "c"} {
		e := occurred(key, events.PlanLimitExceeded, acme)
		require.NoError(t, f.PublishEvents(t.Context(), e))
		of = append(of, e)
	}
	f.exec(`UPDATE events SET created_at = created_at - interval '1 hour' WHERE id = $1`, of[1].ID)
	b := backlog()
	require.EqualValues(t, 3, b.Undispatched)
	require.WithinDuration(t, time.Now().Add(-time.Hour), b.UndispatchedSince, time.Minute)

	for _, e := range of {
		_, err := f.PrepareWebhookDeliveries(t.Context(), e.ID)
		require.NoError(t, err)
		require.NoError(t, f.MarkEventDispatched(t.Context(), e.ID))
	}
	require.Equal(t, webhooks.Backlog{Pending: 3}, backlog())
	for i, state := range []webhooks.State{webhooks.Pending, webhooks.Exhausted} {
		require.NoError(t, f.RecordWebhookAttempt(t.Context(), webhooks.Attempt{
			Event: of[i].ID, Endpoint: to.ID, ID: "1", State: state, NextAttemptAt: time.Now(), Response: webhooks.Response{Status: 503, At: time.Now()},
		}))
	}
	require.Equal(t, webhooks.Backlog{Pending: 1, Failing: 1, Exhausted: 1}, backlog())
	f.exec(`UPDATE webhook_deliveries SET updated_at = updated_at - interval '2 days' WHERE state = 'exhausted'`)
	require.Equal(t, webhooks.Backlog{Pending: 1, Failing: 1}, backlog(), "what was given up days ago is told of no more")
}

func TestCountInstances(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	live, lost, old := f.instance().id, f.instance().id, f.instance().id
	f.exec(`UPDATE instances SET status = 'lost' WHERE id IN ($1, $2)`, lost, old)
	f.exec(`UPDATE instances SET seen_at = now() - interval '25 hours' WHERE id = $1`, old)
	f.exec(`UPDATE instances SET status = 'live' WHERE id = $1`, live)
	counts, err := f.CountInstances(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[meter.InstanceStatus]int64{meter.InstanceLive: 1, meter.InstanceLost: 1}, counts)
}

// A stage's age begins with the stage, and goes on where it is told again.
func TestExportsSayWhenTheyCameToTheirStage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	begun, _, err := f.BeginExport(t.Context(), finalExport(calendar.PeriodOf(time.Now()).Previous(), "closing"))
	require.NoError(t, err)
	staged := func() time.Time {
		t.Helper()
		open, err := f.OpenExports(t.Context())
		require.NoError(t, err)
		require.Len(t, open, 1)
		return open[0].StagedAt
	}
	f.exec(`UPDATE exports SET staged_at = now() - interval '1 hour'`)
	before := staged()
	require.NoError(t, f.SetExportStage(t.Context(), begun.ID, billing.StageWaiting))
	require.Equal(t, before, staged())
	require.NoError(t, f.SetExportStage(t.Context(), begun.ID, billing.StageRollups))
	require.WithinDuration(t, time.Now(), staged(), time.Minute)
}

func TestUndeliveredStatements(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	acme, bolt := f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID
	begun, _, err := f.BeginExport(t.Context(), finalExport(calendar.PeriodOf(time.Now()).Previous(), "closing"))
	require.NoError(t, err)
	f.exec(`INSERT INTO statement_undelivered (export_id, organization_id, sink, state, reason) VALUES ($1, $2, 'stripe', 'failed', 'no'), ($1, $3, 'stripe', 'nothing_due', '')`,
		begun.ID, acme, bolt)
	counts := func() map[sinks.State]int64 {
		t.Helper()
		n, err := f.UndeliveredStatements(t.Context())
		require.NoError(t, err)
		return n
	}
	require.Equal(t, map[sinks.State]int64{sinks.Failed: 0, sinks.NoCustomer: 0}, counts())
	f.exec(`UPDATE exports SET stage = 'delivering'`)
	require.Equal(t, map[sinks.State]int64{sinks.Failed: 1, sinks.NoCustomer: 0}, counts())
}
