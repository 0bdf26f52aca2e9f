package sinks_test

import (
	"testing"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/money"
	"github.com/riverline/tollgate/sinks"
)

func aStatement(number string, currency money.Currency, amounts ...string) sinks.Statement {
	s := sinks.Statement{Number: number, Currency: currency}
	for i, amount := range amounts {
		s.Lines = append(s.Lines, sinks.Line{Position: i + 1, Amount: decimal.RequireFromString(amount)})
	}
	return s
}

func TestToDeliver(t *testing.T) {
	t.Parallel()
	before := aStatement("TG-1", "USD", "200", "49")
	for name, c := range map[string]struct {
		issued sinks.Issued
		state  sinks.State
		due    string
		says   string
	}{
		"whole":            {sinks.Issued{Statement: aStatement("TG-1", "USD", "1.10", "2"), Customer: "c"}, "", "3.1", ""},
		"balanced":         {sinks.Issued{Statement: aStatement("TG-1", "USD", "5", "-5"), Customer: "c"}, "", "0", ""},
		"delivered":        {sinks.Issued{Statement: aStatement("TG-1", "USD", "1"), Customer: "c", ExternalID: "in_1"}, sinks.Delivered, "0", ""},
		"nobody":           {sinks.Issued{Statement: aStatement("TG-1", "USD", "1")}, sinks.NoCustomer, "0", ""},
		"nothing":          {sinks.Issued{Statement: aStatement("TG-1", "USD", "0", "0.00"), Customer: "c"}, sinks.NothingDue, "0", ""},
		"nothing, nobody":  {sinks.Issued{Statement: aStatement("TG-1", "USD")}, sinks.NothingDue, "0", ""},
		"more":             {sinks.Issued{Statement: aStatement("TG-2", "USD", "264"), Customer: "c", Replaces: &before}, "", "15", ""},
		"less":             {sinks.Issued{Statement: aStatement("TG-2", "USD"), Customer: "c", Replaces: &before}, "", "-249", ""},
		"the same":         {sinks.Issued{Statement: aStatement("TG-2", "USD", "249.00"), Customer: "c", Replaces: &before}, sinks.Unchanged, "0", ""},
		"the same, nobody": {sinks.Issued{Statement: aStatement("TG-2", "USD", "249.00"), Replaces: &before}, sinks.Unchanged, "0", ""},
		"more, nobody":     {sinks.Issued{Statement: aStatement("TG-2", "USD", "250"), Replaces: &before}, sinks.NoCustomer, "0", ""},
		"another currency": {sinks.Issued{Statement: aStatement("TG-2", "EUR", "249"), Customer: "c", Replaces: &before}, sinks.Failed, "0", "was delivered in USD and not in EUR"},
	} {
		due, state, err := c.issued.ToDeliver()
		require.Equal(t, c.state, state, name)
		require.Equal(t, c.due, due.Due().String(), name)
		if c.says == "" {
			require.NoError(t, err, name)
		} else {
			require.ErrorContains(t, err, c.says, name)
		}
	}
}

// Who gets the invoice sees what it is the difference of.
func TestSince(t *testing.T) {
	t.Parallel()
	due, err := aStatement("TG-R2-1", "USD", "264").Since(aStatement("TG-1", "USD", "200", "49"))
	require.NoError(t, err)
	require.Equal(t, "TG-R2-1", due.Number)
	require.Len(t, due.Lines, 1)
	require.Equal(t, "Statement TG-R2-1 replaces TG-1: 264.00 − 249.00", due.Lines[0].Description)
	require.Equal(t, 1, due.Lines[0].Position)
}

func TestCountsAdd(t *testing.T) {
	t.Parallel()
	one := sinks.Counts{Delivered: 1, NoCustomer: 2, NothingDue: 3, Unchanged: 4, Failed: 5, Pending: 6}
	require.Equal(t, sinks.Counts{Delivered: 2, NoCustomer: 4, NothingDue: 6, Unchanged: 8, Failed: 10, Pending: 12}, one.Add(one))
	require.Len(t, sinks.States(), 6)
}
