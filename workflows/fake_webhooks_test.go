package workflows_test

import (
	"context"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/webhooks"
)

// fakeWebhooks keeps events and what becomes of them, and answers for their receiver.
type fakeWebhooks struct {
	hooksMu   sync.Mutex
	endpoints []uuid.UUID
	// owner is the organization of the endpoints.
	owner uuid.UUID
	// hang is called before an answer; nil: nothing hangs.
	hang   func(context.Context, webhooks.Endpoint)
	events []events.Event
	// dispatched has the events of which every delivery was started.
	dispatched map[uuid.UUID]bool
	attempts   []webhooks.Attempt
	ended      map[uuid.UUID]string
	// answers are those of the receiver, by the number of attempts it has seen; the last one
	// stays. sent counts the attempts.
	answers []webhooks.Response
	sent    int
}

// publish keeps an event, of those with one key the first.
func (s *fakeWebhooks) publish(e events.Event) {
	s.hooksMu.Lock()
	defer s.hooksMu.Unlock()
	if !slices.ContainsFunc(s.events, func(known events.Event) bool { return known.Key == e.Key }) {
		s.events = append(s.events, e)
	}
}

func (s *fakeWebhooks) UndispatchedEvents(_ context.Context, but []uuid.UUID, limit int) (out []uuid.UUID, err error) {
	s.hooksMu.Lock()
	defer s.hooksMu.Unlock()
	for _, e := range s.events {
		if !s.dispatched[e.ID] && !slices.Contains(but, e.ID) && len(out) < limit {
			out = append(out, e.ID)
		}
	}
	return out, nil
}

func (s *fakeWebhooks) PrepareWebhookDeliveries(_ context.Context, event uuid.UUID) (out []webhooks.Delivery, err error) {
	s.hooksMu.Lock()
	defer s.hooksMu.Unlock()
	for _, endpoint := range s.endpoints {
		out = append(out, webhooks.Delivery{Event: event, Endpoint: endpoint, Organization: s.owner, State: webhooks.Pending})
	}
	return out, nil
}

func (s *fakeWebhooks) MarkEventDispatched(_ context.Context, event uuid.UUID) error {
	s.hooksMu.Lock()
	defer s.hooksMu.Unlock()
	if s.dispatched == nil {
		s.dispatched = map[uuid.UUID]bool{}
	}
	s.dispatched[event] = true
	return nil
}

func (s *fakeWebhooks) EventToDeliver(_ context.Context, event, endpoint uuid.UUID) (events.Event, webhooks.Endpoint, error) {
	s.hooksMu.Lock()
	defer s.hooksMu.Unlock()
	for _, e := range s.events {
		if e.ID == event {
			return e, webhooks.Endpoint{ID: endpoint}, nil
		}
	}
	if s.hang != nil {
		// Of those there are too many to keep.
		return events.Event{ID: event}, webhooks.Endpoint{ID: endpoint}, nil
	}
	return events.Event{}, webhooks.Endpoint{}, events.ErrNotFound.Of(event)
}

func (s *fakeWebhooks) Send(ctx context.Context, to webhooks.Endpoint, _ events.Event) (webhooks.Response, error) {
	if s.hang != nil {
		s.hang(ctx, to)
	}
	s.hooksMu.Lock()
	defer s.hooksMu.Unlock()
	s.sent++
	return s.answers[min(s.sent, len(s.answers))-1], nil
}

func (s *fakeWebhooks) RecordWebhookAttempt(_ context.Context, a webhooks.Attempt) error {
	s.hooksMu.Lock()
	defer s.hooksMu.Unlock()
	for _, known := range s.attempts {
		if known.ID == a.ID && known.Endpoint == a.Endpoint && known.Event == a.Event {
			return nil
		}
	}
	s.attempts = append(s.attempts, a)
	return nil
}

func (s *fakeWebhooks) EndWebhookDelivery(_ context.Context, event, _ uuid.UUID, reason string) error {
	s.hooksMu.Lock()
	defer s.hooksMu.Unlock()
	if s.ended == nil {
		s.ended = map[uuid.UUID]string{}
	}
	s.ended[event] = reason
	return nil
}

func (s *fakeWebhooks) startNothing(context.Context, webhooks.Delivery) error { return nil }

// recorded returns the attempts so far.
func (s *fakeWebhooks) recorded() []webhooks.Attempt {
	s.hooksMu.Lock()
	defer s.hooksMu.Unlock()
	return append([]webhooks.Attempt(nil), s.attempts...)
}
