package postgrestest_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/riverline/tollgate/internal/pgtest"
)

// fleet is a few replicas on one database, and an organization of each of them.
type fleet struct {
	t        *testing.T
	replicas []*replica
	admin    string
	id, key  string
}

func newFleet(t *testing.T, plan string) *fleet {
	t.Helper()
	sameDay(t)
	f := &fleet{t: t}
	database := pgtest.NewDatabase(t)
	for range 3 {
		f.replicas = append(f.replicas, newReplica(t, database))
	}
	f.admin = f.replicas[0].adminKey()
	f.id, f.key = f.replicas[0].tenant(f.admin, "Acme", plan)
	return f
}

// change puts the organization on a plan, at one replica.
func (f *fleet) change(plan string) {
	f.t.Helper()
	status, answer := f.replicas[1].call(f.admin, http.MethodPatch, "/api/v1/organizations/"+f.id, `{"plan":"`+plan+`"}`)
	require.Equal(f.t, http.StatusOK, status, answer)
}

// spread uses a quantity in steps, at one replica after the other, until it is refused.
// It returns how much was admitted, and the last refusal.
func (f *fleet) spread(quantity, step int) (admitted int, refusal map[string]any) {
	f.t.Helper()
	refused := 0
	for i := 0; admitted < quantity && refused < 2*len(f.replicas); i++ {
		status, answer := f.replicas[i%len(f.replicas)].use(f.key, "evaluations", strconv.Itoa(min(step, quantity-admitted)))
		switch status {
		case http.StatusOK:
			admitted += min(step, quantity-admitted)
		case http.StatusPaymentRequired:
			refused++
			refusal = answer
		default:
			require.Fail(f.t, "neither allowed nor refused", "%d: %v", status, answer)
		}
	}
	return admitted, refusal
}

// TestAStricterPlanCountsWhatWasUsed changes to Free (1,000 a day) with usage that no replica
// has flushed: all of it counts, at every replica, whatever the plan was.
func TestAStricterPlanCountsWhatWasUsed(t *testing.T) {
	cases := map[string]struct {
		before []int
		plans  []string
		want   int
	}{
		"soft":                    {[]int{500}, []string{"pro"}, 500},
		"soft beyond the limit":   {[]int{5_000}, []string{"pro"}, 0},
		"unlimited":               {[]int{999}, []string{"enterprise"}, 1},
		"hard, soft, hard":        {[]int{600, 300}, []string{"free", "pro"}, 100},
		"soft, hard, soft, hard":  {[]int{100, 100, 100}, []string{"pro", "free", "enterprise"}, 700},
		"nothing under the first": {[]int{0, 30}, []string{"free", "pro"}, 970},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, c.plans[0])
			used := 0
			for i, plan := range c.plans {
				if i > 0 {
					f.change(plan)
					f.settle(plan)
				}
				admitted, _ := f.spread(c.before[i], max(1, c.before[i]/6))
				require.Equal(t, c.before[i], admitted)
				used += admitted
			}
			f.change("free")
			f.settle("free")
			admitted, refusal := f.spread(2_000, 60)
			rest, refusal2 := f.spread(2_000, 1)
			if refusal2 != nil {
				refusal = refusal2
			}
			require.Equal(t, c.want, admitted+rest)
			require.EqualValues(t, used+c.want, refusal["current"], "it is not cut to the limit")
			require.EqualValues(t, 1_000, refusal["max"])
		})
	}
}

// settle waits until every replica has the plan.
func (f *fleet) settle(plan string) {
	f.t.Helper()
	for _, r := range f.replicas {
		require.Eventually(f.t, func() bool {
			_, usage := r.call(f.key, http.MethodGet, "/api/v1/usage", "")
			return usage["plan"] == plan
		}, 30*time.Second, 5*time.Millisecond)
	}
}
