package billing_test

import (
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/riverline/tollgate/billing"
	"github.com/riverline/tollgate/money"
)

var creditAt = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

func amount(text string) decimal.Decimal { return decimal.RequireFromString(text) }

// grantNumbered is a grant of USD that is usable at creditAt and never expires.
func grantNumbered(n byte, remaining string, changes ...func(*billing.CreditGrant)) billing.CreditGrant {
	g := billing.CreditGrant{
		ID: uuid.UUID{15: n}, Currency: "USD", Amount: amount(remaining), Remaining: amount(remaining),
		Priority: billing.DefaultCreditPriority, EffectiveAt: creditAt.AddDate(0, -1, 0),
	}
	for _, change := range changes {
		change(&g)
	}
	return g
}

func TestBurnDown(t *testing.T) {
	t.Parallel()
	first := func(g *billing.CreditGrant) { g.Priority = 0 }
	expires := func(at time.Time) func(*billing.CreditGrant) {
		return func(g *billing.CreditGrant) { g.ExpiresAt = at }
	}
	effective := func(at time.Time) func(*billing.CreditGrant) {
		return func(g *billing.CreditGrant) { g.EffectiveAt = at }
	}
	euros := func(g *billing.CreditGrant) { g.Currency = "EUR" }
	later := creditAt.AddDate(0, 1, 0)
	for _, tt := range []struct {
		name   string
		grants []billing.CreditGrant
		due    string
		uses   string
		left   string
	}{
		{"no grants", nil, "10", "", "10"},
		{"a part of one", []billing.CreditGrant{grantNumbered(1, "25")}, "10", "1:10", "0"},
		{"all of one", []billing.CreditGrant{grantNumbered(1, "10")}, "10", "1:10", "0"},
		{"more than there is", []billing.CreditGrant{grantNumbered(1, "4"), grantNumbered(2, "5.5")}, "10", "1:4 2:5.5", "0.5"},
		{"nothing due", []billing.CreditGrant{grantNumbered(1, "4")}, "0", "", "0"},
		{"a credit note", []billing.CreditGrant{grantNumbered(1, "4")}, "-3", "", "-3"},
		{"nothing remains", []billing.CreditGrant{grantNumbered(1, "0"), grantNumbered(2, "4")}, "3", "2:3", "0"},
		{"priority", []billing.CreditGrant{grantNumbered(1, "4", expires(later)), grantNumbered(2, "4", first)}, "5", "2:4 1:1", "0"},
		{"soonest, never last", []billing.CreditGrant{
			grantNumbered(1, "4"), grantNumbered(2, "4", expires(later.AddDate(0, 1, 0))), grantNumbered(3, "4", expires(later)),
		}, "9", "3:4 2:4 1:1", "0"},
		{"effective first", []billing.CreditGrant{grantNumbered(1, "4"), grantNumbered(2, "4", effective(creditAt.AddDate(0, -2, 0)))}, "5", "2:4 1:1", "0"},
		{"ID", []billing.CreditGrant{grantNumbered(2, "4"), grantNumbered(1, "4")}, "5", "1:4 2:1", "0"},
		{"another currency", []billing.CreditGrant{grantNumbered(1, "4", euros)}, "5", "", "5"},
		{"effective just now", []billing.CreditGrant{grantNumbered(1, "4", effective(creditAt))}, "5", "1:4", "1"},
		{"not yet effective", []billing.CreditGrant{grantNumbered(1, "4", effective(creditAt.Add(1)))}, "5", "", "5"},
		{"expired just now", []billing.CreditGrant{grantNumbered(1, "4", expires(creditAt))}, "5", "", "5"},
		{"expires in a moment", []billing.CreditGrant{grantNumbered(1, "4", expires(creditAt.Add(1)))}, "5", "1:4", "1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			before := slices.Clone(tt.grants)
			uses, left := billing.BurnDown(tt.grants, amount(tt.due), "USD", creditAt)
			got := ""
			for i, u := range uses {
				if i > 0 {
					got += " "
				}
				got += fmt.Sprintf("%d:%s", u.Grant[15], u.Amount)
			}
			require.Equal(t, tt.uses, got)
			require.Equal(t, tt.left, left.String())
			require.Equal(t, before, tt.grants, "the grants are not changed")
		})
	}
}

func drawGrants(t *rapid.T) []billing.CreditGrant {
	grants := make([]billing.CreditGrant, rapid.IntRange(0, 8).Draw(t, "grants"))
	day := func(name string) time.Time { return creditAt.AddDate(0, 0, rapid.IntRange(-2, 2).Draw(t, name)) }
	for i := range grants {
		remaining := decimal.New(rapid.Int64Range(0, 1_000).Draw(t, "remaining"), -2)
		grants[i] = grantNumbered(byte(i+1), remaining.String())
		grants[i].Currency = rapid.SampledFrom([]money.Currency{"USD", "USD", "USD", "EUR"}).Draw(t, "currency")
		grants[i].Priority = rapid.IntRange(0, 2).Draw(t, "priority")
		grants[i].EffectiveAt = day("effective")
		if rapid.Bool().Draw(t, "expires") {
			grants[i].ExpiresAt = day("expires at")
		}
	}
	return grants
}

