package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/plans"
)

// DryRunCatalog rates a page of an export's organizations under a proposed catalog.
func (s *Server) DryRunCatalog(ctx context.Context, request gen.DryRunCatalogRequestObject) (gen.DryRunCatalogResponseObject, error) {
	ctx = requestContext(ctx)
	proposed, err := catalogOf(request.Body)
	if err != nil {
		return nil, err
	}
	found, limit, err := s.listOf(ctx, request.Period, request.Params.Revision, request.Params.Limit)
	if err != nil {
		return nil, err
	}
	published, err := s.config.Store.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	run, err := billing.NewDryRun(billing.DryRunConfig{Published: published, Proposed: proposed})
	if err != nil {
		return nil, err
	}
	if !found.Stage.Rated() {
		return nil, billing.ErrNotRated
	}
	billed, err := s.billedPeriods(ctx, found, request.Params, limit)
	if err != nil {
		return nil, err
	}
	out := gen.DryRunCatalog200JSONResponse{
		Period: found.Period.String(), Revision: found.Revision, RunId: found.RunID, Organizations: []billing.DryRunOrganization{}, Next: billed.next,
	}
	for _, a := range billed.items {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		rated, err := run.Rate(a)
		if err != nil {
			return nil, err
		}
		out.Organizations = append(out.Organizations, rated)
	}
	return out, nil
}

// billedPeriods returns the page that is asked for.
func (s *Server) billedPeriods(ctx context.Context, of billing.Export, asked gen.DryRunCatalogParams, limit int) (page[billing.BilledPeriod], error) {
	if asked.OrganizationId != nil {
		if asked.After != nil {
			return page[billing.BilledPeriod]{}, invalid("after", "must be left out where an organization_id is given")
		}
		one, err := s.config.Store.BilledPeriod(ctx, of.ID, *asked.OrganizationId)
		if err == nil && len(one) == 0 {
			err = accounts.ErrOrganizationNotFound.Of(fmt.Sprintf("%s in export %s", asked.OrganizationId, exportName(of.Period, asked.Revision)))
		}
		return page[billing.BilledPeriod]{items: one}, err
	}
	return readPage(asked.After, limit, func(after uuid.UUID, limit int) ([]billing.BilledPeriod, error) {
		return s.config.Store.BilledPeriods(ctx, of.ID, after, limit)
	}, func(b billing.BilledPeriod) uuid.UUID { return b.OrganizationPeriod.Organization })
}

// catalogOf reads a proposed catalog out of a request; its rules are checked later.
func catalogOf(body *gen.ProposedCatalog) (*plans.Catalog, error) {
	out := &plans.Catalog{Meters: body.Meters}
	if body.DefaultPlan != nil {
		out.DefaultPlan = *body.DefaultPlan
	}
	for i, p := range body.Plans {
		plan := plans.Plan{Key: p.Key, Version: p.Version, Name: p.Name, SelfService: p.SelfService, Rank: p.Rank}
		if p.RateLimit != nil {
			plan.RateLimit = *p.RateLimit
		}
		for _, e := range p.Entitlements {
			entitlement := plans.Entitlement{Meter: e.Meter, Mode: e.Mode, Window: e.Window}
			if e.Max != nil {
				entitlement.Max = *e.Max
			}
			plan.Entitlements = append(plan.Entitlements, entitlement)
		}
		var err error
		if plan.PriceBooks, err = priceBooksOf(p.PriceBooks); err != nil {
			return nil, inField(fmt.Sprintf("plans[%d]", i), err)
		}
		out.Plans = append(out.Plans, plan)
	}
	return out, nil
}

// inField puts what a field lies in before its name, where an error names one.
func inField(outer string, err error) error {
	var field *fault.FieldError
	if !errors.As(err, &field) {
		return err
	}
	return &fault.FieldError{Field: outer + "." + field.Field, Rule: field.Rule}
}
