package api

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/webhooks"
)

// fakeHooks keeps in memory what a WebhookStore keeps, under the lock of the fake store,
// and fails with it.
type fakeHooks struct {
	store      *fakeStore
	events     []events.Event
	endpoints  []webhooks.Endpoint
	deliveries []webhooks.ListedDelivery
	asked      []webhooks.Delivery
	askErr     error
	admitErr   error
}

func (h *fakeHooks) find(owner, id uuid.UUID) (*webhooks.Endpoint, error) {
	i := slices.IndexFunc(h.endpoints, func(e webhooks.Endpoint) bool { return e.ID == id && e.Organization == owner })
	if i < 0 {
		return nil, webhooks.ErrEndpointNotFound
	}
	return &h.endpoints[i], nil
}

func (h *fakeHooks) ListEvents(ctx context.Context, owner uuid.UUID, kind events.Kind, before uuid.UUID, limit int) (out []events.Event, err error) {
	err = h.store.call(ctx, func() error {
		for _, e := range slices.Backward(h.events) {
			if (owner == uuid.Nil || e.Organization == owner) && (kind == "" || e.Kind == kind) && len(out) < limit &&
				(before == uuid.Nil || slices.Compare(e.ID[:], before[:]) < 0) {
				out = append(out, e)
			}
		}
		return nil
	})
	return out, err
}

func (h *fakeHooks) CreateEndpoint(ctx context.Context, e webhooks.Endpoint) (webhooks.Endpoint, error) {
	err := h.store.call(ctx, func() error {
		e.ID, e.CreatedAt, e.UpdatedAt = uuid.Must(uuid.NewV7()), noon, noon
		h.endpoints = append(h.endpoints, e)
		return nil
	})
	return e, err
}

func (h *fakeHooks) ListEndpoints(ctx context.Context, owner uuid.UUID) (out []webhooks.Endpoint, err error) {
	err = h.store.call(ctx, func() error {
		for _, e := range h.endpoints {
			if e.Organization == owner {
				out = append(out, e)
			}
		}
		return nil
	})
	return out, err
}

// change runs fn on an endpoint of the owner.
func (h *fakeHooks) change(ctx context.Context, owner, id uuid.UUID, fn func(*webhooks.Endpoint) error) (out webhooks.Endpoint, err error) {
	err = h.store.call(ctx, func() error {
		e, err := h.find(owner, id)
		if err != nil {
			return err
		}
		changed := *e
		if err := fn(&changed); err != nil {
			return err
		}
		*e, out = changed, changed
		return nil
	})
	return out, err
}

func (h *fakeHooks) Endpoint(ctx context.Context, owner, id uuid.UUID) (webhooks.Endpoint, error) {
	return h.change(ctx, owner, id, func(*webhooks.Endpoint) error { return nil })
}

func (h *fakeHooks) UpdateEndpoint(
	ctx context.Context, owner, id uuid.UUID, change webhooks.Change, check func(webhooks.Endpoint) error,
) (webhooks.Endpoint, error) {
	return h.change(ctx, owner, id, func(e *webhooks.Endpoint) error {
		if change.URL != nil {
			e.URL = *change.URL
		}
		if change.Kinds != nil {
			e.Kinds = *change.Kinds
		}
		if change.Description != nil {
			e.Description = *change.Description
		}
		if change.Disabled != nil {
			e.DisabledAt = nil
			if *change.Disabled {
				at := noon
				e.DisabledAt = &at
			}
		}
		return check(*e)
	})
}

func (h *fakeHooks) RotateEndpoint(ctx context.Context, owner, id uuid.UUID, secret string, now time.Time) (webhooks.Endpoint, error) {
	return h.change(ctx, owner, id, func(e *webhooks.Endpoint) error {
		e.Secrets = e.Secrets.Rotate(secret, now)
		return nil
	})
}

func (h *fakeHooks) DeleteEndpoint(ctx context.Context, owner, id uuid.UUID) error {
	return h.store.call(ctx, func() error {
		if _, err := h.find(owner, id); err != nil {
			return err
		}
		h.endpoints = slices.DeleteFunc(h.endpoints, func(e webhooks.Endpoint) bool { return e.ID == id })
		return nil
	})
}

func (h *fakeHooks) ListWebhookDeliveries(ctx context.Context, owner, endpoint, before uuid.UUID, limit int) (out []webhooks.ListedDelivery, err error) {
	err = h.store.call(ctx, func() error {
		if _, err := h.find(owner, endpoint); err != nil {
			return err
		}
		for _, d := range slices.Backward(h.deliveries) {
			if d.Endpoint == endpoint && len(out) < limit && (before == uuid.Nil || slices.Compare(d.Event[:], before[:]) < 0) {
				out = append(out, d)
			}
		}
		return nil
	})
	return out, err
}

func (h *fakeHooks) WebhookDelivery(ctx context.Context, owner, event, endpoint uuid.UUID) (out webhooks.Delivery, err error) {
	err = h.store.call(ctx, func() error {
		for _, d := range h.deliveries {
			if d.Event == event && d.Endpoint == endpoint && d.Organization == owner {
				out = d.Delivery
				return nil
			}
		}
		return webhooks.ErrDeliveryNotFound
	})
	return out, err
}

func (h *fakeHooks) AdmitRedelivery(context.Context, uuid.UUID, uuid.UUID) error { return h.admitErr }

func (h *fakeHooks) Redeliver(_ context.Context, d webhooks.Delivery) (DeliveryRun, error) {
	h.asked = append(h.asked, d)
	return DeliveryRun{WorkflowID: "deliver/" + d.Event.String(), RunID: "run"}, h.askErr
}
