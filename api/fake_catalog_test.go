package api

import (
	"context"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

func (s *fakeStore) UsageRange(ctx context.Context, organization uuid.UUID, from, to calendar.Day, meterKey string) (found []billing.UsageRecord, err error) {
	err = s.call(ctx, func() error {
		for _, r := range s.records {
			if r.Organization == organization && r.Meter == meterKey && r.Day >= from && r.Day <= to {
				found = append(found, r)
			}
		}
		return nil
	})
	return found, err
}

func (s *fakeStore) UsageRangeAll(ctx context.Context, from, to calendar.Day) (totals []billing.UsageTotal, err error) {
	err = s.call(ctx, func() error {
		for _, o := range s.organizations {
			for _, m := range s.catalog.Meters {
				t := billing.UsageTotal{Organization: o.ID, OrganizationName: o.Name, Plan: o.Plan, Meter: m.Key, Unit: m.Unit, Aggregation: m.Aggregation}
				used := false
				for _, r := range s.records {
					if r.Organization == o.ID && r.Meter == m.Key && r.Day >= from && r.Day <= to {
						t.Value, used = m.Aggregation.Fold(t.Value, r.Value), true
					}
				}
				if used {
					totals = append(totals, t)
				}
			}
		}
		return nil
	})
	return totals, err
}

func (s *fakeStore) Catalog(ctx context.Context) (found *plans.Catalog, err error) {
	err = s.call(ctx, func() error { found = s.catalog.Overlay(&plans.Catalog{}); return nil })
	return found, err
}

func (s *fakeStore) CatalogSeen(ctx context.Context) (*plans.Catalog, meter.Seen, error) {
	found, err := s.Catalog(ctx)
	return found, meter.Seen{}, err
}

func (s *fakeStore) PublishPlans(ctx context.Context, list ...plans.Plan) (kept []plans.Published, err error) {
	err = s.call(ctx, func() error {
		next := s.catalog
		for _, p := range list {
			highest, _ := next.Plan(p.Key)
			p.Version = highest.Version + 1
			if err := next.ValidatePlan(p); err != nil {
				return err
			}
			next = next.Overlay(&plans.Catalog{Plans: []plans.Plan{p}})
			kept = append(kept, plans.Published{Plan: p})
		}
		s.catalog = next
		return nil
	})
	return kept, err
}
