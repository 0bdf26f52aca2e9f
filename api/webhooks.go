package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/events"
	"github.com/riverline/tollgate/webhooks"
)

// WebhookStore keeps events, endpoints and deliveries. The first id of each method is whose
// they are: an organization, or [uuid.Nil] for the platform.
type WebhookStore interface {
	// ListEvents returns at most limit events before one, the newest first.
	ListEvents(ctx context.Context, organization uuid.UUID, kind events.Kind, before uuid.UUID, limit int) ([]events.Event, error)
	// CreateEndpoint adds an endpoint that was validated; [webhooks.ErrTooManyEndpoints].
	CreateEndpoint(ctx context.Context, e webhooks.Endpoint) (webhooks.Endpoint, error)
	// ListEndpoints returns all endpoints in the order of their creation.
	ListEndpoints(ctx context.Context, organization uuid.UUID) ([]webhooks.Endpoint, error)
	// Endpoint returns one; so do the others below answer [webhooks.ErrEndpointNotFound].
	Endpoint(ctx context.Context, organization, id uuid.UUID) (webhooks.Endpoint, error)
	// UpdateEndpoint changes one where check finds the outcome valid.
	UpdateEndpoint(ctx context.Context, organization, id uuid.UUID, change webhooks.Change, check func(webhooks.Endpoint) error) (webhooks.Endpoint, error)
	// RotateEndpoint puts another secret in force; the one before signs along for a while.
	RotateEndpoint(ctx context.Context, organization, id uuid.UUID, secret string, now time.Time) (webhooks.Endpoint, error)
	// DeleteEndpoint removes one.
	DeleteEndpoint(ctx context.Context, organization, id uuid.UUID) error
	// ListWebhookDeliveries returns at most limit deliveries before an event's, the newest first.
	ListWebhookDeliveries(ctx context.Context, organization, endpoint, before uuid.UUID, limit int) ([]webhooks.ListedDelivery, error)
	// AdmitRedelivery takes note that a delivery to an endpoint is asked for, or answers a
	// [*webhooks.RedeliveredTooOftenError].
	AdmitRedelivery(ctx context.Context, organization, endpoint uuid.UUID) error
	// WebhookDelivery returns one, or [webhooks.ErrDeliveryNotFound].
	WebhookDelivery(ctx context.Context, organization, event, endpoint uuid.UUID) (webhooks.Delivery, error)
}

// DeliveryRun identifies the run of a delivery.
type DeliveryRun struct{ WorkflowID, RunID string }

// Redeliverer makes deliveries try again.
type Redeliverer interface {
	// Redeliver makes a delivery try at once, also where it has ended.
	Redeliver(ctx context.Context, d webhooks.Delivery) (DeliveryRun, error)
}

// WebhooksConfig is the part of [Config] about webhooks.
type WebhooksConfig struct {
	// Webhooks keeps events, endpoints and deliveries, Redeliverer makes them try again.
	// Required.
	Webhooks    WebhookStore
	Redeliverer Redeliverer
	// AllowPrivateWebhooks allows endpoints at private addresses and by http.
	AllowPrivateWebhooks bool
}

// owner is whose events and endpoints a caller has: its organization's, or the platform's.
func (p *principal) owner() uuid.UUID {
	if p.role == roleTenant {
		return p.organization
	}
	return uuid.Nil
}

// ListEvents answers with a page of events.
func (s *Server) ListEvents(ctx context.Context, request gen.ListEventsRequestObject) (gen.ListEventsResponseObject, error) {
	ctx = requestContext(ctx)
	limit, err := pageLimit(request.Params.Limit)
	if err != nil {
		return nil, err
	}
	kind := events.Kind("")
	if request.Params.Kind != nil {
		if kind = *request.Params.Kind; !kind.Valid() {
			return nil, invalid("kind", "must be one of the kinds of events, %q is not", kind)
		}
	}
	found, err := readPage(request.Params.Before, limit, func(before uuid.UUID, limit int) ([]events.Event, error) {
		return s.config.Webhooks.ListEvents(ctx, principalOf(ctx).owner(), kind, before, limit)
	}, func(e events.Event) uuid.UUID { return e.ID })
	s.charge(principalOf(ctx), len(found.items)*costEvent)
	return gen.ListEvents200JSONResponse{Events: answersOf(found.items, eventAnswer), Next: found.next}, err
}

