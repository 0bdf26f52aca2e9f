package api

import (
	"context"

	"github.com/google/uuid"

	"github.com/riverline/tollgate/api/gen"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/meter"
	"github.com/riverline/tollgate/plans"
)

// maxDays is the longest range of days that one request may ask for: three years.
const maxDays = 1096

// GetUsage answers with where each meter stands.
func (s *Server) GetUsage(ctx context.Context, request gen.GetUsageRequestObject) (gen.GetUsageResponseObject, error) {
	ctx = requestContext(ctx)
	id, err := usageOrganization(ctx, request.Params.OrganizationId)
	if err != nil {
		return nil, err
	}
	now := s.config.Now()
	organization, err := s.config.Meter.Organization(ctx, id, now)
	if err != nil {
		return nil, err
	}
	organization.Look(ctx, now)
	out := gen.GetUsage200JSONResponse{OrganizationId: id, Plan: organization.Plan().Key, Meters: []gen.MeterUsage{}}
	for i := range s.config.Meter.Catalog().Meters {
		out.Meters = append(out.Meters, meterUsage(organization.Usage(meter.Index(i), now)))
	}
	return out, nil
}

func meterUsage(u meter.Usage) gen.MeterUsage {
	out := gen.MeterUsage{
		Meter: u.Meter.Key, Unit: u.Meter.Unit, Aggregation: u.Meter.Aggregation,
		Mode: u.Entitlement.Mode, Current: u.Current, Held: u.Held, Pending: u.Pending, Window: u.Window, OverLimit: u.OverLimit(),
	}
	if u.Entitlement.Mode != plans.Unlimited {
		remaining := u.Remaining()
		out.Max, out.Remaining = &u.Entitlement.Max, &remaining
	}
	return out
}

// usageOrganization says whose usage a caller wants, and whether it may see it.
func usageOrganization(ctx context.Context, asked *uuid.UUID) (uuid.UUID, error) {
	p := principalOf(ctx)
	switch {
	case asked != nil:
		return *asked, p.mayActFor(*asked)
	case p.role == roleTenant:
		return p.organization, nil
	default:
		return uuid.Nil, invalid("organization_id", "must be given: the key belongs to no organization")
	}
}

// GetUsageHistory answers with one meter's past, by day or month.
func (s *Server) GetUsageHistory(ctx context.Context, request gen.GetUsageHistoryRequestObject) (gen.GetUsageHistoryResponseObject, error) {
	ctx = requestContext(ctx)
	in := request.Params
	id, err := usageOrganization(ctx, in.OrganizationId)
	if err != nil {
		return nil, err
	}
	from, to, err := dayRange(in.From, in.To)
	if err != nil {
		return nil, err
	}
	m, _, ok := s.config.Meter.Catalog().Meter(in.Meter)
	if !ok {
		return nil, s.unknownMeter(&usageNames)
	}
	granularity, err := oneOf("granularity", in.Granularity, "day", "month")
	if err != nil {
		return nil, err
	}
	if p := principalOf(ctx); p.role != roleTenant {
		// The history of an organization that isn't there would be empty, not unknown.
		if _, err := s.config.Store.Organization(ctx, id); err != nil {
			return nil, err
		}
	}
	records, err := s.config.Store.UsageRange(ctx, id, from, to, m.Key)
	if err != nil {
		return nil, err
	}
	s.charge(principalOf(ctx), len(records)*costItem)
	return gen.GetUsageHistory200JSONResponse{
		OrganizationId: id, Meter: m.Key, Unit: m.Unit, Aggregation: m.Aggregation,
		Granularity: granularity, From: from, To: to, Points: points(records, m.Aggregation, granularity),
	}, nil
}

// points folds records, which are in the order of the day.
func points(records []billing.UsageRecord, aggregation plans.Aggregation, granularity string) []gen.UsagePoint {
	out := []gen.UsagePoint{}
	for _, r := range records {
		start := r.Day
		if granularity == "month" {
			start = r.Day.Month()
		}
		if last := len(out) - 1; last >= 0 && out[last].Start == start {
			out[last].Value = aggregation.Fold(out[last].Value, r.Value)
			continue
		}
		out = append(out, gen.UsagePoint{Start: start, Value: r.Value})
	}
	return out
}

// dayRange reads a range of days, both included.
func dayRange(fromText, toText string) (from, to calendar.Day, err error) {
	if from, err = day("from", fromText); err != nil {
		return 0, 0, err
	}
	if to, err = day("to", toText); err != nil {
		return 0, 0, err
	}
	if to < from {
		return 0, 0, invalid("to", "must not be before from")
	}
	if to-from >= maxDays {
		return 0, 0, invalid("to", "must be at most %d days after from", maxDays-1)
	}
	return from, to, nil
}

func day(field, text string) (calendar.Day, error) {
	d, err := calendar.ParseDay(text)
	if err != nil {
		return 0, invalid(field, "must be a day of the form YYYY-MM-DD, %q is not", text)
	}
	return d, nil
}

// oneOf returns a parameter's value, or the first of those that it may have.
func oneOf(field string, given *string, allowed ...string) (string, error) {
	if given == nil {
		return allowed[0], nil
	}
	for _, a := range allowed {
		if *given == a {
			return a, nil
		}
	}
	return "", invalid(field, "must be %s or %s, %q is neither", allowed[0], allowed[1], *given)
}
