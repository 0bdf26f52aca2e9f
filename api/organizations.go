package api

import (
	"context"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api/gen"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

// CreateOrganization makes an organization.
func (s *Server) CreateOrganization(ctx context.Context, request gen.CreateOrganizationRequestObject) (gen.CreateOrganizationResponseObject, error) {
	ctx = requestContext(ctx)
	currency := ""
	if request.Body.Currency != nil {
		currency = *request.Body.Currency
	}
	plan := ""
	if request.Body.Plan != nil {
		if plan = *request.Body.Plan; plan == "" {
			return nil, invalid("plan", "must be the key of a plan, or be left out for the catalog's default_plan")
		}
	}
	made, err := s.config.Store.CreateOrganization(ctx, accounts.NewOrganization{
		Name: request.Body.Name, Plan: plan, Currency: currency,
	})
	return gen.CreateOrganization201JSONResponse{Body: made}, err
}

// ListOrganizations answers with a page of organizations.
func (s *Server) ListOrganizations(ctx context.Context, request gen.ListOrganizationsRequestObject) (gen.ListOrganizationsResponseObject, error) {
	ctx = requestContext(ctx)
	limit, err := pageLimit(request.Params.Limit)
	if err != nil {
		return nil, err
	}
	// One more than the page tells whether there is another page.
	found, err := s.config.Store.ListOrganizations(ctx, afterOf(request.Params.After), limit+1)
	if err != nil {
		return nil, err
	}
	page := gen.ListOrganizations200JSONResponse{Organizations: found}
	if page.Organizations == nil {
		page.Organizations = []accounts.Organization{}
	}
	if len(found) > limit {
		page.Organizations = found[:limit]
		page.Next = &found[limit-1].ID
	}
	return page, nil
}

func pageLimit(given *int) (int, error) {
	if given == nil {
		return defaultPage, nil
	}
	if *given < 1 || *given > maxPage {
		return 0, invalid("limit", "must be a whole number, 1 to %d", maxPage)
	}
	return *given, nil
}

// afterOf is where a list goes on: after an ID, or from the start where none is given.
func afterOf(id *uuid.UUID) uuid.UUID {
	if id == nil {
		return uuid.Nil
	}
	return *id
}

// GetOrganization answers with one organization.
func (s *Server) GetOrganization(ctx context.Context, request gen.GetOrganizationRequestObject) (gen.GetOrganizationResponseObject, error) {
	ctx = requestContext(ctx)
	if principalOf(ctx).mayActFor(request.Id) != nil {
		return nil, errWrongTenant
	}
	found, err := s.config.Store.Organization(ctx, request.Id)
	return gen.GetOrganization200JSONResponse(found), err
}

// UpdateOrganization changes an organization's name or plan.
func (s *Server) UpdateOrganization(ctx context.Context, request gen.UpdateOrganizationRequestObject) (gen.UpdateOrganizationResponseObject, error) {
	ctx = requestContext(ctx)
	if request.Body.Name == nil && request.Body.Plan == nil && request.Body.Currency == nil {
		return nil, invalid("body", "must have a name, a plan or a currency")
	}
	changed, err := s.change(ctx, request.Id, accounts.OrganizationChange{
		Name: request.Body.Name, Plan: request.Body.Plan, Currency: request.Body.Currency,
	})
	return gen.UpdateOrganization200JSONResponse{Body: changed}, err
}

// UpgradeOrganization changes an organization's plan.
func (s *Server) UpgradeOrganization(ctx context.Context, request gen.UpgradeOrganizationRequestObject) (gen.UpgradeOrganizationResponseObject, error) {
	ctx = requestContext(ctx)
	if principalOf(ctx).mayActFor(request.Id) != nil {
		return nil, errWrongTenant
	}
	changed, err := s.change(ctx, request.Id, accounts.OrganizationChange{Plan: &request.Body.Plan})
	return gen.UpgradeOrganization200JSONResponse{Body: changed}, err
}

// change changes an organization, and puts its plan in force here. The other
// instances hear of it from the store.
func (s *Server) change(ctx context.Context, id uuid.UUID, change accounts.OrganizationChange) (accounts.Organization, error) {
	changed, err := s.config.Store.UpdateOrganization(ctx, id, change)
	if err != nil || change.Plan == nil {
		return changed, err
	}
	if err := s.config.Meter.Reload(ctx, id, s.config.Now()); err != nil {
		// The change is made. This instance hears of it like the others, a moment later.
		s.config.Logger.WarnContext(ctx, "Organization could not be read again after a change", "organization", id, "error", err)
	}
	return changed, nil
}
