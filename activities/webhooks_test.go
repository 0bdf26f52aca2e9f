package activities_test

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/activities"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/webhooks"
)

// hookStore has events that wait, and keeps what is done with them.
type hookStore struct {
	// mu guards waiting and calls.
	mu      sync.Mutex
	waiting []uuid.UUID
	// endless says that there are always more events.
	endless    bool
	endpoint   webhooks.Endpoint
	err        error
	recorded   []webhooks.Attempt
	endReasons []string
	calls      []string
}

func (s *hookStore) UndispatchedEvents(_ context.Context, but []uuid.UUID, limit int) ([]uuid.UUID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := slices.DeleteFunc(slices.Clone(s.waiting), func(id uuid.UUID) bool { return slices.Contains(but, id) })
	if s.endless {
		left = waitingEvents(limit)
	}
	return left[:min(len(left), limit)], s.err
}

func (s *hookStore) PrepareWebhookDeliveries(_ context.Context, event uuid.UUID) ([]webhooks.Delivery, error) {
	return []webhooks.Delivery{
		{Event: event, Endpoint: uuid.Max, State: webhooks.Pending}, {Event: event, Endpoint: uuid.Max, State: webhooks.Delivered},
	}, nil
}

func (s *hookStore) MarkEventDispatched(_ context.Context, event uuid.UUID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, "mark "+event.String()[35:])
	s.waiting = slices.DeleteFunc(s.waiting, func(id uuid.UUID) bool { return id == event })
	return nil
}

func (s *hookStore) EventToDeliver(context.Context, uuid.UUID, uuid.UUID) (events.Event, webhooks.Endpoint, error) {
	return events.Event{ID: uuid.Max}, s.endpoint, s.err
}

func (s *hookStore) RecordWebhookAttempt(_ context.Context, a webhooks.Attempt) error {
	s.recorded = append(s.recorded, a)
	return s.err
}

func (s *hookStore) EndWebhookDelivery(_ context.Context, _, _ uuid.UUID, reason string) error {
	s.endReasons = append(s.endReasons, reason)
	return s.err
}

// hookSender answers as it is told.
type hookSender struct {
	out  webhooks.Response
	err  error
	sent int
}

func (s *hookSender) Send(context.Context, webhooks.Endpoint, events.Event) (webhooks.Response, error) {
	s.sent++
	return s.out, s.err
}

func newWebhooks(store *hookStore, sender *hookSender, start func(webhooks.Delivery) error) *activities.Webhooks {
	return activities.NewWebhooks(activities.WebhooksConfig{
		Store: store, Sender: sender, PageSize: 2, Now: func() time.Time { return now },
		Start: func(_ context.Context, d webhooks.Delivery) error { return start(d) },
	})
}

func waitingEvents(n int) (out []uuid.UUID) {
	for i := range n {
		out = append(out, uuid.MustParse("00000000-0000-7000-8000-00000000000"+strconv.Itoa(i)))
	}
	return out
}

func TestDispatchStartsEachBeforeItMarks(t *testing.T) {
	t.Parallel()
	store := &hookStore{waiting: waitingEvents(5)}
	group := newWebhooks(store, &hookSender{}, func(d webhooks.Delivery) error {
		store.mu.Lock()
		defer store.mu.Unlock()
		store.calls = append(store.calls, "start "+d.Event.String()[35:])
		return nil
	})
	e := newEnvironment(t, group)
	summary, err := run[activities.DispatchSummary](t, e, group.Dispatch, activities.DispatchInput{
		Epoch: activities.Duration(50 * time.Millisecond), Poll: activities.Duration(5 * time.Millisecond),
	})
	require.NoError(t, err)
	require.Equal(t, activities.DispatchSummary{Events: 5, Deliveries: 5}, summary)
	require.Len(t, store.calls, 10)
	for _, event := range []string{"0", "1", "2", "3", "4"} {
		require.Greater(t, slices.Index(store.calls, "mark "+event), slices.Index(store.calls, "start "+event))
		require.Contains(t, store.calls, "start "+event)
	}
	beats := heartbeats[activities.DispatchSummary](t, e)
	require.Equal(t, summary, beats[len(beats)-1])
}

