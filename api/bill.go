package api

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/plans"
)

// BillStore has what an organization's running month is rated from, and the months before it.
type BillStore interface {
	// OpenPeriod returns a period as far as it has come at a time within it, or [accounts.ErrOrganizationNotFound].
	OpenPeriod(ctx context.Context, organization uuid.UUID, period calendar.Period, cut time.Time, meters []plans.Meter) (billing.OpenPeriod, error)
	// OrganizationStatements returns at most limit issued statements, the newest period first.
	OrganizationStatements(ctx context.Context, organization uuid.UUID, limit int) ([]billing.Statement, error)
}

// GetBill answers with what the running month comes to.
func (s *Server) GetBill(ctx context.Context, request gen.GetBillRequestObject) (gen.GetBillResponseObject, error) {
	ctx = requestContext(ctx)
	if principalOf(ctx).mayActFor(request.Id) != nil {
		return nil, errWrongTenant
	}
	catalog, err := s.config.Store.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	now := s.config.Now().UTC()
	open, err := s.config.Store.OpenPeriod(ctx, request.Id, calendar.PeriodOf(now), now, catalog.Meters)
	if err != nil {
		return nil, err
	}
	period := open.OrganizationPeriod()
	if request.Params.Plan != nil {
		on, err := s.comparable(ctx, request.Id, *request.Params.Plan, catalog)
		if err != nil {
			return nil, err
		}
		period = period.On(on)
	}
	credits, err := s.config.Store.Credits(ctx, request.Id)
	if err != nil {
		return nil, err
	}
	expected := period.Expected()
	out := gen.Bill{Period: period.Period.String(), Cut: now, Usage: []gen.ExpectedUsage{}}
	for _, m := range catalog.Meters {
		out.Usage = append(out.Usage, gen.ExpectedUsage{Meter: m.Key, Used: period.Used(m), Expected: expected.Used(m)})
	}
	if out.SoFar, err = rated(period, credits, catalog); err == nil {
		out.Expected, err = rated(expected, credits, catalog)
	}
	return gen.GetBill200JSONResponse(out), err
}

func rated(p billing.OrganizationPeriod, credits []billing.CreditGrant, catalog *plans.Catalog) (gen.ExplainedStatement, error) {
	s, err := billing.Rate(billing.Ratable{OrganizationPeriod: p, Credits: credits}, catalog)
	if err != nil {
		return gen.ExplainedStatement{}, err
	}
	return explained(s), nil
}

// comparable returns a plan that a caller may see the prices of.
func (s *Server) comparable(ctx context.Context, id uuid.UUID, key string, catalog *plans.Catalog) (plans.Plan, error) {
	p, ok := catalog.Plan(key)
	if ok && principalOf(ctx).role == roleTenant && !p.SelfService {
		o, err := s.config.Store.Organization(ctx, id)
		if err != nil {
			return plans.Plan{}, err
		}
		ok = o.Plan == key
	}
	if !ok {
		return plans.Plan{}, invalid("plan", "must be one of GET /api/v1/organizations/{id}/plans, %q is not", key)
	}
	return p, nil
}

// explained is a statement with the arithmetic of its lines.
func explained(s billing.Statement) gen.ExplainedStatement {
	out := gen.ExplainedStatement{Statement: s, Explanation: [][]string{}}
	for _, line := range s.Lines {
		out.Explanation = append(out.Explanation, line.Explain(s.Currency))
	}
	return out
}

// ListOrganizationPlans answers with the plans that an organization has or may change to.
func (s *Server) ListOrganizationPlans(ctx context.Context, request gen.ListOrganizationPlansRequestObject) (gen.ListOrganizationPlansResponseObject, error) {
	ctx = requestContext(ctx)
	if principalOf(ctx).mayActFor(request.Id) != nil {
		return nil, errWrongTenant
	}
	o, err := s.config.Store.Organization(ctx, request.Id)
	if err != nil {
		return nil, err
	}
	catalog, err := s.config.Store.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	out := gen.ListOrganizationPlans200JSONResponse{Meters: catalog.Meters, Plans: []gen.Plan{}}
	for _, p := range catalog.InForce() {
		if p.SelfService || p.Key == o.Plan || p.Key == o.PendingPlan {
			out.Plans = append(out.Plans, planAnswer(p, catalog.Meters))
		}
	}
	return out, nil
}

// ListIssuedStatements answers with an organization's issued statements.
func (s *Server) ListIssuedStatements(ctx context.Context, request gen.ListIssuedStatementsRequestObject) (gen.ListIssuedStatementsResponseObject, error) {
	ctx = requestContext(ctx)
	caller := principalOf(ctx)
	if caller.mayActFor(request.Id) != nil {
		return nil, errWrongTenant
	}
	limit, err := pageLimit(request.Params.Limit)
	if err != nil {
		return nil, err
	}
	if _, err := s.config.Store.Organization(ctx, request.Id); err != nil {
		return nil, err
	}
	found, err := s.config.Store.OrganizationStatements(ctx, request.Id, limit)
	s.charge(caller, len(found)*costEvent)
	return gen.ListIssuedStatements200JSONResponse{Statements: answersOf(found, explained)}, err
}
