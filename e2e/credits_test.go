package e2e_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/pgtest"
	"github.com/riverline/tollgate/internal/temporaltest"
)

// TestCreditCommands goes through what finance types for prepaid credits.
func TestCreditCommands(t *testing.T) {
	t.Parallel()
	s := newPlainSystem(t, pgtest.NewDatabase(t), temporaltest.Register(t))
	s.startAPI()
	acme := s.newTenant("Acme", "pro")
	organization := acme.id.String()
	s.financeKey = s.newKey("finance")
	s.environment = append(s.environment, "TOLLGATE_KEY="+acme.key)

	type grant struct {
		ID        uuid.UUID `json:"id"`
		Remaining string    `json:"remaining"`
		Priority  int       `json:"priority"`
		ExpiresAt string    `json:"expires_at"`
	}
	var granted grant
	s.decode(s.tollgate("credit", "grant", organization, "5000.00", "--currency", "USD", "--note", "Order 4711",
		"--priority", "10", "--expires-at", "2099-01-01T00:00:00Z"), &granted)
	require.Equal(t, grant{ID: granted.ID, Remaining: "5000.00", Priority: 10, ExpiresAt: "2099-01-01T00:00:00Z"}, granted)

	var list struct {
		Balances []map[string]string `json:"balances"`
		Grants   []grant             `json:"grants"`
	}
	s.decode(s.tollgate("credit", "list", organization), &list)
	require.Equal(t, []map[string]string{{"currency": "USD", "remaining": "5000.00", "usable": "5000.00"}}, list.Balances)
	require.Equal(t, []grant{granted}, list.Grants)

	s.decode(s.tollgate("credit", "void", granted.ID.String(), "--note", "Granted twice"), &granted)
	require.Equal(t, "0.00", granted.Remaining)
	var entries []struct {
		Kind   string `json:"kind"`
		Amount string `json:"amount"`
	}
	s.decode(s.tollgate("credit", "entries", organization), &entries)
	require.Len(t, entries, 2)
	require.Equal(t, "void", entries[1].Kind)
	require.Equal(t, "5000.00", entries[1].Amount)

	for _, wrong := range []struct {
		args []string
		says string
	}{
		{[]string{"credit", "grant", organization, "0.001", "--currency", "USD", "--note", "x"}, "amount must be more than 0"},
		{[]string{"credit", "grant", organization, "5", "--currency", "usd", "--note", "x"}, "currency must be an ISO 4217 code"},
		{[]string{"credit", "grant", organization, "5", "--note", "x"}, "--currency"},
		{[]string{"credit", "void", uuid.NewString(), "--note", "x"}, "404"},
	} {
		out, err := s.try(wrong.args...)
		require.Error(t, err, "%v", wrong.args)
		require.Contains(t, out, wrong.says, "%v", wrong.args)
	}
}
