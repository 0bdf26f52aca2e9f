package accounts_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/fault"
)

func TestOwnersThatLookAlikeAreOne(t *testing.T) {
	ada, err := accounts.ParseOwner("Jos\u00e9 Ada")
	require.NoError(t, err)
	for _, same := range []string{" jos\u00e9 ada", "JOSE\u0301  ADA\t", "Jos\u00e9\u00a0Ada", "\uff2aos\u00e9 Ada"} {
		owner, err := accounts.ParseOwner(same)
		require.NoError(t, err, "%q", same)
		require.True(t, accounts.SameOwner(ada, owner), "%q", same)
	}
	ben, err := accounts.ParseOwner("ben@example.com")
	require.NoError(t, err)
	require.False(t, accounts.SameOwner(ada, ben))
	require.True(t, accounts.SameOwner("", ben), "nobody knows who that is")
	for _, bad := range []string{"", " ", "\u200b", "ada\u200b", "a\u00addA", strings.Repeat("x", 201), "ada\x07"} {
		_, err := accounts.ParseOwner(bad)
		require.ErrorIs(t, err, fault.ErrInvalid, "%q", bad)
	}
}

func TestActorOfAContext(t *testing.T) {
	require.Zero(t, accounts.ActorOf(context.Background()))
	a := accounts.Actor{Key: uuid.New(), Owner: "ada", Role: accounts.RoleAdmin, Address: "192.0.2.1", RequestID: "r-1"}
	require.Equal(t, a, accounts.ActorOf(accounts.WithActor(context.Background(), a)))
}
