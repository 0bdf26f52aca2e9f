package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/accounts"
	"github.com/riverline/tollgate/fault"
)

// TestKeysOfPeopleNeedTheStore holds that a key of finance or of an administrator works for a minute
// at most that nobody confirms, and is never answered with 401 for it.
func TestKeysOfPeopleNeedTheStore(t *testing.T) {
	for _, role := range []string{"finance", "admin"} {
		t.Run(role, func(t *testing.T) {
			r := newRig(t)
			remote := "192.0.2.7:1000"
			ask := func() error {
				_, err := r.server.keys.principal(t.Context(), r.secrets[role], remote, r.Now())
				return err
			}
			require.NoError(t, ask())
			r.store.fail(awayError{})
			r.advance(staffBound - time.Second)
			require.NoError(t, ask(), "a short fault is none of theirs")
			r.advance(time.Second)
			for range 3 {
				require.ErrorIs(t, ask(), errKeyUnconfirmed)
				r.problem(503, "unavailable", role, "GET", "/api/v1/plans", "")
				r.advance(time.Hour)
			}
			r.store.fail(nil)
			require.NoError(t, ask(), "it works again with the store")

			r.store.fail(awayError{})
			r.advance(time.Hour)
			require.ErrorIs(t, ask(), errKeyUnconfirmed)
			r.store.fail(nil)
			require.NoError(t, r.store.RevokeKey(t.Context(), r.keyIDs[role]))
			r.advance(confirmAfter)
			require.ErrorIs(t, ask(), errNoKey, "revoked meanwhile")
		})
	}
}

// TestKeysThatArePastConfirmingCostTheStoreLittle holds that it isn't asked at each request.
func TestKeysThatArePastConfirmingCostTheStoreLittle(t *testing.T) {
	r := newRig(t)
	require.Equal(t, 200, r.do("admin", "GET", "/api/v1/keys", "").Code)
	lookups := 0
	r.server.keys.find = func(context.Context, accounts.SecretHash) (accounts.Key, error) {
		lookups++
		return accounts.Key{}, awayError{}
	}
	r.advance(time.Hour)
	for range 100 {
		r.problem(503, "unavailable", "admin", "GET", "/api/v1/keys", "")
	}
	require.Equal(t, 1, lookups)
}

// TestTenantsKeysHaveTheBoundThatIsSet holds that past it the answer is neither 401 nor 402.
func TestTenantsKeysHaveTheBoundThatIsSet(t *testing.T) {
	r := newRig(t, func(c *Config) { c.KeysAway = 2 * time.Hour })
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`).Code)
	r.store.fail(awayError{})
	r.advance(2*time.Hour - time.Second)
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`).Code)
	r.advance(time.Second)
	r.problem(503, "unavailable", "free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`)
	r.store.fail(nil)
	r.advance(confirmAfter)
	require.Equal(t, 200, r.do("free", "POST", "/api/v1/usage", `{"meter":"evaluations"}`).Code)
}

// madeUp is a secret that is no key's: the n-th of those that begin alike.
func madeUp(prefix string, n int) string { return fmt.Sprintf("tg_tenant_%s%039d", prefix, n) }

func TestSecretsThatBeginAlikeAreLookedUpOnce(t *testing.T) {
	r := newRig(t)
	for n := range 50 {
		_, err := r.server.keys.principal(t.Context(), madeUp("AAAA", n), "192.0.2.7:1", noon)
		require.ErrorIs(t, err, errNoKey)
	}
	require.Equal(t, 1, r.store.lookups)
	r.advance(unknownFor)
	_, err := r.server.keys.principal(t.Context(), madeUp("AAAA", 51), "192.0.2.7:1", r.Now())
	require.ErrorIs(t, err, errNoKey)
	require.Equal(t, 2, r.store.lookups)

	// One that begins as a key does is no reason to refuse the key.
	free := r.secrets["free"]
	_, err = r.server.keys.principal(t.Context(), free[:len(free)-1]+"-", "192.0.2.7:1", r.Now())
	require.ErrorIs(t, err, errNoKey)
	require.Equal(t, 200, r.do("free", "GET", "/api/v1/usage", "").Code)
}

