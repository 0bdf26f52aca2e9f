package pgstore_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/fault"
	"github.com/riverline/tollgate/sinks"
)

func TestCustomers(t *testing.T) {
	t.Parallel()
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
	var field *fault.FieldError
	require.ErrorAs(t, err, &field)
	require.Equal(t, "external_id", field.Field)
	require.ErrorIs(t, put(uuid.Max, sinks.Stripe, "cus_x"), fault.ErrNotFound)
}