func TestDispatchFails(t *testing.T) {
	t.Parallel()
	in := activities.DispatchInput{Epoch: activities.Duration(time.Minute), Poll: activities.Duration(time.Second)}
	store := &hookStore{waiting: waitingEvents(1)}
	away := passingError("temporal is away")
	group := newWebhooks(store, &hookSender{}, func(webhooks.Delivery) error { return away })
	_, err := run[activities.DispatchSummary](t, newEnvironment(t, group), group.Dispatch, in)
	requireTriedAgain(t, err, "temporal is away")
	require.Empty(t, store.calls, "what isn't started isn't marked")

	store.err = errCurse
	_, err = run[activities.DispatchSummary](t, newEnvironment(t, group), group.Dispatch, in)
	requirePermanent(t, err, activities.TypePermanent, "cursed")
	for field, broken := range map[string]activities.DispatchInput{"epoch": {Poll: in.Poll}, "poll": {Epoch: in.Epoch}} {
		_, err = run[activities.DispatchSummary](t, newEnvironment(t, group), group.Dispatch, broken)
		requirePermanent(t, err, activities.TypeInvalidInput, field+" is missing")
	}
}

// An event that fails for good holds up no other, however many there are of them.
func TestDispatchLeavesWhatFailsForGood(t *testing.T) {
	t.Parallel()
	store := &hookStore{waiting: waitingEvents(6)}
	cursed := store.waiting[:3:3]
	group := newWebhooks(store, &hookSender{}, func(d webhooks.Delivery) error {
		if slices.Contains(cursed, d.Event) {
			return errCurse
		}
		return nil
	})
	summary, err := run[activities.DispatchSummary](t, newEnvironment(t, group), group.Dispatch, activities.DispatchInput{
		Epoch: activities.Duration(50 * time.Millisecond), Poll: activities.Duration(5 * time.Millisecond),
	})
	require.NoError(t, err)
	require.Equal(t, activities.DispatchSummary{Events: 3, Deliveries: 3, Failed: 3}, summary)
	require.ElementsMatch(t, []string{"mark 3", "mark 4", "mark 5"}, store.calls)
	require.Equal(t, cursed, store.waiting, "it is tried again in the next epoch")
}

// Sixteen events are dispatched at once and no more, and a start that fails, and may go well next time,
// holds up none of the others.
func TestDispatchSixteenAtOnce(t *testing.T) {
	t.Parallel()
	const events, atOnce = 50, 16
	store := &hookStore{}
	for range events {
		store.waiting = append(store.waiting, uuid.Must(uuid.NewV7()))
	}
	stuck := store.waiting[0]
	var inFlight, most atomic.Int64
	all := make(chan struct{})
	reached := sync.OnceFunc(func() { close(all) })
	group := activities.NewWebhooks(activities.WebhooksConfig{
		Store: store, Sender: &hookSender{}, Now: func() time.Time { return now },
		Start: func(_ context.Context, d webhooks.Delivery) error {
			n := inFlight.Add(1)
			defer inFlight.Add(-1)
			for was := most.Load(); n > was; was = most.Load() {
				most.CompareAndSwap(was, n)
			}
			if n == atOnce {
				reached()
			}
			select {
			case <-all:
			case <-time.After(30 * time.Second):
			}
			if d.Event == stuck {
				return passingError("temporal is away")
			}
			return nil
		},
	})
	summary, err := run[activities.DispatchSummary](t, newEnvironment(t, group), group.Dispatch, activities.DispatchInput{
		Epoch: activities.Duration(time.Hour), Poll: activities.Duration(time.Millisecond),
	})
	require.Zero(t, summary)
	requireTriedAgain(t, err, "temporal is away")
	require.Equal(t, []uuid.UUID{stuck}, store.waiting, "it alone is left, and then it is an error")
	require.EqualValues(t, atOnce, most.Load())
}