func total(uses []billing.CreditUse) decimal.Decimal {
	sum := decimal.Zero
	for _, u := range uses {
		sum = sum.Add(u.Amount)
	}
	return sum
}

// What is used and what is left make up what is due; no grant gives more than it has, none that
// isn't usable gives anything; a grant gives only where those before it gave all.
func TestBurnDownLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		grants := drawGrants(t)
		due := decimal.New(rapid.Int64Range(-500, 4_000).Draw(t, "due"), -2)
		uses, left := billing.BurnDown(grants, due, "USD", creditAt)
		require.True(t, total(uses).Add(left).Equal(due), "conservation")

		taken := map[uuid.UUID]decimal.Decimal{}
		for _, u := range uses {
			require.Positive(t, u.Amount.Sign())
			require.NotContains(t, taken, u.Grant, "a grant is used once")
			taken[u.Grant] = u.Amount
		}
		sorted := slices.Clone(grants)
		slices.SortFunc(sorted, billing.CompareCreditGrants)
		open := due
		order := []uuid.UUID{}
		for _, g := range sorted {
			want := decimal.Zero
			if g.Currency == "USD" && !g.EffectiveAt.After(creditAt) && (g.ExpiresAt.IsZero() || g.ExpiresAt.After(creditAt)) && open.Sign() > 0 {
				want = decimal.Min(open, g.Remaining)
			}
			require.True(t, want.Equal(taken[g.ID]), "grant %s gives %s, not %s", g.ID, taken[g.ID], want)
			open = open.Sub(want)
			if want.Sign() > 0 {
				order = append(order, g.ID)
			}
		}
		for i, u := range uses {
			require.Equal(t, order[i], u.Grant, "order")
		}

		shuffled := slices.Clone(grants)
		rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed"))).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		again, leftAgain := billing.BurnDown(shuffled, due, "USD", creditAt)
		require.Equal(t, uses, again, "whatever the order of the input")
		require.True(t, left.Equal(leftAgain))

		more, _ := billing.BurnDown(grants, due.Add(decimal.New(rapid.Int64Range(0, 500).Draw(t, "more"), -2)), "USD", creditAt)
		require.GreaterOrEqual(t, len(more), len(uses), "more due uses no fewer grants")
		for i, u := range uses {
			require.Equal(t, u.Grant, more[i].Grant)
			require.True(t, more[i].Amount.GreaterThanOrEqual(u.Amount), "and no less of each")
		}
		_, leftOfMore := billing.BurnDown(append(slices.Clone(grants), grantNumbered(100, "1")), due, "USD", creditAt)
		require.True(t, leftOfMore.LessThanOrEqual(left), "another grant leaves no more to pay")
	})
}

// Every kind moves between two accounts, and only the customer's has a balance to keep.
func TestCreditKindsAreBalanced(t *testing.T) {
	t.Parallel()
	for _, kind := range []billing.CreditKind{
		billing.CreditGranted, billing.CreditBurned, billing.CreditExpired, billing.CreditVoided, billing.CreditRestored,
	} {
		debit, credit := kind.Accounts()
		require.NotEqual(t, debit, credit, kind)
		require.Contains(t, []billing.CreditAccount{debit, credit}, billing.AccountCustomerCredit, kind)
	}
	debit, credit := billing.CreditKind("gift").Accounts()
	require.Empty(t, debit)
	require.Empty(t, credit)
}

func TestCreditBalances(t *testing.T) {
	t.Parallel()
	expired, euros := grantNumbered(1, "4"), grantNumbered(2, "5")
	expired.ExpiresAt, euros.Currency = creditAt, "EUR"
	got := billing.CreditBalances([]billing.CreditGrant{expired, grantNumbered(3, "1.5"), euros, grantNumbered(4, "2")}, creditAt)
	require.Len(t, got, 2)
	require.Equal(t, "EUR 5 5", fmt.Sprint(got[0].Currency, " ", got[0].Remaining, " ", got[0].Usable))
	require.Equal(t, "USD 7.5 3.5", fmt.Sprint(got[1].Currency, " ", got[1].Remaining, " ", got[1].Usable))
	require.NotNil(t, billing.CreditBalances(nil, creditAt), "an empty list is one")
}

func ExampleBurnDown() {
	started := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	grants := []billing.CreditGrant{
		{ID: uuid.UUID{15: 1}, Currency: "USD", Remaining: amount("100.00"), Priority: 50, EffectiveAt: started},
		{ID: uuid.UUID{15: 2}, Currency: "USD", Remaining: amount("15.00"), Priority: 50, EffectiveAt: started, ExpiresAt: started.AddDate(1, 0, 0)},
	}
	uses, left := billing.BurnDown(grants, amount("49.90"), "USD", started.AddDate(0, 1, 0))
	for _, u := range uses {
		fmt.Println("grant", u.Grant[15], "pays", money.Format(u.Amount, "USD"))
	}
	fmt.Println("left", money.Format(left, "USD"))
	// Output:
	// grant 2 pays 15.00
	// grant 1 pays 34.90
	// left 0.00
}
