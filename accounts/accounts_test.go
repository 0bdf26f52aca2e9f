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
	for _, good := range []string{"Ærø Analytics, Inc.", "日本", "می\u200cخواهم", "👩\u200d💻", "x\u200b", "\u2764\ufe0f", "·"} {
		require.NoError(t, accounts.ValidateName("name", good), "%q", good)
	}
	for _, bad := range []string{
		"", "   ", strings.Repeat("x", 201), "two\nlines", "bell\x07", "\u200b", "\u200b \u2060\ufeff", "\u00ad", "\u3164", "\u2800\u2800",
		"\u202e\u202c", "\ufe0f", "\u034f", "\U000e0041", "\u3000", "\u00a0", "next\u0085line", "next\u2028line", "\ufffd",
	} {
		err := accounts.ValidateName("name", bad)
		require.ErrorIs(t, err, fault.ErrInvalid, "%q", bad)
		require.ErrorContains(t, err, "name must", "%q", bad)
	}
}