// Where every start fails it is not the events: not all of them are tried.
func TestDispatchGivesUpWhereNothingGoesWell(t *testing.T) {
	t.Parallel()
	store := &hookStore{}
	for range 100 {
		store.waiting = append(store.waiting, uuid.Must(uuid.NewV7()))
	}
	var started atomic.Int64
	group := activities.NewWebhooks(activities.WebhooksConfig{
		Store: store, Sender: &hookSender{}, Now: func() time.Time { return now },
		Start: func(context.Context, webhooks.Delivery) error {
			started.Add(1)
			return passingError("temporal is away")
		},
	})
	_, err := run[activities.DispatchSummary](t, newEnvironment(t, group), group.Dispatch, activities.DispatchInput{
		Epoch: activities.Duration(time.Hour), Poll: activities.Duration(time.Hour),
	})
	requireTriedAgain(t, err, "temporal is away")
	require.Less(t, started.Load(), int64(100))
	require.Len(t, store.waiting, 100)
}

// The epoch ends though there is always more: otherwise its activity times out, and the workflow never
// continues as new.
func TestDispatchEndsItsEpochUnderABacklog(t *testing.T) {
	t.Parallel()
	group := newWebhooks(&hookStore{endless: true}, &hookSender{}, func(webhooks.Delivery) error {
		time.Sleep(time.Millisecond)
		return nil
	})
	began := time.Now()
	summary, err := run[activities.DispatchSummary](t, newEnvironment(t, group), group.Dispatch, activities.DispatchInput{
		Epoch: activities.Duration(time.Second), Poll: activities.Duration(time.Hour),
	})
	require.NoError(t, err)
	require.Greater(t, summary.Events, 2)
	require.Less(t, time.Since(began), time.Minute)
}

func TestDispatchEndsWithItsWorker(t *testing.T) {
	t.Parallel()
	group := newWebhooks(&hookStore{}, &hookSender{}, startNothing)
	e := newEnvironment(t, group)
	close(e.stop)
	_, err := run[activities.DispatchSummary](t, e, group.Dispatch, activities.DispatchInput{
		Epoch: activities.Duration(time.Hour), Poll: activities.Duration(time.Hour),
	})
	require.NoError(t, err)
}

// startNothing starts no workflow.
func startNothing(webhooks.Delivery) error { return nil }

func TestAttempt(t *testing.T) {
	t.Parallel()
	in := activities.AttemptInput{Event: uuid.Max, Endpoint: uuid.Max}
	for _, tc := range []struct {
		name   string
		store  *hookStore
		sender hookSender
		want   activities.AttemptResult
		sent   int
	}{
		{
			name:   "a receiver that fails is a result",
			sender: hookSender{out: webhooks.Response{Status: 503, Error: "503", RetryAfter: time.Minute, At: now, Took: time.Second}},
			want: activities.AttemptResult{
				Status: 503, Error: "503", RetryAfter: activities.Duration(time.Minute), At: now, Took: activities.Duration(time.Second),
			},
			sent: 1,
		},
		{name: "deleted", store: &hookStore{err: webhooks.ErrEndpointNotFound}, want: activities.AttemptResult{Withdrawn: "the endpoint was deleted"}},
		{name: "an event that is gone", store: &hookStore{err: events.ErrNotFound.Of(uuid.Max)}, want: activities.AttemptResult{Withdrawn: "the event is gone"}},
		{name: "a mistake of ours, of which nobody else is told", store: &hookStore{err: errCurse}, want: activities.AttemptResult{Error: "the attempt could not be made", At: now}},
		{name: "a mistake in sending", sender: hookSender{err: errCurse}, want: activities.AttemptResult{Error: "the attempt could not be made", At: now}, sent: 1},
		{name: "disabled", store: &hookStore{endpoint: webhooks.Endpoint{DisabledAt: &now}}, want: activities.AttemptResult{Withdrawn: "the endpoint is disabled"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			group := newWebhooks(cmp.Or(tc.store, &hookStore{}), &tc.sender, startNothing)
			out, err := run[activities.AttemptResult](t, newEnvironment(t, group), group.Attempt, in)
			require.NoError(t, err)
			require.Equal(t, tc.want, out)
			require.Equal(t, tc.sent, tc.sender.sent)
		})
	}
	group := newWebhooks(&hookStore{err: errAway}, &hookSender{}, startNothing)
	_, err := run[activities.AttemptResult](t, newEnvironment(t, group), group.Attempt, in)
	requireTriedAgain(t, err, "away")
	_, err = run[activities.AttemptResult](t, newEnvironment(t, group), group.Attempt, activities.AttemptInput{Event: uuid.Max})
	requirePermanent(t, err, activities.TypeInvalidInput, "endpoint is missing")
	_, err = run[activities.AttemptResult](t, newEnvironment(t, group), group.Attempt, activities.AttemptInput{})
	requirePermanent(t, err, activities.TypeInvalidInput, "event is missing")
}

