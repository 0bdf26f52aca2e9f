package api

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/fault"
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
	catalog, err := s.config.Store.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	wanted, err := wantedPlan(catalog, request.Body)
	if err != nil {
		return nil, err
	}
	if err := catalog.ValidatePlan(wanted); err != nil {
		return nil, err
	}
	in, waiting, err := s.publishPlans(ctx, catalog, wanted)
	switch {
	case err != nil:
		return nil, err
	case len(waiting) > 0:
		return gen.PutPlan202JSONResponse{Body: waiting[0]}, nil
	}
	return gen.PutPlan200JSONResponse{Body: in[0]}, nil
}

// PublishPlans publishes the next versions of several plans, all or none.
func (s *Server) PublishPlans(ctx context.Context, request gen.PublishPlansRequestObject) (gen.PublishPlansResponseObject, error) {
	ctx = requestContext(ctx)
	catalog, err := s.config.Store.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	wanted := make([]plans.Plan, len(request.Body.Plans))
	for i := range request.Body.Plans {
		if wanted[i], err = wantedPlan(catalog, &request.Body.Plans[i]); err != nil {
			var field *fault.FieldError
			if errors.As(err, &field) {
				err = invalid(fmt.Sprintf("plans[%d].%s", i, field.Field), "%s", field.Rule)
			}
			return nil, err
		}
	}
	if _, err := catalog.Propose(&plans.Catalog{Plans: wanted}); err != nil {
		return nil, err
	}
	in, waiting, err := s.publishPlans(ctx, catalog, wanted...)
	switch {
	case err != nil:
		return nil, err
	case len(waiting) > 0:
		return gen.PublishPlans202JSONResponse{Body: gen.PlanProposals{Proposals: waiting}}, nil
	}
	return gen.PublishPlans200JSONResponse{Body: gen.PublishedPlans{Plans: in}}, nil
}

// publishPlans publishes those that differ from what is in force, and answers with all that is in
// force then. Where it takes a second person it has published nothing, and waiting is what waits.
func (s *Server) publishPlans(ctx context.Context, catalog *plans.Catalog, wanted ...plans.Plan) (in []gen.Plan, waiting []accounts.Proposal, err error) {
	var places []int
	var differ []plans.Plan
	for i, p := range wanted {
		inForce, ok := catalog.Plan(p.Key)
		if !ok || !samePlan(inForce, p, catalog.Meters) {
			places, differ = append(places, i), append(differ, p)
		}
		in = append(in, planAnswer(inForce, catalog.Meters))
	}
	if len(differ) == 0 {
		return in, nil, nil
	}
	if s.config.PlansTakeTwo {
		waiting, err = s.config.Store.ProposePlans(ctx, principalOf(ctx).key, differ...)
		return nil, waiting, err
	}
	published, err := s.config.Store.PublishPlans(ctx, differ...)
	if err != nil {
		return nil, nil, err
	}
	for i, p := range published {
		in[places[i]] = planAnswer(p.Plan, catalog.Meters)
	}
	if err := s.config.Refresher.Catalog(ctx, published[0].Transaction); err != nil {
		// The plans are published. This instance hears of them like the others, a moment later.
		s.config.Logger.WarnContext(ctx, "Catalog could not be read again after a change", "error", err)
	}
	return in, nil, nil
}

// wantedPlan is the version after the one in force, as a body says. What that leaves out stays.
func wantedPlan(catalog *plans.Catalog, body *gen.PlanPut) (plans.Plan, error) {
	wanted, err := planOf(body)
	if err != nil {
		return plans.Plan{}, err
	}
	inForce, _ := catalog.Plan(wanted.Key)
	wanted.Version = inForce.Version + 1
	if body.PriceBooks == nil {
		// A change of limits must not make a plan free of charge.
		wanted.PriceBooks = inForce.PriceBooks
	}
	wanted.SelfService, wanted.Rank = inForce.SelfService, inForce.Rank
	if body.SelfService != nil {
		wanted.SelfService = *body.SelfService
	}
	if body.Rank != nil {
		wanted.Rank = *body.Rank
	}
	return wanted, nil
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
