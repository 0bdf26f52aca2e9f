package accounts_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/accounts"
)

// TestTwoKeysOfOnePersonAreOnePerson makes keys by random people with random keys, and holds that
// nobody who owns one, or has made it or a key on its way, counts as somebody else.
func TestTwoKeysOfOnePersonAreOnePerson(t *testing.T) {
	people := []string{"ada", "ben", "cem", "dia"}
	rapid.Check(t, func(t *rapid.T) {
		type made struct {
			bearer accounts.Bearer
			// knows are those who have had the secret, or that of a key on its way.
			knows map[string]bool
		}
		var keys []made
		for range rapid.IntRange(2, 8).Draw(t, "keys") {
			owner := rapid.SampledFrom(people).Draw(t, "owner")
			k := made{accounts.Bearer{Key: accounts.Key{ID: uuid.New(), Owner: owner}}, map[string]bool{owner: true}}
			if rapid.Bool().Draw(t, "upper") {
				k.bearer.Owner = strings.ToUpper(owner)
			}
			if len(keys) > 0 && rapid.Bool().Draw(t, "made") {
				by := rapid.SampledFrom(keys).Draw(t, "by")
				k.bearer.MadeBy = by.bearer.ID
				k.bearer.Makers = append([]string{by.bearer.Owner}, by.bearer.Makers...)
				for person := range by.knows {
					k.knows[person] = true
				}
			}
			keys = append(keys, k)
		}
		a, b := rapid.SampledFrom(keys).Draw(t, "a"), rapid.SampledFrom(keys).Draw(t, "b")
		one := a.knows[strings.ToLower(b.bearer.Owner)] || b.knows[strings.ToLower(a.bearer.Owner)]
		if got := accounts.SamePerson(a.bearer, b.bearer); got != one {
			t.Fatalf("SamePerson is %t, wanted %t: %+v, %+v", got, one, a.bearer, b.bearer)
		}
		if accounts.SamePerson(a.bearer, b.bearer) != accounts.SamePerson(b.bearer, a.bearer) {
			t.Fatal("it is not the same the other way round")
		}
	})
}

func TestWhoMayDecide(t *testing.T) {
	revoked := time.Now()
	key := accounts.Bearer{Key: accounts.Key{ID: uuid.New(), Role: accounts.RoleFinance, Owner: "ada"}}
	require.NoError(t, key.MayDecide(accounts.RoleFinance))
	require.ErrorIs(t, key.MayDecide(accounts.RoleAdmin), accounts.ErrNoActor)
	key.RevokedAt = &revoked
	require.ErrorIs(t, key.MayDecide(accounts.RoleFinance), accounts.ErrNoActor)
	require.ErrorIs(t, accounts.Bearer{}.MayDecide(""), accounts.ErrNoActor)
}
