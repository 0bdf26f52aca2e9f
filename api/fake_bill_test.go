package api

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

func (s *fakeStore) OpenPeriod(ctx context.Context, id uuid.UUID, period calendar.Period, cut time.Time, meters []plans.Meter) (billing.OpenPeriod, error) {
	o, err := s.Organization(ctx, id)
	if err != nil {
		return billing.OpenPeriod{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	records := slices.DeleteFunc(slices.Clone(s.records), func(r billing.UsageRecord) bool { return r.Organization != id })
	return billing.OpenPeriod{
		Organization: id, OrganizationName: o.Name, Currency: money.Currency(o.Currency), Period: period, Cut: cut, Meters: meters, Records: records,
		Terms: []billing.Segment{{Start: period.Start(), End: cut, Plan: plans.Plan{Key: o.Plan, Version: 1}}},
	}, nil
}

func (s *fakeStore) OrganizationStatements(_ context.Context, id uuid.UUID, limit int) ([]billing.Statement, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := slices.DeleteFunc(slices.Clone(s.close.statements), func(one billing.Statement) bool { return one.Organization != id || one.Number == "" })
	return found[:min(limit, len(found))], s.err
}