func eventAnswer(e events.Event) gen.Event {
	return gen.Event{Id: e.ID, Kind: e.Kind, OrganizationId: orAbsent(e.Organization), OccurredAt: e.OccurredAt, Data: e.Data}
}

// ListWebhooks answers with the caller's endpoints.
func (s *Server) ListWebhooks(ctx context.Context, _ gen.ListWebhooksRequestObject) (gen.ListWebhooksResponseObject, error) {
	ctx = requestContext(ctx)
	found, err := s.config.Webhooks.ListEndpoints(ctx, principalOf(ctx).owner())
	return gen.ListWebhooks200JSONResponse{Webhooks: answersOf(found, s.webhookAnswer)}, err
}

// CreateWebhook makes an endpoint. Its secret is shown this once.
func (s *Server) CreateWebhook(ctx context.Context, request gen.CreateWebhookRequestObject) (gen.CreateWebhookResponseObject, error) {
	ctx = requestContext(ctx)
	e := webhooks.Endpoint{
		Organization: principalOf(ctx).owner(), URL: request.Body.Url, Secrets: webhooks.Secrets{Current: webhooks.NewSecret()},
	}
	if request.Body.Kinds != nil {
		e.Kinds = *request.Body.Kinds
	}
	if request.Body.Description != nil {
		e.Description = *request.Body.Description
	}
	if err := e.Validate(s.config.AllowPrivateWebhooks); err != nil {
		return nil, err
	}
	made, err := s.config.Webhooks.CreateEndpoint(ctx, e)
	if err != nil {
		return nil, err
	}
	return gen.CreateWebhook201JSONResponse{Body: s.withSecret(made)}, nil
}

// GetWebhook answers with one endpoint.
func (s *Server) GetWebhook(ctx context.Context, request gen.GetWebhookRequestObject) (gen.GetWebhookResponseObject, error) {
	ctx = requestContext(ctx)
	found, err := s.config.Webhooks.Endpoint(ctx, principalOf(ctx).owner(), request.Id)
	if err != nil {
		return nil, err
	}
	return gen.GetWebhook200JSONResponse(s.webhookAnswer(found)), nil
}

// UpdateWebhook changes an endpoint.
func (s *Server) UpdateWebhook(ctx context.Context, request gen.UpdateWebhookRequestObject) (gen.UpdateWebhookResponseObject, error) {
	ctx = requestContext(ctx)
	b := request.Body
	if b.Url == nil && b.Kinds == nil && b.Description == nil && b.Disabled == nil {
		return nil, invalid("body", "must have a url, kinds, a description or disabled")
	}
	change := webhooks.Change{URL: b.Url, Kinds: b.Kinds, Description: b.Description, Disabled: b.Disabled}
	changed, err := s.config.Webhooks.UpdateEndpoint(ctx, principalOf(ctx).owner(), request.Id, change, func(e webhooks.Endpoint) error {
		return e.Validate(s.config.AllowPrivateWebhooks)
	})
	if err != nil {
		return nil, err
	}
	return gen.UpdateWebhook200JSONResponse{Body: s.webhookAnswer(changed)}, nil
}

// DeleteWebhook removes an endpoint.
func (s *Server) DeleteWebhook(ctx context.Context, request gen.DeleteWebhookRequestObject) (gen.DeleteWebhookResponseObject, error) {
	ctx = requestContext(ctx)
	if err := s.config.Webhooks.DeleteEndpoint(ctx, principalOf(ctx).owner(), request.Id); err != nil {
		return nil, err
	}
	return gen.DeleteWebhook204Response{}, nil
}

// RotateWebhook puts another secret in force, and shows it this once.
func (s *Server) RotateWebhook(ctx context.Context, request gen.RotateWebhookRequestObject) (gen.RotateWebhookResponseObject, error) {
	ctx = requestContext(ctx)
	changed, err := s.config.Webhooks.RotateEndpoint(ctx, principalOf(ctx).owner(), request.Id, webhooks.NewSecret(), s.config.Now().UTC())
	if err != nil {
		return nil, err
	}
	return gen.RotateWebhook200JSONResponse{Body: s.withSecret(changed)}, nil
}

