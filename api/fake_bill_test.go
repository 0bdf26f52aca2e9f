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

func (f *fakeStore) OpenPeriod(ctx context.Context, id uuid.UUID, period calendar.Period, cut time.Time, meters []plans.Meter) (billing.OpenPeriod, error) {
	o, err := f.Organization(ctx, id)
	if err != nil {
		return billing.OpenPeriod{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	records := slices.DeleteFunc(slices.Clone(f.records), func(r billing.UsageRecord) bool { return r.Organization != id })
	return billing.OpenPeriod{
		Organization: id, OrganizationName: o.Name, Currency: money.Currency(o.Currency), Period: period, Cut: cut, Meters: meters, Records: records,
		Terms: []billing.Segment{{Start: period.Start(), End: cut, Plan: plans.Plan{Key: o.Plan, Version: 1}}},
	}, nil
}

func (f *fakeStore) OrganizationStatements(_ context.Context, id uuid.UUID, limit int) ([]billing.Statement, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	found := slices.DeleteFunc(slices.Clone(f.close.statements), func(s billing.Statement) bool { return s.Organization != id || s.Number == "" })
	return found[:min(limit, len(found))], f.err
}

