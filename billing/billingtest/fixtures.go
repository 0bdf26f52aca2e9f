package billingtest

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/calendar"
	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/plans"
)

// Acme and Globex are the organizations of the tests.
var (
	Acme   = uuid.MustParse("0199a000-0000-7000-8000-000000000001")
	Globex = uuid.MustParse("0199a000-0000-7000-8000-000000000002")
)

// Meters are the meters of the tests: a sum, a peak and a snapshot.
var Meters = []plans.Meter{
	{Key: "calls", Name: "Calls", Aggregation: plans.Sum, Unit: "call"},
	{Key: "seats", Name: "Seats", Aggregation: plans.Max, Unit: "seat"},
	{Key: "storage", Name: "Storage", Aggregation: plans.Last, Unit: "byte"},
}

// October is the month of the tests.
var October = calendar.PeriodOf(time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC))

// ProPlan costs 49.00, and 0.01 a call.
func ProPlan() plans.Plan {
	return plans.Plan{Key: "pro", Version: 1, Name: "Pro", PriceBooks: []plans.PriceBook{{
		Currency: "USD", BaseFee: plans.BaseFee{Amount: decimal.NewFromInt(49)},
		Prices: []plans.Price{{Meter: "calls", Model: plans.PerUnit, UnitPrice: decimal.RequireFromString("0.01")}},
	}}}
}

// CallsPlan costs a fee, and a price a call, of which some are included.
func CallsPlan(key string, version int, fee, price string, included int64, currencies ...money.Currency) plans.Plan {
	p := plans.Plan{Key: key, Version: version, Name: key}
	for _, c := range currencies {
		p.PriceBooks = append(p.PriceBooks, plans.PriceBook{
			Currency: c, BaseFee: plans.BaseFee{Amount: decimal.RequireFromString(fee), Prorate: plans.ProrateDay},
			Prices: []plans.Price{{Meter: "calls", Model: plans.PerUnit, UnitPrice: decimal.RequireFromString(price), Included: included, Prorate: plans.ProrateDay}},
		})
	}
	return p
}

// The plans of dry runs, which have a price in some currencies.
var (
	Free = CallsPlan("free", 1, "0", "0", 0, "USD", "EUR", "JPY")
	Pro1 = CallsPlan("pro", 1, "31", "0.01", 1000, "USD", "EUR", "JPY")
	Pro2 = CallsPlan("pro", 2, "62", "0.01", 1000, "USD", "EUR", "JPY")
	// Pro3 is proposed: the published ones are in [Published].
	Pro3 = CallsPlan("pro", 3, "31", "0.02", 500, "USD", "JPY")
)

// Published is the catalog of the plans that are published.
var Published = &plans.Catalog{Meters: Meters, Plans: []plans.Plan{Free, Pro1, Pro2}}

// Using is a period whose plans follow each other in parts of October of the same length.
func Using(id byte, currency money.Currency, calls int64, segments ...plans.Plan) billing.OrganizationPeriod {
	o := billing.OrganizationPeriod{
		Organization: uuid.UUID{id}, OrganizationName: fmt.Sprintf("Org %d", id), Currency: currency,
		Period: October, Cut: October.End(), Meters: Meters,
	}
	length := October.End().Sub(October.Start()) / time.Duration(max(len(segments), 1))
	for i, p := range segments {
		start := October.Start().Add(time.Duration(i) * length)
		o.Segments = append(o.Segments, billing.Segment{
			Start: start, End: start.Add(length), Plan: plans.Plan{Key: p.Key, Version: p.Version},
			Usage: []billing.SegmentUsage{{Meter: "calls", Value: calls}},
		})
	}
	return o
}

// Billed rates a period under a catalog, as its export did.
func Billed(t require.TestingT, o billing.OrganizationPeriod, catalog *plans.Catalog) billing.BilledPeriod {
	s, err := billing.Rate(billing.Ratable{OrganizationPeriod: o}, catalog)
	require.NoError(t, err)
	own := s.Own()
	require.True(t, own.Equal(s.Subtotal.Decimal))
	return billing.BilledPeriod{OrganizationPeriod: o, Billed: &own}
}
