package pgstore_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/sinks"
)

func TestCustomers(t *testing.T) {
	f := newFixture(t)
	a, b, c := f.organization("Acme", "free").ID, f.organization("Bolt", "pro").ID, f.organization("Crow", "pro").ID
	put := func(organization uuid.UUID, sink, id string) error {
		return f.PutCustomer(t.Context(), sinks.Customer{Organization: organization, Sink: sink, ExternalID: id})
	}
	require.NoError(t, put(a, sinks.Stripe, "cus_old"))
	require.NoError(t, put(a, sinks.Stripe, "cus_a"))
	require.NoError(t, put(a, sinks.Stripe, "cus_a"), "again is nothing new")
	require.NoError(t, put(b, sinks.Stripe, "cus_old"), "what was replaced is free")
	require.NoError(t, put(b, "elsewhere", "cus_a"), "each sink has identities of its own")

	err := put(c, sinks.Stripe, "cus_a")
	var field *accounts.FieldError
	require.ErrorAs(t, err, &field)
	require.Equal(t, "external_id", field.Field)
	require.ErrorIs(t, put(uuid.Max, sinks.Stripe, "cus_x"), accounts.ErrNotFound)

	found, err := f.Customers(t.Context(), sinks.Stripe, []uuid.UUID{a, b, c, uuid.Max})
	require.NoError(t, err)
	require.Equal(t, map[uuid.UUID]string{a: "cus_a", b: "cus_old"}, found)
	found, err = f.Customers(t.Context(), sinks.Stripe, nil)
	require.NoError(t, err)
	require.Empty(t, found)
}

func TestDeliveries(t *testing.T) {
	f := newFixture(t)
	a, b := f.organization("Acme", "free").ID, f.organization("Bolt", "pro").ID
	e := f.beginExport(billing.PeriodOf(today.Start()), "run")
	require.NoError(t, f.MarkDelivered(t.Context(), e.ID, a, sinks.Stripe, "in_1"))
	require.NoError(t, f.MarkDelivered(t.Context(), e.ID, a, sinks.Stripe, "in_2"), "what was recorded stays")
	require.NoError(t, f.MarkDelivered(t.Context(), e.ID, b, "elsewhere", "x"))
	require.Error(t, f.MarkDelivered(t.Context(), uuid.Max, a, sinks.Stripe, "in_3"), "there is no such export")

	found, err := f.Deliveries(t.Context(), e.ID, sinks.Stripe, []uuid.UUID{a, b})
	require.NoError(t, err)
	require.Equal(t, map[uuid.UUID]string{a: "in_1"}, found)
	found, err = f.Deliveries(t.Context(), uuid.Max, sinks.Stripe, []uuid.UUID{a, b})
	require.NoError(t, err)
	require.Empty(t, found)
}
