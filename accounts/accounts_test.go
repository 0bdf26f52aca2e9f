package accounts_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/fault"
)

func TestSecrets(t *testing.T) {
	seen := map[string]bool{}
	for _, role := range []accounts.Role{accounts.RoleTenant, accounts.RoleFinance, accounts.RoleAdmin} {
		for range 100 {
			secret := accounts.NewSecret(role)
			require.False(t, seen[secret])
			seen[secret] = true
			require.True(t, strings.HasPrefix(secret, "tg_"+string(role)+"_"))
			require.Len(t, strings.TrimPrefix(secret, "tg_"+string(role)+"_"), 43, "256 bits in base64url")

			prefix := accounts.SecretPrefix(secret)
			require.True(t, strings.HasPrefix(secret, prefix))
			require.LessOrEqual(t, len(prefix), len("tg_"+string(role)+"_")+4, "at most 24 bits are shown")
			require.NotEqual(t, accounts.HashSecret(secret), accounts.HashSecret(secret+"x"))
		}
	}
}

func TestValidateName(t *testing.T) {
	require.NoError(t, accounts.ValidateName("name", "Ærø Analytics, Inc."))
	for _, bad := range []string{"", "   ", strings.Repeat("x", 201), "two\nlines", "bell\x07"} {
		err := accounts.ValidateName("name", bad)
		require.ErrorIs(t, err, fault.ErrInvalid, "%q", bad)
		require.ErrorContains(t, err, "name must", "%q", bad)
	}
}
