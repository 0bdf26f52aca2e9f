package api

import (
	"context"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/api/gen"
)

// CreateOrganization makes an organization.
func (s *Server) CreateOrganization(ctx context.Context, request gen.CreateOrganizationRequestObject) (gen.CreateOrganizationResponseObject, error) {
	ctx = requestContext(ctx)
	currency := ""
	if request.Body.Currency != nil {
		currency = *request.Body.Currency
	}
	at, err := effectiveAt(request.Body.EffectiveAt)
	if err != nil {
		return nil, err
	}
	plan := ""
	if request.Body.Plan != nil {
		if plan = *request.Body.Plan; plan == "" {
			return nil, invalid("plan", "must be the key of a plan, or be left out for the catalog's default_plan")
		}
	}
	made, err := s.config.Store.CreateOrganization(ctx, accounts.NewOrganization{
		Name: request.Body.Name, Plan: plan, Currency: currency, EffectiveAt: at,
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
	if request.Params.Search != nil {
		if request.Params.After != nil {
			return nil, invalid("after", "must be left out where search is given")
		}
		found, err := s.config.Store.SearchOrganizations(ctx, *request.Params.Search, limit)
		return gen.ListOrganizations200JSONResponse{Organizations: notNil(found)}, err
	}
	found, err := readPage(request.Params.After, limit, func(after uuid.UUID, limit int) ([]accounts.Organization, error) {
		return s.config.Store.ListOrganizations(ctx, after, limit)
	}, func(o accounts.Organization) uuid.UUID { return o.ID })
	return gen.ListOrganizations200JSONResponse{Organizations: notNil(found.items), Next: found.next}, err
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

// UpdateOrganization changes an organization's name, currency or plan.
func (s *Server) UpdateOrganization(ctx context.Context, request gen.UpdateOrganizationRequestObject) (gen.UpdateOrganizationResponseObject, error) {
	ctx = requestContext(ctx)
	body := request.Body
	if body.Name == nil && body.Plan == nil && body.Currency == nil {
		return nil, invalid("body", "must have a name, a plan or a currency")
	}
	if body.EffectiveAt != nil && body.Plan == nil {
		return nil, invalid("effective_at", "must be left out where no plan is given")
	}
	at, err := effectiveAt(body.EffectiveAt)
	if err != nil {
		return nil, err
	}
	changed, err := s.config.Store.UpdateOrganization(ctx, request.Id, accounts.OrganizationChange{
		Name: body.Name, Plan: body.Plan, EffectiveAt: at, Currency: body.Currency, Actor: principalOf(ctx).key,
	})
	if err == nil && body.Plan != nil {
		s.reload(ctx, changed)
	}
	return gen.UpdateOrganization200JSONResponse{Body: changed.Organization}, err
}

// UpgradeOrganization changes an organization's plan.
func (s *Server) UpgradeOrganization(ctx context.Context, request gen.UpgradeOrganizationRequestObject) (gen.UpgradeOrganizationResponseObject, error) {
	changed, err := s.changeContract(requestContext(ctx), request.Id, accounts.Request{
		Action: accounts.ChangePlan, Plan: request.Body.Plan,
	}, request.Body.EffectiveAt)
	return gen.UpgradeOrganization200JSONResponse{Body: changed}, err
}

// KeepPlan takes a pending change of plan back.
func (s *Server) KeepPlan(ctx context.Context, request gen.KeepPlanRequestObject) (gen.KeepPlanResponseObject, error) {
	changed, err := s.changeContract(requestContext(ctx), request.Id, accounts.Request{Action: accounts.KeepPlan}, nil)
	return gen.KeepPlan200JSONResponse{Body: changed}, err
}

// EndContract ends an organization's contract.
func (s *Server) EndContract(ctx context.Context, request gen.EndContractRequestObject) (gen.EndContractResponseObject, error) {
	end := accounts.Request{Action: accounts.EndContract}
	var at *string
	if request.Body != nil {
		at = request.Body.EffectiveAt
		if request.Body.Note != nil {
			end.Note = *request.Body.Note
		}
	}
	if n := utf8.RuneCountInString(end.Note); n > accounts.MaxNote {
		return nil, invalid("note", "must be at most %d characters, has %d", accounts.MaxNote, n)
	}
	changed, err := s.changeContract(requestContext(ctx), request.Id, end, at)
	return gen.EndContract200JSONResponse{Body: changed}, err
}

// KeepContract takes the end of a contract back that is to come.
func (s *Server) KeepContract(ctx context.Context, request gen.KeepContractRequestObject) (gen.KeepContractResponseObject, error) {
	changed, err := s.changeContract(requestContext(ctx), request.Id, accounts.Request{Action: accounts.KeepContract}, nil)
	return gen.KeepContract200JSONResponse{Body: changed}, err
}

// changeContract changes a contract for whoever calls, and puts it in force here. The
// other instances hear of it from the store.
func (s *Server) changeContract(ctx context.Context, id uuid.UUID, r accounts.Request, at *string) (accounts.Organization, error) {
	caller := principalOf(ctx)
	if caller.mayActFor(id) != nil {
		return accounts.Organization{}, errWrongTenant
	}
	r.ByTenant, r.Actor = caller.role == roleTenant, caller.key
	var err error
	if r.At, err = effectiveAt(at); err != nil {
		return accounts.Organization{}, err
	}
	changed, err := s.config.Store.ChangeContract(ctx, id, r)
	if err == nil {
		s.reload(ctx, changed)
	}
	return changed.Organization, err
}

// reload puts an organization in force here as it was changed.
func (s *Server) reload(ctx context.Context, changed accounts.Changed) {
	s.keys.forgetOrganization(changed.ID)
	if err := s.config.Refresher.Organization(ctx, changed.ID, changed.Transaction); err != nil {
		// The change is made. This instance hears of it like the others, a moment later.
		s.config.Logger.WarnContext(ctx, "Organization could not be read again after a change", "organization", changed.ID, "error", err)
	}
}

// effectiveAt reads from when a change is to be in force; zero where that isn't given.
func effectiveAt(given *string) (time.Time, error) {
	const epoch = 1970
	at, err := creditTime("effective_at", given, time.Time{})
	if err == nil && given != nil && at.Year() < epoch {
		return at, invalid("effective_at", "must be in %d or later, is %s", epoch, *given)
	}
	return at, err
}
