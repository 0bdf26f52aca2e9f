package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

const (
	// defaultTTL and maxTTL bound how long a quantity is held, in seconds.
	defaultTTL = 60
	maxTTL     = 24 * 60 * 60

	// quotaPatience is how long a request waits for quota that instances give back, and
	// quotaPause the first pause between two attempts; each is twice the one before.
	quotaPatience = time.Second
	quotaPause    = 20 * time.Millisecond
)

// CreateReservation holds a quantity in the store.
func (s *Server) CreateReservation(ctx context.Context, request gen.CreateReservationRequestObject) (gen.CreateReservationResponseObject, error) {
	// The generated code hands gin's context on.
	c := ctx.(*gin.Context)
	ctx = requestContext(ctx)
	now := s.config.Now()
	index, wanted, err := s.wantedReservation(c.Request.Header, request.Body, now)
	if err != nil {
		return nil, err
	}
	organization, err := s.config.Meter.Organization(ctx, principalOf(ctx).organization, now)
	if err != nil {
		return nil, err
	}
	if !organization.Loaded() {
		// Nobody knows what may be used; the store, which is to hold it, doesn't say either.
		return nil, meter.ErrUnavailable
	}
	usage := organization.Usage(index, now)
	plan := organization.Plan()
	if plan.Key == "" {
		return nil, meter.ErrContractEnded
	}
	decide(&wanted, plan, &usage)
	wanted.Organization = organization.ID()
	if wanted.Mode == plans.Hard && wanted.Quantity > wanted.Max && wanted.Identity == (meter.Identity{}) {
		// No window has room for it. With a key it may have been held under another plan.
		return nil, s.limitRefusal(ctx, &meter.QuotaShortError{Max: wanted.Max}, organization, index)
	}
	if err := s.enforcer.Pace(c.Writer.Header(), organization); err != nil {
		return nil, err
	}
	held, err := awaitQuota(ctx, func() (meter.StoredReservation, error) {
		return s.config.Store.HoldReservation(ctx, wanted, plan.Version)
	})
	if err != nil {
		return nil, s.quotaRefusal(ctx, err, wanted.Quantity, organization, index)
	}
	organization.Freshen(ctx, now)
	return holdAnswer(&held, wanted.ID), nil
}

// holdAnswer is the answer to a request that wanted a reservation of that ID to be held.
func holdAnswer(held *meter.StoredReservation, wanted uuid.UUID) gen.CreateReservationResponseObject {
	body, yes := reservationAnswer(held), "true"
	var overLimit *string
	if held.OverLimit {
		overLimit = &yes
	}
	if held.ID != wanted {
		return gen.CreateReservation200JSONResponse{
			Body: body, Headers: gen.CreateReservation200ResponseHeaders{IdempotencyReplayed: &yes, TollgateOverLimit: overLimit},
		}
	}
	return gen.CreateReservation201JSONResponse{Body: body, Headers: gen.CreateReservation201ResponseHeaders{TollgateOverLimit: overLimit}}
}

