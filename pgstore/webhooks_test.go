package pgstore_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/webhooks"
)

// occurred makes an event of an organization.
func occurred(key string, kind events.Kind, organization uuid.UUID) events.Event {
	return events.Event{
		ID: uuid.Must(uuid.NewV7()), Key: key, Kind: kind, Organization: organization,
		OccurredAt: today.Start().Add(123456789), Data: json.RawMessage(`{"z":1, "a":[2]}`),
	}
}

// endpoint adds an endpoint of an organization, or the platform's.
func (f *fixture) endpoint(organization uuid.UUID, kinds ...events.Kind) webhooks.Endpoint {
	f.t.Helper()
	e, err := f.CreateEndpoint(f.t.Context(), webhooks.Endpoint{
		Organization: organization, URL: "https://example.com/hooks", Kinds: kinds, Secrets: webhooks.Secrets{Current: webhooks.NewSecret()},
	})
	require.NoError(f.t, err)
	return e
}

// attempts reads what came of each try of a delivery, the first one first.
func (f *fixture) attempts(event, endpoint uuid.UUID) []webhooks.Attempt {
	f.t.Helper()
	rows, err := f.owner.Query(f.t.Context(), `
		SELECT id, manual, status, error, at, took_ms FROM webhook_attempts
		WHERE event_id = $1 AND endpoint_id = $2 ORDER BY number`, event, endpoint)
	require.NoError(f.t, err)
	attempts, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (webhooks.Attempt, error) {
		a := webhooks.Attempt{Event: event, Endpoint: endpoint}
		var took int64
		err := r.Scan(&a.ID, &a.Manual, &a.Response.Status, &a.Response.Error, &a.Response.At, &took)
		a.Response.At, a.Response.Took = a.Response.At.UTC(), time.Duration(took)*time.Millisecond
		return a, err
	})
	require.NoError(f.t, err)
	return attempts
}

func TestPublishEventOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	acme, bolt := f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID
	first := occurred("k/1", events.ExportIssued, acme)
	require.NoError(t, f.PublishEvents(t.Context(), first))
	again := occurred("k/1", events.ExportClosed, bolt)
	require.NoError(t, f.PublishEvents(t.Context(), again))
	platform := occurred("k/2", events.ExportClosed, uuid.Nil)
	require.NoError(t, f.PublishEvents(t.Context(), platform))

	kept, err := f.ListEvents(t.Context(), acme, "", uuid.Nil, 10)
	require.NoError(t, err)
	require.Len(t, kept, 1)
	before, err := first.Document()
	require.NoError(t, err)
	after, err := kept[0].Document()
	require.NoError(t, err)
	require.Equal(t, string(before), string(after), "the bytes that are signed")

	for owner, want := range map[uuid.UUID][]uuid.UUID{acme: {first.ID}, bolt: {}, uuid.Nil: {platform.ID, first.ID}} {
		list, err := f.ListEvents(t.Context(), owner, "", uuid.Nil, 10)
		require.NoError(t, err)
		ids := []uuid.UUID{}
		for _, e := range list {
			ids = append(ids, e.ID)
		}
		require.Equal(t, want, ids)
	}
	list, err := f.ListEvents(t.Context(), uuid.Nil, events.ExportIssued, platform.ID, 10)
	require.NoError(t, err)
	require.Len(t, list, 1)

	require.ErrorIs(t, f.PublishEvents(t.Context(), events.Event{}), fault.ErrInvalid)
	require.ErrorIs(t, f.PublishEvents(t.Context(), occurred("k/3", events.ExportIssued, uuid.Max)), fault.ErrNotFound)
}

func TestAChangeOfPlanIsAnEvent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free")
	pro, free, name, wrong := "pro", "free", "Acme Inc.", "gold"
	for _, change := range []accounts.OrganizationChange{{Plan: &free}, {Name: &name}, {Plan: &pro}, {Plan: &pro}, {Plan: &free}} {
		_, err := f.UpdateOrganization(t.Context(), o.ID, change)
		require.NoError(t, err)
	}
	_, err := f.UpdateOrganization(t.Context(), o.ID, accounts.OrganizationChange{Plan: &wrong})
	require.ErrorIs(t, err, fault.ErrInvalid)
	list, err := f.ListEvents(t.Context(), o.ID, events.OrganizationUpgraded, uuid.Nil, 10)
	require.NoError(t, err)
	require.Len(t, list, 2, "one for each plan that is another one")
	require.JSONEq(t, `{"organization_id":"`+o.ID.String()+`","previous_plan":"free","plan":"pro"}`, string(list[1].Data))
	require.JSONEq(t, `{"organization_id":"`+o.ID.String()+`","previous_plan":"pro","plan":"free"}`, string(list[0].Data))
	_, err = f.UpdateOrganization(t.Context(), uuid.Max, accounts.OrganizationChange{Plan: &pro})
	require.ErrorIs(t, err, fault.ErrNotFound)
}

