package api

import (
	"context"
	"fmt"
	"slices"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/plans"
)

// GetPlans answers with the meters and the plans in force.
func (s *Server) GetPlans(ctx context.Context, _ gen.GetPlansRequestObject) (gen.GetPlansResponseObject, error) {
	ctx = requestContext(ctx)
	catalog, err := s.config.Store.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	out := gen.GetPlans200JSONResponse{Meters: catalog.Meters, Plans: []gen.Plan{}}
	if catalog.DefaultPlan != "" {
		out.DefaultPlan = &catalog.DefaultPlan
	}
	for _, p := range catalog.InForce() {
		out.Plans = append(out.Plans, planAnswer(p, catalog.Meters))
	}
	return out, nil
}

// ListPlanVersions answers with all versions of a plan.
func (s *Server) ListPlanVersions(ctx context.Context, request gen.ListPlanVersionsRequestObject) (gen.ListPlanVersionsResponseObject, error) {
	catalog, err := s.config.Store.Catalog(requestContext(ctx))
	if err != nil {
		return nil, err
	}
	out := gen.ListPlanVersions200JSONResponse{}
	for _, p := range catalog.Plans {
		if p.Key == request.Key {
			out.Versions = append(out.Versions, planAnswer(p, catalog.Meters))
		}
	}
	if len(out.Versions) == 0 {
		return nil, accounts.ErrPlanNotFound.Of(request.Key)
	}
	slices.SortFunc(out.Versions, func(a, b gen.Plan) int { return b.Version - a.Version })
	return out, nil
}

func planAnswer(p plans.Plan, meters []plans.Meter) gen.Plan {
	out := gen.Plan{
		Key: p.Key, Version: p.Version, Name: p.Name, SelfService: p.SelfService, Rank: p.Rank, RateLimit: p.RateLimit, Entitlements: []gen.Entitlement{},
		PriceBooks: priceBooksAnswer(p.PriceBooks),
	}
	for _, m := range meters {
		e := p.Entitlement(m.Key)
		answer := gen.Entitlement{Meter: e.Meter, Mode: e.Mode, Window: e.Window}
		if e.Mode != plans.Unlimited {
			answer.Max = &e.Max
		}
		out.Entitlements = append(out.Entitlements, answer)
	}
	return out
}

// PutPlan publishes a plan's next version, and puts it in force here. The other
// instances hear of it from the store.
func (s *Server) PutPlan(ctx context.Context, request gen.PutPlanRequestObject) (gen.PutPlanResponseObject, error) {
	ctx = requestContext(ctx)
	wanted, err := planOf(request.Body)
	if err != nil {
		return nil, err
	}
	catalog, err := s.config.Store.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	inForce, ok := catalog.Plan(wanted.Key)
	// A version that names no rule's break is needed to check the rest.
	wanted.Version = inForce.Version + 1
	if request.Body.PriceBooks == nil {
		// A change of limits must not make a plan free of charge.
		wanted.PriceBooks = inForce.PriceBooks
	}
	wanted.SelfService, wanted.Rank = inForce.SelfService, inForce.Rank
	if request.Body.SelfService != nil {
		wanted.SelfService = *request.Body.SelfService
	}
	if request.Body.Rank != nil {
		wanted.Rank = *request.Body.Rank
	}
	if err := catalog.ValidatePlan(wanted); err != nil {
		return nil, err
	}
	if ok && samePlan(inForce, wanted, catalog.Meters) {
		return gen.PutPlan200JSONResponse{Body: planAnswer(inForce, catalog.Meters)}, nil
	}
	if s.config.PlansTakeTwo {
		waits, err := s.config.Store.ProposePlan(ctx, wanted, principalOf(ctx).key)
		return gen.PutPlan202JSONResponse{Body: waits}, err
	}
	published, err := s.config.Store.PublishPlan(ctx, wanted)
	if err != nil {
		return nil, err
	}
	if err := s.config.Refresher.Catalog(ctx, published.Transaction); err != nil {
		// The plan is published. This instance hears of it like the others, a moment later.
		s.config.Logger.WarnContext(ctx, "Catalog could not be read again after a change", "error", err)
	}
	return gen.PutPlan200JSONResponse{Body: planAnswer(published.Plan, catalog.Meters)}, nil
}

func planOf(body *gen.PlanPut) (plans.Plan, error) {
	if err := accounts.ValidateName("name", body.Name); err != nil {
		return plans.Plan{}, err
	}
	p := plans.Plan{Key: body.Key, Name: body.Name}
	if body.RateLimit != nil {
		p.RateLimit = *body.RateLimit
	}
	for i, e := range body.Entitlements {
		wanted := plans.Entitlement{Meter: e.Meter, Mode: e.Mode}
		if e.Window != nil {
			wanted.Window = *e.Window
		}
		switch {
		case e.Max != nil:
			wanted.Max = *e.Max
		case e.Mode == plans.Hard || e.Mode == plans.Soft:
			return plans.Plan{}, invalid(fmt.Sprintf("entitlements[%d].max", i), "must be given where the mode is %s", e.Mode)
		}
		p.Entitlements = append(p.Entitlements, wanted)
	}
	if body.PriceBooks == nil {
		return p, nil
	}
	var err error
	p.PriceBooks, err = priceBooksOf(*body.PriceBooks)
	return p, err
}

func samePlan(a, b plans.Plan, meters []plans.Meter) bool {
	if a.Name != b.Name || a.SelfService != b.SelfService || a.Rank != b.Rank || a.RateLimit != b.RateLimit || !samePrices(a.PriceBooks, b.PriceBooks) {
		return false
	}
	for _, m := range meters {
		if a.Entitlement(m.Key) != b.Entitlement(m.Key) {
			return false
		}
	}
	return true
}