// wantedReservation checks what a caller wants to be held.
func (s *Server) wantedReservation(h http.Header, body *gen.ReservationCreate, now time.Time) (meter.Index, meter.StoredReservation, error) {
	var r meter.StoredReservation
	index, ok := s.config.Meter.Index(body.Meter)
	if !ok {
		return 0, r, s.unknownMeter(&usageNames)
	}
	if m := s.config.Meter.Catalog().Meters[index]; m.Aggregation != plans.Sum {
		return 0, r, invalid("meter", "must be one that sums: %s is a level and can't be reserved", m.Key)
	}
	quantity, err := bodyQuantity(body.Quantity)
	if err != nil {
		return 0, r, err
	}
	if quantity < 1 {
		return 0, r, invalid("quantity", "must be a whole number, 1 to %d: nothing can't be held", int64(plans.MaxQuantity))
	}
	ttl := int64(defaultTTL)
	if body.TtlSeconds != nil {
		ttl = *body.TtlSeconds
	}
	if ttl < 1 || ttl > maxTTL {
		return 0, r, invalid("ttl_seconds", "must be a whole number, 1 to %d", maxTTL)
	}
	inBody := ""
	if body.IdempotencyKey != nil {
		if err := checkKey("idempotency_key", *body.IdempotencyKey); err != nil {
			return 0, r, err
		}
		inBody = *body.IdempotencyKey
	}
	key, err := requestKey(h, inBody)
	if err != nil {
		return 0, r, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return 0, r, err
	}
	r = meter.StoredReservation{
		ID: id, Meter: body.Meter, Quantity: quantity, State: meter.ReservationHeld,
		CreatedAt: now.UTC(), ExpiresAt: now.UTC().Add(time.Duration(ttl) * time.Second),
	}
	if key != "" {
		r.Identity = meter.KeyIdentity(key)
		r.Fingerprint = meter.FingerprintOf(r.Meter, strconv.FormatInt(r.Quantity, 10), strconv.FormatInt(ttl, 10))
	}
	return index, r, nil
}