func TestEndpointsOfOwners(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	acme, bolt := f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID
	mine, theirs, platform := f.endpoint(acme, events.ExportIssued), f.endpoint(bolt), f.endpoint(uuid.Nil)
	require.Equal(t, []events.Kind{events.ExportIssued}, mine.Kinds)
	require.Nil(t, mine.DisabledAt)
	for owner, e := range map[uuid.UUID]webhooks.Endpoint{acme: mine, bolt: theirs, uuid.Nil: platform} {
		list, err := f.ListEndpoints(t.Context(), owner)
		require.NoError(t, err)
		require.Equal(t, []webhooks.Endpoint{e}, list)
		for _, other := range []webhooks.Endpoint{mine, theirs, platform} {
			found, err := f.Endpoint(t.Context(), owner, other.ID)
			if other.ID == e.ID {
				require.NoError(t, err)
				require.Equal(t, e, found)
				continue
			}
			require.ErrorIs(t, err, webhooks.ErrEndpointNotFound)
			require.ErrorIs(t, f.DeleteEndpoint(t.Context(), owner, other.ID), webhooks.ErrEndpointNotFound)
			_, err = f.RotateEndpoint(t.Context(), owner, other.ID, "s", today.Start())
			require.ErrorIs(t, err, webhooks.ErrEndpointNotFound)
		}
	}
	_, err := f.CreateEndpoint(t.Context(), webhooks.Endpoint{Organization: uuid.Max, URL: "https://example.com/"})
	require.ErrorIs(t, err, fault.ErrNotFound)
}

func TestEndpointChanges(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	acme := f.organization("Acme", "free").ID
	e := f.endpoint(acme)
	check := func(changed webhooks.Endpoint) error { return changed.Validate(false) }
	bad, good, yes, no := "http://example.com/", "https://example.org/", true, false
	_, err := f.UpdateEndpoint(t.Context(), acme, e.ID, webhooks.Change{URL: &bad}, check)
	require.ErrorIs(t, err, fault.ErrInvalid)
	changed, err := f.UpdateEndpoint(t.Context(), acme, e.ID, webhooks.Change{
		URL: &good, Kinds: &[]events.Kind{events.ExportClosed}, Description: &good, Disabled: &yes,
	}, check)
	require.NoError(t, err)
	require.Equal(t, good, changed.URL)
	require.NotNil(t, changed.DisabledAt)
	again, err := f.UpdateEndpoint(t.Context(), acme, e.ID, webhooks.Change{Disabled: &yes}, check)
	require.NoError(t, err)
	require.Equal(t, changed.DisabledAt, again.DisabledAt)
	again, err = f.UpdateEndpoint(t.Context(), acme, e.ID, webhooks.Change{Disabled: &no}, check)
	require.NoError(t, err)
	require.Nil(t, again.DisabledAt)
	require.Equal(t, []events.Kind{events.ExportClosed}, again.Kinds)

	at := today.Start()
	rotated, err := f.RotateEndpoint(t.Context(), acme, e.ID, "whsec_bmV3", at)
	require.NoError(t, err)
	require.Equal(t, webhooks.Secrets{Current: "whsec_bmV3", Previous: e.Secrets.Current, PreviousUntil: at.Add(webhooks.Overlap)}, rotated.Secrets)

	require.NoError(t, f.DeleteEndpoint(t.Context(), acme, e.ID))
	require.ErrorIs(t, f.DeleteEndpoint(t.Context(), acme, e.ID), webhooks.ErrEndpointNotFound)
	require.EqualValues(t, 1, f.count(`SELECT count(*) FROM webhook_endpoints WHERE secret = '' AND previous_secret = ''`))

	for range webhooks.MaxEndpoints {
		f.endpoint(acme)
	}
	_, err = f.CreateEndpoint(t.Context(), webhooks.Endpoint{Organization: acme, URL: good})
	require.ErrorIs(t, err, webhooks.ErrTooManyEndpoints)
}

