package pgstore_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/webhooks"
)

// A period that is over is looked for in Postgres alone: it has usage, and nobody closes it.
func TestUnclosedPeriods(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	month := calendar.PeriodOf(time.Now().Add(-3 * time.Hour))
	last, before := month.Previous(), month.Previous().Previous()
	requireUnclosed := func(want ...calendar.Period) {
		t.Helper()
		found, err := f.UnclosedPeriods(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, append([]calendar.Period(nil), found...))
	}
	requireUnclosed()
	acme := f.organization("Acme", "free")
	for _, day := range []calendar.Day{month.FirstDay(), last.LastDay(), before.FirstDay(), before.Previous().Previous().LastDay()} {
		f.exec(`INSERT INTO usage_daily (organization_id, meter, day, value, last_at) VALUES ($1, 'evaluations', $2, 1, now())`, acme.ID, day.Start())
	}
	requireUnclosed(before, last)
	n, err := f.CountUnclosedPeriods(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, n)

	provisional := finalExport(before, "provisional")
	provisional.Provisional = true
	_, _, err = f.BeginExport(t.Context(), provisional)
	require.NoError(t, err)
	requireUnclosed(before, last)
	closing := finalExport(last, "closing")
	closing.Request = []byte(`{"reason": "x"}`)
	begun, _, err := f.BeginExport(t.Context(), closing)
	require.NoError(t, err)
	requireUnclosed(before)
	open, err := f.OpenExports(t.Context())
	require.NoError(t, err)
	require.Len(t, open, 2)
	require.Equal(t, begun.ID, open[1].ID)
	require.JSONEq(t, `{"reason": "x"}`, string(open[1].Request))
	require.NoError(t, f.FailExport(t.Context(), begun.ID, billing.StageCanceled, "changed our mind"))
	requireUnclosed(before, last)

	// An older one is looked for while its batch rows are kept: they keep those of all later ones.
	long := before.Previous().Previous()
	f.instance().flush(row(acme.ID, evaluations, long.FirstDay(), 1))
	requireUnclosed(long, before, last)
}

// A delivery is overdue that was to be tried a while ago; attempts that people asked for aren't its schedule's.
func TestOverdueWebhookDeliveries(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	acme := f.organization("Acme", "free").ID
	to := f.endpoint(acme)
	var ids []uuid.UUID
	for _, key := range []string{"a", "b", "c"} {
		e := occurred(key, events.PlanLimitExceeded, acme)
		require.NoError(t, f.PublishEvents(t.Context(), e))
		_, err := f.PrepareWebhookDeliveries(t.Context(), e.ID)
		require.NoError(t, err)
		ids = append(ids, e.ID)
	}
	overdue := func(after uuid.UUID, lateBy time.Duration) (found []webhooks.OverdueDelivery) {
		t.Helper()
		found, err := f.OverdueWebhookDeliveries(t.Context(), webhooks.Delivery{Event: after, Endpoint: to.ID}, lateBy, 10)
		require.NoError(t, err)
		return found
	}
	require.Empty(t, overdue(uuid.Nil, 0), "not dispatched yet")
	for _, id := range ids {
		require.NoError(t, f.MarkEventDispatched(t.Context(), id))
	}
	record := func(event uuid.UUID, id string, manual bool, state webhooks.State, next time.Time) {
		t.Helper()
		require.NoError(t, f.RecordWebhookAttempt(t.Context(), webhooks.Attempt{
			Event: event, Endpoint: to.ID, ID: id, Manual: manual, State: state, NextAttemptAt: next,
			Response: webhooks.Response{Status: 503, At: time.Now()},
		}))
	}
	record(ids[0], "1", false, webhooks.Pending, time.Now().Add(-time.Hour))
	record(ids[0], "2", true, webhooks.Pending, time.Now().Add(-time.Hour))
	record(ids[1], "1", false, webhooks.Pending, time.Now().Add(time.Hour))
	found := overdue(uuid.Nil, 0)
	require.Len(t, found, 2)
	require.Equal(t, ids[0], found[0].Event)
	require.Equal(t, 1, found[0].Made)
	require.Equal(t, 2, found[0].Attempts)
	require.Equal(t, ids[2], found[1].Event)
	require.Zero(t, found[1].Made)
	require.Len(t, overdue(ids[0], 0), 1, "after the first")
	require.Empty(t, overdue(uuid.Nil, time.Minute), "looked at too early")
	record(ids[0], "3", false, webhooks.Exhausted, time.Time{})
	require.Len(t, overdue(uuid.Nil, 0), 1)
}