// bodyQuantity reads the quantity in a body.
func bodyQuantity(raw json.RawMessage) (int64, error) {
	const field = "quantity"
	if raw == nil {
		return 0, invalid(field, "must be given")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return quantityField(d, field)
}

// decide fills in what the plan says of a reservation, and where the window stands as far as
// it is known here. The store decides, and adds what it holds.
func decide(r *meter.StoredReservation, plan plans.Plan, u *meter.Usage) {
	e := plan.Entitlement(r.Meter)
	r.Plan, r.Mode, r.Window = plan.Key, e.Mode, e.Window
	if e.Mode != plans.Unlimited {
		r.Max = e.Max
	}
	r.Current = u.Current
}

// awaitQuota calls try until it isn't short of quota that instances are about to give
// back, or a second has passed. A failure that passes is tried again once: nobody knows
// whether it was done, and what is tried is the same thing again.
func awaitQuota(ctx context.Context, try func() (meter.StoredReservation, error)) (meter.StoredReservation, error) {
	ends := time.Now().Add(quotaPatience)
	failed := false
	for pause := quotaPause; ; pause *= 2 {
		r, err := try()
		var short *meter.QuotaShortError
		var passing fault.Retryable
		switch {
		case errors.As(err, &short) && short.Waiting:
		case errors.As(err, &passing) && passing.Retryable() && !failed:
			failed = true
		default:
			return r, err
		}
		left := time.Until(ends)
		if left <= 0 {
			return r, err
		}
		select {
		case <-time.After(min(pause, left)):
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}

// quotaRefusal turns a shortage of quota into the refusal by the plan, or, where instances could
// not say in time whether a quantity can be had, into [meter.ErrUnavailable]. Any other error
// stays as it is.
func (s *Server) quotaRefusal(ctx context.Context, err error, quantity int64, organization *meter.Organization, index meter.Index) error {
	var short *meter.QuotaShortError
	if !errors.As(err, &short) {
		return err
	}
	if short.Undecided(quantity) {
		return meter.ErrUnavailable
	}
	return s.limitRefusal(ctx, short, organization, index)
}

// limitRefusal is the refusal of a reservation by a hard limit, with the figures that any
// other request would find, and the plan whose limit it is: the one in force.
func (s *Server) limitRefusal(ctx context.Context, short *meter.QuotaShortError, organization *meter.Organization, index meter.Index) error {
	now := s.config.Now()
	organization.Look(ctx, now)
	u := organization.Usage(index, now)
	d := plans.Decision{Mode: plans.Hard, OverLimit: true, Current: max(u.Current, short.Current), Held: max(u.Held, short.Held), Max: short.Max}
	d.Remaining = plans.Entitlement{Mode: plans.Hard, Max: d.Max}.Remaining(d.Current, d.Held)
	return s.enforcer.LimitProblem(organization, index, organization.Plan().Key, d)
}

// CommitReservation counts what was used of a reservation.
func (s *Server) CommitReservation(ctx context.Context, request gen.CommitReservationRequestObject) (gen.CommitReservationResponseObject, error) {
	ctx = requestContext(ctx)
	now, owner := s.config.Now(), principalOf(ctx).organization
	var quantity *int64
	if request.Body != nil && request.Body.Quantity != nil {
		used, err := bodyQuantity(request.Body.Quantity)
		if err != nil {
			return nil, err
		}
		quantity = &used
	}
	committed, err := awaitQuota(ctx, func() (meter.StoredReservation, error) {
		return s.config.Store.CommitReservation(ctx, owner, request.Id, quantity)
	})
	if err != nil {
		return nil, s.commitRefusal(ctx, err, owner, request.Id, quantity, now)
	}
	s.freshen(ctx, owner, now)
	return gen.CommitReservation200JSONResponse{Body: reservationAnswer(&committed)}, nil
}

// commitRefusal says why a reservation can't be committed with more than it holds.
func (s *Server) commitRefusal(ctx context.Context, err error, owner, id uuid.UUID, used *int64, now time.Time) error {
	var short *meter.QuotaShortError
	if !errors.As(err, &short) {
		return err
	}
	held, failed := s.config.Store.Reservation(ctx, owner, id)
	if failed != nil {
		return failed
	}
	organization, failed := s.config.Meter.Organization(ctx, owner, now)
	if failed != nil {
		return failed
	}
	index, ok := s.config.Meter.Index(held.Meter)
	if !ok {
		return s.unknownMeter(&usageNames)
	}
	var beyond int64
	if used != nil {
		beyond = *used - held.Quantity
	}
	return s.quotaRefusal(ctx, err, beyond, organization, index)
}

// ReleaseReservation gives back what a reservation holds.
func (s *Server) ReleaseReservation(ctx context.Context, request gen.ReleaseReservationRequestObject) (gen.ReleaseReservationResponseObject, error) {
	ctx = requestContext(ctx)
	now, owner := s.config.Now(), principalOf(ctx).organization
	released, err := s.config.Store.ReleaseReservation(ctx, owner, request.Id)
	if err != nil {
		return nil, err
	}
	s.freshen(ctx, owner, now)
	return gen.ReleaseReservation200JSONResponse{Body: reservationAnswer(&released)}, nil
}

// freshen sees that what was held or counted in the store is known here. An organization
// that isn't in memory is read when it is needed.
func (s *Server) freshen(ctx context.Context, id uuid.UUID, now time.Time) {
	if organization, ok := s.config.Meter.Find(id); ok {
		organization.Freshen(ctx, now)
	}
}

// GetReservation answers with a reservation.
func (s *Server) GetReservation(ctx context.Context, request gen.GetReservationRequestObject) (gen.GetReservationResponseObject, error) {
	ctx = requestContext(ctx)
	found, err := s.config.Store.Reservation(ctx, principalOf(ctx).organization, request.Id)
	if err != nil {
		return nil, err
	}
	return gen.GetReservation200JSONResponse(reservationAnswer(&found)), nil
}

// reservationAnswer shows a reservation, in the state that the store says: its clock decides
// what has expired.
func reservationAnswer(r *meter.StoredReservation) gen.Reservation {
	out := gen.Reservation{
		Id: r.ID, Meter: r.Meter, Quantity: r.Quantity, State: r.State, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt, Plan: r.Plan, Mode: r.Mode,
		Current: r.Current, Held: r.Held, OverLimit: r.OverLimit, Window: r.Window.At(r.CreatedAt),
	}
	if r.State == meter.ReservationCommitted {
		out.Committed = &r.Committed
	}
	if r.Mode != plans.Unlimited {
		remaining := plans.Entitlement{Mode: r.Mode, Max: r.Max}.Remaining(r.Current, r.Held)
		out.Max, out.Remaining = &r.Max, &remaining
	}
	return out
}