// TestMadeUpKeysAreLimitedByAddress holds that who makes keys up takes nothing from others: not from
// those at other addresses, nor from keys that are in memory.
func TestMadeUpKeysAreLimitedByAddress(t *testing.T) {
	for name, c := range map[string]struct{ one, same, other string }{
		"version 4":          {"192.0.2.7:1000", "192.0.2.7:2000", "192.0.2.8:1000"},
		"version 6":          {"[2001:db8:1:2::3]:1", "[2001:db8:1:2:ffff::]:1", "[2001:db8:1:3::3]:1"},
		"version 4 within 6": {"[::ffff:192.0.2.7]:1", "192.0.2.7:1", "[::ffff:192.0.2.8]:1"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			ask := func(secret, remote string) error {
				_, err := r.server.keys.principal(t.Context(), secret, remote, r.Now())
				return err
			}
			require.NoError(t, ask(r.secrets["pro"], c.one))
			wrong := 0
			for ; wrong < 10*wrongBurst; wrong++ {
				if err := ask(accounts.NewSecret(roleTenant), c.one); err != nil {
					if errors.Is(err, errTooManyUnknownKeys) {
						break
					}
					require.ErrorIs(t, err, errNoKey)
				}
			}
			require.Equal(t, wrongBurst, wrong)
			lookups := r.store.lookups
			require.ErrorIs(t, ask(accounts.NewSecret(roleTenant), c.same), errTooManyUnknownKeys)
			require.ErrorIs(t, ask(r.secrets["free"], c.same), errTooManyUnknownKeys, "nobody can tell it from those that are made up")
			require.Equal(t, lookups, r.store.lookups)
			require.NoError(t, ask(r.secrets["pro"], c.same), "it is in memory")
			require.NoError(t, ask(r.secrets["free"], c.other))
			r.advance(time.Second)
			require.ErrorIs(t, ask(accounts.NewSecret(roleTenant), c.one), errNoKey, "a while later some are looked up again")
		})
	}
}

func TestTooManyUnknownKeysIsAnswered(t *testing.T) {
	r := newRig(t)
	for {
		a := r.do("", "GET", "/api/v1/usage", "", "Authorization", "Bearer "+accounts.NewSecret(roleTenant))
		if a.Code == http.StatusUnauthorized {
			continue
		}
		require.Equal(t, http.StatusTooManyRequests, a.Code)
		require.Equal(t, "too_many_unknown_keys", a.json()["error"])
		require.Equal(t, "1", a.Header().Get("Retry-After"))
		return
	}
}

// TestAFloodOfUnknownKeysLeavesRechecksTheirConnections holds every look-up of made-up keys, and
// sees keys that are in memory looked up again all the same.
func TestAFloodOfUnknownKeysLeavesRechecksTheirConnections(t *testing.T) {
	const lookups = 3
	r := newRig(t, func(c *Config) { c.KeyLookups = lookups })
	require.Equal(t, 200, r.do("admin", "GET", "/api/v1/keys", "").Code)
	asking, held := make(chan struct{}, 100), make(chan struct{})
	find := r.server.keys.find
	known := accounts.HashSecret(r.secrets["admin"])
	r.server.keys.find = func(ctx context.Context, hash accounts.SecretHash) (accounts.Key, error) {
		if hash == known {
			return find(ctx, hash)
		}
		asking <- struct{}{}
		<-held
		return accounts.Key{}, fault.ErrNotFound
	}
	ended := make(chan error, 10*lookups)
	for n := range 10 * lookups {
		go func() {
			_, err := r.server.keys.principal(context.Background(), accounts.NewSecret(roleTenant), fmt.Sprintf("192.0.2.%d:1", n), noon)
			ended <- err
		}()
	}
	for range lookups {
		<-asking
	}
	r.advance(time.Hour)
	require.Equal(t, 200, r.do("admin", "GET", "/api/v1/keys", "").Code, "it is confirmed meanwhile")
	require.Empty(t, asking, "no more of them are looked up at once")
	close(held)
	for range 10 * lookups {
		require.Error(t, <-ended)
	}
}

func TestStrangersAreFewCallers(t *testing.T) {
	seen := map[uuid.UUID]bool{}
	for n := range 1000 {
		seen[strangerAt(fmt.Sprintf("10.0.%d.%d:1", n/250, n%250))] = true
	}
	require.Len(t, seen, strangers)
	require.Equal(t, strangerAt("192.0.2.7:1"), strangerAt("192.0.2.7:2"))
}