// The statement that makes deliveries and the rule in Go say the same.
func TestDeliveriesAreForWhoWantsThem(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	acme, bolt := f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID
	off, yes := f.endpoint(acme), true
	off, err := f.UpdateEndpoint(t.Context(), acme, off.ID, webhooks.Change{Disabled: &yes}, func(webhooks.Endpoint) error { return nil })
	require.NoError(t, err)
	all := []webhooks.Endpoint{
		f.endpoint(acme), f.endpoint(acme, events.ExportIssued), f.endpoint(acme, events.ExportClosed), f.endpoint(bolt),
		f.endpoint(uuid.Nil), f.endpoint(uuid.Nil, events.ExportClosed, events.UsageThresholdReached), off,
	}
	gone := f.endpoint(acme)
	require.NoError(t, f.DeleteEndpoint(t.Context(), acme, gone.ID))
	for _, e := range []events.Event{
		occurred("1", events.ExportIssued, acme), occurred("2", events.ExportClosed, bolt), occurred("3", events.UsageThresholdReached, uuid.Nil),
	} {
		require.NoError(t, f.PublishEvents(t.Context(), e))
		for range 2 {
			deliveries, err := f.PrepareWebhookDeliveries(t.Context(), e.ID)
			require.NoError(t, err)
			to := map[uuid.UUID]webhooks.Delivery{}
			for _, d := range deliveries {
				to[d.Endpoint] = d
			}
			for _, endpoint := range all {
				d, found := to[endpoint.ID]
				require.Equal(t, endpoint.Wants(e), found, "%s to %v", e.Kind, endpoint.Kinds)
				if found {
					require.Equal(t, endpoint.Organization, d.Organization)
					require.Equal(t, webhooks.Pending, d.State)
				}
			}
			require.NotContains(t, to, gone.ID)
		}
		open, err := f.UndispatchedEvents(t.Context(), nil, 10)
		require.NoError(t, err)
		require.Equal(t, []uuid.UUID{e.ID}, open)
		require.NoError(t, f.MarkEventDispatched(t.Context(), e.ID))
	}
}

func TestRecordAttempts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	acme, bolt := f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID
	to := f.endpoint(acme)
	e := occurred("1", events.ExportIssued, acme)
	require.NoError(t, f.PublishEvents(t.Context(), e))
	_, err := f.PrepareWebhookDeliveries(t.Context(), e.ID)
	require.NoError(t, err)
	found, endpoint, err := f.EventToDeliver(t.Context(), e.ID, to.ID)
	require.NoError(t, err)
	require.Equal(t, e.ID, found.ID)
	require.Equal(t, to, endpoint)

	at := today.Start()
	failed := webhooks.Attempt{
		Event: e.ID, Endpoint: to.ID, ID: "run/1", State: webhooks.Pending, NextAttemptAt: at.Add(5 * time.Second),
		Response: webhooks.Response{Status: 503, Error: "503 Service Unavailable", At: at, Took: 20 * time.Millisecond},
	}
	for range 2 {
		require.NoError(t, f.RecordWebhookAttempt(t.Context(), failed))
	}
	d, err := f.WebhookDelivery(t.Context(), acme, e.ID, to.ID)
	require.NoError(t, err)
	require.Equal(t, 1, d.Attempts)
	require.Equal(t, 503, d.LastStatus)
	require.Equal(t, at.Add(5*time.Second), *d.NextAttemptAt)
	_, err = f.WebhookDelivery(t.Context(), bolt, e.ID, to.ID)
	require.ErrorIs(t, err, webhooks.ErrDeliveryNotFound)
	_, err = f.WebhookDelivery(t.Context(), uuid.Nil, e.ID, to.ID)
	require.ErrorIs(t, err, webhooks.ErrDeliveryNotFound, "the platform administers its own")

	gone := webhooks.Attempt{Event: e.ID, Endpoint: to.ID, ID: "run/2", Manual: true, State: webhooks.Exhausted, Response: webhooks.Response{Status: 410, Error: "410 Gone", At: at}}
	require.NoError(t, f.RecordWebhookAttempt(t.Context(), gone))
	require.NoError(t, f.RecordWebhookAttempt(t.Context(), failed), "late and again")
	list, err := f.ListWebhookDeliveries(t.Context(), acme, to.ID, uuid.Nil, 10)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, events.ExportIssued, list[0].Kind)
	require.Equal(t, webhooks.Exhausted, list[0].State)
	require.Equal(t, 2, list[0].Attempts)
	require.Nil(t, list[0].NextAttemptAt)
	list, err = f.ListWebhookDeliveries(t.Context(), acme, to.ID, e.ID, 10)
	require.NoError(t, err)
	require.Empty(t, list)
	_, err = f.ListWebhookDeliveries(t.Context(), bolt, to.ID, uuid.Nil, 10)
	require.ErrorIs(t, err, webhooks.ErrEndpointNotFound)
	disabled, err := f.Endpoint(t.Context(), acme, to.ID)
	require.NoError(t, err)
	require.NotNil(t, disabled.DisabledAt, "by 410 Gone")
	attempts := f.attempts(e.ID, to.ID)
	require.Len(t, attempts, 2)
	require.Equal(t, failed.Response, attempts[0].Response)
	require.True(t, attempts[1].Manual)

	require.NoError(t, f.EndWebhookDelivery(t.Context(), e.ID, to.ID, "the endpoint is disabled"))
	require.ErrorIs(t, f.EndWebhookDelivery(t.Context(), e.ID, uuid.Max, "x"), webhooks.ErrDeliveryNotFound)
	require.ErrorIs(t, f.RecordWebhookAttempt(t.Context(), webhooks.Attempt{Event: e.ID, Endpoint: uuid.Max, ID: "x"}), webhooks.ErrDeliveryNotFound)
	require.NoError(t, f.DeleteEndpoint(t.Context(), acme, to.ID))
	_, _, err = f.EventToDeliver(t.Context(), e.ID, to.ID)
	require.ErrorIs(t, err, webhooks.ErrEndpointNotFound)
}

