package postgrestest_test

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/pgtest"
)

// allow publishes a plan with a daily limit of evaluations, and makes an organization on it.
func (f *fleet) allow(plan string, limit int) (id, key string) {
	f.t.Helper()
	f.limit(plan, limit)
	for _, r := range f.replicas {
		require.Eventually(f.t, func() bool {
			status, _ := r.call(f.admin, http.MethodGet, "/api/v1/plans/"+plan+"/versions", "")
			return status == http.StatusOK
		}, 30*time.Second, 5*time.Millisecond)
	}
	return f.replicas[0].tenant(f.admin, plan, plan)
}

func (f *fleet) limit(plan string, limit int) {
	f.t.Helper()
	status, answer := f.replicas[0].call(f.admin, http.MethodPut, "/api/v1/plans", fmt.Sprintf(
		`{"key":%q,"name":%q,"entitlements":[{"meter":"evaluations","mode":"hard","window":"day","max":%d}]}`, plan, plan, limit))
	require.Equal(f.t, http.StatusOK, status, answer)
}

// refusedEverywhere holds that no replica takes a quantity, and that each says so with the same figures.
func (f *fleet) refusedEverywhere(key string, quantity int, want figures) {
	f.t.Helper()
	for i, r := range f.replicas {
		status, answer := r.use(key, "evaluations", strconv.Itoa(quantity))
		require.Equal(f.t, http.StatusPaymentRequired, status, "replica %d: %v", i, answer)
		require.Equal(f.t, want, figuresOf(answer), "replica %d", i)
	}
}

// TestWhatUsersOfOtherLimitersReported tries on three replicas what was reported of limiters that
// keep counts in each process and tell the others.
func TestWhatUsersOfOtherLimitersReported(t *testing.T) {
	f := newFleet(t, "free")
	next := func(i int) *replica { return f.replicas[i%len(f.replicas)] }

	t.Run("a limit of one, whoever is asked (gubernator 208)", func(t *testing.T) {
		_, key := f.allow("one", 1)
		admitted := 0
		for i := range 12 {
			if status, _ := next(i).use(key, "evaluations", "1"); status == http.StatusOK {
				admitted++
			}
		}
		require.Equal(t, 1, admitted)
		f.refusedEverywhere(key, 1, figures{current: 1})
	})

	t.Run("more than remains takes nothing of it (gubernator 20)", func(t *testing.T) {
		_, key := f.allow("rest", 100)
		for i := range 30 {
			status, answer := next(i).use(key, "evaluations", "3")
			require.Equal(t, http.StatusOK, status, answer)
		}
		f.refusedEverywhere(key, 11, figures{current: 90, remaining: 10})
		status, answer := next(1).use(key, "evaluations", "10")
		require.Equal(t, http.StatusOK, status, answer)
		f.refusedEverywhere(key, 1, figures{current: 100})
	})

	t.Run("a refusal is forgotten as soon as others give back (relay 5416)", func(t *testing.T) {
		_, key := f.allow("back", 50)
		for i := range 6 {
			at, _ := next(i).hold(key, 50)
			f.refusedEverywhere(key, 1, figures{held: 50})
			status, answer := next(i+1).call(key, http.MethodDelete, at, "")
			require.Equal(t, http.StatusOK, status, answer)
			at, _ = next(i+2).hold(key, 50)
			status, answer = next(i).call(key, http.MethodDelete, at, "")
			require.Equal(t, http.StatusOK, status, answer)
		}
		// A window without room is asked for again after a quarter of a second.
		require.Eventually(t, func() bool {
			status, _, _, err := next(1).send(key, http.MethodPost, "/api/v1/usage", `{"meter":"evaluations","quantity":50}`, "")
			return err == nil && status == http.StatusOK
		}, 30*time.Second, 20*time.Millisecond)
	})

	t.Run("what can't be divided isn't lost", func(t *testing.T) {
		_, key := f.allow("sevens", 1_000)
		var admitted atomic.Int64
		var clients sync.WaitGroup
		for i := range 12 {
			clients.Go(func() {
				for refused := 0; refused < 3; {
					status, _, _, err := next(i).send(key, http.MethodPost, "/api/v1/usage", `{"meter":"evaluations","quantity":7}`, "")
					switch {
					case err == nil && status == http.StatusOK:
						admitted.Add(7)
					case err == nil && status == http.StatusPaymentRequired:
						refused++
					}
				}
			})
		}
		clients.Wait()
		// What one replica has taken and not used is handed over in a moment.
		require.LessOrEqual(t, admitted.Load(), int64(994))
		for i := 0; admitted.Load() < 994; i++ {
			require.Less(t, i, 1_000, "%d are admitted", admitted.Load())
			if status, _ := next(i).use(key, "evaluations", "7"); status == http.StatusOK {
				admitted.Add(7)
			}
			time.Sleep(10 * time.Millisecond)
		}
		for i := range 6 {
			status, answer := next(i).use(key, "evaluations", "1")
			require.Equal(t, http.StatusOK, status, answer)
		}
		f.refusedEverywhere(key, 1, figures{current: 1_000})
	})

	t.Run("a limit that is raised, lowered and raised again", func(t *testing.T) {
		_, key := f.allow("moves", 10)
		admitted := 0
		for _, limit := range []int{10, 30, 5, 0, 40} {
			f.limit("moves", limit)
			inForce := func(r *replica) bool {
				_, usage := r.call(key, http.MethodGet, "/api/v1/usage", "")
				for _, m := range usage["meters"].([]any) {
					if one := m.(map[string]any); one["meter"] == "evaluations" {
						return one["max"] == float64(limit)
					}
				}
				return false
			}
			for _, r := range f.replicas {
				require.Eventually(t, func() bool { return inForce(r) }, 30*time.Second, 5*time.Millisecond)
			}
			for i := 0; admitted < limit; i++ {
				status, answer := next(i).use(key, "evaluations", "1")
				require.Equal(t, http.StatusOK, status, answer)
				admitted++
			}
			f.refusedEverywhere(key, 1, figures{current: float64(admitted)})
		}
	})
}

// TestALimitIsOfItsOrganization uses up one organization's limit, and no other one's of the same plan
// or the same name.
func TestALimitIsOfItsOrganization(t *testing.T) {
	sameDay(t)
	database := pgtest.NewDatabase(t)
	here, there := newReplica(t, database), newReplica(t, database)
	admin := here.adminKey()
	_, one := here.tenant(admin, "Acme", "free")
	_, other := here.tenant(admin, "Acme", "free")
	for _, r := range []*replica{here, there} {
		status, answer := r.use(one, "evaluations", "500")
		require.Equal(t, http.StatusOK, status, answer)
	}
	for _, r := range []*replica{here, there} {
		status, _ := r.use(one, "evaluations", "1")
		require.Equal(t, http.StatusPaymentRequired, status)
		require.Equal(t, figures{remaining: 1_000}, r.standing(other))
		status, answer := r.use(one, "flow_executions", "1")
		require.Equal(t, http.StatusOK, status, answer)
	}
}