// ListWebhookDeliveries answers with a page of what was sent to an endpoint.
func (s *Server) ListWebhookDeliveries(ctx context.Context, request gen.ListWebhookDeliveriesRequestObject) (gen.ListWebhookDeliveriesResponseObject, error) {
	ctx = requestContext(ctx)
	limit, err := pageLimit(request.Params.Limit)
	if err != nil {
		return nil, err
	}
	found, err := readPage(request.Params.Before, limit, func(before uuid.UUID, limit int) ([]webhooks.ListedDelivery, error) {
		return s.config.Webhooks.ListWebhookDeliveries(ctx, principalOf(ctx).owner(), request.Id, before, limit)
	}, func(d webhooks.ListedDelivery) uuid.UUID { return d.Event })
	s.charge(principalOf(ctx), len(found.items)*costEvent)
	return gen.ListWebhookDeliveries200JSONResponse{Deliveries: answersOf(found.items, deliveryAnswer), Next: found.next}, err
}

func deliveryAnswer(d webhooks.ListedDelivery) gen.Delivery {
	out := gen.Delivery{
		EventId: d.Event, Kind: d.Kind, State: d.State, Attempts: d.Attempts, NextAttemptAt: d.NextAttemptAt,
		CreatedAt: d.CreatedAt, UpdatedAt: d.UpdatedAt,
	}
	if d.LastStatus != 0 {
		out.LastStatus = &d.LastStatus
	}
	if d.LastError != "" {
		out.LastError = &d.LastError
	}
	return out
}

// Redeliver makes a delivery try at once.
func (s *Server) Redeliver(ctx context.Context, request gen.RedeliverRequestObject) (gen.RedeliverResponseObject, error) {
	ctx = requestContext(ctx)
	owner := principalOf(ctx).owner()
	e, err := s.config.Webhooks.Endpoint(ctx, owner, request.Id)
	if err != nil {
		return nil, err
	}
	if e.DisabledAt != nil {
		return nil, errWebhookDisabled
	}
	d, err := s.config.Webhooks.WebhookDelivery(ctx, owner, request.Event, request.Id)
	if err == nil {
		err = s.config.Webhooks.AdmitRedelivery(ctx, owner, request.Id)
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	run, err := s.config.Redeliverer.Redeliver(ctx, d)
	if err != nil {
		return nil, err
	}
	return gen.Redeliver202JSONResponse{Body: gen.StartedDelivery{WorkflowId: run.WorkflowID, RunId: run.RunID}}, nil
}

func (s *Server) webhookAnswer(e webhooks.Endpoint) gen.Webhook {
	out := gen.Webhook{
		Id: e.ID, OrganizationId: orAbsent(e.Organization), Url: e.URL, Kinds: e.Kinds, Description: e.Description,
		CreatedAt: e.CreatedAt, UpdatedAt: e.UpdatedAt, DisabledAt: e.DisabledAt,
	}
	if out.Kinds == nil {
		out.Kinds = []events.Kind{}
	}
	if until := e.Secrets.PreviousUntil; until.After(s.config.Now()) {
		out.PreviousSecretUntil = &until
	}
	return out
}

func (s *Server) withSecret(e webhooks.Endpoint) gen.WebhookWithSecret {
	a := s.webhookAnswer(e)
	return gen.WebhookWithSecret{
		Id: a.Id, OrganizationId: a.OrganizationId, Url: a.Url, Kinds: a.Kinds, Description: a.Description, CreatedAt: a.CreatedAt,
		UpdatedAt: a.UpdatedAt, DisabledAt: a.DisabledAt, PreviousSecretUntil: a.PreviousSecretUntil, Secret: &e.Secrets.Current,
	}
}

// keepNoWebhookSecret keeps the answer that shows an endpoint's secret, without it.
func keepNoWebhookSecret(answer accounts.WriteAnswer) (accounts.WriteAnswer, error) {
	if answer.Status != http.StatusCreated && answer.Status != http.StatusOK {
		return answer, nil
	}
	var made gen.WebhookWithSecret
	d := json.NewDecoder(bytes.NewReader(answer.Body))
	d.DisallowUnknownFields()
	if err := d.Decode(&made); err != nil || made.Secret == nil {
		return accounts.WriteAnswer{}, errSecretKept
	}
	// A type that has no secret can't keep one.
	var err error
	answer.Body, err = json.Marshal(gen.Webhook{
		Id: made.Id, OrganizationId: made.OrganizationId, Url: made.Url, Kinds: made.Kinds, Description: made.Description,
		CreatedAt: made.CreatedAt, UpdatedAt: made.UpdatedAt, DisabledAt: made.DisabledAt, PreviousSecretUntil: made.PreviousSecretUntil,
	})
	return answer, err
}