// An organization with many events holds up no other's, and what can't be dispatched none either.
// However many are asked for at once, at however many instances, an endpoint takes what it may.
func TestRedeliveriesAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := f.organization("Acme", "free").ID
	e, other := f.endpoint(o), f.endpoint(o)
	var admitted, refused atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range webhooks.MaxRedeliveries / 2 {
				err := f.AdmitRedelivery(t.Context(), o, e.ID)
				var tooOften *webhooks.RedeliveredTooOftenError
				switch {
				case err == nil:
					admitted.Add(1)
				case errors.As(err, &tooOften) && tooOften.RetryAfter > 0 && tooOften.RetryAfter <= webhooks.RedeliveryEvery:
					refused.Add(1)
				default:
					t.Errorf("ask: %v", err)
				}
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 2*webhooks.MaxRedeliveries, admitted.Load()+refused.Load())
	require.GreaterOrEqual(t, admitted.Load(), int64(webhooks.MaxRedeliveries))
	require.NotZero(t, refused.Load())
	require.NoError(t, f.AdmitRedelivery(t.Context(), o, other.ID), "another endpoint has its own bound")
	f.exec(`UPDATE webhook_endpoints SET redeliveries_through = redeliveries_through - make_interval(secs => $2) WHERE id = $1`, e.ID, webhooks.RedeliveryEvery.Seconds())
	require.NoError(t, f.AdmitRedelivery(t.Context(), o, e.ID), "time makes room")
	require.ErrorIs(t, f.AdmitRedelivery(t.Context(), o, uuid.New()), webhooks.ErrEndpointNotFound)
}

func TestUndispatchedEventsTakeTurns(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	many, few := f.organization("Acme", "free").ID, f.organization("Bolt", "free").ID
	var published []uuid.UUID
	for i, of := range []uuid.UUID{many, many, many, many, few, uuid.Nil} {
		e := occurred(strconv.Itoa(i), events.ExportIssued, of)
		require.NoError(t, f.PublishEvents(t.Context(), e))
		published = append(published, e.ID)
	}
	take := func(but []uuid.UUID, limit int, want ...int) {
		t.Helper()
		found, err := f.UndispatchedEvents(t.Context(), but, limit)
		require.NoError(t, err)
		var ids []uuid.UUID
		for _, i := range want {
			ids = append(ids, published[i])
		}
		require.Equal(t, ids, found)
	}
	take(nil, 3, 0, 4, 5)
	take(nil, 10, 0, 4, 5, 1, 2, 3)
	take([]uuid.UUID{published[0], published[4]}, 3, 1, 5, 2)
	take(published, 3)
}