// A tenant whose receiver hangs has some places, and the others the rest.
func TestAttemptTakesTurns(t *testing.T) {
	t.Parallel()
	hanging, let := make(chan struct{}, 100), make(chan struct{})
	sender := senderFunc(func(to webhooks.Endpoint) webhooks.Response {
		if to.ID == uuid.Max {
			hanging <- struct{}{}
			<-let
		}
		return webhooks.Response{Status: 200, At: now}
	})
	group := activities.NewWebhooks(activities.WebhooksConfig{
		Store: &turnStore{}, Sender: sender, Start: func(context.Context, webhooks.Delivery) error { return nil }, Attempts: 8,
	})
	attempt := func(endpoint, organization uuid.UUID) (activities.AttemptResult, error) {
		return run[activities.AttemptResult](t, newEnvironment(t, group), group.Attempt, activities.AttemptInput{Event: uuid.Max, Endpoint: endpoint, Organization: organization})
	}
	var under sync.WaitGroup
	under.Go(func() {
		_, err := attempt(uuid.Max, uuid.Max)
		assert.NoError(t, err)
	})
	<-hanging
	_, err := attempt(uuid.Max, uuid.Max)
	requireTriedAgain(t, err, "other deliveries of the organization are under way: this one is tried again in 1s")
	out, err := attempt(uuid.UUID{15: 1}, uuid.UUID{15: 1})
	require.NoError(t, err)
	require.Equal(t, 200, out.Status)
	close(let)
	under.Wait()
	_, err = attempt(uuid.UUID{15: 2}, uuid.Max)
	require.NoError(t, err)
}

// turnStore has every event and endpoint.
type turnStore struct{ hookStore }

func (*turnStore) EventToDeliver(_ context.Context, event, endpoint uuid.UUID) (events.Event, webhooks.Endpoint, error) {
	return events.Event{ID: event}, webhooks.Endpoint{ID: endpoint}, nil
}

type senderFunc func(webhooks.Endpoint) webhooks.Response

func (f senderFunc) Send(_ context.Context, to webhooks.Endpoint, _ events.Event) (webhooks.Response, error) {
	return f(to), nil
}

func TestRecordAttemptAndEndDelivery(t *testing.T) {
	t.Parallel()
	store := &hookStore{}
	group := newWebhooks(store, &hookSender{}, startNothing)
	e := newEnvironment(t, group)
	what := activities.AttemptInput{Event: uuid.Max, Endpoint: uuid.Max}
	_, err := run[any](t, e, group.RecordAttempt, activities.RecordAttemptInput{
		AttemptInput: what, ID: "run/1", Manual: true, Result: activities.AttemptResult{Status: 500, Error: "500", At: now},
		State: webhooks.Pending, NextAttemptAt: now,
	})
	require.NoError(t, err)
	require.Equal(t, []webhooks.Attempt{{
		Event: uuid.Max, Endpoint: uuid.Max, ID: "run/1", Manual: true, State: webhooks.Pending, NextAttemptAt: now,
		Response: webhooks.Response{Status: 500, Error: "500", At: now},
	}}, store.recorded)
	_, err = run[any](t, e, group.RecordAttempt, activities.RecordAttemptInput{AttemptInput: what})
	requirePermanent(t, err, activities.TypeInvalidInput, "id is missing")
	_, err = run[any](t, e, group.EndDelivery, activities.EndDeliveryInput{AttemptInput: what, Reason: "why"})
	require.NoError(t, err)
	require.Equal(t, []string{"why"}, store.endReasons)
	_, err = run[any](t, e, group.EndDelivery, activities.EndDeliveryInput{AttemptInput: what})
	requirePermanent(t, err, activities.TypeInvalidInput, "reason is missing")
}
