package pgstore_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/pgstore"
)

func (f *fixture) keys() []string {
	f.t.Helper()
	list, err := f.ListEvents(f.t.Context(), uuid.Nil, "", uuid.Nil, 100)
	require.NoError(f.t, err)
	var keys []string
	for _, e := range list {
		keys = append(keys, e.Key)
	}
	slices.Sort(keys)
	return keys
}

// What can never be kept is named, and holds up nothing else of its call.
func TestPublishManyOfWhichSomeAreBad(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	acme := f.organization("Acme", "free").ID
	before := f.keys()
	wrong := occurred("wrong", "no.kind", acme)
	list := []events.Event{
		occurred("a", events.UsageThresholdReached, acme), wrong, occurred("b", events.ExportClosed, uuid.Nil),
		occurred("c", events.PlanLimitExceeded, uuid.Max), occurred("d", events.PlanLimitExceeded, acme), occurred("a", events.ExportClosed, acme),
	}
	err := f.PublishEvents(t.Context(), list...)
	var refused *events.RefusedError
	require.ErrorAs(t, err, &refused)
	require.False(t, refused.Retryable())
	var keys []string
	for _, one := range refused.Refused {
		keys = append(keys, one.Event.Key)
	}
	require.Equal(t, []string{"wrong", "c"}, keys)
	require.ErrorIs(t, err, fault.ErrInvalid)
	require.ErrorIs(t, err, accounts.ErrOrganizationNotFound)
	require.Equal(t, append(slices.Clone(before), "a", "b", "d"), f.keys())
	require.NoError(t, f.PublishEvents(t.Context()))
}

// Keys that are there are looked at, and nothing else: no row is written anew, and none is left dead.
func TestPublishingAgainWritesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	acme := f.organization("Acme", "free").ID
	list := make([]events.Event, 2*chunkRows)
	for i := range list {
		list[i] = occurred(fmt.Sprintf("k/%05d", i), events.UsageThresholdReached, acme)
	}
	require.NoError(t, f.PublishEvents(t.Context(), list...))
	c := f.counter()
	size, before := f.count(`SELECT pg_relation_size('events')`), c.read()
	for i := range list {
		list[i].ID = uuid.Must(uuid.NewV7())
	}
	c.of(func(store *pgstore.Store) { require.NoError(t, store.PublishEvents(t.Context(), list...)) })
	require.Equal(t, 2, c.statements, "one for each %d", chunkRows)
	require.Empty(t, c.since(before))
	c.of(func(store *pgstore.Store) {
		require.NoError(t, store.PublishEvents(t.Context(), append(list[:500:500], occurred("k/x", events.ExportClosed, uuid.Nil))...))
	})
	require.Equal(t, 1, c.statements)
	require.Equal(t, map[string]written{"events": {inserted: 1}}, c.since(before))
	var now int64
	require.NoError(t, c.owns.QueryRow(t.Context(), `SELECT pg_relation_size('events')`).Scan(&now))
	require.Equal(t, size, now)
}

// Replicas that make sure of the same events at once, each in an order of its own, don't hold each other up.
func TestPublishRaced(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	acme := f.organization("Acme", "free").ID
	group, ctx := errgroup.WithContext(t.Context())
	for n := range 8 {
		list := make([]events.Event, 300)
		for i := range list {
			list[i] = occurred(fmt.Sprintf("k/%03d", (i*(2*n+1)+n*37)%300), events.UsageThresholdReached, acme)
		}
		group.Go(func() error { return f.PublishEvents(ctx, list...) })
	}
	require.NoError(t, group.Wait())
	require.EqualValues(t, 300, f.count(`SELECT count(*) FROM events WHERE key LIKE 'k/%'`))
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, f.PublishEvents(canceled, occurred("z", events.ExportClosed, uuid.Nil)), context.Canceled)
}
